/* MTA-STS: records, policies, hosts (RFC 8461). */
#include "smtpd/sts_policy.h"

#include <check.h>
#include <stdlib.h>

#define LONG32 "abcdefghijklmnopqrstuvwxyz012345"

static const struct {
	const char *txt[3];
	const char *id; /* NULL: no policy */
} records[] = {
    {{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
    {{"v=STSv1; id=a"}, "a"},
    {{"v=STSv1;id=a;"}, "a"},
    {{"v=STSv1 ;\t id=a \t;"}, "a"},
    {{"v=STSv1; x=y; id=a; z=1"}, "a"},
    {{"v=STSv1; id=a; id=b;"}, "a"},
    {{"v=STSv1; id=" LONG32}, LONG32},
    {{"other", "v=STSv1; id=a", "v=spf1 -all"}, "a"},
    {{"v=STSv2; id=b", "v=STSv1; id=a"}, "a"},
    {{"v=STSv1; id=a", "v=STSv1; id=b"}, NULL},
    {{"v=STSv1; id=a", "v=STSv1; id=a"}, NULL},
    {{"v=STSv1"}, NULL},
    {{"v=STSv1;"}, NULL},
    {{"v=STSv1; id="}, NULL},
    {{"v=STSv1; id=a-b"}, NULL},
    {{"v=STSv1; id=" LONG32 "6"}, NULL},
    {{"v=STSv1; id=a;; x=y"}, NULL},
    {{"v=STSv1; id"}, NULL},
    {{"v=STSv1; id=a; _x=y"}, NULL},
    {{"v=STSv1; id=a; x=y=z"}, NULL},
    {{"v=stsv1; id=a"}, NULL},
    {{" v=STSv1; id=a"}, NULL},
    {{"id=a; v=STSv1"}, NULL},
    {{""}, NULL},
    {{NULL}, NULL},
};

START_TEST(test_record)
{
	struct dns_record r[3] = {0};
	struct dns_answer a = {.records = r};
	struct slice id;

	for (unsigned k = 0; k < 3 && records[_i].txt[k]; k++)
		r[a.count++].data = slice_str(records[_i].txt[k]);
	ck_assert_msg(sts_record_id(&a, &id) == (records[_i].id != NULL), "%d", _i);
	if (records[_i].id)
		ck_assert(slice_eq(id, slice_str(records[_i].id)));
}
END_TEST

#define HEAD "version: STSv1\r\n"
#define REST "mode: enforce\r\nmx: a.example\r\nmax_age: 9\r\n"

static const struct {
	const char *text;
	bool good;
	enum sts_mode mode;
	unsigned mx;
	uint32_t age;
} policies[] = {
    {HEAD REST, true, STS_ENFORCE, 1, 9},
    {"version: STSv1\nmode: testing\nmx: *.example.net\nmx: b.example\nmax_age: 604800", true, STS_TESTING, 2, 604800},
    {"version:STSv1\nmode:none\nmax_age:0\n", true, STS_NONE, 0, 0},
    {"max_age: 99999999999\n" HEAD "mode: none\n", false, 0, 0, 0},
    {"max_age: 9999999999\n" HEAD "mode: none\n", true, STS_NONE, 0, STS_AGE_SECONDS_MAX},
    {"max_age: 31557600  \n" HEAD "mode: none \t\n", true, STS_NONE, 0, STS_AGE_SECONDS_MAX},
    {HEAD "mode: enforce\nmode: none\nmx: a.example\nmax_age: 9\nmax_age: 8\nversion: STSv2\n", true, STS_ENFORCE, 1, 9},
    {HEAD REST "new_field: of a later version \xc3\xa4\r\n", true, STS_ENFORCE, 1, 9},
    {HEAD "mode: enforce\r\nmax_age: 9\r\n", false, 0, 0, 0},
    {HEAD "mode: Enforce\r\nmx: a.example\r\nmax_age: 9\r\n", false, 0, 0, 0},
    {HEAD "mode: enforce\r\nmx: a.example\r\nmax_age: -9\r\n", false, 0, 0, 0},
    {HEAD "mode: enforce\r\nmx: a.example\r\n", false, 0, 0, 0},
    {HEAD "mode: enforce\r\nmx: a.*.example\r\nmax_age: 9\r\n", false, 0, 0, 0},
    {HEAD "mode: enforce\r\nmx: *.\r\nmax_age: 9\r\n", false, 0, 0, 0},
    {HEAD "mode: enforce\r\nmx: b\xc3\xbc.example\r\nmax_age: 9\r\n", false, 0, 0, 0},
    {REST, false, 0, 0, 0},
    {"version: STSv2\r\n" REST, false, 0, 0, 0},
    {HEAD "\r\n" REST, false, 0, 0, 0},
    {HEAD "no field\r\n" REST, false, 0, 0, 0},
    {HEAD ": empty\r\n" REST, false, 0, 0, 0},
    {HEAD "bare: \r return\r\n" REST, false, 0, 0, 0},
    {HEAD "control: \x01\r\n" REST, false, 0, 0, 0},
    {HEAD "cut: \xc3\r\n" REST, false, 0, 0, 0},
    {"<html></html>", false, 0, 0, 0},
    {"", false, 0, 0, 0},
};

START_TEST(test_policy)
{
	struct sts_policy p;

	ck_assert_msg(sts_policy_parse(slice_str(policies[_i].text), &p) == policies[_i].good, "%s", policies[_i].text);
	if (!policies[_i].good)
		return;
	ck_assert_int_eq(p.mode, policies[_i].mode);
	ck_assert_uint_eq(p.mx_count, policies[_i].mx);
	ck_assert_uint_eq(p.max_age, policies[_i].age);
}
END_TEST

START_TEST(test_limits)
{
	static char text[STS_POLICY_BYTES_MAX + 2];
	struct sts_policy p;
	size_t n = (size_t)snprintf(text, sizeof text, "%s", HEAD REST "x: ");

	memset(text + n, 'y', sizeof text - n);
	ck_assert(sts_policy_parse(slice_of(text, STS_POLICY_BYTES_MAX), &p));
	ck_assert(!sts_policy_parse(slice_of(text, STS_POLICY_BYTES_MAX + 1), &p));
	for (n = 0; n < 100 * 14; n += 14)
		(void)snprintf(text + n, sizeof text - n, "mx: %02zu.exampl\n", n / 14 % 100);
	(void)snprintf(text + n, sizeof text - n, "%s", HEAD "mode: enforce\nmax_age: 1\n");
	ck_assert(sts_policy_parse(slice_str(text), &p));
	ck_assert_uint_eq(p.mx_count, STS_PATTERNS_MAX);
}
END_TEST

static const struct {
	const char *mx;
	const char *host;
	bool allowed;
} hosts[] = {
    {"mail.example.com", "mail.example.com", true},
    {"mail.example.com", "MAIL.example.COM", true},
    {"mail.example.com", "a.mail.example.com", false},
    {"*.example.com", "mail.example.com", true},
    {"*.Example.com", "mail.eXample.com", true},
    {"*.example.com", "example.com", false},
    {"*.example.com", "foo.bar.example.com", false},
    {"*.example.com", ".example.com", false},
    {"*.example.com", "mailexample.com", false},
    {"example.com", "", false},
};

START_TEST(test_hosts)
{
	struct sts_policy p = {.mx_count = 1, .mx = {slice_str(hosts[_i].mx)}};

	ck_assert_msg(sts_policy_allows(&p, slice_str(hosts[_i].host)) == hosts[_i].allowed, "%s %s", hosts[_i].mx, hosts[_i].host);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

int
main(void)
{
	Suite *s = suite_create("sts");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, test_record, 0, COUNT(records));
	tcase_add_loop_test(t, test_policy, 0, COUNT(policies));
	tcase_add_loop_test(t, test_hosts, 0, COUNT(hosts));
	tcase_add_test(t, test_limits);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
