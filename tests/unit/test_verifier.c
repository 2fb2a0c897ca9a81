/* The verifier's cache of successes and its limits for networks that fail. */
#include "authd/verifier_cache.h"
#include "authd/verifier_limit.h"

#include <check.h>

START_TEST(test_cache)
{
	static const struct {
		const char *name;
		uint64_t account;
		struct slice hash, password;
		bool want;
	} rows[] = {
	    {"the same", 7, SLICE("$y$hash"), SLICE("secret"), true},
	    {"another account", 8, SLICE("$y$hash"), SLICE("secret"), false},
	    {"the hash was changed", 7, SLICE("$y$hasi"), SLICE("secret"), false},
	    {"another password", 7, SLICE("$y$hash"), SLICE("Secret"), false},
	    {"the border moved", 7, SLICE("$y$hashs"), SLICE("ecret"), false},
	    {"nothing", 0, SLICE(""), SLICE(""), false},
	};
	struct verifier_cache *c = verifier_cache_new(NULL);
	uint64_t now = 1000000;

	ck_assert_ptr_nonnull(c);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		ck_assert(!verifier_cache_has(c, rows[i].account, rows[i].hash, rows[i].password, now));
	verifier_cache_add(c, 7, SLICE("$y$hash"), SLICE("secret"), now);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		ck_assert_msg(verifier_cache_has(c, rows[i].account, rows[i].hash, rows[i].password, now) == rows[i].want,
		    "%s", rows[i].name);
	ck_assert(verifier_cache_has(c, 7, SLICE("$y$hash"), SLICE("secret"), now + VERIFIER_CACHE_MS - 1));
	ck_assert(!verifier_cache_has(c, 7, SLICE("$y$hash"), SLICE("secret"), now + VERIFIER_CACHE_MS));
	verifier_cache_free(&c);
	ck_assert_ptr_null(c);
}
END_TEST

/* Filled far over its size it forgets old ones, and never says yes to what was not put in. */
START_TEST(test_cache_full)
{
	struct verifier_cache *c = verifier_cache_new(NULL);
	unsigned kept = 0;

	for (uint64_t i = 0; i < 4 * VERIFIER_CACHE_ENTRIES; i++)
		verifier_cache_add(c, i, SLICE("h"), SLICE("p"), i);
	for (uint64_t i = 0; i < 4 * VERIFIER_CACHE_ENTRIES; i++)
		kept += verifier_cache_has(c, i, SLICE("h"), SLICE("p"), 4 * VERIFIER_CACHE_ENTRIES);
	ck_assert_uint_le(kept, VERIFIER_CACHE_ENTRIES);
	ck_assert_uint_ge(kept, VERIFIER_CACHE_ENTRIES / 2);
	for (uint64_t i = 0; i < 1000; i++)
		ck_assert(!verifier_cache_has(c, i, SLICE("h"), SLICE("q"), 1));
	verifier_cache_free(&c);
}
END_TEST

static void
fail_times(struct verifier_limit *l, struct slice address, unsigned n, uint64_t now)
{
	while (n-- > 0)
		verifier_limit_failed(l, address, now);
}

START_TEST(test_limit_growth)
{
	static const uint32_t want[] = {0, 0, 500, 1000, 2000, 4000, 8000, 8000, 8000};
	struct verifier_limit *l = verifier_limit_new();
	uint64_t now = 5000;

	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		ck_assert_uint_eq(verifier_limit_delay(l, SLICE("192.0.2.1"), now), want[i]);
		verifier_limit_failed(l, SLICE("192.0.2.1"), now);
	}
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE("192.0.2.2"), now), 0);
	/* Half as many count after each five minutes; in the end none. */
	now += VERIFIER_LIMIT_HALVE_MS;
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE("192.0.2.1"), now), 2000);
	now += VERIFIER_LIMIT_HALVE_MS;
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE("192.0.2.1"), now), 500);
	now += 40ull * VERIFIER_LIMIT_HALVE_MS;
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE("192.0.2.1"), now), 0);
	verifier_limit_free(&l);
}
END_TEST

START_TEST(test_limit_networks)
{
	struct verifier_limit *l = verifier_limit_new();

	fail_times(l, SLICE("2001:db8:1:2::1"), 4, 1);
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE("2001:db8:1:2:ffff::9"), 1), 2000);
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE("2001:db8:1:3::1"), 1), 0);
	fail_times(l, SLICE("127.0.0.1"), 20, 1);
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE("127.0.0.1"), 1), VERIFIER_LIMIT_LOOPBACK_MS);
	fail_times(l, SLICE("::1"), 20, 1);
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE("::1"), 1), VERIFIER_LIMIT_LOOPBACK_MS);
	/* What is no address shares one place. */
	fail_times(l, SLICE("nonsense"), 20, 1);
	ck_assert_uint_eq(verifier_limit_delay(l, SLICE(""), 1), VERIFIER_LIMIT_MOST_MS);
	verifier_limit_free(&l);
}
END_TEST

/* More networks than are remembered: recent ones are, and the table never grows. */
START_TEST(test_limit_full)
{
	struct verifier_limit *l = verifier_limit_new();
	char text[32];
	unsigned known = 0;

	for (unsigned i = 0; i < 20000; i++) {
		(void)snprintf(text, sizeof text, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		fail_times(l, slice_str(text), 3, i);
	}
	for (unsigned i = 19000; i < 20000; i++) {
		(void)snprintf(text, sizeof text, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		known += verifier_limit_delay(l, slice_str(text), 20000) == 1000;
	}
	ck_assert_uint_ge(known, 900);
	verifier_limit_free(&l);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("verifier");
	TCase *t = tcase_create("verifier");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_test(t, test_cache);
	tcase_add_test(t, test_cache_full);
	tcase_add_test(t, test_limit_growth);
	tcase_add_test(t, test_limit_networks);
	tcase_add_test(t, test_limit_full);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
