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

/* ---- what is still known ---- */

#define LINE_BYTES 1200u

/* account.dump as it is, for the caller to free(). */
static char *
account_dump(void)
{
	char path[128];
	struct buf b;

	snprintf(path, sizeof path, "%s/account.dump", root);
	FILE *f = fopen(path, "r");

	ck_assert_ptr_nonnull(f);
	buf_init(&b, 1 << 20);
	for (size_t n; (n = fread(buf_room(&b, 4096), 1, 4096, f)) > 0;)
		buf_added(&b, n);
	fclose(f);
	buf_put_u8(&b, '\0');
	return (char *)b.p;
}

/* The field at that place of a line; *n_r its length. */
static const char *
field_of(const char *line, unsigned at, size_t *n_r)
{
	for (; at > 0; at--)
		line += strcspn(line, " \n") + 1;
	*n_r = strcspn(line, " \n");
	return line;
}

/* What a salvage must keep of a line in any case, with its end: of a message all but the modseq; of a mailbox number, time of its
 * deletion, attributes and name. False for other lines. */
static bool
known_of(const char *line, char known_r[LINE_BYTES])
{
	bool mailbox = strncmp(line, "mailbox ", 8) == 0, expunged = strncmp(line, "expunged ", 9) == 0;
	unsigned from = mailbox ? 2 : expunged ? 4 : 3, to = mailbox ? 7 : from + 1;
	size_t n;

	if (!mailbox && !expunged && strncmp(line, "message ", 8) != 0)
		return false;
	const char *hole = field_of(line, from, &n), *rest = field_of(line, to, &n);

	snprintf(known_r, LINE_BYTES, "%.*s%.*s", (int)(hole - line), line, (int)strcspn(rest, "\n") + 1, rest);
	return true;
}

static char *
all_known(const char *dump, unsigned *messages_r)
{
	char line[LINE_BYTES];
	struct buf b;

	*messages_r = 0;
	buf_init(&b, 1 << 20);
	buf_put_str(&b, "\n");
	for (const char *at = dump; (at = strchr(at, '\n')) != NULL;)
		if (known_of(++at, line)) {
			buf_put_str(&b, line);
			*messages_r += line[1] != 'a';
		}
	buf_put_u8(&b, '\0');
	return (char *)b.p;
}

/* The name of the mailbox that the field at that place is the number of. */
static void
mailbox_name(const char *dump, const char *line, unsigned at, char name_r[LINE_BYTES])
{
	char head[64];
	size_t n;
	const char *number = field_of(line, at, &n);

	snprintf(head, sizeof head, "\nmailbox %.*s ", (int)n, number);
	const char *mailbox = strstr(dump, head);

	ck_assert_ptr_nonnull(mailbox);
	const char *name = field_of(mailbox + 1, 9, &n);

	snprintf(name_r, LINE_BYTES, "%.*s", (int)strcspn(name, "\n"), name);
}

/* Each line of before is there, or it is a message whose file is not, and the notes name it with that code. How many are lost. */
static unsigned
assert_known(const char *before, const char *after, const char *notes, const char *code)
{
	char line[LINE_BYTES + 1] = "\n", name[LINE_BYTES], path[256], note[2 * LINE_BYTES];
	unsigned lost = 0, n_before, n_after;
	char *known = all_known(after, &n_after), *known_before = all_known(before, &n_before);
	size_t n, uid_n;

	for (const char *at = before; (at = strchr(at, '\n')) != NULL;) {
		unsigned shift = *++at == 'e';

		if (!known_of(at, line + 1))
			continue;
		const char *id = field_of(at, 8 + shift, &n), *uid = field_of(at, 2 + shift, &uid_n);

		snprintf(path, sizeof path, "%s/mail/%.2s/%.*s", root, n == 32 ? id + 12 : "", (int)n, id);
		if (line[2] == 'a' || access(path, F_OK) == 0) {
			ck_assert_msg(strstr(known, line) != NULL, "not there:%s", line);
			continue;
		}
		lost++;
		ck_assert_msg(n == 32 && strstr(known, line) == NULL, "lost and there:%s", line);
		mailbox_name(before, at, 1 + shift, name);
		snprintf(note, sizeof note, "%s: %s UID %.*s: lost: ", code, name, (int)uid_n, uid);
		ck_assert_msg(strstr(notes, note) != NULL, "not told: %s", note);
	}
	ck_assert_uint_le(n_before - lost, n_after);
	free(known);
	free(known_before);
	return lost;
}

static const struct {
	const char *damage;
	unsigned how;
	unsigned messages; /* afterwards, those in Recovered included */
	unsigned recovered;
	bool dump; /* some are known from account.dump only */
	const char *lost; /* the code of each loss; NULL: what account.dump had before is not to be known */
} rows[] = {
    /* 70 messages; 4 copies; 5 expunged, which are kept. */
    {"rm -rf index", 0, 69, 0, true, ""},
    {"rm -rf index account.dump", 0, 70, 70, false, NULL},
    {"rm -rf index", 1, 71, 34, true, ""},
    {"rm index/base", 0, 69, 0, false, ""},
    {"truncate -s 200 index/base && rm index/log.*", 0, 69, 0, false, ""},
    {"rm index/log.* account.dump", 0, 69, 0, false, ""},
    {"rm index/index.db account.dump && truncate -s 300000 index/log.0000000001", 6, 0, 0, false, NULL},
    {"rm account.dump && rm $(ls mail/00/* | head -1)", 0, 68, 0, false, "object-missing"},
    {"for f in $(ls mail/00/* | head -2); do truncate -s 3 $f; done", 0, 67, 0, false, "object-damaged"},
};

START_TEST(test_kinds)
{
	struct salvage_result r;

	salvage_make(root, rows[_i].how, SALVAGE_MESSAGES);
	char *before = account_dump(), *notes = NULL;
	size_t notes_n;
	FILE *out = open_memstream(&notes, &notes_n);

	shell("%s", rows[_i].damage);
	char *text = salvage_and_look(root, out, &r);

	fclose(out);
	if (rows[_i].lost != NULL) {
		ck_assert_uint_eq(assert_known(before, text, notes, rows[_i].lost), r.lost);
		ck_assert_int_eq(r.lost > 0, rows[_i].lost[0] != '\0');
	}

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
	free(before);
	free(notes);
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
