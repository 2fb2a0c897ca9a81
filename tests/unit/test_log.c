/* The log's escaping and its cut, and that a line is one write. */
#include "common/log.h"

#include <check.h>
#include <fcntl.h>
#include <unistd.h>

static struct buf got;

/* Runs log_event with stderr in a pipe; returns what was written. */
static const char *
logged(
    enum log_level level, struct slice session, const char *event, const struct log_field *fields)
{
	static char text[8192];
	int fds[2];
	int saved = dup(STDERR_FILENO);

	ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
	ck_assert_int_ge(dup2(fds[1], STDERR_FILENO), 0);
	log_event_fields(level, session, event, fields);
	ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
	ssize_t n = read(fds[0], text, sizeof text - 1);

	if (n < 0)
		n = 0;
	text[n] = '\0';
	close(saved);
	close(fds[0]);
	close(fds[1]);
	return text;
}

START_TEST(line_format)
{
	log_init("smtp-front", LOG_INFO);
	ck_assert_str_eq(logged(LOG_WARN, SLICE("s1"), "tls-refused",
			     (const struct log_field[]){LOG_STR("peer", SLICE("192.0.2.1")),
				 LOG_NUM("alert", -3), LOG_STR("empty", SLICE("")), LOG_END}),
	    "session=s1 role=smtp-front level=warn event=tls-refused peer=192.0.2.1 alert=-3 empty=\"\"\n");
	ck_assert_str_eq(
	    logged(LOG_DEBUG, SLICE("s1"), "quiet", (const struct log_field[]){LOG_END}), "");
	ck_assert_str_eq(logged(LOG_INFO, NO_SESSION, "x", (const struct log_field[]){LOG_END}),
	    "role=smtp-front level=info event=x\n");
}
END_TEST

START_TEST(values_are_escaped)
{
	static const struct {
		const char *in;
		size_t n;
		const char *want;
	} cases[] = {
	    {"a b", 3, " k=\"a b\""},
	    {"a\r\nrole=fake", 12, " k=\"a\\x0d\\x0arole=fake\""},
	    {"q\"\\", 3, " k=\"q\\\"\\\\\""},
	    {"\x1b[0m\0\x9b", 6, " k=\"\\x1b[0m\\x00\\x9b\""},
	    {"a=b", 3, " k=\"a=b\""},
	    {"<a@b>", 5, " k=<a@b>"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		buf_init(&got, 1024);
		log_put_fields(&got, (const struct log_field[]){
					 LOG_STR("k", slice_of(cases[i].in, cases[i].n)), LOG_END});
		buf_put_u8(&got, 0);
		ck_assert_str_eq((const char *)got.p, cases[i].want);
		buf_fini(&got);
	}
}
END_TEST

START_TEST(long_lines_are_cut)
{
	static char big[5000];

	memset(big, 'x', sizeof big);
	const char *line = logged(LOG_ERROR, NO_SESSION, "big",
	    (const struct log_field[]){
		LOG_STR("a", slice_of(big, sizeof big)), LOG_NUM("n", 1), LOG_END});

	ck_assert_uint_le(strlen(line), LOG_LINE_BYTES_MAX);
	ck_assert_str_eq(line + strlen(line) - 4, "...\n");
	memset(big, '\x01', sizeof big);
	line = logged(
	    LOG_ERROR, slice_of(big, sizeof big), "big", (const struct log_field[]){LOG_END});
	ck_assert_uint_le(strlen(line), LOG_LINE_BYTES_MAX);
	ck_assert_str_eq(line + strlen(line) - 4, "...\n");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("log");
	TCase *c = tcase_create("log");

	tcase_add_test(c, line_format);
	tcase_add_test(c, values_are_escaped);
	tcase_add_test(c, long_lines_are_cut);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
