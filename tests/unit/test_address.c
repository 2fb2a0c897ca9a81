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

/* All names that may be meant, the longest first. */
START_TEST(test_detail)
{
	static const struct {
		const char *in, *separators, *want; /* "base detail" and a comma each */
	} rows[] = {
	    {"alice+news@d.test", "+", "alice news,"},
	    {"alice+a+b@d.test", "+", "alice+a b,alice a+b,"},
	    {"alice+@d.test", "+", "alice ,"},
	    {"+alice@d.test", "+", ""},
	    {"+a+b@d.test", "+", "+a b,"},
	    {"alice@d.test", "+", ""},
	    {"alice+x-y=z@d.test", "-=", "alice+x-y z,alice+x y=z,"},
	    {"alice+x@d.test", "", ""},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct address_name name, base;
		char got[256] = "";
		const char *detail;

		ck_assert(address_parse(slice_str(rows[i].in), &name));
		base = name;
		while (address_split_detail(&base, &name, rows[i].separators, &detail))
			(void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s %s,", base.local, detail);
		ck_assert_str_eq(got, rows[i].want);
	}
}
END_TEST

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

START_TEST(test_fold)
{
	static const struct {
		const char *in;
		bool letters, dots;
		const char *want; /* NULL: none */
	} rows[] = {
	    {"a.b", false, false, "a.b"},
	    {"a.b.", false, true, "ab"},
	    {"...", false, true, NULL},
	    {"\xc3\x84", false, false, "\xc3\x84"},
	    {"\xc3\x84", true, false, "\xc3\xa4"},
	    {"stra\xc3\x9f" "e", true, false, "strasse"},
	    {X64, true, true, X64},
	    /* Longer when folded than a local part can be. */
	    {"\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89"
	     "\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89\xc5\x89",
		true, false, NULL},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct address_rules rules = {.fold_letters = rows[i].letters, .dots_ignored = rows[i].dots};
		char out[ADDRESS_LOCAL_BYTES_MAX + 1];
		bool ok = address_fold(rows[i].in, &rules, out);

		ck_assert_msg(ok == (rows[i].want != NULL), "row %zu", i);
		if (ok)
			ck_assert_str_eq(out, rows[i].want);
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
	tcase_add_test(t, test_fold);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
