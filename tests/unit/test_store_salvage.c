/*
 * Damaged accounts: each kind by itself, then many at random. Every message whose file is intact is there afterwards.
 */
#include "tests/unit/salvage_fixture.h"

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
	fixture_remove(root);
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

/* From the line of the first mailbox on: without the account's own marks and the end. */
static char *
body(char *text)
{
	char *from = strstr(text, "\nmailbox "), *end = strstr(text, "\nend ");

	ck_assert(from != NULL && end != NULL);
	*end = '\0';
	return from;
}

/* What the database alone can lose leaves everything as it was: UIDVALIDITY, UIDs, modseqs, flags. */
START_TEST(test_only_the_database)
{
	static const char *const damages[] = {"true", "rm index/index.db", "truncate -s 5000 index/index.db", "rm -f index/clean index/summary.db",
	    "dd if=/dev/urandom of=index/index.db bs=4096 count=3 seek=1 conv=notrunc status=none", "mv index index.new",
	    "mv index index.old && mkdir index.new", "cp -r index index.new"};
	struct salvage_result r;

	salvage_make(root, (unsigned)_i % 2 * 6);
	shell("cp -r . ../keep.%d", getpid());
	char *before = dump_of_account();

	shell("rm -rf index mail && cp -r ../keep.%d/* . && rm -rf ../keep.%d", getpid(), getpid());
	shell("%s", damages[_i]);
	char *after = salvage_and_look(root, NULL, &r);

	if (_i != 6) {
		/* An empty index.new takes the place of the index: it is not, and what is left is joined. */
		ck_assert(r.sound);
		ck_assert_str_eq(body(before), body(after));
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

	salvage_make(root, rows[_i].how);
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
	ck_assert_str_eq(body(text), body(again));
	free(text);
	free(again);
}
END_TEST

START_TEST(test_clients_learn)
{
	struct salvage_result r;

	/* A lost file: the UID is told as gone. A lost log: all mailboxes begin anew. */
	salvage_make(root, 0);
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

static unsigned
dice(unsigned n)
{
	return (unsigned)random() % n;
}

static void
damage_file(const char *path)
{
	struct stat st;
	uint8_t octet;
	int fd = open(path, O_RDWR);

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	switch (dice(4)) {
	case 0:
		ck_assert_int_eq(ftruncate(fd, (off_t)dice((unsigned)st.st_size)), 0);
		break;
	case 1:
		ck_assert_int_eq(unlink(path), 0);
		break;
	default:
		for (unsigned i = dice(40); i < 40; i++) {
			/* Logs are mostly zeros behind their end. */
			off_t at = (off_t)dice((unsigned)(st.st_size > 100000 && dice(4) ? 100000 : st.st_size));

			if (pread(fd, &octet, 1, at) == 1) {
				octet = (uint8_t)(octet ^ 1u << dice(8));
				ck_assert_int_eq((int)pwrite(fd, &octet, 1, at), 1);
			}
		}
	}
	close(fd);
}

static void
damage_some(const char *dir, unsigned one_in)
{
	char path[FILE_PATH_BYTES_MAX];
	DIR *d = opendir(dir);

	for (struct dirent *f; d != NULL && (f = readdir(d)) != NULL;)
		if (f->d_name[0] != '.' && dice(one_in) == 0) {
			file_path(path, dir, f->d_name);
			damage_file(path);
		}
	if (d != NULL)
		closedir(d);
}

START_TEST(test_at_random)
{
	unsigned seed = 1000 + (unsigned)_i;
	struct salvage_result r;
	char path[FILE_PATH_BYTES_MAX];

	srandom(seed);
	salvage_make(root, dice(8));
	file_path(path, root, "index");
	damage_some(path, 2);
	if (dice(3) == 0) {
		file_path(path, root, "mail/00");
		damage_some(path, 10);
	}
	file_path(path, root, "account.dump");
	if (dice(2) == 0)
		damage_file(path);
	free(salvage_and_look(root, NULL, &r));
	free(salvage_and_look(root, NULL, &r));
	ck_assert_msg(r.sound, "seed %u: the second run is not sound", seed);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_salvage");
	TCase *t = tcase_create("salvage");

	log_init("test", LOG_BUG);
	file_hook_db();
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, test_only_the_database, 0, 8);
	tcase_add_loop_test(t, test_kinds, 0, sizeof rows / sizeof rows[0]);
	tcase_add_test(t, test_clients_learn);
	tcase_add_loop_test(t, test_at_random, 0, 120);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
