/* What mailstead-sendmail makes of a message and of names without a domain; and the setting that says who may. */
#include "admin/sendmail.h"
#include "common/local_users.h"

#include <check.h>

static const struct sendmail_user user = {.name = {(const uint8_t *)"root", 4}, .account = {(const uint8_t *)"admin@ours.example", 18}};
static struct sendmail_envelope envelope;
static struct arena *arena;
static struct buf message;
static const char *why;

static void
setup(void)
{
	arena = arena_new(1 << 20);
	buf_init(&message, SENDMAIL_MESSAGE_BYTES_MAX);
}

static void
teardown(void)
{
	buf_fini(&message);
	arena_free(&arena);
}

static int
make(struct sendmail_wish wish, char **recipients, int n, struct slice raw)
{
	wish.recipients = recipients;
	wish.recipient_count = n;
	buf_reset(&message);
	return sendmail_message_make(&wish, &user, raw, arena, &message, &envelope, &why);
}

START_TEST(test_messages)
{
	static const struct {
		const char *raw, *want;
	} rows[] = {
	    {"", "From: <admin@ours.example>\r\n\r\n"},
	    {"x", "From: <admin@ours.example>\r\n\r\nx\r\n"},
	    {"\nx\n", "From: <admin@ours.example>\r\n\r\nx\r\n"},
	    {"\r\nx\r\n", "From: <admin@ours.example>\r\n\r\nx\r\n"},
	    {"Subject: x\n", "Subject: x\r\nFrom: <admin@ours.example>\r\n\r\n"},
	    {"Subject: x\nno field\n", "Subject: x\r\nFrom: <admin@ours.example>\r\n\r\nno field\r\n"},
	    {"From: a@b.example\n\nx\n.\ny\n", "From: a@b.example\r\n\r\nx\r\n"},
	    {"From:  root\n\n", "From: admin@ours.example\r\n\r\n"},
	    {"FROM: Root\nSender: www\n\n", "FROM: admin@ours.example\r\nSender: www@ours.example\r\n\r\n"},
	    {"From: a@b.example (c),\n d@e.example\n\n", "From: a@b.example (c),\r\n d@e.example\r\n\r\n"},
	    {"From: \"A \\\"B\\\" C\" <root>\n\n", "From: \"A \\\"B\\\" C\" <admin@ours.example>\r\n\r\n"},
	    {"From: =?utf-8?q?=C3=A4?= <root>\n\n", "From: =?utf-8?q?=C3=A4?= <admin@ours.example>\r\n\r\n"},
	    {"From: \"a b\"\n\n", "From: \"a b\"@ours.example\r\n\r\n"},
	    {"From: root\nTo: x: ;\n\n", "From: admin@ours.example\r\nTo: x: ;\r\n\r\n"},
	    {"From: root\nTo: x: y, z@b.example; v\n\n",
		"From: admin@ours.example\r\nTo: x:\r\n\ty@ours.example,\r\n\tz@b.example;,\r\n\tv@ours.example\r\n\r\n"},
	    {"From: root\nBcc: y\nBCC : z\nResent-Bcc: w\nX: y\n\n", "From: admin@ours.example\r\nX: y\r\n\r\n"},
	    {"From: root\nTo: a <>\nReply-To: <>\n\n", "From: admin@ours.example\r\nTo: a <>\r\nReply-To: <>\r\n\r\n"},
	    {"Resent-From: www\nResent-To: y\nResent-Bcc: z\nFrom: root\n\n",
		"Resent-From: www@ours.example\r\nResent-To: y@ours.example\r\nFrom: admin@ours.example\r\n\r\n"},
	    {">From x\nFrom: root\n\nFrom y\n", "From: admin@ours.example\r\n\r\nFrom y\r\n"},
	};
	char *to[] = {(char[]){"a@b.example"}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		ck_assert_msg(make((struct sendmail_wish){.from_header = false}, to, 1, slice_str(rows[i].raw)) == 0, "%s", why);
		ck_assert_msg(slice_eq(buf_slice(&message), slice_str(rows[i].want)), "%s: %.*s", rows[i].raw, (int)message.n,
		    (const char *)message.p);
		ck_assert_uint_eq(envelope.recipient_count, 1);
		ck_assert(!envelope.eight_bit && !envelope.utf8);
	}
}
END_TEST

START_TEST(test_envelopes)
{
	static const struct {
		const char *argument, *sender, *raw;
		bool from_header;
		int want;
		const char *from, *to;
	} rows[] = {
	    {"a@b.example", NULL, "", false, 0, "admin@ours.example", "a@b.example"},
	    {"a", NULL, "", false, 0, "admin@ours.example", "a@ours.example"},
	    {"root", "root", "", false, 0, "admin@ours.example", "admin@ours.example"},
	    {"\"root\"", "www", "", false, 0, "www@ours.example", "admin@ours.example"},
	    {"a@b.example,c@d.example", "", "", false, 0, "", "a@b.example c@d.example"},
	    {"a@b.example, A <a@b.example>", "<>", "", false, 0, "", "a@b.example"},
	    {"\"a b\"@c.example", "X <y@z.example>", "", false, 0, "y@z.example", "\"a b\"@c.example"},
	    {NULL, NULL, "", false, EX_USAGE, NULL, NULL},
	    {"a@b.example", NULL, "To: c@d.example\n", false, 0, "admin@ours.example", "a@b.example"},
	    {"a@b.example", NULL, "To: c@d.example\nBcc: e@f.example\n\nTo: x@y.example\n", true, 0, "admin@ours.example",
		"a@b.example c@d.example e@f.example"},
	    {NULL, NULL, "Cc: g: c@d.example, e;\n", true, 0, "admin@ours.example", "c@d.example e@ours.example"},
	    {NULL, NULL, "To: a <>, c@d.example, <>\n", true, 0, "admin@ours.example", "c@d.example"},
	    {NULL, NULL, "To: a <>\n", true, EX_DATAERR, NULL, NULL},
	    /* RFC 5322 3.6.6: it goes to those who are sent it once more, and not to whom it went before. */
	    {NULL, NULL, "Resent-To: c@d.example\nTo: e@f.example\nCc: g\nBcc: h\n", true, 0, "admin@ours.example", "c@d.example"},
	    {NULL, NULL, "To: e@f.example\nResent-Cc: c@d.example\nResent-Bcc: i\n", true, 0, "admin@ours.example", "c@d.example i@ours.example"},
	    {"a@b.example", NULL, "To: e@f.example\nResent-To: c@d.example\n", true, 0, "admin@ours.example", "a@b.example c@d.example"},
	    {NULL, NULL, "Resent-From: x@y.example\nTo: c@d.example\n", true, 0, "admin@ours.example", "c@d.example"},
	    {NULL, NULL, "Subject: x\n", true, EX_DATAERR, NULL, NULL},
	    {"a@b.example\r\nDATA", NULL, "", false, EX_DATAERR, NULL, NULL},
	    {"a@b.example\n", NULL, "", false, EX_DATAERR, NULL, NULL},
	    {"a@b.example", "a@b.example\nDATA", "", false, EX_DATAERR, NULL, NULL},
	    {"a@b.example", "a@b.example, c@d.example", "", false, EX_DATAERR, NULL, NULL},
	    {"a@b.example", ",", "", false, EX_DATAERR, NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char argument[64];
		char *to[] = {argument};
		struct buf got;
		int status;

		(void)snprintf(argument, sizeof argument, "%s", rows[i].argument ? rows[i].argument : "");
		status = make((struct sendmail_wish){.from_header = rows[i].from_header, .sender = rows[i].sender}, to, rows[i].argument != NULL,
		    slice_str(rows[i].raw));
		ck_assert_msg(status == rows[i].want && (status == 0) == (why == NULL), "row %zu: %d", i, status);
		if (status != 0)
			continue;
		ck_assert_msg(slice_eq(envelope.sender, slice_str(rows[i].from)), "row %zu", i);
		buf_init(&got, 1000);
		for (unsigned r = 0; r < envelope.recipient_count; r++)
			buf_putf(&got, "%s%.*s", r > 0 ? " " : "", SLICE_ARG(envelope.recipients[r]));
		ck_assert_msg(slice_eq(buf_slice(&got), slice_str(rows[i].to)), "row %zu: %.*s", i, (int)got.n, (const char *)got.p);
		buf_fini(&got);
	}
}
END_TEST

/* A name in a From field that is added: no server on the way needs to know more than ASCII for it. */
START_TEST(test_full_name)
{
	static const struct {
		const char *name, *want;
	} rows[] = {
	    {"A B", "A B "},
	    {"A.B", "\"A.B\" "},
	    {"J\xc3\xbcrgen X", "=?utf-8?q?J=C3=BCrgen=20X?= "},
	    {"\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad",
		"=?utf-8?q?=E4=B8=AD=E4=B8=AD=E4=B8=AD=E4=B8=AD=E4=B8=AD=E4=B8=AD?=\r\n\t=?utf-8?q?=E4=B8=AD?= "},
	    {"J\xfcrgen", ""},
	    {"x\ny", ""},
	    {"", ""},
	};
	char *to[] = {(char[]){"a@b.example"}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char want[256];

		(void)snprintf(want, sizeof want, "From: %s<admin@ours.example>\r\n\r\n", rows[i].want);
		ck_assert_int_eq(make((struct sendmail_wish){.full_name = rows[i].name}, to, 1, SLICE("")), 0);
		ck_assert_msg(slice_eq(buf_slice(&message), slice_str(want)), "row %zu: %.*s", i, (int)message.n, (const char *)message.p);
		ck_assert(!envelope.utf8);
	}
}
END_TEST

START_TEST(test_octets)
{
	char *to[] = {(char[]){"a@b.example"}}, *other[] = {(char[]){"\xc3\xa4@b.example"}};
	const struct sendmail_wish wish = {.dots_are_text = true};

	ck_assert_int_eq(make(wish, to, 1, SLICE("From: root\n\n\xe4\n.\n..\n")), 0);
	ck_assert(envelope.eight_bit && !envelope.utf8);
	ck_assert(slice_ends_nocase(buf_slice(&message), SLICE("\r\n\r\n\xe4\r\n.\r\n..\r\n")));
	ck_assert_int_eq(make(wish, to, 1, SLICE("From: root\nSubject: \xe4\n\n")), 0);
	ck_assert(envelope.eight_bit && !envelope.utf8);
	ck_assert_int_eq(make(wish, to, 1, SLICE("From: root\nSubject: \xc3\xa4\n\n")), 0);
	ck_assert(envelope.eight_bit && envelope.utf8);
	ck_assert_int_eq(make(wish, other, 1, SLICE("From: root\n\n")), 0);
	ck_assert(!envelope.eight_bit && envelope.utf8);
}
END_TEST

/* At the limit, and one more. */
START_TEST(test_recipients_max)
{
	struct buf raw;
	struct slice all;

	buf_init(&raw, 1 << 20);
	for (unsigned i = 0; i < SENDMAIL_RECIPIENTS_MAX; i++)
		buf_putf(&raw, "%s%u@b.example", i % 500 == 0 ? "\nTo: " : ",\n ", i);
	buf_put_str(&raw, "\nCc: one-more@b.example\n");
	all = slice_sub(buf_slice(&raw), 1, raw.n);
	ck_assert_int_eq(make((struct sendmail_wish){.from_header = true}, NULL, 0, slice_sub(all, 0, slice_find(all, SLICE("Cc:")))), 0);
	ck_assert_uint_eq(envelope.recipient_count, SENDMAIL_RECIPIENTS_MAX);
	ck_assert_int_eq(make((struct sendmail_wish){.from_header = true}, NULL, 0, all), EX_DATAERR);
	buf_fini(&raw);
}
END_TEST

START_TEST(test_local_users)
{
	static const char *const bad[] = {"x", "=a@b", "x=", "x=y", "x=@y", "x=y@", "a=b@c d", "a:b=c@d", "a/b=c@d", "*", "*=x"};
	struct slice text = SLICE("  root=admin@ours.example   *=a=b@c ");
	struct local_user u;
	struct buf many;

	ck_assert(local_users_valid(text) && local_users_valid(SLICE("")));
	ck_assert_int_eq(local_user_next(&text, &u), 1);
	ck_assert(slice_eq(u.user, SLICE("root")) && slice_eq(u.address, SLICE("admin@ours.example")));
	ck_assert_int_eq(local_user_next(&text, &u), 1);
	ck_assert(slice_eq(u.user, SLICE("*")) && slice_eq(u.address, SLICE("a=b@c")));
	ck_assert_int_eq(local_user_next(&text, &u), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_msg(!local_users_valid(slice_str(bad[i])), "%s", bad[i]);
	buf_init(&many, 1 << 16);
	for (unsigned i = 0; i < LOCAL_USERS_MAX; i++)
		buf_putf(&many, "u%u=a@b ", i);
	ck_assert(local_users_valid(buf_slice(&many)));
	buf_put_str(&many, "u=a@b");
	ck_assert(!local_users_valid(buf_slice(&many)));
	buf_fini(&many);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("sendmail");
	TCase *t = tcase_create("all");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_messages);
	tcase_add_test(t, test_envelopes);
	tcase_add_test(t, test_full_name);
	tcase_add_test(t, test_octets);
	tcase_add_test(t, test_recipients_max);
	tcase_add_test(t, test_local_users);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
