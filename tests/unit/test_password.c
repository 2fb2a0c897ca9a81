/* Passwords: what may be set, and that a hash matches its own password and nothing else. */
#include "common/password.h"

#include <check.h>

#define MATCHES(password, hash) password_matches(slice_str(password), slice_str(hash))

START_TEST(test_acceptable)
{
	static const struct {
		const char *name;
		struct slice in;
		bool want;
	} rows[] = {
	    {"empty", {(const uint8_t *)"", 0}, false},
	    {"one octet", SLICE("x"), true},
	    {"spaces kept", SLICE("  two  words  "), true},
	    {"UTF-8", SLICE("p\xc3\xa4ssword"), true},
	    {"no UTF-8", SLICE("p\xe4ssword"), false},
	    {"NUL", SLICE("a\0b"), false},
	    {"LF", SLICE("a\nb"), false},
	    {"DEL", SLICE("a\177"), false},
	    {"colon and quotes", SLICE(":\"'\\$y$"), true},
	};
	char longest[PASSWORD_BYTES_MAX + 1];
	struct err e;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		ck_assert_msg(
		    password_acceptable(rows[i].in, &e) == rows[i].want, "%s", rows[i].name);
	memset(longest, 'x', sizeof longest);
	ck_assert(password_acceptable(slice_of(longest, PASSWORD_BYTES_MAX - 1), &e));
	ck_assert(password_acceptable(slice_of(longest, PASSWORD_BYTES_MAX), &e));
	ck_assert(!password_acceptable(slice_of(longest, PASSWORD_BYTES_MAX + 1), &e));
	ck_assert_int_eq(e.class, ERR_PERM);
}
END_TEST

START_TEST(test_hash_matches)
{
	char hash[PASSWORD_HASH_SIZE];
	char again[PASSWORD_HASH_SIZE];
	struct err e;

	ck_assert_int_eq(password_hash(SLICE("correct horse"), hash, &e), 0);
	ck_assert_int_eq(password_hash(SLICE("correct horse"), again, &e), 0);
	ck_assert_str_ne(hash, again);
	ck_assert(password_hash_valid(slice_str(hash)));
	ck_assert(MATCHES("correct horse", hash));
	ck_assert(!MATCHES("correct hors", hash));
	ck_assert(!MATCHES("correct horse ", hash));
	ck_assert(!MATCHES("Correct horse", hash));
	ck_assert(!MATCHES("", hash));
	ck_assert(!password_matches(SLICE("correct horse\0"), slice_str(hash)));
	hash[strlen(hash) - 1] ^= 1;
	ck_assert(!MATCHES("correct horse", hash));
}
END_TEST

/* The same letter typed composed and decomposed is the same password (RFC 8265 4.2.2). */
START_TEST(test_normalised)
{
	char hash[PASSWORD_HASH_SIZE];

	ck_assert_int_eq(password_hash(SLICE("caf\xc3\xa9"), hash, NULL), 0);
	ck_assert(MATCHES("cafe\xcc\x81", hash));
	ck_assert(!MATCHES("cafe", hash));
}
END_TEST

START_TEST(test_other_methods)
{
	/* Of "secret", by openssl passwd -6: as imported from another server. */
	static const char sha512[] =
	    "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S"
	    "5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1";

	ck_assert(MATCHES("secret", sha512));
	ck_assert(!MATCHES("Secret", sha512));
	ck_assert(password_hash_valid(slice_str(sha512)));
	ck_assert(!password_hash_valid(SLICE("$1$abcdefgh$irWbblnpmw.5z7wgBnprh0")));
	ck_assert(!password_hash_valid(SLICE("abJnggxhB/yWI")));
	ck_assert(!password_hash_valid(SLICE("")));
	ck_assert(!password_hash_valid(SLICE("$")));
	ck_assert(!password_hash_valid(SLICE("$y$")));
	ck_assert(!password_hash_valid(
	    SLICE("$y$j9T$a:bcdefghijklmnopqrstuvwxyz0123456789$abcdefghijklmnopqrstuvwxyz")));
	ck_assert(!password_hash_valid(SLICE("$y$j9T$abcdefgh")));
	ck_assert(!MATCHES("x", ""));
	ck_assert(!MATCHES("x", "*"));
	ck_assert(!MATCHES("x", "$nonsense$"));
}
END_TEST

/* Nobody's hash has the form and the cost of a real one and matches nothing. */
START_TEST(test_nobody)
{
	char nobody[PASSWORD_HASH_SIZE];
	char real[PASSWORD_HASH_SIZE];

	ck_assert_int_eq(password_hash_nobody(nobody, NULL), 0);
	ck_assert_int_eq(password_hash(SLICE("x"), real, NULL), 0);
	ck_assert_uint_eq(strlen(nobody), strlen(real));
	ck_assert(strncmp(nobody, real, strlen("$y$j9T$")) == 0);
	ck_assert(password_hash_valid(slice_str(nobody)));
	ck_assert(!MATCHES("x", nobody));
	ck_assert(!MATCHES("", nobody));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("password");
	TCase *t = tcase_create("password");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, test_acceptable);
	tcase_add_test(t, test_hash_matches);
	tcase_add_test(t, test_normalised);
	tcase_add_test(t, test_other_methods);
	tcase_add_test(t, test_nobody);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
