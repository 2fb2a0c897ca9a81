/*
 * Every call of the file layer fails in turn: EIO, ENOSPC, EMFILE, a sync that
 * fails. The answer of the operation is right, what was acknowledged before is
 * there after a new opening, and the account does not contradict itself.
 * Further: kill -9 at random moments, torn pages, a log cut at any octet.
 */
#include "tests/unit/store_fixture.h"

#include "store/file.h"
#include "store/rebuild.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char root[64];
static struct err e;

/* ---- the layer that fails once ---- */

static unsigned calls, fail_at;
static int fail_with;
static bool fired, failing_syncs;

static bool
fails(void)
{
	if (++calls != fail_at)
		return false;
	fired = true;
	errno = fail_with;
	return true;
}

static int
f_open(const char *path, int flags, mode_t mode)
{
	return fails() ? -1 : file_system_ops()->open(path, flags, mode);
}

static ssize_t
f_pread(int fd, void *p, size_t n, off_t at)
{
	return fails() ? -1 : file_system_ops()->pread(fd, p, n, at);
}

static ssize_t
f_pwrite(int fd, const void *p, size_t n, off_t at)
{
	return fails() ? -1 : file_system_ops()->pwrite(fd, p, n, at);
}

static int
f_ftruncate(int fd, off_t n)
{
	return fails() ? -1 : file_system_ops()->ftruncate(fd, n);
}

static int
f_sync(int fd)
{
	return failing_syncs && fails() ? -1 : file_system_ops()->sync(fd);
}

static int
f_rename(const char *from, const char *to)
{
	return fails() ? -1 : file_system_ops()->rename(from, to);
}

static int
f_unlink(const char *path)
{
	return fails() ? -1 : file_system_ops()->unlink(path);
}

static int
f_mkdir(const char *path, mode_t mode)
{
	return fails() ? -1 : file_system_ops()->mkdir(path, mode);
}

static int
f_rmdir(const char *path)
{
	return fails() ? -1 : file_system_ops()->rmdir(path);
}

static uint64_t
f_space(const char *path)
{
	(void)path;
	return UINT64_MAX;
}

static const struct file_ops failing = {.open = f_open, .pread = f_pread, .pwrite = f_pwrite, .ftruncate = f_ftruncate,
    .sync = f_sync, .rename = f_rename, .unlink = f_unlink, .mkdir = f_mkdir, .rmdir = f_rmdir, .space = f_space};

/* ---- one short workload ---- */

struct told {
	uint32_t appended; /* acknowledged appends */
	bool seen;	   /* the flag change was acknowledged */
	bool upkeep_failed;
};

static uint32_t
inbox_of(struct index *ix)
{
	return index_target(ix, STORE_TARGET_INBOX);
}

static void
work(struct told *told)
{
	struct index *ix = NULL;
	uint32_t uid;

	if (index_open(root, FIXTURE_NOW, &ix, &e) < 0)
		return;
	for (unsigned i = 0; i < 3; i++) {
		char text[32];

		(void)snprintf(text, sizeof text, "message %u", i);
		if (fixture_append(ix, root, inbox_of(ix), text, &uid, &e) < 0)
			continue;
		if (index_flush(ix, &e) == 0)
			told->appended++;
	}
	if (!index_broken(ix) && fixture_flags(ix, inbox_of(ix), STORE_FLAGS_ADD, STORE_FLAG_SEEN, "", 1, UINT32_MAX, &e) == 0 &&
	    index_flush(ix, &e) == 0)
		told->seen = true;
	/* A failure of it is nothing that anybody was promised. */
	if (!index_broken(ix) && index_upkeep_now(ix, &e) < 0)
		told->upkeep_failed = true;
	index_close(&ix);
}

static void
verify(const struct told *told, unsigned at)
{
	struct index *ix;

	file_use(NULL);
	file_lost_reset();
	file_error_reset();
	ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "call %u: %s %s", at, e.client, e.detail);
	const struct format_mailbox *m = index_mailbox(ix, inbox_of(ix));

	ck_assert_msg(m->messages >= told->appended, "call %u: %u of %u", at, m->messages, told->appended);
	ck_assert_msg(m->messages <= 3, "call %u: %u messages", at, m->messages);
	if (told->seen)
		ck_assert_uint_eq(m->unseen, 0);
	ck_assert_msg(index_check(ix, &e) == 0, "call %u: %s", at, e.detail);
	index_close(&ix);
}

static void
fail_each(int error, bool syncs, bool fresh)
{
	struct file_ops ops = failing;
	unsigned rounds = 0;

	ops.close = file_system_ops()->close;
	fail_with = error;
	failing_syncs = syncs;
	for (fail_at = 1;; fail_at++) {
		struct told told = {0};

		fixture_dir(root);
		if (!fresh) {
			struct index *ix;

			ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
			index_close(&ix);
		}
		calls = 0;
		fired = false;
		file_use(&ops);
		work(&told);
		verify(&told, fail_at);
		fixture_remove(root);
		if (!fired)
			break;
		rounds++;
	}
	ck_assert_uint_gt(rounds, 20);
}

START_TEST(test_eio)
{
	fail_each(EIO, true, false);
}
END_TEST

START_TEST(test_enospc)
{
	fail_each(ENOSPC, false, false);
}
END_TEST

START_TEST(test_emfile_new_account)
{
	fail_each(EMFILE, false, true);
}
END_TEST

/* ---- kill -9 ---- */

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

START_TEST(test_kill)
{
	struct told *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct index *ix;
	int status;

	ck_assert_ptr_ne(told, MAP_FAILED);
	fixture_dir(root);
	for (unsigned round = 0; round < 25; round++) {
		pid_t pid = fork();

		if (pid == 0)
			victim(told);
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
	fixture_remove(root);
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
	fixture_remove(root);
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
	fixture_remove(root);
}
END_TEST

/* The log ends anywhere: what lies before is there, and the account is sound. */
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
		fixture_remove(copy);
		fixture_remove(root);
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
	const TTest *tests[] = {test_eio, test_enospc, test_emfile_new_account, test_kill, test_damaged_pages, test_lost_database,
	    test_cut_log};

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
