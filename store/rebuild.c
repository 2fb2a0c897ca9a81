/*
 * The log is read three times: to learn how far it had been synced, which transactions count (redo.h has
 * the rule), and to apply them on top of the base copy. Berkeley DB is not asked: it knows nothing behind the first damage.
 * A transaction that is missing before one that was durable is a loss, and then nothing is rebuilt: what is left
 * would look like the whole account to its clients. A salvage tells the loss and gives new UIDVALIDITYs.
 *
 * Summaries are taken over afterwards from the old environment, once it was
 * recovered without its index: a B-tree that was not recovered may lead a
 * reader round in circles. What is lost of them is made anew by the worker that wants it.
 */
#include "store/rebuild.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/base.h"
#include "store/file.h"
#include "store/logfile.h"
#include "common/mutant.h"

#include <assert.h>
#include <fcntl.h>

#define INDEX "index"
#define INDEX_NEW "index.new"
#define INDEX_OLD "index.old"
#define DAMAGED_FILE "damaged"
#define RECORDS_PER_TRANSACTION 500u

#define KEEP_FILE "keep"
#define KEEP_BYTES_MAX 32u

/* ---- what an index that was replaced leaves ---- */

int
rebuild_keep(const char *root, const char *aside, struct err *e)
{
	char dir[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX];
	int exists, fd, failed;

	file_path(dir, root, INDEX);
	file_path(path, dir, KEEP_FILE);
	exists = file_exists(dir, e);
	if (exists <= 0)
		return exists;
	fd = file_open(path, O_RDWR | O_CREAT | O_TRUNC, e);
	if (fd < 0)
		return -1;
	failed = file_write(fd, 0, slice_str(aside), e) < 0 || (!MUTANT(REBUILD_KEEP_SYNC) && file_sync(fd, e) < 0);
	if (file_close(fd, failed ? NULL : e) < 0)
		failed = -1;
	return failed || (!MUTANT(REBUILD_KEEP_NAME_SYNC) && file_sync_dir(dir, e) < 0) ? -1 : 0;
}

/* The name in an index's mark; false when it has none. One that cannot be read is not a reason to remove anything. */
static int
kept_as(const char *dir, char name_r[KEEP_BYTES_MAX], struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	int exists, fd;
	int64_t n;

	file_path(path, dir, KEEP_FILE);
	exists = file_exists(path, e);
	if (exists <= 0)
		return exists;
	fd = file_open(path, O_RDONLY, e);
	if (fd < 0)
		return -1;
	n = file_read(fd, 0, name_r, KEEP_BYTES_MAX - 1, e);
	(void)file_close(fd, NULL);
	if (n < 0)
		return -1;
	name_r[n] = '\0';
	if (n == 0 || strspn(name_r, "abcdefghijklmnopqrstuvwxyz.0123456789") != (size_t)n)
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "%s says no name", path);
	return 1;
}

/* Removes it, or moves it to where it is to be kept. */
static int
retire(const char *root, const char *old, struct err *e)
{
	char name[KEEP_BYTES_MAX], aside[FILE_PATH_BYTES_MAX], to[FILE_PATH_BYTES_MAX];
	int kept = kept_as(old, name, e);

	if (kept < 0)
		return -1;
	if (kept == 0)
		return file_remove_dir(old, e);
	file_path(aside, root, name);
	file_path(to, aside, INDEX);
	return file_rename(old, to, e) < 0 || file_sync_dir(aside, e) < 0 || file_sync_dir(root, e) < 0 ? -1 : 0;
}

/* ---- putting a whole index in place ---- */

int
rebuild_settle(const char *root, bool *exists_r, struct err *e)
{
	char now[FILE_PATH_BYTES_MAX], fresh[FILE_PATH_BYTES_MAX], old[FILE_PATH_BYTES_MAX];

	file_path(now, root, INDEX);
	file_path(fresh, root, INDEX_NEW);
	file_path(old, root, INDEX_OLD);
	int now_there = file_exists(now, e), old_there = file_exists(old, e), fresh_there = file_exists(fresh, e);

	/* What is not known to be missing is not made anew: that would be the end of the account. */
	if (now_there < 0 || old_there < 0 || fresh_there < 0)
		return -1;
	*exists_r = now_there || old_there;
	if (!now_there && old_there &&
	    (file_rename(fresh_there ? fresh : old, now, e) < 0 || (!MUTANT(REBUILD_SETTLE_SYNC) && file_sync_dir(root, e) < 0)))
		return -1;
	return file_remove_dir(fresh, e) < 0 || retire(root, old, e) < 0 ? -1 : 0;
}

static int
put_in_place(const char *root, struct err *e)
{
	char now[FILE_PATH_BYTES_MAX], fresh[FILE_PATH_BYTES_MAX], old[FILE_PATH_BYTES_MAX];

	file_path(now, root, INDEX);
	file_path(fresh, root, INDEX_NEW);
	file_path(old, root, INDEX_OLD);
	int exists = file_exists(now, e);

	/* Once the old one has its other name, whatever is called the new one is taken for whole: it may not be one of before. */
	if (exists < 0 || (exists && ((!MUTANT(REBUILD_ROOT_SYNC) && file_sync_dir(root, e) < 0) || file_rename(now, old, e) < 0)))
		return -1;
	if (file_rename(fresh, now, e) < 0)
		return -1;
	return MUTANT(REBUILD_NEW_SYNC) ? 0 : file_sync_dir(root, e);
}

static int
write_base(struct env *env, const char *dir, uint64_t serial, uint64_t time, struct err *e)
{
	struct base_writer *w;
	struct base_info info;

	if (env_checkpoint(env, e) < 0 || base_begin(env, dir, serial, time, &w, e) < 0)
		return -1;
	if (base_step(&w, SIZE_MAX / 2, &info, e) != 0)
		return -1;
	return env_log_trim(env, info.log.file, e);
}

struct build {
	char source[FILE_PATH_BYTES_MAX];
	uint64_t serial; /* of the last transaction put in */
	uint64_t least;	 /* and it may not be below that */
};

static int
build(const char *root, rebuild_fill_fn *fill, void *arg, const uint64_t *serial, uint64_t time, struct err *e)
{
	char fresh[FILE_PATH_BYTES_MAX];
	struct env *env;
	bool made;

	file_path(fresh, root, INDEX_NEW);
	if (file_remove_dir(fresh, e) < 0 || file_mkdir(fresh, &made, e) < 0)
		return -1;
	if (env_open(fresh, true, &(struct redo_pages){0, 0}, &env, e) < 0)
		return -1;
	int failed = fill(arg, env, e) < 0 || (!MUTANT(REBUILD_BASE) && write_base(env, fresh, *serial, time, e) < 0);

	env_close(&env);
	/* Its names are durable: Berkeley DB's files got theirs when they were made, and the base copy comes last. */
	return failed ? -1 : put_in_place(root, e);
}

int
rebuild_create(const char *root, rebuild_fill_fn *fill, void *arg, uint64_t serial, uint64_t time, struct err *e)
{
	return build(root, fill, arg, &serial, time, e);
}

/* ---- which transactions count ---- */

struct counted {
	uint64_t serial;
	uint64_t first; /* number of its first record among all redo records */
	unsigned parts;
	bool complete;
};

struct history {
	struct counted *list;
	size_t n;
	size_t cap;
	uint64_t record; /* number of the record being read */
};

static bool
on_history(void *arg, const struct redo *r, struct slice record)
{
	struct history *h = arg;
	struct counted *top = h->n ? &h->list[h->n - 1] : NULL;
	uint64_t number = h->record++;

	(void)record;
	if (r->part > 0) {
		if (top != NULL && top->serial == r->serial && top->parts == r->part && !top->complete) {
			top->parts++;
			top->complete = r->last;
		}
		return true;
	}
	while (!MUTANT(REBUILD_OVERRULE) && h->n > 0 && h->list[h->n - 1].serial >= r->serial)
		h->n--;
	if (h->n == h->cap) {
		h->cap = h->cap ? h->cap * 2 : 1024;
		h->list = mem_resize(h->list, h->cap, sizeof *h->list);
	}
	h->list[h->n++] = (struct counted){r->serial, number, 1, r->last};
	return true;
}

static int
refuse_loss(uint64_t first, uint64_t least, struct err *e)
{
	log_event(LOG_ERROR, NO_SESSION, "transactions-lost", LOG_NUM("first", first), LOG_NUM("durable", least),
	    LOG_CSTR("do", "mailstead store salvage"), LOG_END);
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "transaction %llu was durable, and is lost: salvage",
	    (unsigned long long)first);
}

/* Is each transaction there from the base copy's to `least`? Behind that one a gap is no loss: what follows it was never durable. */
static int
check_history(struct history *h, uint64_t base_serial, uint64_t least, struct err *e)
{
	uint64_t at = base_serial;
	size_t n;

	for (n = 0; n < h->n; n++) {
		const struct counted *t = &h->list[n];

		if (t->serial > at + 1 || (t->serial > at && !MUTANT(REBUILD_COMPLETE) && !t->complete))
			break;
		if (t->serial > at)
			at = t->serial;
	}
	h->n = n;
	return at < least && !MUTANT(REBUILD_LOSS) ? refuse_loss(at + 1, least, e) : 0;
}

/* ---- applying them ---- */

struct applier {
	struct build *b;
	struct env *env;
	const struct history *history;
	size_t next;	 /* the transaction whose records come next */
	uint64_t record; /* number of the record being read */
	uint64_t least;	 /* only serials above this: the base has the others */
	unsigned pending;
	struct buf old;
	struct err *e;
	bool failed;
};

static int
apply_patch(struct applier *a, const struct redo_op *op)
{
	int r = env_get(a->env, op->key, &a->old, a->e);

	if (r <= 0)
		return r;
	redo_patch(op, a->old.p, a->old.n);
	return env_put(a->env, op->key, buf_slice(&a->old), slice_of(NULL, 0), a->e);
}

static int
apply_record(struct applier *a, struct redo r)
{
	struct redo_op op;
	int failed = 0;

	while (failed == 0 && redo_next(&r, &op)) {
		if (op.key.n > FORMAT_KEY_BYTES_MAX || op.value.n > FORMAT_VALUE_BYTES_MAX)
			return err_set(a->e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "a redo record's size");
		if (op.kind == REDO_PUT)
			failed = env_put(a->env, op.key, op.value, slice_of(NULL, 0), a->e);
		else if (op.kind == REDO_DELETE)
			failed = env_delete(a->env, op.key, a->e);
		else
			failed = apply_patch(a, &op);
	}
	if (failed == 0 && r.ops.bad)
		failed = err_set(a->e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "a redo operation");
	return failed;
}

static bool
on_apply(void *arg, const struct redo *r, struct slice record)
{
	struct applier *a = arg;
	const struct history *h = a->history;
	uint64_t number = a->record++;

	(void)record;
	while (a->next < h->n && h->list[a->next].first + h->list[a->next].parts <= number)
		a->next++;
	if (a->next == h->n)
		return false;
	const struct counted *t = &h->list[a->next];

	if (number < t->first || (!MUTANT(REBUILD_COMPLETE) && !t->complete) || t->serial <= a->least)
		return true;
	assert(r->serial == t->serial);
	if (r->part == 0 && env_begin(a->env, r->serial, a->e) < 0)
		a->failed = true;
	else if (apply_record(a, *r) < 0 || (r->last && env_commit(a->env, a->e) < 0))
		a->failed = true;
	a->b->serial = t->serial;
	return !a->failed;
}

static int
on_base_record(void *arg, struct slice key, struct slice value, struct err *e)
{
	struct applier *a = arg;

	if (a->pending == 0 && env_begin(a->env, 0, e) < 0)
		return -1;
	if (env_put(a->env, key, value, slice_of(NULL, 0), e) < 0)
		return -1;
	if (++a->pending < RECORDS_PER_TRANSACTION)
		return 0;
	a->pending = 0;
	return env_commit(a->env, e);
}

static int
fill_from_log(void *arg, struct env *env, struct err *e)
{
	struct build *b = arg;
	struct history history = {0};
	struct logfile_look look;
	struct base_info info;
	struct applier a = {.b = b, .env = env, .history = &history, .e = e};
	int r;

	buf_init(&a.old, FORMAT_VALUE_BYTES_MAX);
	r = base_read(b->source, on_base_record, &a, &info, e);
	if (r == 0 && a.pending > 0)
		r = env_commit(env, e);
	a.pending = 0;
	a.least = b->serial = r == 0 ? info.serial : 0;
	if (r == 0) {
		look.durable = (struct redo_durable){info.serial, info.log.file, info.log.offset};
		r = logfile_look(b->source, true, &look, e);
	}
	if (r == 0)
		r = logfile_redo(b->source, &look.durable, on_history, &history, e);
	if (r == 0)
		r = check_history(&history, info.serial, look.durable.serial > b->least ? look.durable.serial : b->least, e);
	if (r == 0)
		r = logfile_redo(b->source, &look.durable, on_apply, &a, e);
	env_abort(env);
	free(history.list);
	buf_fini(&a.old);
	return r == 0 && !a.failed ? 0 : -1;
}

int
rebuild_from_log(const char *root, bool damage, const char *why, uint64_t least, uint64_t time, struct err *e)
{
	struct build b = {.least = least};

	file_path(b.source, root, INDEX);
	log_event(damage ? LOG_WARN : LOG_INFO, NO_SESSION, "index-rebuild", LOG_CSTR("why", why), LOG_END);
	if (build(root, fill_from_log, &b, &b.serial, time, e) < 0)
		return -1;
	log_event(damage ? LOG_WARN : LOG_INFO, NO_SESSION, "index-rebuilt", LOG_NUM("serial", b.serial), LOG_END);
	return 0;
}

void
rebuild_take_summaries(const char *root, env_summary_fn *fn, void *arg)
{
	char old[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX];

	file_path(old, root, INDEX_OLD);
	file_path(path, old, "index.db");
	if (file_exists(old, NULL) == 1 && file_unlink(path, NULL) == 0)
		env_summary_read(old, fn, arg);
	(void)file_remove_dir(old, NULL);
}

/* ---- the mark ---- */

static void
mark_path(char *path_r, const char *root)
{
	char dir[FILE_PATH_BYTES_MAX];

	file_path(dir, root, INDEX);
	file_path(path_r, dir, DAMAGED_FILE);
}

void
rebuild_mark(const char *root)
{
	char path[FILE_PATH_BYTES_MAX];

	mark_path(path, root);
	/* Not synced: after a power cut the page cache is gone, and the page is refused again. */
	int fd = file_open(path, O_WRONLY | O_CREAT, NULL);

	if (fd >= 0)
		(void)file_close(fd, NULL);
}

bool
rebuild_marked(const char *root)
{
	char path[FILE_PATH_BYTES_MAX];

	mark_path(path, root);
	/* What cannot be looked for will be met as damage anyway. */
	return file_exists(path, NULL) == 1;
}

int
rebuild_unmark(const char *root, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	mark_path(path, root);
	return file_unlink(path, e);
}
