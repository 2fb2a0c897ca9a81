/* Normal forms of domains, local parts and addresses. */
#include "authd/address.h"

#include <check.h>

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

struct row {
	const char *in;
	const char *want; /* NULL: refused */
};

START_TEST(test_domain)
{
	static const struct row rows[] = {
	    {"example.org", "example.org"},
	    {"EXAMPLE.Org", "example.org"},
	    {"example.org.", "example.org"},
	    {"example.org..", NULL},
	    {"", NULL},
	    {".", NULL},
	    {"a..b", NULL},
	    {".a", NULL},
	    {"-a.b", NULL},
	    {"a-.b", NULL},
	    {"a_b.c", NULL},
	    {"a b.c", NULL},
	    {"127.0.0.1", NULL},
	    {"[127.0.0.1]", NULL},
	    {"1.a", "1.a"},
	    {"localhost", "localhost"},
	    {"b\xc3\xbc"
	     "cher.example",
		"xn--bcher-kva.example"},
	    {"B\xc3\x9c"
	     "CHER.Example",
		"xn--bcher-kva.example"},
	    {"xn--bcher-kva.EXAMPLE", "xn--bcher-kva.example"},
	    {"stra\xc3\x9f"
	     "e.example",
		"xn--strae-oqa.example"},
	    {"b\xfc"
	     "cher.example",
		NULL},
	    {L63 ".x", L63 ".x"},
	    {L63 "a.x", NULL},
	    {L63 "." L63 "." L63 "." L63, NULL},
	};
	char out[ADDRESS_DOMAIN_BYTES_MAX + 1];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bool ok = address_domain(slice_str(rows[i].in), out);

		ck_assert_msg(ok == (rows[i].want != NULL), "%s: %d", rows[i].in, ok);
		if (ok)
			ck_assert_str_eq(out, rows[i].want);
	}
	ck_assert(!address_domain(SLICE("a\0.b"), out));
}
END_TEST

START_TEST(test_local)
{
	static const struct row rows[] = {
	    {"alice", "alice"},
	    {"Alice.B", "alice.b"},
	    {"a!#$%&'*+-/=?^_`{|}~", "a!#$%&'*+-/=?^_`{|}~"},
	    {"", NULL},
	    {".a", NULL},
	    {"a.", NULL},
	    {"a..b", NULL},
	    {"a b", NULL},
	    {"a@b", NULL},
	    {"\"alice\"", "alice"},
	    {"\"Al\\ice\"", "alice"},
	    {"\"a b\"", "a b"},
	    {"\"a@b\"", "a@b"},
	    {"\"a\\\"b\"", "a\"b"},
	    {"\"a\\\\\"", "a\\"},
	    {"\"a\\\\\"b\"", NULL},
	    {"\"a\\\"", NULL},
	    {"\"", NULL},
	    {"\"\"", NULL},
	    {"\"a\tb\"", NULL},
	    {"\"a\"b", NULL},
	    {"caf\xc3\xa9", "caf\xc3\xa9"},
	    {"cafe\xcc\x81", "caf\xc3\xa9"},
	    {"caf\xe9", NULL},
	    {"\xed\xa0\x80", NULL},
	    {L63 "b", L63 "b"},
	    {L63 "bc", NULL},
	};
	char out[ADDRESS_LOCAL_BYTES_MAX + 1];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bool ok = address_local(slice_str(rows[i].in), out);

		ck_assert_msg(ok == (rows[i].want != NULL), "%s: %d", rows[i].in, ok);
		if (ok)
			ck_assert_str_eq(out, rows[i].want);
	}
	ck_assert(!address_local(SLICE("a\0b"), out));
	ck_assert(!address_local(SLICE("\"a\0b\""), out));
}
END_TEST

START_TEST(test_address)
{
	static const struct row rows[] = {
	    {"Alice@Example.ORG", "alice@example.org"},
	    {"\"a@b\"@example.org", "a@b@example.org"},
	    {"alice", NULL},
	    {"@example.org", NULL},
	    {"alice@", NULL},
	    {"alice@[192.0.2.1]", NULL},
	    {"alice@example.org@", NULL},
	    {"\"a@b\"", NULL},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct address_name name;
		char out[ADDRESS_BYTES_MAX + 1];
		bool ok = address_parse(slice_str(rows[i].in), &name);

		ck_assert_msg(ok == (rows[i].want != NULL), "%s: %d", rows[i].in, ok);
		if (ok) {
			address_print(&name, out);
			ck_assert_str_eq(out, rows[i].want);
		}
	}
}
END_TEST

START_TEST(test_admin)
{
	static const struct {
		const char *in;
		bool catch_all;
		const char *want;
	} rows[] = {
	    {"Alice@example.org", false, "alice@example.org"},
	    {"\"alice\"@example.org", false, NULL},
	    {"\"a b\"@example.org", false, NULL},
	    {"@example.org", false, NULL},
	    {"@Example.org", true, "@example.org"},
	    {"@", true, NULL},
	    {"alice", true, NULL},
	    {"alice@exa mple", false, NULL},
	    {"../x@example.org", false, NULL},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct address_name name;
		char out[ADDRESS_BYTES_MAX + 1];
		struct err e;
		int r = address_admin_parse(slice_str(rows[i].in), rows[i].catch_all, &name, &e);

		ck_assert_msg((r == 0) == (rows[i].want != NULL), "%s: %d", rows[i].in, r);
		if (r == 0) {
			address_print(&name, out);
			ck_assert_str_eq(out, rows[i].want);
		} else {
			ck_assert_int_eq(e.class, ERR_PERM);
			ck_assert_int_eq(e.code, ERR_CODE_BAD_NAME);
		}
	}
}
END_TEST

START_TEST(test_detail)
{
	static const struct {
		const char *in, *local, *detail; /* detail NULL: none */
	} rows[] = {
	    {"alice+news@d.test", "alice", "news"},
	    {"alice+a+b@d.test", "alice", "a+b"},
	    {"alice+@d.test", "alice", ""},
	    {"+alice@d.test", "+alice", NULL},
	    {"alice@d.test", "alice", NULL},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct address_name name;
		char detail[ADDRESS_LOCAL_BYTES_MAX + 1];

		ck_assert(address_parse(slice_str(rows[i].in), &name));
		ck_assert(address_split_detail(&name, detail) == (rows[i].detail != NULL));
		ck_assert_str_eq(name.local, rows[i].local);
		if (rows[i].detail != NULL)
			ck_assert_str_eq(detail, rows[i].detail);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("address");
	TCase *t = tcase_create("address");
	SRunner *r;
	int failed;

	tcase_add_test(t, test_domain);
	tcase_add_test(t, test_local);
	tcase_add_test(t, test_address);
	tcase_add_test(t, test_admin);
	tcase_add_test(t, test_detail);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
