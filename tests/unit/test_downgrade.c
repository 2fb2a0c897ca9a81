/* Headers and messages for clients that take no UTF-8: field by field, at each limit, and whole messages through their summaries. */
#include "common/charset.h"
#include "common/downgrade.h"
#include "common/memfd.h"
#include "common/rfc5322.h"
#include "common/surrogate.h"

#include <check.h>
#include <stdlib.h>
#include <unistd.h>

#define INVALID "<invalid@internationalized-address.invalid>"
#define BIG (16u << 20)

static struct arena *arena;

static size_t
header(struct slice in, enum mime_kind kind, size_t growth, struct buf *out)
{
	buf_reset(out);
	downgrade_header(in, kind, &growth, arena, out);
	ck_assert(!out->failed);
	return growth;
}

static void
check_row(const char *in, const char *want, struct buf *out)
{
	(void)header(slice_str(in), MIME_LEAF, BIG, out);
	ck_assert_msg(slice_eq(buf_slice(out), slice_str(want)), "%s\ngave: %.*s\nwant: %s", in, SLICE_ARG(buf_slice(out)), want);
}

START_TEST(test_fields)
{
	static const struct {
		const char *in;
		const char *want;
	} rows[] = {
	    /* ASCII stays as it is, whatever it is */
	    {"", ""},
	    {"\r\n", "\r\n"},
	    {"From: a@b.example\r\nno field\r\nX :  y\n\tz\r\nSubject:=?utf-8?q?=c3=a4?=\r\n\r\n",
		"From: a@b.example\r\nno field\r\nX :  y\n\tz\r\nSubject:=?utf-8?q?=c3=a4?=\r\n\r\n"},
	    /* text */
	    {"Subject: Grüße\r\n\r\n", "Subject: =?UTF-8?B?R3LDvMOfZQ==?=\r\n\r\n"},
	    {"sUBJECT: Gr\xfc\xdf"
	     "e\r\n\r\n",
		"sUBJECT: =?UTF-8?B?R3LDvMOfZQ==?=\r\n\r\n"},
	    {"Subject: =?iso-8859-1?q?Gr=FC?= ß\r\n\te\r\n\r\n", "Subject: =?UTF-8?B?R3LDvCDDnwll?=\r\n\r\n"},
	    {"Subject: äääääääääääääääääääääää\r\n", /* a character is never cut */
		"Subject: =?UTF-8?B?w6TDpMOkw6TDpMOkw6TDpMOkw6TDpMOkw6TDpMOk?=\r\n =?UTF-8?B?w6TDpMOkw6TDpMOkw6TDpA==?=\r\n"},
	    {"Comments: ä\r\nContent-Description: ö\r\n", "Comments: =?UTF-8?B?w6Q=?=\r\nContent-Description: =?UTF-8?B?w7Y=?=\r\n"},
	    /* addresses: a name alone; a domain alone, which has an ASCII form; a local part, which has none */
	    {"From: Jörg <joerg@a.example>\r\n", "From: =?UTF-8?B?SsO2cmc=?=\r\n <joerg@a.example>\r\n"},
	    {"From: Joe <joe@bücher.example>\r\n", "From: Joe\r\n <joe@xn--bcher-kva.example>\r\n"},
	    {"From: jörg@bücher.example\r\n",
		"From: =?UTF-8?B?PGrDtnJnQGLDvGNoZXIuZXhhbXBsZT4=?=\r\n " INVALID "\r\n"},
	    {"To: Jörg <jörg@a.example>, \"B, C\" <b@c.example>, d@e.example\r\n",
		"To: =?UTF-8?B?SsO2cmcgPGrDtnJnQGEuZXhhbXBsZT4=?=\r\n " INVALID ",\r\n \"B, C\"\r\n <b@c.example>,\r\n <d@e.example>\r\n"},
	    {"Cc: Friends: a@b.example, ö@b.example;, c@d.example\r\n",
		"Cc: Friends:\r\n <a@b.example>,\r\n =?UTF-8?B?PMO2QGIuZXhhbXBsZT4=?=\r\n " INVALID ";,\r\n <c@d.example>\r\n"},
	    {"Bcc: Ärzte:;\r\n", "Bcc: =?UTF-8?B?w4RyenRl?=:\r\n ;\r\n"},
	    {"Reply-To: =?utf-8?q?=c3=a4?= x <a@b.example>, ö <c@d.example>\r\n",
		"Reply-To: =?utf-8?q?=c3=a4?= x\r\n <a@b.example>,\r\n =?UTF-8?B?w7Y=?=\r\n <c@d.example>\r\n"},
	    {"Sender: ö <\"a b\"@[192.0.2.1]>\r\n", "Sender: =?UTF-8?B?w7Y=?=\r\n <\"a b\"@[192.0.2.1]>\r\n"},
	    {"Return-Path: <ö@b.example>\r\n", "Return-Path: " INVALID "\r\n"},
	    {"Return-Path: <a@bücher.example>\r\n", "Return-Path: <a@xn--bcher-kva.example>\r\n"},
	    /* a domain that is none */
	    {"To: a@-ö.example\r\n", "To: =?UTF-8?B?PGFALcO2LmV4YW1wbGU+?=\r\n " INVALID "\r\n"},
	    {"Resent-From: ä <a@b.example>\r\n", "Resent-From: =?UTF-8?B?w6Q=?=\r\n <a@b.example>\r\n"},
	    /* parameters */
	    {"Content-Type: text/plain; charset=utf-8; name=\"ä b.txt\"\r\n",
		"Content-Type: text/plain;\r\n charset=\"utf-8\";\r\n name*=UTF-8''%C3%A4%20b.txt\r\n"},
	    {"Content-Disposition: attachment; filename=ä; size=7\r\n",
		"Content-Disposition: attachment;\r\n filename*=UTF-8''%C3%A4;\r\n size=\"7\"\r\n"},
	    {"Content-Disposition: attachment; filename*=iso-8859-1''%e4; x=ö\r\n",
		"Content-Disposition: attachment;\r\n filename*=UTF-8''%C3%A4;\r\n x*=UTF-8''%C3%B6\r\n"},
	    {"Content-Type: multipart/mixed; boundary=\"a\\\"b\"; ö=x; y=ä\r\n",
		"Content-Type: multipart/mixed;\r\n boundary=\"a\\\"b\";\r\n y*=UTF-8''%C3%A4\r\n"},
	    /* what decides the structure stays the first of its name, and no second boundary takes the place of the first */
	    {"Content-Type: text/ä; a=b\r\nContent-Type: message/rfc822\r\n",
		"Content-Type: application/octet-stream\r\nContent-Type: message/rfc822\r\n"},
	    {"Content-Type: ä\r\nContent-Type: message/rfc822\r\n", "Content-Type: text/plain\r\nContent-Type: message/rfc822\r\n"},
	    {"Content-Transfer-Encoding: ä\r\nContent-Transfer-Encoding: 8bit (ä)\r\nContent-Transfer-Encoding: (ä)\r\n",
		"Content-Transfer-Encoding: x-unknown\r\nContent-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: 7bit\r\n"},
	    {"Content-Type: multipart/mixed; boundary=ä; boundary=b\r\n", "Content-Type: multipart/mixed\r\n"},
	    {"Content-Type: multipart/mixed; boundary*=utf-8''a; boundary=b; x=ä\r\n", "Content-Type: multipart/mixed;\r\n x*=UTF-8''%C3%A4\r\n"},
	    {"Content-Type: multipart/mixed; boundary=a; boundary=b; x=ä\r\n",
		"Content-Type: multipart/mixed;\r\n boundary=\"a\";\r\n x*=UTF-8''%C3%A4\r\n"},
	    /* the rest goes, with lines that are no fields */
	    {"X-Ä: b\r\nX-A: ä\r\n ö\r\nMessage-ID: <ä@b>\r\nReceived: for <ö@b>\r\n\tx\r\nÄ\r\nX-B: c\r\n\r\n", "X-B: c\r\n\r\n"},
	    /* no line end comes out of a word or a name */
	    {"Subject: =?utf-8?q?a=0D=0AX-Evil:_b?= ä\r\n", "Subject: =?UTF-8?B?YSAgWC1FdmlsOiBiIMOk?=\r\n"},
	    {"From: \"a\rb\" <ä@b.example>\r\n", "From: =?UTF-8?B?YWIgPMOkQGIuZXhhbXBsZT4=?=\r\n " INVALID "\r\n"},
	};
	struct buf out;

	buf_init(&out, BIG);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		check_row(rows[i].in, rows[i].want, &out);
	buf_fini(&out);
}
END_TEST

START_TEST(test_message_global)
{
	struct slice in = SLICE("Content-Type: MESSAGE/GLOBAL; x=y\r\n\r\n");
	struct buf out;

	buf_init(&out, BIG);
	(void)header(in, MIME_LEAF, BIG, &out);
	ck_assert(slice_eq(buf_slice(&out), in));
	(void)header(in, MIME_MESSAGE, BIG, &out);
	ck_assert(slice_eq(buf_slice(&out), SLICE("Content-Type: message/rfc822;\r\n x=\"y\"\r\n\r\n")));
	in = SLICE("Content-Type: message/rfc822\r\n\r\n");
	(void)header(in, MIME_MESSAGE, BIG, &out);
	ck_assert(slice_eq(buf_slice(&out), in));
	buf_fini(&out);
}
END_TEST

/* A field of `before`, n times "x", and `after` as the one field of a header. */
static void
long_field(const char *before, size_t n, const char *after, struct buf *in)
{
	buf_reset(in);
	buf_put_str(in, before);
	for (size_t i = 0; i < n; i++)
		buf_put_u8(in, 'x');
	buf_put_str(in, after);
	buf_put_str(in, "\r\n");
}

START_TEST(test_limits)
{
	struct buf in, out;
	size_t left;

	buf_init(&in, BIG);
	buf_init(&out, BIG);
	/* a parameter: n - 1, n, n + 1 octets */
	for (size_t n = DOWNGRADE_PARAM_BYTES_MAX - 1; n <= DOWNGRADE_PARAM_BYTES_MAX + 1; n++) {
		long_field("Content-Type: text/plain; name=\"", n - 2, "ä\"", &in);
		(void)header(buf_slice(&in), MIME_LEAF, BIG, &out);
		ck_assert_int_eq(slice_find(buf_slice(&out), SLICE("name*=")) < out.n, n <= DOWNGRADE_PARAM_BYTES_MAX);
	}
	/* a text is cut, and at a character */
	long_field("Subject: ", DOWNGRADE_TEXT_BYTES_MAX - 2, "ä", &in);
	(void)header(buf_slice(&in), MIME_LEAF, BIG, &out);
	left = out.n;
	long_field("Subject: ", DOWNGRADE_TEXT_BYTES_MAX, "ä", &in);
	(void)header(buf_slice(&in), MIME_LEAF, BIG, &out);
	ck_assert_uint_eq(out.n, left);
	/* a name as well */
	long_field("From: ", DOWNGRADE_NAME_BYTES_MAX - 4, "ä <a@b.example>", &in);
	(void)header(buf_slice(&in), MIME_LEAF, BIG, &out);
	left = out.n;
	long_field("From: ", DOWNGRADE_NAME_BYTES_MAX - 2, "ä <a@b.example>", &in);
	(void)header(buf_slice(&in), MIME_LEAF, BIG, &out);
	ck_assert_uint_gt(out.n, left);
	left = out.n;
	long_field("From: ", DOWNGRADE_NAME_BYTES_MAX, "ä <a@b.example>", &in);
	(void)header(buf_slice(&in), MIME_LEAF, BIG, &out);
	ck_assert_uint_eq(out.n, left);
	/* what a header may grow: one octet less, and the field goes */
	left = header(SLICE("Subject: ä\r\nX: y\r\n"), MIME_LEAF, 100, &out);
	ck_assert_uint_lt(left, 100);
	ck_assert_uint_eq(header(SLICE("Subject: ä\r\nX: y\r\n"), MIME_LEAF, 100 - left, &out), 0);
	ck_assert(slice_starts(buf_slice(&out), SLICE("Subject: ")));
	ck_assert_uint_eq(header(SLICE("Subject: ä\r\nX: y\r\n"), MIME_LEAF, 100 - left - 1, &out), 100 - left - 1);
	ck_assert(slice_eq(buf_slice(&out), SLICE("X: y\r\n")));
	/* but not one on which the structure depends */
	ck_assert_uint_eq(header(SLICE("Content-Type:ä\r\nContent-transfer-encoding:ä"), MIME_LEAF, 0, &out), 0);
	ck_assert(slice_eq(buf_slice(&out), SLICE("Content-Type:?\r\nContent-transfer-encoding:x")));
	ck_assert_uint_eq(header(SLICE("Content-Type: message/global;a=b\n\n"), MIME_MESSAGE, 1, &out), 1);
	ck_assert(slice_eq(buf_slice(&out), SLICE("Content-Type:?\n\n")));
	/* fields, behind which octets are replaced one by one */
	buf_reset(&in);
	for (size_t i = 0; i < HEADER_FIELDS_MAX - 1; i++)
		buf_put_str(&in, "X: y\r\n");
	left = in.n;
	buf_put_str(&in, "X: ä\r\nX: ä\r\n\r\n");
	(void)header(buf_slice(&in), MIME_LEAF, BIG, &out);
	ck_assert(slice_eq(slice_sub(buf_slice(&out), left, out.n), SLICE("X: ??\r\n\r\n")));
	/* addresses that need more than a field may have */
	buf_reset(&in);
	buf_put_str(&in, "To: ");
	for (size_t i = 0; i < ADDRESSES_MAX; i++)
		buf_putf(&in, "%zu.%.*s@ä, ", i, 40, "öööööööööööööööööööööööööö");
	buf_put_str(&in, "\r\n");
	(void)header(buf_slice(&in), MIME_LEAF, BIG, &out);
	ck_assert(out.n < DOWNGRADE_FIELD_BYTES_MAX && slice_is_ascii(buf_slice(&out)));
	buf_fini(&in);
	buf_fini(&out);
}
END_TEST

/* ---- messages ---- */

static int
file_of(struct slice message)
{
	struct err e;
	int fd = memfd_of(message, &e);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Both summaries are checked: the message's, and the surrogate's against one made of its own octets. */
static int
surrogate(struct slice message, struct surrogate *s, struct buf *text)
{
	struct summary sum, own;
	struct buf encoded;
	struct err e;
	int fd = file_of(message);

	buf_init(&encoded, SUMMARY_BYTES_MAX);
	ck_assert(summary_of_file(fd, &encoded) && summary_decode(buf_slice(&encoded), &sum));
	int got = surrogate_make(fd, &sum, s, &e);

	(void)close(fd);
	ck_assert_int_ge(got, 0);
	ck_assert_int_eq(got == 0, sum.ascii_headers);
	if (got == 1) {
		buf_reset(text);
		buf_reset(&encoded);
		ck_assert_int_eq(memfd_read_all(s->fd, text, &e), 0);
		ck_assert_uint_eq(text->n, s->octets);
		ck_assert(summary_of_file(s->fd, &encoded) && summary_decode(buf_slice(&encoded), &own));
		ck_assert(slice_eq(buf_slice(&encoded), buf_slice(&s->encoded)));
		ck_assert((own.ascii_headers || own.text_cut || own.flat) && !memcmp(own.sha256, s->summary.sha256, SUMMARY_SHA256_BYTES));
	}
	buf_fini(&encoded);
	return got;
}

#define PARTS_HEAD "From: a@b.example\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\npreämble\r\n--x\r\n"

START_TEST(test_parts)
{
	/* bodies, preamble and epilogue stay; each header changes by itself */
	struct slice message = SLICE(PARTS_HEAD "Content-Type: text/plain; name=ä\r\n\r\nbödy\r\n--x\r\n"
						"Content-Type: message/global\r\n\r\nSubject: ö\r\n\r\ninnér\r\n--x--\r\nepilögue\r\n");
	struct slice want = SLICE(PARTS_HEAD "Content-Type: text/plain;\r\n name*=UTF-8''%C3%A4\r\n\r\nbödy\r\n--x\r\n"
					     "Content-Type: message/rfc822\r\n\r\nSubject: =?UTF-8?B?w7Y=?=\r\n\r\ninnér\r\n--x--\r\nepilögue\r\n");
	struct surrogate s;
	struct buf text;

	buf_init(&text, BIG);
	ck_assert_int_eq(surrogate(message, &s, &text), 1);
	ck_assert_msg(slice_eq(buf_slice(&text), want), "%.*s", SLICE_ARG(buf_slice(&text)));
	ck_assert(slice_find(s.summary.bodystructure, SLICE("\"message\" \"rfc822\"")) < s.summary.bodystructure.n);
	ck_assert(slice_find(s.summary.bodystructure, SLICE("\"name*\" \"UTF-8''%C3%A4\"")) < s.summary.bodystructure.n);
	ck_assert(slice_is_ascii(s.summary.bodystructure) && slice_is_ascii(s.summary.envelope));
	surrogate_fini(&s);
	/* none is needed, whatever the bodies have */
	ck_assert_int_eq(surrogate(SLICE("From: a@b.example\r\n\r\nbödy\r\n"), &s, &text), 0);
	ck_assert_int_eq(surrogate(SLICE("bödy: as a header\r\n"), &s, &text), 1);
	ck_assert_uint_eq(text.n, 0);
	surrogate_fini(&s);
	buf_fini(&text);
}
END_TEST

START_TEST(test_long_header)
{
	struct surrogate s;
	struct buf in, text;

	/* the last field lies over the limit: what is before it is taken as fields */
	buf_init(&in, BIG);
	buf_init(&text, BIG);
	buf_put_str(&in, "Subject: ö\r\n");
	while (in.n < SURROGATE_HEADER_BYTES_MAX - 20)
		buf_put_str(&in, "X-Filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
				 "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n");
	buf_put_str(&in, "Subject: äääääääääääääääääääää\r\nSubject: ö\r\n\r\nbödy\r\n");
	ck_assert_uint_gt(in.n, SURROGATE_HEADER_BYTES_MAX);
	ck_assert_int_eq(surrogate(buf_slice(&in), &s, &text), 1);
	ck_assert(slice_starts(buf_slice(&text), SLICE("Subject: =?UTF-8?B?w7Y=?=\r\nX-Filler")));
	ck_assert(slice_ends_nocase(buf_slice(&text), SLICE("Subject: ??????????????????????????????????????????\r\nSubject: ??\r\n\r\nbödy\r\n")));
	surrogate_fini(&s);
	/* one line that never ends */
	buf_reset(&in);
	buf_put_str(&in, "X: ");
	while (in.n <= SURROGATE_HEADER_BYTES_MAX + 100)
		buf_put_str(&in, "ä");
	ck_assert_int_eq(surrogate(buf_slice(&in), &s, &text), 1);
	ck_assert(text.n < 200 && slice_is_ascii(buf_slice(&text)));
	surrogate_fini(&s);
	buf_fini(&in);
	buf_fini(&text);
}
END_TEST

/* Many small headers that grow a hundredfold: all together by no more than the bound, and what no more fits is left out. */
START_TEST(test_growth)
{
	struct surrogate s;
	struct buf in, text;

	buf_init(&in, BIG);
	buf_init(&text, 2 * BIG);
	buf_put_str(&in, "Content-Type: multipart/mixed; boundary=x\r\n\r\n");
	for (unsigned part = 0; part < 900; part++) {
		buf_put_str(&in, "--x\r\nTo: ");
		for (unsigned i = 0; i < 150; i++)
			buf_put_str(&in, "ö@ö,");
		buf_put_str(&in, "\r\nX-A: b\r\n\r\nbödy\r\n");
	}
	buf_put_str(&in, "--x--\r\n");
	ck_assert_int_eq(surrogate(buf_slice(&in), &s, &text), 1);
	ck_assert_uint_le(s.octets, in.n + SURROGATE_GROWTH_BYTES_MAX);
	ck_assert_uint_gt(s.octets, in.n + SURROGATE_GROWTH_BYTES_MAX / 2);
	ck_assert(s.summary.flat); /* so much header is no structure any more */
	ck_assert(slice_ends_nocase(buf_slice(&text), SLICE("\r\n--x\r\nX-A: b\r\n\r\nbödy\r\n--x--\r\n")));
	surrogate_fini(&s);
	buf_fini(&in);
	buf_fini(&text);
}
END_TEST

/* A summary that is of another, longer message: the file ends too soon. */
START_TEST(test_wrong_summary)
{
	struct summary sum;
	struct surrogate s;
	struct buf encoded;
	struct err e;
	int whole = file_of(SLICE(PARTS_HEAD "Subject: ö\r\n\r\nx\r\n--x--\r\n"));
	int part = file_of(SLICE("Subject: ö\r\n\r\nx\r\n"));

	buf_init(&encoded, SUMMARY_BYTES_MAX);
	ck_assert(summary_of_file(whole, &encoded) && summary_decode(buf_slice(&encoded), &sum));
	ck_assert_int_eq(surrogate_make(part, &sum, &s, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_CORRUPT);
	buf_fini(&encoded);
	(void)close(whole);
	(void)close(part);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("downgrade");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	charset_init();
	arena = arena_new(1u << 20);
	tcase_add_test(tc, test_fields);
	tcase_add_test(tc, test_message_global);
	tcase_add_test(tc, test_limits);
	tcase_add_test(tc, test_parts);
	tcase_add_test(tc, test_long_header);
	tcase_add_test(tc, test_growth);
	tcase_add_test(tc, test_wrong_summary);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	arena_free(&arena);
	charset_fini();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
