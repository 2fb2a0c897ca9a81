/*
 * Damaged accounts: each kind by itself, then many at random. Every message whose file is intact is there afterwards.
 */
#include "tests/unit/salvage_damage.h"

#include <check.h>

static char root[64];

static void
setup(void)
{
	fixture_dir(root);
}

static void
teardown(void)
{
	(void)tree_remove(root);
}

static void
shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void
shell(const char *fmt, ...)
{
	char command[512], inside[384];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(inside, sizeof inside, fmt, ap);
	va_end(ap);
	snprintf(command, sizeof command, "cd %s && %s", root, inside);
	ck_assert_int_eq(fixture_shell(command), 0);
}

static char *
dump_of_account(void)
{
	struct index *ix;
	struct err e;

	salvage_must(index_open(root, FIXTURE_NOW, &ix, &e), &e);
	char *text = salvage_dump(ix);

	index_close(&ix);
	return text;
}

/* Lines of a dump that begin so. */
static unsigned
count(const char *text, const char *word)
{
	unsigned n = 0;
	char line[64];

	snprintf(line, sizeof line, "\n%s ", word);
	for (const char *at = text; (at = strstr(at, line)) != NULL; at++)
		n++;
	return n;
}

/* What the database alone can lose leaves everything as it was: UIDVALIDITY, UIDs, modseqs, flags. */
START_TEST(test_only_the_database)
{
	static const char *const damages[] = {"true", "rm index/index.db", "truncate -s 5000 index/index.db", "rm -f index/clean index/summary.db",
	    "dd if=/dev/urandom of=index/index.db bs=4096 count=3 seek=1 conv=notrunc status=none", "mv index index.new",
	    "mv index index.old && mkdir index.new", "cp -r index index.new"};
	struct salvage_result r;

	salvage_make(root, (unsigned)_i % 2 * 6, SALVAGE_MESSAGES);
	shell("cp -r . ../keep.%d", getpid());
	char *before = dump_of_account();

	shell("rm -rf index mail && cp -r ../keep.%d/* . && rm -rf ../keep.%d", getpid(), getpid());
	shell("%s", damages[_i]);
	char *after = salvage_and_look(root, NULL, &r);

	if (_i != 6) {
		/* An empty index.new takes the place of the index: it is not, and what is left is joined. */
		ck_assert(r.sound);
		ck_assert_str_eq(salvage_body(before), salvage_body(after));
		ck_assert_uint_eq(r.recovered + r.lost + r.filled, 0);
	} else {
		ck_assert_uint_eq(count(before, "message"), count(after, "message"));
	}
	free(before);
	free(after);
}
END_TEST

static const struct {
	const char *damage;
	unsigned how;
	unsigned messages; /* afterwards, those in Recovered included */
	unsigned recovered;
	bool dump; /* some are known from account.dump only */
} rows[] = {
    /* 70 messages; 4 copies; 5 expunged, which are kept. */
    {"rm -rf index", 0, 69, 0, true},
    {"rm -rf index account.dump", 0, 70, 70, false},
    {"rm -rf index", 1, 71, 34, true},
    {"rm index/base", 0, 69, 0, false},
    {"truncate -s 200 index/base && rm index/log.*", 0, 69, 0, false},
    {"rm index/log.* account.dump", 0, 69, 0, false},
    {"rm index/index.db account.dump && truncate -s 300000 index/log.0000000001", 6, 0, 0, false},
    {"rm account.dump && rm $(ls mail/00/* | head -1)", 0, 68, 0, false},
    {"for f in $(ls mail/00/* | head -2); do truncate -s 3 $f; done", 0, 67, 0, false},
};

START_TEST(test_kinds)
{
	struct salvage_result r;

	salvage_make(root, rows[_i].how, SALVAGE_MESSAGES);
	shell("%s", rows[_i].damage);
	char *text = salvage_and_look(root, getenv("VERBOSE") ? stderr : NULL, &r);

	if (rows[_i].messages != 0) {
		ck_assert_uint_eq(count(text, "message"), rows[_i].messages);
		ck_assert_uint_eq(r.messages, rows[_i].messages);
		ck_assert_uint_eq(r.recovered, rows[_i].recovered);
		ck_assert_int_eq(r.filled > 0, rows[_i].dump);
	}
	if (r.recovered > 0)
		/* The date of the Received field. */
		ck_assert_ptr_nonnull(strstr(text, " 1057049"));
	/* A second run finds it sound and leaves it as it is. */
	char *again = salvage_and_look(root, NULL, &r);

	ck_assert(r.sound);
	ck_assert_uint_eq(r.recovered + r.lost + r.filled, 0);
	ck_assert_str_eq(salvage_body(text), salvage_body(again));
	free(text);
	free(again);
}
END_TEST

START_TEST(test_clients_learn)
{
	struct salvage_result r;

	/* A lost file: the UID is told as gone. A lost log: all mailboxes begin anew. */
	salvage_make(root, 0, SALVAGE_MESSAGES);
	char *before = dump_of_account();

	shell("rm $(ls mail/00/* | head -1)");
	char *text = salvage_and_look(root, NULL, &r);

	ck_assert(r.sound);
	ck_assert_uint_eq(r.lost, 1);
	ck_assert_uint_eq(count(text, "tombstones"), count(before, "tombstones") + 1);
	ck_assert_ptr_nonnull(strstr(text, "\nmailbox 1 1700000000 71 "));
	free(text);
	shell("rm index/log.*");
	text = salvage_and_look(root, NULL, &r);
	ck_assert(!r.sound);
	ck_assert_str_ne(r.aside, "");
	ck_assert_ptr_null(strstr(text, "\nmailbox 1 1700000000 "));
	ck_assert_uint_eq(count(text, "tombstones"), 0);
	shell("test -e %s/index/index.db", r.aside);
	free(text);
	free(before);
}
END_TEST

/* ---- at random ---- */

#define RANDOM_RUNS 120
#define RANDOM_STEPS_MAX 12u

static struct damage_account accounts[DAMAGE_ACCOUNTS];

/* In the parent of all tests, so that each starts from what is made once. */
static void
prepare(void)
{
	damage_use_fast_files();
	for (unsigned i = 0; i < DAMAGE_ACCOUNTS; i++)
		damage_prepare(&accounts[i], i, SALVAGE_MESSAGES);
}

static void
unprepare(void)
{
	for (unsigned i = 0; i < DAMAGE_ACCOUNTS; i++)
		damage_free(&accounts[i]);
	file_use(NULL);
}

START_TEST(test_at_random)
{
	uint8_t steps[RANDOM_STEPS_MAX * DAMAGE_STEP_BYTES];
	unsigned seed = 1000 + (unsigned)_i;
	struct salvage_result r;

	srandom(seed);
	for (size_t i = 0; i < sizeof steps; i++)
		steps[i] = (uint8_t)random();
	size_t n = DAMAGE_STEP_BYTES * (1 + (size_t)random() % RANDOM_STEPS_MAX);

	damage_make(&accounts[(unsigned)_i % DAMAGE_ACCOUNTS], slice_of(steps, n), root);
	char *first = salvage_and_look(root, NULL, &r), *second = salvage_and_look(root, NULL, &r);

	ck_assert_msg(r.sound, "seed %u: the second run is not sound", seed);
	ck_assert_uint_eq(r.recovered + r.filled + r.lost, 0);
	ck_assert_str_eq(salvage_body(first), salvage_body(second));
	free(first);
	free(second);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_salvage");
	TCase *t = tcase_create("salvage"), *random_case = tcase_create("at random");

	log_init("test", LOG_BUG);
	file_hook_db();
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, test_only_the_database, 0, 8);
	tcase_add_loop_test(t, test_kinds, 0, sizeof rows / sizeof rows[0]);
	tcase_add_test(t, test_clients_learn);
	suite_add_tcase(s, t);
	tcase_set_timeout(random_case, 60);
	tcase_add_unchecked_fixture(random_case, prepare, unprepare);
	tcase_add_checked_fixture(random_case, setup, teardown);
	tcase_add_loop_test(random_case, test_at_random, 0, RANDOM_RUNS);
	suite_add_tcase(s, random_case);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
