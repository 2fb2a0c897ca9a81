/*
 * Replies of servers. Each is fed whole, one octet at a time, and cut in two at every place: the result must be the same.
 */
#include "smtpd/smtp_reply.h"

#include <check.h>
#include <stdlib.h>

struct row {
	const char *in;
	int result;
	unsigned code;
	const char *status;
	const char *text; /* as printed, or what is broken */
	size_t left;
};

static const struct row rows[] = {
    {"220 mx.example ESMTP\r\n", 1, 220, "", "220 mx.example ESMTP", 0},
    {"250\r\n", 1, 250, "", "250", 0},
    {"250 \r\n", 1, 250, "", "250", 0},
    {"250 2.1.0 ok\r\n", 1, 250, "2.1.0", "250 2.1.0 ok", 0},
    {"550 5.1.1\r\n", 1, 550, "5.1.1", "550 5.1.1", 0},
    {"550-5.1.1 no\r\n550 5.1.1 such user\r\n", 1, 550, "5.1.1", "550 5.1.1 no such user", 0},
    {"550-5.1.1 no\r\n550-\r\n550\r\nQ", 1, 550, "5.1.1", "550 5.1.1 no", 1},
    {"250-a\r\n251 b\r\n", 1, 251, "", "251 a b", 0},
    {"451 4.999.999 x\r\n", 1, 451, "4.999.999", "451 4.999.999 x", 0},
    {"451 4.1000.1 x\r\n", 1, 451, "", "451 4.1000.1 x", 0},
    {"451 5.7.1 another class\r\n", 1, 451, "", "451 5.7.1 another class", 0},
    {"354 3.0.0 go\r\n", 1, 354, "", "354 3.0.0 go", 0},
    {"550 5.1.1x\r\n", 1, 550, "", "550 5.1.1x", 0},
    {"550 5.1.\r\n", 1, 550, "", "550 5.1.", 0},
    {"550 tab\there \x1b[31m \xc3\xa9\r\n", 1, 550, "", "550 tab here ?[31m ??", 0},
    {"250 one\r\n250 two\r\n", 1, 250, "", "250 one", 9},
    {"199 x\r\n", -1, 0, "", "no reply code", 6},
    {"600 x\r\n", -1, 0, "", "no reply code", 6},
    {"25 x\r\n", -1, 0, "", "no reply code", 3},
    {"HTTP/1.1 400\r\n", -1, 0, "", "no reply code", 13},
    {"2500\r\n", -1, 0, "", "no space behind a reply code", 2},
    {"250\n", -1, 0, "", "no space behind a reply code", 0},
    {"250 x\n", -1, 0, "", "a line of a reply ends in LF alone", 0},
    {"250 x\ry\r\n", -1, 0, "", "CR alone in a reply", 2},
    {"250 x\r\r\n", -1, 0, "", "CR alone in a reply", 1},
    {"250-x\r\n550 y\r\n", -1, 0, "", "lines of one reply contradict each other", 3},
    {"250-x\r\n", 0, 0, "", "", 0},
    {"", 0, 0, "", "", 0},
};

static int
feed(struct smtp_reply_parser *p, struct slice in, size_t first, size_t step, size_t *used_r)
{
	size_t at = 0, used;
	int result = 0;

	smtp_reply_reset(p);
	while (result == 0 && at < in.n) {
		result = smtp_reply_feed(p, slice_sub(in, at, at + (at == 0 ? first : step)), &used);
		at += used;
	}
	*used_r = at;
	return result;
}

static void
compare(const struct row *w, struct smtp_reply_parser *p, int result, size_t used, size_t cut)
{
	char text[9000] = "";
	struct buf b;

	ck_assert_msg(result == w->result, "%s (%zu): %d", w->in, cut, result);
	ck_assert_msg(used == strlen(w->in) - w->left, "%s (%zu): used %zu", w->in, cut, used);
	if (result == 0)
		return;
	buf_init(&b, sizeof text);
	if (result > 0) {
		ck_assert_uint_eq(p->reply.code, w->code);
		ck_assert_str_eq(p->reply.status, w->status);
		ck_assert(smtp_reply_print(&p->reply, &b));
	} else {
		buf_put_str(&b, p->broken);
	}
	ck_assert(slice_cstr(buf_slice(&b), text, sizeof text));
	ck_assert_msg(strcmp(text, w->text) == 0, "%s (%zu): \"%s\"", w->in, cut, text);
	buf_fini(&b);
}

START_TEST(test_replies)
{
	static struct smtp_reply_parser p;
	size_t used;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct slice in = slice_str(rows[i].in);
		int result = feed(&p, in, in.n, in.n, &used);

		compare(&rows[i], &p, result, used, 0);
		result = feed(&p, in, 1, 1, &used);
		compare(&rows[i], &p, result, used, 1);
		for (size_t cut = 1; cut < in.n; cut++) {
			result = feed(&p, in, cut, in.n, &used);
			compare(&rows[i], &p, result, used, cut);
		}
	}
}
END_TEST

/* A line of n octets with its CRLF. */
static int
line_of(struct smtp_reply_parser *p, size_t n)
{
	char *line = malloc(n);
	size_t used;

	memset(line, 'x', n);
	memcpy(line, "250 ", 4);
	memcpy(line + n - 2, "\r\n", 2);
	int result = feed(p, slice_of(line, n), n, n, &used);

	free(line);
	return result;
}

static int
lines_of(struct smtp_reply_parser *p, unsigned n, size_t text)
{
	struct buf b;
	size_t used;

	buf_init(&b, 4u << 20);
	for (unsigned i = 1; i <= n; i++) {
		buf_put_str(&b, i == n ? "250 " : "250-");
		for (size_t k = 0; k < text; k++)
			buf_put_u8(&b, 'y');
		buf_put_str(&b, "\r\n");
	}
	int result = feed(p, buf_slice(&b), 7, 4096, &used);

	buf_fini(&b);
	return result;
}

START_TEST(test_limits)
{
	static struct smtp_reply_parser p;

	ck_assert_int_eq(line_of(&p, SMTP_REPLY_LINE_BYTES_MAX - 1), 1);
	ck_assert_int_eq(line_of(&p, SMTP_REPLY_LINE_BYTES_MAX), 1);
	ck_assert_uint_eq(p.reply.text_n, SMTP_REPLY_LINE_BYTES_MAX - 6);
	ck_assert_int_eq(line_of(&p, SMTP_REPLY_LINE_BYTES_MAX + 1), -1);
	ck_assert_int_eq(lines_of(&p, SMTP_REPLY_LINES_MAX - 1, 2), 1);
	ck_assert_int_eq(lines_of(&p, SMTP_REPLY_LINES_MAX, 2), 1);
	ck_assert_int_eq(lines_of(&p, SMTP_REPLY_LINES_MAX + 1, 2), -1);
	ck_assert_int_eq(lines_of(&p, 9, 908), 1);
	ck_assert_uint_eq(p.reply.text_n, 9 * 908 + 8);
	ck_assert_int_eq(lines_of(&p, 10, 818), 1);
	ck_assert_uint_eq(p.reply.text_n, 10 * 818 + 9);
	ck_assert_int_eq(lines_of(&p, 3, 2730), 1);
	ck_assert_uint_eq(p.reply.text_n, SMTP_REPLY_TEXT_MAX);
	ck_assert_int_eq(lines_of(&p, SMTP_REPLY_LINES_MAX, 4000), 1);
	ck_assert_uint_eq(p.reply.text_n, SMTP_REPLY_TEXT_MAX);
}
END_TEST

static struct smtp_offer
offer(struct smtp_reply_parser *p, const char *in)
{
	struct smtp_offer o;
	size_t used;

	ck_assert_int_eq(feed(p, slice_str(in), 1, 1, &used), 1);
	smtp_offer_parse(&p->reply, &o);
	return o;
}

START_TEST(test_offers)
{
	static struct smtp_reply_parser p;
	struct smtp_offer o = offer(&p, "250-mx.example hello\r\n250-PIPELINING\r\n250-size 1000\r\n250-8bitMIME\r\n250-SMTPUTF8\r\n"
					"250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n250-AUTH PLAIN LOGIN\r\n250-STARTTLS\r\n"
					"250-X-OTHER 5\r\n250 REQUIRETLS\r\n");

	ck_assert(slice_eq(o.name, SLICE("mx.example")));
	ck_assert(o.pipelining && o.size && o.eightbit && o.smtputf8 && o.chunking && o.binary && o.dsn && o.starttls && o.requiretls);
	ck_assert_uint_eq(o.size_max, 1000);
	ck_assert(slice_eq(o.auth, SLICE("PLAIN LOGIN")));
	o = offer(&p, "250-PIPELINING\r\n250-SIZE\r\n250-BINARYMIME\r\n250-STARTTLSX\r\n250 \r\n");
	ck_assert(slice_eq(o.name, SLICE("PIPELINING")));
	ck_assert(!o.pipelining && o.size && o.size_max == 0 && !o.binary && !o.starttls);
	o = offer(&p, "250-x\r\n250-LIMITS MAILMAX=20 rcptmax=7  RCPTDOMAINMAX=1 MAILMAX=x\r\n250 LIMITSX RCPTMAX=1\r\n");
	ck_assert(o.mail_max == 20 && o.rcpt_max == 7);
	o = offer(&p, "250-x\r\n250 LIMITS\r\n");
	ck_assert(o.mail_max == 0 && o.rcpt_max == 0);
	o = offer(&p, "250\r\n");
	ck_assert(o.name.n == 0 && !o.size);
	o = offer(&p, "250-x\r\n250 SIZE 99999999999999999999999\r\n");
	ck_assert(o.size && o.size_max == 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("smtp_reply");
	TCase *t = tcase_create("smtp_reply");

	tcase_add_test(t, test_replies);
	tcase_add_test(t, test_limits);
	tcase_add_test(t, test_offers);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
