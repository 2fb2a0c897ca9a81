/* Which relay takes mail for whom, and the file of names and passwords. */
#include "smtpd/transport_relay.h"

#include <check.h>
#include <stdlib.h>
#include <unistd.h>

START_TEST(test_routes)
{
	static const struct {
		const char *routes, *all, *destination, *want;
	} rows[] = {
	    {"", "", "x.example", ""},
	    {"", "relay.example@587", "x.example", "relay.example@587"},
	    {"x.example=a.example", "b.example", "x.example", "a.example"},
	    {"x.example=a.example", "b.example", "X.Example", "a.example"},
	    {"x.example=a.example", "b.example", "y.x.example", "b.example"},
	    {".x.example=a.example", "b.example", "y.x.example", "a.example"},
	    {".x.example=a.example", "b.example", "x.example", "b.example"},
	    {".x.example=a.example", "b.example", "yx.example", "b.example"},
	    {".example=a.example  .x.example=c.example@25 ", "", "y.x.example", "c.example@25"},
	    {".x.example=c.example .example=a.example", "", "y.x.example", "c.example"},
	    {"x.example=-", "b.example", "x.example", ""},
	    {".example=a.example x.example=-", "", "x.example", ""},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct slice got =
		    transport_relay_for(slice_str(rows[i].routes), slice_str(rows[i].all), slice_str(rows[i].destination)), wrong;

		ck_assert_msg(slice_eq(got, slice_str(rows[i].want)), "row %zu: %.*s", i, SLICE_ARG(got));
		ck_assert(transport_routes_valid(slice_str(rows[i].routes), &wrong));
	}
}
END_TEST

START_TEST(test_wrong_routes)
{
	static const char *const rows[] = {"x.example", "=a.example", "x.example=", ".=a.example", "x.example=a.example@0", "x.example=a_b:25"};
	struct slice wrong;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		ck_assert_msg(!transport_routes_valid(slice_str(rows[i]), &wrong) && slice_eq(wrong, slice_str(rows[i])), "%s", rows[i]);
	ck_assert(!transport_routes_valid(SLICE("x.example=a.example bad y.example=-"), &wrong));
	ck_assert(slice_eq(wrong, SLICE("bad")));
}
END_TEST

START_TEST(test_credentials)
{
	struct slice file = SLICE("# comment\n\nrelay.example@587  me\tpass word \r\n192.0.2.1 you secret\n");
	struct transport_credentials c;

	ck_assert_uint_eq(transport_credentials_wrong(file), 0);
	ck_assert(transport_credentials_find(file, SLICE("Relay.example@587"), &c));
	ck_assert(slice_eq(c.user, SLICE("me")) && slice_eq(c.password, SLICE("pass word")));
	ck_assert(transport_credentials_find(file, SLICE("192.0.2.1"), &c));
	ck_assert(slice_eq(c.user, SLICE("you")) && slice_eq(c.password, SLICE("secret")));
	ck_assert(!transport_credentials_find(file, SLICE("relay.example"), &c));
	ck_assert(!transport_credentials_find(file, SLICE("# comment"), &c));
	ck_assert_uint_eq(transport_credentials_wrong(SLICE("a.example u p\nb.example u\n")), 2);
	ck_assert_uint_eq(transport_credentials_wrong(SLICE("a:25 b c\n")), 1);
	ck_assert_uint_eq(transport_credentials_wrong(SLICE("")), 0);
}
END_TEST

START_TEST(test_limits)
{
	for (size_t n = TRANSPORT_PASSWORD_BYTES_MAX - 1; n <= TRANSPORT_PASSWORD_BYTES_MAX + 1; n++) {
		struct transport_credentials c;
		struct buf b;

		buf_init(&b, 4096);
		buf_put_str(&b, "a.example u ");
		for (size_t i = 0; i < n; i++)
			buf_put_u8(&b, 'x');
		ck_assert(transport_credentials_find(buf_slice(&b), SLICE("a.example"), &c) == (n <= TRANSPORT_PASSWORD_BYTES_MAX));
		buf_fini(&b);
	}
}
END_TEST

START_TEST(test_load)
{
	char path[] = "/tmp/transport-relay-XXXXXX";
	int fd = mkstemp(path);
	struct buf b;
	struct err e;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "a.example u p\n", 14), 14);
	buf_init(&b, TRANSPORT_CREDENTIALS_BYTES_MAX);
	ck_assert_int_eq(transport_credentials_load(path, &b, &e), 0);
	ck_assert(slice_eq(buf_slice(&b), SLICE("a.example u p\n")));
	buf_reset(&b);
	ck_assert_int_eq(ftruncate(fd, TRANSPORT_CREDENTIALS_BYTES_MAX + 1), 0);
	ck_assert_int_eq(transport_credentials_load(path, &b, &e), -1);
	ck_assert_int_eq(e.class, ERR_LIMIT);
	ck_assert_int_eq(unlink(path), 0);
	buf_reset(&b);
	ck_assert_int_eq(transport_credentials_load(path, &b, &e), -1);
	buf_fini(&b);
	close(fd);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("transport_relay");
	TCase *t = tcase_create("transport_relay");

	tcase_add_test(t, test_routes);
	tcase_add_test(t, test_wrong_routes);
	tcase_add_test(t, test_credentials);
	tcase_add_test(t, test_limits);
	tcase_add_test(t, test_load);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
