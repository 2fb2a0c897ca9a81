/*
 * Settings: values by type at their bounds, the way between processes, and the file: what is wrong
 * is named with file, line and what to write.
 */
#include "common/config.h"

#include "admin/config_file.h"
#include "common/cursor.h"

#include <check.h>
#include <fcntl.h>
#include <unistd.h>

START_TEST(values_are_checked)
{
	static const struct {
		enum option o;
		const char *text;
		bool want;
		uint64_t number;
	} rows[] = {
	    {OPT_LISTEN_SMTP, "0", true, 0},
	    {OPT_LISTEN_SMTP, "65535", true, 65535},
	    {OPT_LISTEN_SMTP, "65536", false, 0},
	    {OPT_LISTEN_SMTP, "25K", false, 0},
	    {OPT_LISTEN_SMTP, "-1", false, 0},
	    {OPT_LISTEN_SMTP, "", false, 0},
	    {OPT_SMTP_MESSAGE_BYTES, "65536", true, 65536},
	    {OPT_SMTP_MESSAGE_BYTES, "65535", false, 0},
	    {OPT_SMTP_MESSAGE_BYTES, "64K", true, 65536},
	    {OPT_SMTP_MESSAGE_BYTES, "1G", true, 1073741824},
	    {OPT_SMTP_MESSAGE_BYTES, "2G", false, 0},
	    {OPT_SMTP_MESSAGE_BYTES, "25 M", false, 0},
	    {OPT_SMTP_MESSAGE_BYTES, "99999999999999T", false, 0},
	    {OPT_SMTP_TIMEOUT, "1s", true, 1000},
	    {OPT_SMTP_TIMEOUT, "999ms", false, 0},
	    {OPT_SMTP_TIMEOUT, "1h", true, 3600000},
	    {OPT_SMTP_TIMEOUT, "61m", false, 0},
	    {OPT_SMTP_TIMEOUT, "60", false, 0}, /* no unit */
	    {OPT_RETENTION, "0", true, 0},
	    {OPT_RETENTION, "14d", true, 1209600000},
	    {OPT_LOG_DEBUG, "yes", true, 1},
	    {OPT_LOG_DEBUG, "no", true, 0},
	    {OPT_LOG_DEBUG, "true", false, 0},
	    {OPT_HOSTNAME, "mail.example.org", true, 0},
	    {OPT_HOSTNAME, "", false, 0},
	    {OPT_HOSTNAME, "a\nb", false, 0},
	};
	struct config *c = config_new();
	struct err e;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int rc = config_set(c, rows[i].o, slice_str(rows[i].text), &e);

		ck_assert_msg((rc == 0) == rows[i].want, "%s = %s", option_info(rows[i].o)->name,
		    rows[i].text);
		if (rc < 0)
			ck_assert_msg(
			    strstr(e.detail, option_info(rows[i].o)->name) != NULL, "%s", e.detail);
		else if (option_info(rows[i].o)->type == OPTION_BOOL)
			ck_assert_int_eq(config_bool(c, rows[i].o), (int)rows[i].number);
		else if (option_info(rows[i].o)->type != OPTION_STRING)
			ck_assert_uint_eq(config_number(c, rows[i].o), rows[i].number);
	}
	config_free(&c);
}
END_TEST

START_TEST(quantities_are_printed_short)
{
	static const struct {
		enum option_type type;
		uint64_t value;
		const char *want;
	} rows[] = {
	    {OPTION_NUMBER, 0, "0"},
	    {OPTION_NUMBER, 86400000, "86400000"},
	    {OPTION_BYTES, 1023, "1023"},
	    {OPTION_BYTES, 26214400, "25M"},
	    {OPTION_DURATION, 0, "0"},
	    {OPTION_DURATION, 1500, "1500ms"},
	    {OPTION_DURATION, 90000, "90s"},
	    {OPTION_DURATION, 31536000000, "365d"},
	};
	char text[32];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		ck_assert_str_eq(
		    option_quantity(rows[i].type, rows[i].value, text, sizeof text), rows[i].want);
}
END_TEST

/* Every default is a value that the table itself takes. */
START_TEST(defaults_are_right)
{
	struct config *c = config_new();
	struct err e;

	for (unsigned o = 0; o < OPTION_COUNT; o++) {
		const struct option_info *info = option_info(o);

		ck_assert_str_eq(config_string(c, o), info->def);
		if (o != OPT_HOSTNAME)
			ck_assert_msg(
			    config_set(c, o, slice_str(info->def), &e) == 0, "%s", info->name);
	}
	config_free(&c);
}
END_TEST

START_TEST(settings_cross_an_edge)
{
	struct config *c = config_new(), *copy;
	struct err e;
	struct buf b;

	buf_init(&b, 65536);
	ck_assert_int_eq(config_set(c, OPT_HOSTNAME, SLICE("mail.example.org"), &e), 0);
	ck_assert_int_eq(config_set(c, OPT_SMTP_TIMEOUT, SLICE("7s"), &e), 0);
	config_encode(c, &b);
	ck_assert_int_eq(config_decode(buf_slice(&b), &copy, &e), 0);
	for (unsigned o = 0; o < OPTION_COUNT; o++)
		ck_assert_str_eq(config_string(c, o), config_string(copy, o));
	ck_assert_uint_eq(config_number(copy, OPT_SMTP_TIMEOUT), 7000);
	config_free(&copy);
	/* Every shorter text is refused. */
	for (size_t n = 0; n < b.n; n++)
		ck_assert_int_eq(config_decode(slice_of(b.p, n), &copy, &e), -1);
	put_u8(&b, 0);
	ck_assert_int_eq(config_decode(buf_slice(&b), &copy, &e), -1);
	buf_fini(&b);
	config_free(&c);
}
END_TEST

/* ---- the file ---- */

static int
load(const char *text, struct config **c_r, struct err *e)
{
	char path[] = "/tmp/mailstead-config-XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	int rc = config_file_load(path, c_r, e);

	unlink(path);
	return rc;
}

START_TEST(files_are_read)
{
	struct config *c;
	struct err e;

	ck_assert_int_eq(
	    load("# a comment\n\nhostname = mail.example.org\n"
		 "dns.server = 127.0.0.1@5353\nlisten.address = \"192.0.2.1 2001:db8::1\"\n"
		 "smtp.message_bytes = 30M # another\nsmtp.message_bytes = 31M\n",
		&c, &e),
	    0);
	ck_assert_str_eq(config_string(c, OPT_DNS_SERVER), "127.0.0.1@5353");
	ck_assert_str_eq(config_string(c, OPT_LISTEN_ADDRESS), "192.0.2.1 2001:db8::1");
	/* The later line counts. */
	ck_assert_uint_eq(config_number(c, OPT_SMTP_MESSAGE_BYTES), 31u << 20);
	config_free(&c);
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
#define HOST "hostname = mail.example.org\n"
	static const struct {
		const char *text;
		const char *line;
		const char *advice;
	} rows[] = {
	    {HOST "dns.serve = 127.0.0.1\n", ":2: ", "write dns.server"},
	    {HOST "\nnonsense = 1\n", ":3: ", "config defaults"},
	    {HOST "smtp.message_bytes = 30X\nlog.debug = no\n", ":2: ", "such as 64K, 25M or 2G"},
	    {HOST "log.debug = on\n", ":2: ", "yes or no"},
	    {HOST "dns.server = ns.example.org\n", ":2: ", "ADDRESS@PORT"},
	    {HOST "dns.server = 127.0.0.1@0\n", ":2: ", "ADDRESS@PORT"},
	    {HOST "listen.address = \"192.0.2.1 here\"\n", ":2: ", "listen.address takes"},
	    {HOST "state.directory = state\n", ":2: ", "absolute path"},
	    {HOST "{\n", ":2: ", "unexpected token"},
	    {HOST "log.debug\n", ": ", "end of file"},
	    {"log.debug\n" HOST, ":2: ", "equal sign"},
	    {"hostname = localhost\n", ": ", "fully qualified"},
	    {"log.debug = no\n", ": ", "hostname = mail.example.org"},
	    {"", ": ", "hostname = mail.example.org"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct config *c = NULL;
		struct err e = {0};

		ck_assert_msg(load(rows[i].text, &c, &e) == -1, "%s", rows[i].text);
		ck_assert_ptr_null(c);
		ck_assert_msg(strstr(e.detail, rows[i].line) && strstr(e.detail, rows[i].advice),
		    "%s", e.detail);
	}
#undef HOST
}
END_TEST

START_TEST(a_missing_file_is_named)
{
	struct config *c;
	struct err e;

	ck_assert_int_eq(config_file_load("/nonexistent/mailstead.conf", &c, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.detail, "/nonexistent/mailstead.conf does not exist"));
}
END_TEST

/* Not by the end of the process, which may be a server that reads its settings again. */
START_TEST(what_cannot_be_read_is_refused)
{
	static const struct {
		const char *path;
		const char *why;
	} rows[] = {{"/tmp", "/tmp: Is a directory"}, {"/dev/zero", "/dev/zero: File too large"}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct config *c = NULL;
		struct err e = {0};

		ck_assert_int_eq(config_file_load(rows[i].path, &c, &e), -1);
		ck_assert_ptr_null(c);
		ck_assert_msg(strstr(e.detail, rows[i].why) != NULL, "%s", e.detail);
	}
}
END_TEST

/* What `config show` prints is a file that says the same. */
START_TEST(printed_settings_are_a_file)
{
	struct config *c = config_new(), *again;
	char *text = NULL;
	size_t n = 0;
	struct err e;

	ck_assert_int_eq(config_set(c, OPT_HOSTNAME, SLICE("mail.example.org"), &e), 0);
	ck_assert_int_eq(config_set(c, OPT_STATE_DIR, SLICE("/a b/\"c\"\\d$e//f*"), &e), 0);
	FILE *out = open_memstream(&text, &n);

	config_file_print(c, false, out);
	ck_assert_int_eq(fclose(out), 0);
	ck_assert_msg(load(text, &again, &e) == 0, "%s\n%s", e.detail, text);
	for (unsigned o = 0; o < OPTION_COUNT; o++)
		ck_assert_str_eq(config_string(c, o), config_string(again, o));
	config_free(&again);
	config_free(&c);
	free(text);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("config");
	TCase *t = tcase_create("all");

	tcase_add_test(t, values_are_checked);
	tcase_add_test(t, quantities_are_printed_short);
	tcase_add_test(t, defaults_are_right);
	tcase_add_test(t, settings_cross_an_edge);
	tcase_add_test(t, files_are_read);
	tcase_add_test(t, what_is_wrong_is_named);
	tcase_add_test(t, a_missing_file_is_named);
	tcase_add_test(t, what_cannot_be_read_is_refused);
	tcase_add_test(t, printed_settings_are_a_file);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
