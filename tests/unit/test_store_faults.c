/*
 * An account after a look-up that failed, a full disk, kill -9 at random
 * moments, torn pages, a log cut at any octet: what was acknowledged is there,
 * and the account does not contradict itself.
 */
#include "tests/unit/store_fixture.h"

#include "store/file.h"
#include "store/rebuild.h"

#include "store/env.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char root[64];
static struct err e;

static uint32_t
inbox_of(struct index *ix)
{
	return index_target(ix, STORE_TARGET_INBOX);
}

/* ---- a file layer that fails (tests/fault has the loops over every call) ---- */

static int wrong_at, wrong_count, wrong_error;
static uint64_t space_left;

static int
w_exists(const char *path)
{
	if (++wrong_count != wrong_at)
		return file_system_ops()->exists(path);
	errno = EIO;
	return -1;
}

/* What cannot be looked for is not missing: an account is not made anew over one that is there. */
START_TEST(test_failed_lookup)
{
	const struct file_ops ops = {.exists = w_exists};
	struct index *ix;
	uint32_t uid;

	fixture_dir(root);
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	ck_assert_int_eq(fixture_append(ix, root, inbox_of(ix), "there", &uid, &e), 0);
	index_close(&ix);
	file_use(&ops);
	for (wrong_at = 1;; wrong_at++) {
		wrong_count = 0;
		if (index_open(root, FIXTURE_NOW, &ix, &e) == 0) {
			ck_assert_uint_eq(index_mailbox(ix, inbox_of(ix))->messages, 1);
			index_close(&ix);
		} else {
			ck_assert_int_eq(e.class, ERR_TEMP);
		}
		if (wrong_count < wrong_at)
			break;
	}
	ck_assert_int_gt(wrong_at, 3);
	file_use(NULL);
	(void)tree_remove(root);
}
END_TEST

/* Half of the octets fit, then none. */
static ssize_t
w_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (++wrong_count < wrong_at)
		return file_system_ops()->pwrite(fd, p, n, at);
	if (wrong_count == wrong_at)
		return file_system_ops()->pwrite(fd, p, n / 2, at);
	errno = wrong_error;
	return -1;
}

static uint64_t
w_space(const char *path)
{
	(void)path;
	return space_left;
}

static bool
has_reserve(void)
{
	char path[FILE_PATH_BYTES_MAX];
	struct stat st;

	file_path(path, root, "reserve");
	return stat(path, &st) == 0 && (uint64_t)st.st_blocks * 512 >= FILE_RESERVE_BYTES;
}

/* A transaction gets the reserve's room when the disk is full; new mail does not, until the reserve is whole again. */
static void
spend_reserve(int error)
{
	const struct file_ops ops = {.pwrite = w_pwrite, .space = w_space};
	struct index *ix;
	uint32_t uid;

	fixture_dir(root);
	file_use(&ops);
	wrong_at = INT_MAX;
	wrong_error = error;
	space_left = UINT64_MAX;
	file_reserve(root);
	ck_assert(has_reserve());
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	ck_assert_int_eq(fixture_append(ix, root, inbox_of(ix), "there", &uid, &e), 0);
	ck_assert_int_eq(index_flush(ix, &e), 0);
	ck_assert(index_has_space(ix, 1000));
	space_left = 0;
	wrong_count = 0;
	wrong_at = 1;
	ck_assert_int_eq(fixture_flags(ix, inbox_of(ix), STORE_FLAGS_ADD, STORE_FLAG_SEEN, "", 1, 1, &e), 0);
	ck_assert_int_lt(index_flush(ix, &e), 0);
	ck_assert_int_eq(e.code, ERR_CODE_NO_SPACE);
	ck_assert(!has_reserve());
	index_close(&ix);
	wrong_at = INT_MAX;
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	ck_assert_int_eq(index_check(ix, &e), 0);
	/* At the limits: the reserve and what stays beside it; what stays and the message. */
	space_left = (uint64_t)FILE_RESERVE_BYTES + FILE_SPACE_BYTES_MIN - 1;
	ck_assert(!index_has_space(ix, 0) && !has_reserve());
	space_left++;
	ck_assert(index_has_space(ix, 1000) && has_reserve());
	space_left = FILE_SPACE_BYTES_MIN + 999;
	ck_assert(!index_has_space(ix, 1000));
	space_left++;
	ck_assert(index_has_space(ix, 1000));
	index_close(&ix);
	file_use(NULL);
	(void)tree_remove(root);
}

START_TEST(test_reserve)
{
	spend_reserve(ENOSPC);
	spend_reserve(EDQUOT);
}
END_TEST

/* Nothing stays of what was written behind the end of a file before the disk was full. */
START_TEST(test_cut_back)
{
	const struct file_ops ops = {.pwrite = w_pwrite};
	char path[FILE_PATH_BYTES_MAX];
	struct stat st;

	fixture_dir(root);
	file_path(path, root, "file");
	int fd = file_open(path, O_RDWR | O_CREAT, &e);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(file_write(fd, 0, SLICE("0123456789"), &e), 0);
	file_use(&ops);
	wrong_error = ENOSPC;
	for (off_t at = 0; at <= 10; at += 10) {
		wrong_count = 0;
		wrong_at = 1;
		ck_assert_int_lt(file_write(fd, (uint64_t)at, SLICE("abcdefgh"), &e), 0);
		ck_assert_int_eq(e.code, ERR_CODE_NO_SPACE);
		ck_assert_int_eq(fstat(fd, &st), 0);
		ck_assert_int_eq(st.st_size, 10);
	}
	file_use(NULL);
	ck_assert_int_eq(file_close(fd, &e), 0);
	(void)tree_remove(root);
}
END_TEST

/* ---- kill -9 ---- */

struct told {
	uint32_t appended; /* acknowledged appends */
};

/* Appends and flags until it is killed; tells what it acknowledged in shared memory. */
static void
victim(struct told *told)
{
	struct index *ix;
	uint32_t uid;

	if (index_open(root, FIXTURE_NOW, &ix, &e) < 0)
		_exit(1);
	for (;;) {
		for (int k = 0; k < 3; k++)
			if (fixture_append(ix, root, inbox_of(ix), "killed", &uid, &e) < 0)
				_exit(1);
		if (fixture_flags(ix, inbox_of(ix), STORE_FLAGS_ADD, STORE_FLAG_SEEN, "", uid, uid, &e) < 0 ||
		    index_flush(ix, &e) < 0)
			_exit(1);
		__atomic_store_n(&told->appended, uid, __ATOMIC_SEQ_CST);
		index_changes_reset(ix);
		if (uid % 60 == 0 && index_upkeep_now(ix, &e) < 0)
			_exit(1);
	}
}

/* Until it has acknowledged something behind that; for a minute at most. */
static void
await_progress(const struct told *told, uint32_t appended)
{
	for (unsigned i = 0; i < 60000 && __atomic_load_n(&told->appended, __ATOMIC_SEQ_CST) == appended; i++)
		usleep(1000);
}

/* Every other time when it has got somewhere, else whatever it is doing. */
START_TEST(test_kill)
{
	struct told *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct index *ix;
	int status;

	ck_assert_ptr_ne(told, MAP_FAILED);
	fixture_dir(root);
	for (unsigned round = 0; round < 25; round++) {
		uint32_t appended = told->appended;
		pid_t pid = fork();

		if (pid == 0)
			victim(told);
		if (round % 2 == 1)
			await_progress(told, appended);
		usleep(10000 + 3000 * (round * 7 % 13));
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "%s", e.detail);
		const struct format_mailbox *m = index_mailbox(ix, inbox_of(ix));

		ck_assert_uint_ge(m->uidnext, told->appended + 1);
		ck_assert_uint_eq(m->messages, m->uidnext - 1);
		ck_assert_msg(index_check(ix, &e) == 0, "%s", e.detail);
		index_close(&ix);
	}
	ck_assert_uint_gt(told->appended, 25);
	(void)tree_remove(root);
	munmap(told, 4096);
}
END_TEST

/* ---- damage ---- */

static void
make_account(unsigned messages)
{
	struct index *ix;
	uint32_t uid;

	fixture_dir(root);
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	for (unsigned i = 0; i < messages; i++)
		ck_assert_int_eq(fixture_append(ix, root, inbox_of(ix), "damaged later", &uid, &e), 0);
	ck_assert_int_eq(fixture_flags(ix, inbox_of(ix), STORE_FLAGS_ADD, STORE_FLAG_SEEN, "", 5, 9, &e), 0);
	ck_assert_int_eq(index_flush(ix, &e), 0);
	index_close(&ix);
}

static void
verify_damaged(unsigned messages, off_t at)
{
	struct index *ix;

	ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "at %ld: %s", (long)at, e.detail);
	/* A page that recovery did not touch is met by the check; then the next opening rebuilds. */
	if (index_check(ix, &e) < 0) {
		ck_assert(index_broken(ix));
		index_close(&ix);
		ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "at %ld: %s", (long)at, e.detail);
		ck_assert_msg(index_check(ix, &e) == 0, "at %ld: %s", (long)at, e.detail);
	}
	const struct format_mailbox *m = index_mailbox(ix, inbox_of(ix));

	ck_assert_uint_eq(m->messages, messages);
	ck_assert_uint_eq(m->unseen, messages - 5);
	index_close(&ix);
}

/* Every page of the index in turn: its second half is what was there before (zeros), or octets are flipped. */
START_TEST(test_damaged_pages)
{
	char path[128];
	struct stat st;
	uint8_t page[4096], half[2048] = {0};

	make_account(100);
	(void)snprintf(path, sizeof path, "%s/index/index.db", root);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_gt(st.st_size, 5 * 4096);
	/* A rebuild may need fewer pages than there were. */
	for (off_t at = 0; stat(path, &st) == 0 && at < st.st_size; at += 4096) {
		int fd = open(path, O_RDWR);

		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(pread(fd, page, sizeof page, at), 4096);
		page[100] ^= 0x55;
		page[3000] ^= 0x55;
		ck_assert_int_eq(at % 8192 ? pwrite(fd, half, sizeof half, at + 2048) : pwrite(fd, page, sizeof page, at),
		    at % 8192 ? 2048 : 4096);
		close(fd);
		verify_damaged(100, at);
	}
	(void)tree_remove(root);
}
END_TEST

/* A keeper that is killed when it has appended one more message: recovery has the log's end to do. */
static void
append_and_die(void)
{
	struct index *ix;
	uint32_t uid;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (index_open(root, FIXTURE_NOW, &ix, &e) < 0 || fixture_append(ix, root, inbox_of(ix), "the last", &uid, &e) < 0 ||
		    index_flush(ix, &e) < 0)
			_exit(1);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

/* Each page in turn is lost, and reads as zeros, or all but a bit: those that recovery meets, and would keep as they are, and the others. */
START_TEST(test_blank_pages)
{
	static const char *const names[] = {"index.db", "summary.db"};
	uint8_t zeros[4096] = {0};
	char path[128];
	struct stat st;
	unsigned messages = 100;

	make_account(messages);
	for (size_t i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof path, "%s/index/%s", root, names[i]);
		for (off_t at = 0; stat(path, &st) == 0 && at < st.st_size; at += 4096) {
			append_and_die();
			messages++;
			zeros[3000] ^= 1;
			int fd = open(path, O_RDWR);

			ck_assert_int_ge(fd, 0);
			ck_assert_int_eq(pwrite(fd, zeros, sizeof zeros, at), 4096);
			close(fd);
			verify_damaged(messages, at);
		}
	}
	ck_assert_uint_gt(messages, 105);
	(void)tree_remove(root);
}
END_TEST

START_TEST(test_lost_database)
{
	char path[128];

	make_account(60);
	(void)snprintf(path, sizeof path, "%s/index/index.db", root);
	ck_assert_int_eq(truncate(path, 5000), 0);
	verify_damaged(60, 0);
	(void)snprintf(path, sizeof path, "%s/index/summary.db", root);
	ck_assert_int_eq(truncate(path, 100), 0);
	verify_damaged(60, 1);
	(void)snprintf(path, sizeof path, "%s/index/base", root);
	ck_assert_int_eq(truncate(path, 20), 0);
	verify_damaged(60, 2);
	(void)tree_remove(root);
}
END_TEST

/* Summaries can be made again from the messages: that they are gone is no reason to make the index anew. */
START_TEST(test_lost_summaries)
{
	char path[128], dir[64];
	struct stat before, after;
	struct index *ix;
	uint32_t uid;

	make_account(20);
	(void)snprintf(dir, sizeof dir, "%.50s/index", root);
	(void)snprintf(path, sizeof path, "%s/summary.db", dir);
	for (unsigned killed = 0; killed < 2; killed++) {
		ck_assert_int_eq(stat(dir, &before), 0);
		ck_assert_int_eq(unlink(path), 0);
		ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "%s", e.detail);
		ck_assert_int_eq(stat(dir, &after), 0);
		ck_assert_uint_eq(before.st_ino, after.st_ino);
		ck_assert_msg(index_check(ix, &e) == 0, "%s", e.detail);
		ck_assert_int_eq(fixture_append(ix, root, inbox_of(ix), "with a summary", &uid, &e), 0);
		ck_assert_uint_eq(uid, 21 + killed);
		index_close(&ix);
		ck_assert_int_eq(stat(path, &after), 0);
		/* The next time nothing says that a keeper ended in order. */
		(void)snprintf(path, sizeof path, "%s/clean", dir);
		(void)unlink(path);
		(void)snprintf(path, sizeof path, "%s/summary.db", dir);
	}
	verify_damaged(22, 3);
	(void)tree_remove(root);
}
END_TEST

/* The log ends anywhere: what lies before is there, and the account is sound. */
static bool
count_summary(void *arg, uint64_t object, struct slice value)
{
	(void)object;
	(void)value;
	++*(unsigned *)arg;
	return true;
}

/* Berkeley DB would read as many octets as the first record of a damaged log says it has. */
START_TEST(test_summaries_of_a_damaged_log)
{
	static const uint8_t length[] = {0, 0, 0, 0x7f};
	char dir[64], path[128];
	struct index *ix;
	uint32_t uid;
	unsigned n = 0;

	fixture_dir(root);
	(void)snprintf(dir, sizeof dir, "%.50s/index", root);
	(void)snprintf(path, sizeof path, "%s/log.0000000001", dir);
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(fixture_append(ix, root, inbox_of(ix), "with a summary", &uid, &e), 0);
	ck_assert_int_eq(index_flush(ix, &e), 0);
	index_close(&ix);
	int fd = open(path, O_RDWR);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, length, sizeof length, 4), sizeof length);
	close(fd);
	env_summary_read(dir, count_summary, &n);
	ck_assert_uint_eq(n, 0);
	(void)tree_remove(root);
}
END_TEST

START_TEST(test_cut_log)
{
	char path[128], copy[64];
	struct index *ix;
	uint32_t uid, last = 0;

	for (off_t cut = 40000; cut > 2000; cut -= 997) {
		fixture_dir(root);
		ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
		for (unsigned i = 0; i < 8; i++)
			ck_assert_int_eq(fixture_append(ix, root, inbox_of(ix), "cut", &uid, &e), 0);
		ck_assert_int_eq(index_flush(ix, &e), 0);
		/* As a power cut would: a copy of the directory while the process lives. */
		fixture_dir(copy);
		char command[256];

		(void)snprintf(command, sizeof command, "cp -r %s/. %s", root, copy);
		ck_assert_int_eq(fixture_shell(command), 0);
		index_close(&ix);
		(void)snprintf(path, sizeof path, "%s/index/log.0000000001", copy);
		ck_assert_int_eq(truncate(path, cut), 0);
		int opened = index_open(copy, FIXTURE_NOW, &ix, &e);

		/* Below the account's own first checkpoint there is nothing to recover from: never a wrong account. */
		if (opened == 0) {
			const struct format_mailbox *m = index_mailbox(ix, inbox_of(ix));

			ck_assert_uint_le(m->messages, 8);
			last = m->messages > last ? m->messages : last;
			ck_assert_msg(index_check(ix, &e) == 0, "cut %ld: %s", (long)cut, e.detail);
			index_close(&ix);
		} else {
			ck_assert_int_eq(e.class, ERR_TEMP);
		}
		(void)tree_remove(copy);
		(void)tree_remove(root);
	}
	ck_assert_uint_gt(last, 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_faults");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	const TTest *tests[] = {test_failed_lookup, test_reserve, test_cut_back, test_kill, test_damaged_pages, test_blank_pages, test_lost_database,
	    test_lost_summaries, test_summaries_of_a_damaged_log, test_cut_log};

	log_init("test_store_faults", LOG_BUG);
	file_hook_db();
	tcase_set_timeout(t, 300);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
