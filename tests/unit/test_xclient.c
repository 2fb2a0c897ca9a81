/* The attributes of XCLIENT. */
#include "smtpd/xclient.h"

#include <arpa/inet.h>
#include <check.h>
#include <string.h>

static struct xclient x;

static bool
parse(const char *args)
{
	return xclient_parse(slice_str(args), &x);
}

static bool
fresh(const char *args)
{
	memset(&x, 0, sizeof(x));
	return parse(args);
}

START_TEST(test_values)
{
	char text[INET6_ADDRSTRLEN];

	ck_assert(fresh("NAME=mx.client.example ADDR=192.0.2.7 PORT=65535 PROTO=ESMTP HELO=[192.0.2.7] REVERSE_NAME=a.example "
			"LOGIN=user DESTADDR=IPV6:2001:db8::1 DESTPORT=25"));
	for (unsigned i = 0; i < XCLIENT_ATTRIBUTES; i++)
		ck_assert_int_eq(x.said[i], XCLIENT_VALUE);
	ck_assert_str_eq(x.name, "mx.client.example");
	ck_assert_str_eq(x.reverse_name, "a.example");
	ck_assert_str_eq(x.helo, "[192.0.2.7]");
	ck_assert_str_eq(x.login, "user");
	ck_assert_str_eq(inet_ntop(AF_INET6, &x.address, text, sizeof(text)), "::ffff:192.0.2.7");
	ck_assert_str_eq(inet_ntop(AF_INET6, &x.destination, text, sizeof(text)), "2001:db8::1");
	ck_assert(x.esmtp && x.port == 65535 && x.destination_port == 25);
	ck_assert(parse("name=[unavailable] proto=smtp helo=[Tempunavail]"));
	ck_assert(x.said[XCLIENT_NAME] == XCLIENT_UNAVAILABLE && x.name[0] == '\0' && !x.esmtp);
	ck_assert(x.said[XCLIENT_HELO] == XCLIENT_TEMPORARY && x.helo[0] == '\0');
	ck_assert(x.said[XCLIENT_ADDR] == XCLIENT_VALUE && x.port == 65535); /* what was said before stays */
}
END_TEST

/* xtext, and what older relays send as it is. */
START_TEST(test_xtext)
{
	ck_assert(fresh("LOGIN=a+2Bb+3Dc"));
	ck_assert_str_eq(x.login, "a+b=c");
	ck_assert(fresh("LOGIN=user+tag"));
	ck_assert_str_eq(x.login, "user+tag");
	ck_assert(fresh("LOGIN=a=b"));
	ck_assert_str_eq(x.login, "a=b");
	ck_assert(fresh("NAME=+5BUNAVAILABLE+5D"));
	ck_assert_int_eq(x.said[XCLIENT_NAME], XCLIENT_UNAVAILABLE);
}
END_TEST

START_TEST(test_refused)
{
	static const char *const bad[] = {"", " ", "ADDR", "ADDR=", "=x", "FOO=x", "ADDR=192.0.2.1 ADDR=192.0.2.1", "addr=192.0.2.1 ADDR=192.0.2.1",
	    "ADDR=192.0.2.300", "ADDR=2001:db8::1", "ADDR=IPV6:192.0.2.1", "ADDR=IPV6:", "ADDR=[192.0.2.1]", "PORT=65536", "PORT=-1", "PORT=x",
	    "DESTADDR=x", "DESTPORT=65536", "PROTO=LMTP", "PROTO=ESMTPS", "NAME=a_b.example", "NAME=a..b", "NAME=[192.0.2.1]", "NAME=a+0Ab",
	    "REVERSE_NAME=-a-", "HELO=a+20b", "HELO=a+00", "HELO=a+7F", "HELO=a+0D+0A", "LOGIN=a+0Ab", "LOGIN=a+00b", "LOGIN=a+C3+A4",
	    "ADDR=192.0.2.1  PORT=1", "ADDR=192.0.2.1 ", "NAMES=a"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_msg(!fresh(bad[i]), "'%s'", bad[i]);
}
END_TEST

/* XCLIENT_VALUE_BYTES_MAX at its edge, as written and as what it stands for. */
START_TEST(test_longest)
{
	static const struct {
		enum xclient_attribute attribute;
		const char *name;
	} rows[] = {{XCLIENT_LOGIN, "LOGIN="}, {XCLIENT_HELO, "HELO="}};
	char line[400];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (size_t n = XCLIENT_VALUE_BYTES_MAX - 1; n <= XCLIENT_VALUE_BYTES_MAX + 1; n++) {
			size_t head = strlen(rows[i].name);

			memcpy(line, rows[i].name, head);
			memset(line + head, 'x', n);
			line[head + n] = '\0';
			ck_assert_msg(fresh(line) == (n <= XCLIENT_VALUE_BYTES_MAX), "%s %zu", rows[i].name, n);
		}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("xclient");
	TCase *t = tcase_create("all");

	tcase_add_test(t, test_values);
	tcase_add_test(t, test_xtext);
	tcase_add_test(t, test_refused);
	tcase_add_test(t, test_longest);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
