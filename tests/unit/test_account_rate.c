/* What an account has sent in a day, at each limit and one more. */
#include "smtpd/account_rate.h"

#include <check.h>
#include <stdio.h>

#define NOW 1000000u

static struct account_rates *rates;
static bool first;

static void
setup(void)
{
	rates = account_rates_new();
}

static void
teardown(void)
{
	account_rates_free(&rates);
	ck_assert_ptr_null(rates);
}

/* From the account to n addresses, numbered from begin on. */
static enum account_spent
sent(uint64_t account, unsigned begin, uint32_t n, struct account_limits limits, uint64_t now_ms)
{
	static char text[1000][32];
	static struct slice to[1000];
	const struct account_message m = {account, to, n};

	ck_assert_uint_le(n, 1000);
	for (uint32_t i = 0; i < n; i++) {
		(void)snprintf(text[i], sizeof text[i], "a%u@client.example", begin + i);
		to[i] = slice_str(text[i]);
	}
	return account_rate_count(rates, &limits, &m, now_ms, &first);
}

START_TEST(test_messages)
{
	const struct account_limits three = {.messages = 3};

	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(sent(7, 0, 1, three, NOW + i), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 0, 1, three, NOW), ACCOUNT_SPENT_MESSAGES);
	ck_assert_int_eq(sent(8, 0, 1, three, NOW), ACCOUNT_SPENT_NOTHING);
	/* The day is the account's. */
	ck_assert_int_eq(sent(7, 0, 1, three, NOW + ACCOUNT_RATE_DAY_MS - 1), ACCOUNT_SPENT_MESSAGES);
	ck_assert_int_eq(sent(7, 0, 1, three, NOW + ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
}
END_TEST

START_TEST(test_recipients)
{
	const struct account_limits ten = {.recipients = 10};

	ck_assert_int_eq(sent(7, 0, 6, ten, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 0, 5, ten, NOW), ACCOUNT_SPENT_RECIPIENTS);
	/* What did not go out does not count. */
	ck_assert_int_eq(sent(7, 0, 4, ten, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 0, 1, ten, NOW), ACCOUNT_SPENT_RECIPIENTS);
}
END_TEST

START_TEST(test_addresses)
{
	const struct account_limits five = {.addresses = 5};
	const struct slice again[] = {SLICE("A0@Client.EXAMPLE"), SLICE("a0@client.example")};
	const struct account_message m = {7, again, 2};

	ck_assert_int_eq(sent(7, 0, 4, five, NOW), ACCOUNT_SPENT_NOTHING);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_int_eq(sent(7, 0, 4, five, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(account_rate_count(rates, &five, &m, NOW, &first), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 4, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 5, 1, five, NOW), ACCOUNT_SPENT_ADDRESSES);
	ck_assert(first);
	/* From here on all of it, until the day is over. */
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_ADDRESSES);
	ck_assert(!first);
	ck_assert_int_eq(sent(7, 0, 1, five, NOW + ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	/* None of them is known by that. */
	ck_assert_int_eq(sent(7, 1, 5, five, NOW + ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_ADDRESSES);
	/* A limit that is raised counts at once. */
	ck_assert_int_eq(sent(9, 0, 6, five, NOW), ACCOUNT_SPENT_ADDRESSES);
	ck_assert_int_eq(sent(9, 6, 1, (struct account_limits){.addresses = 7}, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(9, 7, 1, (struct account_limits){.addresses = 7}, NOW), ACCOUNT_SPENT_ADDRESSES);
	ck_assert(!first);
}
END_TEST

/* Who writes to the same people every day is no thief. */
START_TEST(test_known_addresses)
{
	const struct account_limits five = {.addresses = 5};
	uint64_t day = NOW;

	for (unsigned d = 0; d < 100; d++, day += ACCOUNT_RATE_DAY_MS)
		ck_assert_int_eq(sent(7, 0, d < 20 ? 5 * (d + 1) : 100, five, day), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 100, 5, five, day), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 105, 1, five, day), ACCOUNT_SPENT_ADDRESSES);
	/* Another account's are its own. */
	ck_assert_int_eq(sent(8, 0, 6, five, day), ACCOUNT_SPENT_ADDRESSES);
}
END_TEST

/* From so many days after it was written to last on, an address may be forgotten; from twice that on it is. */
START_TEST(test_known_for_a_time)
{
	const struct account_limits five = {.addresses = 5};
	static const struct {
		unsigned days;
		enum account_spent of_known;
	} rows[] = {{1, ACCOUNT_SPENT_NOTHING}, {30, ACCOUNT_SPENT_NOTHING}, {62, ACCOUNT_SPENT_ADDRESSES}};
	uint64_t day = NOW;

	ck_assert_int_eq(sent(7, 0, 5, five, day), ACCOUNT_SPENT_NOTHING);
	/* Another address each day, so that days begin. */
	for (unsigned d = 1; d < rows[_i].days; d++)
		ck_assert_int_eq(sent(7, 1000 + d, 1, five, day += ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	day += ACCOUNT_RATE_DAY_MS;
	ck_assert_int_eq(sent(7, 2000, 5, five, day), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 0, 5, five, day), rows[_i].of_known);
}
END_TEST

START_TEST(test_known_max)
{
	const struct account_limits most = {.addresses = ACCOUNT_RATE_ADDRESSES_MAX - 1};
	uint64_t day = NOW;

	/* Three generations: the first of them is forgotten. */
	for (unsigned d = 0; d < 30; d++, day += ACCOUNT_RATE_DAY_MS)
		for (unsigned i = 0; i < 5; i++)
			ck_assert_int_eq(sent(7, d * 1000 + i * 200, 200, most, day), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 29000, 1000, (struct account_limits){.addresses = 1}, day), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 15000, 1000, (struct account_limits){.addresses = 1}, day), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 0, 2, (struct account_limits){.addresses = 1}, day), ACCOUNT_SPENT_ADDRESSES);
}
END_TEST

START_TEST(test_no_limits)
{
	const struct account_limits none = {0};

	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_eq(sent(7, i * 1000, 1000, none, NOW), ACCOUNT_SPENT_NOTHING);
	/* What the largest limit needs is remembered. */
	ck_assert_int_eq(sent(7, 0, 1, (struct account_limits){.addresses = ACCOUNT_RATE_ADDRESSES_MAX - 1}, NOW), ACCOUNT_SPENT_ADDRESSES);
	ck_assert_int_eq(sent(7, 0, 1, (struct account_limits){.recipients = 20000}, NOW), ACCOUNT_SPENT_RECIPIENTS);
}
END_TEST

/* More accounts, and more addresses, than are remembered: the oldest are forgotten, the newest never. */
START_TEST(test_accounts_max)
{
	const struct account_limits one = {.messages = 1};

	for (uint64_t a = 1; a <= ACCOUNT_RATE_ACCOUNTS_MAX; a++)
		ck_assert_int_eq(sent(a, 0, 1, one, NOW + a), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(1, 0, 1, one, NOW + ACCOUNT_RATE_ACCOUNTS_MAX), ACCOUNT_SPENT_MESSAGES);
	ck_assert_int_eq(sent(ACCOUNT_RATE_ACCOUNTS_MAX + 1, 0, 1, one, NOW + ACCOUNT_RATE_ACCOUNTS_MAX + 1), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(2, 0, 1, one, NOW + ACCOUNT_RATE_ACCOUNTS_MAX + 1), ACCOUNT_SPENT_MESSAGES);
	ck_assert_int_eq(sent(1, 0, 1, one, NOW + ACCOUNT_RATE_ACCOUNTS_MAX + 2), ACCOUNT_SPENT_NOTHING);
}
END_TEST

START_TEST(test_addresses_all_max)
{
	const struct account_limits limit = {.addresses = 900};

	for (uint64_t a = 1; a <= 600; a++) /* 2048 places each */
		ck_assert_int_eq(sent(a, 0, 900, limit, NOW + a), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(1, 900, 1, limit, NOW + 600), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(600, 900, 1, limit, NOW + 600), ACCOUNT_SPENT_ADDRESSES);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("account_rate");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_messages);
	tcase_add_test(t, test_recipients);
	tcase_add_test(t, test_addresses);
	tcase_add_test(t, test_known_addresses);
	tcase_add_loop_test(t, test_known_for_a_time, 0, 3);
	tcase_add_test(t, test_known_max);
	tcase_add_test(t, test_no_limits);
	tcase_add_test(t, test_accounts_max);
	tcase_add_test(t, test_addresses_all_max);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
