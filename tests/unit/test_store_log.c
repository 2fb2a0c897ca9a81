/*
 * Damage in the middle of an account's log: what was durable is there again, or its loss is told; it is never taken for the
 * log's end. And what was not durable may be missing behind a torn record without any noise.
 */
#include "tests/unit/store_fixture.h"

#include "store/base.h"
#include "store/file.h"
#include "store/logfile.h"
#include "store/salvage.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define FILES_MAX 16
#define SECTOR_OCTETS 512u

static char root[64];
static struct err e;

/* ---- an index directory as it was ---- */

static struct {
	char name[32];
	uint8_t *p;
	size_t n;
} saved[FILES_MAX];
static size_t saved_count;

static void
file_of(char *path_r, const char *name)
{
	char dir[FILE_PATH_BYTES_MAX];

	file_path(dir, root, "index");
	file_path(path_r, dir, name);
}

static void
save(void)
{
	char path[FILE_PATH_BYTES_MAX];
	struct stat st;

	file_path(path, root, "index");
	DIR *dir = opendir(path);

	ck_assert_ptr_nonnull(dir);
	saved_count = 0;
	for (struct dirent *d; (d = readdir(dir)) != NULL;) {
		if (d->d_name[0] == '.')
			continue;
		ck_assert_uint_lt(saved_count, FILES_MAX);
		(void)snprintf(saved[saved_count].name, sizeof saved[0].name, "%.31s", d->d_name);
		file_of(path, d->d_name);
		int fd = open(path, O_RDONLY);

		ck_assert(fd >= 0 && fstat(fd, &st) == 0);
		saved[saved_count].n = (size_t)st.st_size;
		saved[saved_count].p = malloc(saved[saved_count].n + 1);
		ck_assert_int_eq(pread(fd, saved[saved_count].p, saved[saved_count].n, 0), st.st_size);
		close(fd);
		saved_count++;
	}
	closedir(dir);
}

static void
restore(void)
{
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, root, "index");
	(void)tree_remove(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	for (size_t i = 0; i < saved_count; i++) {
		file_of(path, saved[i].name);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(write(fd, saved[i].p, saved[i].n), (ssize_t)saved[i].n);
		close(fd);
	}
}

static bool
is_as_saved(const char *name)
{
	char path[FILE_PATH_BYTES_MAX];
	bool same = false;

	file_of(path, name);
	for (size_t i = 0; i < saved_count; i++) {
		uint8_t *p = malloc(saved[i].n + 1);
		int fd = strcmp(saved[i].name, name) == 0 ? open(path, O_RDONLY) : -1;

		if (fd >= 0) {
			same = pread(fd, p, saved[i].n + 1, 0) == (ssize_t)saved[i].n && memcmp(p, saved[i].p, saved[i].n) == 0;
			close(fd);
		}
		free(p);
	}
	return same;
}

static void
forget_saved(void)
{
	for (size_t i = 0; i < saved_count; i++)
		free(saved[i].p);
	saved_count = 0;
}

static void
alter_log(size_t at, size_t n, int flip)
{
	char path[FILE_PATH_BYTES_MAX];
	uint8_t octets[4 * SECTOR_OCTETS] = {0};

	ck_assert_uint_le(n, sizeof octets);
	file_of(path, "log.0000000001");
	int fd = open(path, O_RDWR);

	ck_assert_int_ge(fd, 0);
	if (flip != 0) {
		ck_assert_int_eq(pread(fd, octets, n, (off_t)at), (ssize_t)n);
		octets[0] ^= (uint8_t)flip;
	}
	ck_assert_int_eq(pwrite(fd, octets, n, (off_t)at), (ssize_t)n);
	close(fd);
}

/* ---- what an account holds ---- */

struct state {
	uint64_t serial;
	uint64_t modseq;
	uint32_t messages;
	uint32_t unseen;
	uint32_t uidnext;
	uint32_t uidvalidity;
};

static struct state
state_of(struct index *ix)
{
	const struct format_mailbox *m = index_mailbox(ix, index_target(ix, STORE_TARGET_INBOX));

	return (struct state){index_serial(ix), index_modseq(ix), m->messages, m->unseen, m->uidnext, m->uidvalidity};
}

static bool
state_eq(struct state a, struct state b)
{
	return a.serial == b.serial && a.modseq == b.modseq && a.messages == b.messages && a.unseen == b.unseen && a.uidnext == b.uidnext &&
	    a.uidvalidity == b.uidvalidity;
}

/* Each transaction is flushed. What is saved: in order (clean), or as a killed keeper leaves it. *durable_r: the most that its log proves. */
static struct state
make_account(unsigned messages, bool clean, struct redo_durable *durable_r)
{
	struct logfile_look look = {.damaged = false};
	char path[FILE_PATH_BYTES_MAX];
	struct index *ix;
	struct state s;
	uint32_t uid;

	fixture_dir(root);
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	for (unsigned i = 0; i < messages; i++) {
		ck_assert_int_eq(fixture_append(ix, root, index_target(ix, STORE_TARGET_INBOX), "in the log", &uid, &e), 0);
		ck_assert_int_eq(index_flush(ix, &e), 0);
		if (i % 4 == 3) {
			ck_assert_int_eq(fixture_flags(ix, index_target(ix, STORE_TARGET_INBOX), STORE_FLAGS_ADD, STORE_FLAG_SEEN, "", uid - 1, uid, &e), 0);
			ck_assert_int_eq(index_flush(ix, &e), 0);
		}
		index_changes_reset(ix);
	}
	s = state_of(ix);
	if (!clean)
		save();
	index_close(&ix);
	if (clean)
		save();
	restore();
	file_path(path, root, "index");
	ck_assert_int_eq(logfile_look(path, true, &look, &e), 0);
	ck_assert(!look.damaged && !look.end_damaged);
	*durable_r = (struct redo_durable){.serial = 0};
	ck_assert_int_eq(logfile_durable(path, durable_r, &e), 0);
	return s;
}

static void
remove_account(void)
{
	forget_saved();
	(void)tree_remove(root);
}

/* ---- the tests ---- */

/* Any one bit of a redo record is put right again. */
START_TEST(test_mend)
{
	struct buf b, copy;
	struct redo r;

	buf_init(&b, REDO_BYTES_MAX);
	buf_init(&copy, REDO_BYTES_MAX);
	redo_begin(&b, 77, 0, &(struct redo_durable){76, 3, 12345});
	redo_put(&b, SLICE("key"), SLICE("the value of it"));
	redo_delete(&b, SLICE("other"));
	ck_assert(redo_end(&b, true));
	for (size_t bit = 0; bit < 8 * b.n; bit++) {
		buf_reset(&copy);
		buf_put_slice(&copy, buf_slice(&b));
		copy.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ck_assert_msg(redo_mend(copy.p, copy.n), "bit %zu", bit);
		ck_assert_msg(memcmp(copy.p, b.p, b.n) == 0, "bit %zu", bit);
	}
	ck_assert(redo_open(buf_slice(&b), &r) && r.durable.serial == 76 && r.durable.file == 3 && r.durable.offset == 12345 && !r.mark);
	copy.p[30] ^= 0x11;
	ck_assert(!redo_mend(copy.p, copy.n) || memcmp(copy.p, b.p, b.n) != 0);
	redo_mark(&b, &(struct redo_durable){5, 6, 7}, &(struct redo_pages){8, 9});
	ck_assert(redo_open(buf_slice(&b), &r) && r.mark && r.pages.index == 8 && r.pages.summary == 9 && !r.last && r.durable.serial == 5 && !redo_next(&r, &(struct redo_op){.kind = REDO_PUT}));
	buf_fini(&b);
	buf_fini(&copy);
}
END_TEST

/* A bit flips anywhere before the place up to which the log is known to have been durable: nothing is lost. */
static void
flip_everywhere(bool clean, size_t stride)
{
	struct redo_durable durable;
	struct state before = make_account(24, clean, &durable);
	unsigned trials = 0;
	struct index *ix;

	ck_assert_uint_eq(durable.file, 1);
	ck_assert_uint_ge(durable.serial + (clean ? 0 : 1), before.serial);
	for (size_t at = 0; at < durable.offset; at += stride, trials++) {
		restore();
		alter_log(at, 1, 1 << at % 8);
		ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "octet %zu: %s", at, e.detail);
		ck_assert_msg(state_eq(state_of(ix), before), "octet %zu: serial %llu of %llu", at, (unsigned long long)index_serial(ix),
		    (unsigned long long)before.serial);
		ck_assert_msg(index_check(ix, &e) == 0, "octet %zu: %s", at, e.detail);
		index_close(&ix);
	}
	ck_assert_uint_gt(trials, 100);
	remove_account();
}

START_TEST(test_flip)
{
	flip_everywhere(false, 331);
	flip_everywhere(true, 337);
}
END_TEST

static void
on_note(void *arg, const struct check_finding *f)
{
	(void)f;
	++*(unsigned *)arg;
}

/* Whole sectors are zeros: all is there; or the account is refused as damaged, not touched, and a salvage has all messages. */
START_TEST(test_sectors)
{
	static const struct salvage_events events = {.note = on_note};
	struct redo_durable durable;
	struct state before = make_account(24, false, &durable);
	struct salvage_result result;
	unsigned whole = 0, refused = 0, notes = 0;
	struct index *ix;

	for (size_t at = SECTOR_OCTETS; at + 2 * SECTOR_OCTETS < durable.offset; at += 2 * SECTOR_OCTETS) {
		restore();
		alter_log(at, at % 4096 ? SECTOR_OCTETS : 2 * SECTOR_OCTETS, 0);
		if (index_open(root, FIXTURE_NOW, &ix, &e) == 0) {
			ck_assert_msg(state_eq(state_of(ix), before), "octet %zu", at);
			whole++;
		} else {
			ck_assert_int_eq(e.code, ERR_CODE_CORRUPT);
			ck_assert(is_as_saved("index.db") && is_as_saved("base"));
			ck_assert_int_lt(index_open(root, FIXTURE_NOW, &ix, &e), 0);
			notes = 0;
			ck_assert_msg(salvage_account(root, FIXTURE_NOW, &events, &notes, &result, &e) == 0, "octet %zu: %s", at, e.detail);
			ck_assert_uint_eq(result.messages, before.messages);
			ck_assert_uint_eq(result.lost, 0);
			ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "octet %zu: %s", at, e.detail);
			ck_assert_uint_ne(state_of(ix).uidvalidity, before.uidvalidity);
			refused++;
		}
		ck_assert_msg(index_check(ix, &e) == 0, "octet %zu: %s", at, e.detail);
		index_close(&ix);
	}
	ck_assert_uint_gt(whole, 5);
	ck_assert_uint_gt(refused, 5);
	remove_account();
}
END_TEST

/* Transactions that were never flushed, the first of them torn: not told as damage, and gone. */
START_TEST(test_torn_tail)
{
	struct redo_durable durable;
	struct state before = make_account(8, false, &durable);
	char path[FILE_PATH_BYTES_MAX];
	struct index *ix;
	uint32_t uid;

	restore();
	forget_saved();
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	ck_assert_int_eq(index_flush(ix, &e), 0);
	/* All of them in the log's buffer at once: each record tells only of the flush before. */
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(fixture_append(ix, root, index_target(ix, STORE_TARGET_INBOX), "never told", &uid, &e), 0);
	ck_assert_int_eq(index_flush(ix, &e), 0);
	save();
	file_path(path, root, "index");
	ck_assert_int_eq(logfile_durable(path, &durable, &e), 0);
	ck_assert_uint_eq(durable.serial, before.serial);
	index_close(&ix);
	/* From the last one back: the objects of what was lost go. */
	for (size_t at = durable.offset + 9100; at >= durable.offset; at -= 700) {
		restore();
		alter_log(at, SECTOR_OCTETS, 0);
		ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "octet %zu: %s", at, e.detail);
		ck_assert_uint_ge(index_serial(ix), before.serial);
		ck_assert_uint_le(index_serial(ix), before.serial + 5);
		ck_assert_msg(index_check(ix, &e) == 0, "octet %zu: %s", at, e.detail);
		index_close(&ix);
	}
	remove_account();
}
END_TEST

/* An opening that made a new base copy, and then the power is cut: what recovery put into the log and nobody synced is no damage. */
static void
cut_after_renewal(bool clean, bool damaged)
{
	struct redo_durable durable;
	struct state before = make_account(8, clean, &durable);
	struct logfile_look look = {.damaged = false};
	char path[FILE_PATH_BYTES_MAX];
	struct base_info base;
	struct index *ix;

	file_of(path, "base");
	ck_assert_int_eq(damaged ? truncate(path, 20) : unlink(path), 0);
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	forget_saved();
	save();
	index_close(&ix);
	restore();
	file_path(path, root, "index");
	ck_assert_int_eq(base_read_info(path, &base, &e), 0);
	ck_assert_uint_eq(base.serial, before.serial);
	look.durable = (struct redo_durable){base.serial, base.log.file, base.log.offset};
	ck_assert_int_eq(logfile_look(path, true, &look, &e), 0);
	ck_assert(!look.damaged);
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &e), 0);
	ck_assert(state_eq(state_of(ix), before));
	index_close(&ix);
	remove_account();
}

START_TEST(test_renewal)
{
	cut_after_renewal(false, false);
	cut_after_renewal(false, true);
	cut_after_renewal(true, false);
	cut_after_renewal(true, true);
}
END_TEST

/* Each page in turn is the end of a database: recovery would make the others of nothing, and Berkeley DB could walk in circles. */
static void
cut_short_everywhere(const char *name, bool clean)
{
	struct redo_durable durable;
	struct state before = make_account(150, clean, &durable);
	char path[FILE_PATH_BYTES_MAX];
	struct index *ix;
	struct stat st;

	file_of(path, name);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_gt(st.st_size, 4096);
	for (off_t end = 4096; end < st.st_size; end += 4096) {
		restore();
		ck_assert_int_eq(truncate(path, end), 0);
		ck_assert_msg(index_open(root, FIXTURE_NOW, &ix, &e) == 0, "%s ends at %lld: %s", name, (long long)end, e.detail);
		ck_assert_msg(state_eq(state_of(ix), before), "%s ends at %lld", name, (long long)end);
		ck_assert_msg(index_check(ix, &e) == 0, "%s ends at %lld: %s", name, (long long)end, e.detail);
		index_close(&ix);
	}
	remove_account();
}

START_TEST(test_cut_short)
{
	cut_short_everywhere("index.db", true);
	cut_short_everywhere("index.db", false);
	cut_short_everywhere("summary.db", true);
	cut_short_everywhere("summary.db", false);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_log");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	const TTest *tests[] = {test_mend, test_flip, test_sectors, test_torn_tail, test_renewal, test_cut_short};

	log_init("test_store_log", LOG_BUG);
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
