/* What an account has sent in a day, at each limit and one more; and that it is known after a restart. */
#include "smtpd/account_rate.h"

#include "common/log.h"
#include "smtpd/account_rate_file.h"
#include "tests/unit/tree.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* A clock that goes back holds the day up; one that was a year ahead does not hold it up for a year. */
START_TEST(test_clock)
{
	const struct account_limits one = {.messages = 1};
	const uint64_t now = 1000 * (uint64_t)ACCOUNT_RATE_DAY_MS;

	ck_assert_int_eq(sent(7, 0, 1, one, now), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 0, 1, one, now - 1000), ACCOUNT_SPENT_MESSAGES);
	ck_assert_int_eq(sent(7, 0, 1, one, now - ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_MESSAGES);
	ck_assert_int_eq(sent(7, 0, 1, one, now - 365 * (uint64_t)ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);

	/* Whom it has written to stays known: back, and on again. */
	const struct account_limits five = {.addresses = 5};

	ck_assert_int_eq(sent(9, 0, 5, five, now), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(9, 0, 5, five, now + ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(9, 0, 5, five, now - 400 * (uint64_t)ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(9, 0, 5, five, now + 2 * (uint64_t)ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(9, 100, 5, five, now + 2 * (uint64_t)ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(9, 105, 1, five, now + 2 * (uint64_t)ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_ADDRESSES);
}
END_TEST

/* ---- kept ---- */

static char dir[64];
static struct account_rate_file *file;
static struct err e;

static void
open_dir(void)
{
	account_rates_free(&rates);
	file = account_rate_file_open(dir, &rates);
	ck_assert_ptr_nonnull(rates);
}

static void
set_up_dir(void)
{
	(void)snprintf(dir, sizeof dir, "/tmp/mailstead-rates-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	open_dir();
}

static void
tear_down_dir(void)
{
	account_rate_file_close(&file);
	account_rate_file_close(&file);
	account_rates_free(&rates);
	ck_assert_int_eq(tree_remove(dir), 0);
}

static void
keep(void)
{
	ck_assert_msg(account_rate_file_keep(file, rates, &e) == 0, "%s", e.detail);
}

static void
open_again(void)
{
	account_rate_file_close(&file);
	open_dir();
}

START_TEST(test_kept)
{
	const struct account_limits five = {.messages = 4, .recipients = 13, .addresses = 5};

	ck_assert_int_eq(sent(7, 0, 5, five, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(8, 0, 6, five, NOW + 1), ACCOUNT_SPENT_ADDRESSES);
	for (unsigned turn = 0; turn < 3; turn++) {
		keep();
		open_again();
	}
	/* Counts, whom it wrote to, that it was told; and when its day ends. */
	ck_assert_int_eq(sent(8, 0, 1, five, NOW + 2), ACCOUNT_SPENT_ADDRESSES);
	ck_assert(!first);
	ck_assert_int_eq(sent(7, 0, 9, five, NOW), ACCOUNT_SPENT_RECIPIENTS);
	ck_assert_int_eq(sent(7, 0, 5, five, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 5, 1, five, NOW), ACCOUNT_SPENT_ADDRESSES);
	ck_assert(first);
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_ADDRESSES);
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_MESSAGES);
	/* What was not kept is not known; an earlier day's addresses are. */
	open_again();
	ck_assert_int_eq(sent(7, 3, 4, five, NOW + ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	keep();
	open_again();
	ck_assert_int_eq(sent(7, 0, 5, five, NOW + ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 7, 3, five, NOW + ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 10, 1, five, NOW + ACCOUNT_RATE_DAY_MS), ACCOUNT_SPENT_ADDRESSES);
}
END_TEST

/* The largest fits, and what it comes to is the same. */
START_TEST(test_kept_most)
{
	const struct account_limits none = {.addresses = ACCOUNT_RATE_ADDRESSES_MAX - 1};

	for (uint64_t a = 1; a <= ACCOUNT_RATE_ACCOUNTS_MAX; a++)
		ck_assert_int_eq(sent(a, 0, 40, none, NOW + a), ACCOUNT_SPENT_NOTHING);
	keep();
	open_again();
	const struct account_limits most = {.addresses = 40};

	ck_assert_int_eq(sent(ACCOUNT_RATE_ACCOUNTS_MAX, 0, 40, most, NOW + ACCOUNT_RATE_ACCOUNTS_MAX), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(ACCOUNT_RATE_ACCOUNTS_MAX, 40, 1, most, NOW + ACCOUNT_RATE_ACCOUNTS_MAX), ACCOUNT_SPENT_ADDRESSES);
}
END_TEST

static void
alter(unsigned i, off_t at, off_t length)
{
	char path[96];
	uint8_t octet;

	(void)snprintf(path, sizeof path, "%s/counts.%u", dir, i);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	if (at >= 0) {
		ck_assert_int_eq(pread(fd, &octet, 1, at), 1);
		octet ^= 1;
		ck_assert_int_eq(pwrite(fd, &octet, 1, at), 1);
	}
	if (length >= 0)
		ck_assert_int_eq(ftruncate(fd, length), 0);
	close(fd);
}

/* A cut while one is written, anywhere, leaves what the other has; damage to both leaves nothing, and is no reason not to start. */
START_TEST(test_cut)
{
	const struct account_limits five = {.messages = 5};
	off_t bytes = 0;
	char path[96];

	log_init("test", LOG_BUG);
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
	keep(); /* counts.1: one message */
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
	keep(); /* counts.0: two */
	(void)snprintf(path, sizeof path, "%s/counts.0", dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	bytes = lseek(fd, 0, SEEK_END);
	close(fd);
	ck_assert_int_gt(bytes, 60);
	for (off_t at = 0; at < bytes; at++) {
		alter(0, at, -1);
		open_again();
		for (unsigned i = 0; i < 4; i++)
			ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
		ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_MESSAGES);
		alter(0, at, -1);
	}
	open_again();
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_MESSAGES);
	while (bytes-- > 0) {
		alter(0, -1, bytes);
		open_again();
		for (unsigned i = 0; i < 4; i++)
			ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
		ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_MESSAGES);
	}
	/* What a longer one before it left behind the end is nothing. */
	keep();
	alter(0, -1, 1000);
	open_again();
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_MESSAGES);
	/* The next one goes where the damaged one is. */
	keep();
	alter(1, -1, 10);
	open_again();
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_MESSAGES);
	alter(0, -1, 10);
	open_again();
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
}
END_TEST

START_TEST(test_no_room)
{
	const struct account_limits five = {.messages = 5};
	struct rlimit most = {.rlim_cur = 20, .rlim_max = RLIM_INFINITY};

	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
	keep();
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &most), 0);
	ck_assert_int_eq(account_rate_file_keep(file, rates, &e), -1);
	ck_assert_int_eq(e.class, ERR_TEMP);
	most.rlim_cur = RLIM_INFINITY;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &most), 0);
	/* It did not count as a turn: what is kept next does not write over the good one. */
	keep();
	alter(0, -1, 10);
	open_again();
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(sent(7, 0, 1, five, NOW), ACCOUNT_SPENT_MESSAGES);
}
END_TEST

/* What cannot be opened is counted all the same, and each time said not to be kept. */
START_TEST(test_no_place)
{
	const struct account_limits two = {.messages = 2};

	account_rate_file_close(&file);
	ck_assert_int_eq(tree_remove(dir), 0);
	open_dir();
	ck_assert_int_eq(sent(7, 0, 1, two, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(account_rate_file_keep(file, rates, &e), -1);
	ck_assert_int_eq(sent(7, 0, 1, two, NOW), ACCOUNT_SPENT_NOTHING);
	ck_assert_int_eq(account_rate_file_keep(file, rates, &e), -1);
	ck_assert_str_ne(e.detail, "");
	ck_assert_int_eq(sent(7, 0, 1, two, NOW), ACCOUNT_SPENT_MESSAGES);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
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
	tcase_add_test(t, test_clock);
	suite_add_tcase(s, t);
	t = tcase_create("kept");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, set_up_dir, tear_down_dir);
	tcase_add_test(t, test_kept);
	tcase_add_test(t, test_kept_most);
	tcase_add_test(t, test_cut);
	tcase_add_test(t, test_no_room);
	tcase_add_test(t, test_no_place);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
