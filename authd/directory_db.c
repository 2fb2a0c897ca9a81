/*
 * The environment is private (log, memory pool, transactions; no lock subsystem,
 * no shared regions): one process, one transaction at a time. What is on disk:
 *
 *   directory.db        the database, with a checksum on each page
 *   log.NNNNNNNNNN      the log
 *   base/directory.db   a copy of the database as it was at some checkpoint
 *   rebuilding          an empty file while a rebuild runs: what a crash leaves of it is no
 * database yet
 *
 * Berkeley DB does not survive a torn page, so the database itself is only a
 * cache: the base copy and every log file since its checkpoint are the truth. A
 * base copy is made right after a checkpoint, when the file on disk is whole
 * and nothing runs; log files from before that checkpoint go only after the copy
 * is durable. When the database does not open, or reading all of it fails,
 * it is put aside and made again: base copy, then the log from there.
 *
 * Each commit tells in the log how far the one before it had made it durable. When the log does not reach that place any more, it was
 * damaged: then what was acknowledged since the last checkpoint may be missing, and an event says so.
 *
 * Berkeley DB's file calls go through store/file.h, which syncs the directories
 * that it does not, and lets it have the reserve when the disk is full. A base
 * copy does not get the reserve: without room for it the log files stay.
 */
#include "authd/directory_db.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/env.h"
#include "store/file.h"

#include <assert.h>
#include <db.h>
#include <errno.h>
#include <fcntl.h>

#define DB_NAME "directory.db"
#define BASE_DIR "base"
#define MARK_NAME "rebuilding"
#define CACHE_BYTES (8u << 20)
/* Commits between two checkpoints: bounds the time of a recovery. */
#define CHECKPOINT_COMMITS 2000
#define VALUE_BYTES_MAX (1u << 20)
#define COPY_BYTES 65536
#define KEY_BYTES_MAX 512
/* Of a name below the directory's path. */
#define NAME_BYTES_MAX 64

struct directory_db {
	char path[FILE_PATH_BYTES_MAX];
	char base[FILE_PATH_BYTES_MAX]; /* the directory of the base copy */
	DB_ENV *env;
	DB *db;
	DB_TXN *txn;
	unsigned commits; /* since the last checkpoint */
	struct env_log_place durable; /* of the log; all 0: not known */
	bool log_damaged;
	bool failed;
};

static int
db_error(struct directory_db *db, int r, const char *what, struct err *e)
{
	int error = file_error();

	db->failed = true;
	if (error == 0 && (r == ENOSPC || r == EDQUOT))
		error = r;
	if (error != 0)
		return err_sys(e, error, what);
	return err_set(
	    e, ERR_TEMP, ERR_CODE_NONE, "directory not available", "%s: %s", what, db_strerror(r));
}

static void
on_env_message(const DB_ENV *env, const char *prefix, const char *text)
{
	(void)env;
	(void)prefix;
	log_event(LOG_WARN, NO_SESSION, "directory-db", LOG_CSTR("text", text), LOG_END);
}

static void
handles_close(struct directory_db *db)
{
	if (db->txn != NULL)
		(void)db->txn->abort(db->txn);
	if (db->db != NULL)
		(void)db->db->close(db->db, DB_NOSYNC);
	if (db->env != NULL)
		(void)db->env->close(db->env, 0);
	db->txn = NULL;
	db->db = NULL;
	db->env = NULL;
}

static int
environment_open(struct directory_db *db, uint32_t recover)
{
	int r = db_env_create(&db->env, 0);

	if (r != 0) {
		db->env = NULL;
		return r;
	}
	db->env->set_errcall(db->env, on_env_message);
	r = db->env->set_cachesize(db->env, 0, CACHE_BYTES, 1);
	if (r == 0)
		r = db->env->set_lg_max(db->env, FILE_LOG_BYTES);
	if (r == 0)
		r = db->env->open(db->env, db->path,
		    DB_CREATE | DB_PRIVATE | DB_INIT_LOG | DB_INIT_MPOOL | DB_INIT_TXN | recover,
		    0600);
	return r;
}

static int
database_open(struct directory_db *db)
{
	int r = db_create(&db->db, db->env, 0);

	if (r != 0) {
		db->db = NULL;
		return r;
	}
	r = db->db->set_flags(db->db, DB_CHKSUM);
	if (r == 0)
		r = db->db->open(
		    db->db, NULL, DB_NAME, NULL, DB_BTREE, DB_CREATE | DB_AUTO_COMMIT, 0600);
	return r;
}

/* Reads every page once: damage shows now, while the base copy can still help. */
static int
database_read_all(struct directory_db *db)
{
	DBT key = {0}, value = {0};
	DBC *c;
	int r = db->db->cursor(db->db, NULL, &c, 0);

	if (r != 0)
		return r;
	while ((r = c->get(c, &key, &value, DB_NEXT)) == 0)
		;
	(void)c->close(c);
	return r == DB_NOTFOUND ? 0 : r;
}

static int
handles_open(struct directory_db *db, uint32_t recover)
{
	int r = environment_open(db, recover);

	if (r == 0)
		r = database_open(db);
	if (r == 0)
		r = database_read_all(db);
	if (r != 0)
		handles_close(db);
	return r;
}

static int
fd_copy(int from, int to, struct err *e)
{
	uint8_t block[COPY_BYTES];
	uint64_t at = 0;
	int64_t n;

	while ((n = file_read(from, at, block, sizeof block, e)) > 0) {
		if (file_write(to, at, slice_of(block, (size_t)n), e) != 0)
			return -1;
		at += (uint64_t)n;
	}
	return n < 0 ? -1 : file_sync(to, e);
}

/* A durable copy of file `from` in directory to_dir under the same name: both or nothing. */
static int
file_copy(const char *from_dir, const char *to_dir, struct err *e)
{
	char source[FILE_PATH_BYTES_MAX], target[FILE_PATH_BYTES_MAX], fresh[FILE_PATH_BYTES_MAX];
	int in, out, r;

	file_path(source, from_dir, DB_NAME);
	file_path(target, to_dir, DB_NAME);
	file_path(fresh, to_dir, DB_NAME ".new");
	in = file_open(source, O_RDONLY | O_CLOEXEC, e);
	if (in < 0)
		return -1;
	out = file_open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, e);
	r = out < 0 ? -1 : fd_copy(in, out, e);
	if (out >= 0 && file_close(out, r == 0 ? e : NULL) != 0)
		r = -1;
	(void)file_close(in, NULL);
	if (r == 0 && file_rename(fresh, target, e) == 0)
		return file_sync_dir(to_dir, e);
	(void)file_unlink(fresh, NULL);
	return -1;
}

/* Log files that neither recovery nor the base copy needs any more. */
static int
logs_remove(struct directory_db *db, struct err *e)
{
	char **list = NULL;
	int r = db->env->log_archive(db->env, &list, DB_ARCH_ABS);

	if (r != 0)
		return db_error(db, r, "log_archive", e);
	for (char **p = list; p != NULL && *p != NULL; p++)
		(void)file_unlink(*p, NULL);
	free(list);
	return 0;
}

/* Puts into the log how far it is durable, so that damage before that place is told from an end (store/logfile.h). */
static int
put_mark(struct directory_db *db)
{
	return db->durable.file != 0 ? env_log_mark(db->env, db->durable) : 0;
}

/* Checkpoint, base copy, then the old log files go: in this order. */
static int
checkpoint(struct directory_db *db, struct err *e)
{
	int r = put_mark(db);

	assert(db->txn == NULL);
	if (r == 0)
		r = db->env->txn_checkpoint(db->env, 0, 0, DB_FORCE);
	if (r != 0)
		return db_error(db, r, "txn_checkpoint", e);
	env_log_place_of(db->env, &db->durable);
	db->commits = 0;
	if (file_copy(db->path, db->base, e) != 0)
		return -1;
	return logs_remove(db, e);
}

/* What a process left that was killed, or whose sync failed, is taken over only as far as the disk has it. */
static int
dirs_settle(struct directory_db *db, struct err *e)
{
	bool made;

	if (file_mkdir(db->base, &made, e) != 0 || file_settle_dir(db->base, e) != 0)
		return -1;
	return file_settle_dir(db->path, e);
}

static int
mark_make(struct directory_db *db, const char *mark, struct err *e)
{
	int fd = file_open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, e);

	return fd < 0 || file_close(fd, e) != 0 ? -1 : file_sync_dir(db->path, e);
}

/* The damaged file stays beside, for whoever wants to look at it; the one before it goes. */
static int
put_aside(struct directory_db *db, const char *file, struct err *e)
{
	char aside[FILE_PATH_BYTES_MAX];
	int there = file_exists(file, e);

	if (there <= 0)
		return there;
	file_path(aside, db->path, DB_NAME ".damaged");
	return file_rename(file, aside, e) != 0 ? -1 : file_sync_dir(db->path, e);
}

static int
rebuild(struct directory_db *db, struct err *e)
{
	char file[FILE_PATH_BYTES_MAX], base[FILE_PATH_BYTES_MAX], mark[FILE_PATH_BYTES_MAX];
	int r, has_base;

	file_path(file, db->path, DB_NAME);
	file_path(base, db->base, DB_NAME);
	file_path(mark, db->path, MARK_NAME);
	/* Without a base copy the log still begins at the beginning. */
	has_base = file_exists(base, e);
	if (has_base < 0 || mark_make(db, mark, e) != 0 || put_aside(db, file, e) != 0 ||
	    (has_base && file_copy(db->base, db->path, e) != 0))
		return -1;
	r = handles_open(db, DB_RECOVER_FATAL);
	if (r != 0)
		return db_error(db, r, "rebuild of the directory", e);
	if (checkpoint(db, e) != 0)
		return -1;
	return file_unlink(mark, e) != 0 ? -1 : file_sync_dir(db->path, e);
}

/* 1: a rebuild was begun and not ended, or the database is gone while its base copy is there. 0: not so. -1. */
static int
rebuild_is_due(struct directory_db *db, struct err *e)
{
	char file[FILE_PATH_BYTES_MAX], base[FILE_PATH_BYTES_MAX], mark[FILE_PATH_BYTES_MAX];
	int marked, has_base, there;

	file_path(file, db->path, DB_NAME);
	file_path(base, db->base, DB_NAME);
	file_path(mark, db->path, MARK_NAME);
	marked = file_exists(mark, e);
	has_base = file_exists(base, e);
	there = file_exists(file, e);
	if (marked < 0 || has_base < 0 || there < 0)
		return -1;
	return marked || (has_base && !there);
}

/* What the environment's surroundings cause; a rebuild would not help and might harm. */
static bool
is_environmental(int r)
{
	return r == ENOSPC || r == EDQUOT || r == ENOMEM || r == EACCES || r == EPERM ||
	       r == EROFS || r == EMFILE || r == ENFILE;
}

/* Look-ups need none: without room for it the log only stays longer. */
static int
first_checkpoint(struct directory_db *db, struct err *e)
{
	if (checkpoint(db, e) == 0)
		return 0;
	if (e->code != ERR_CODE_NO_SPACE || directory_db_failed(db))
		return -1;
	log_event(LOG_WARN, NO_SESSION, "directory-checkpoint", LOG_ERR(e), LOG_END);
	return 0;
}

/* What was acknowledged behind such damage is not found again by Berkeley DB, which takes it for the end: that is not passed over
 * in silence. What is before it is opened, since nobody could log in else. */
static int
look_at_log(struct directory_db *db, struct err *e)
{
	if (env_log_check(db->path, NULL, e) == 0)
		return 0;
	if (e->code != ERR_CODE_CORRUPT)
		return -1;
	db->log_damaged = true;
	log_event(LOG_ERROR, NO_SESSION, "directory-log-damaged", LOG_ERR(e), LOG_END);
	return 0;
}

/* Opens, or rebuilds what does not open for its own damage. */
static int
open_or_rebuild(struct directory_db *db, bool *rebuilt_r, struct err *e)
{
	int due = rebuild_is_due(db, e), r = DB_RUNRECOVERY;

	*rebuilt_r = false;
	if (due < 0)
		return -1;
	file_error_reset();
	if (!due)
		r = handles_open(db, DB_RECOVER);
	if (r == 0)
		return first_checkpoint(db, e);
	/* A full disk makes Berkeley DB panic, too. */
	if (is_environmental(r) || is_environmental(file_error()))
		return db_error(db, r, "open of the directory", e);
	log_event(
	    LOG_ERROR, NO_SESSION, "directory-damaged", LOG_CSTR("error", db_strerror(r)), LOG_END);
	*rebuilt_r = true;
	return rebuild(db, e);
}

int
directory_db_open(const char *path, struct directory_db **db_r, bool *rebuilt_r, struct err *e)
{
	struct directory_db *db = MEM_NEW(struct directory_db);
	int r;

	*db_r = NULL;
	file_hook_db();
	if (strlen(path) > sizeof db->path - NAME_BYTES_MAX) {
		MEM_FREE(&db);
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "directory not available", "the path is too long");
	}
	memcpy(db->path, path, strlen(path) + 1);
	file_path(db->base, db->path, BASE_DIR);
	r = dirs_settle(db, e);
	if (r == 0)
		file_reserve(path);
	if (r == 0)
		r = look_at_log(db, e);
	if (r == 0)
		r = open_or_rebuild(db, rebuilt_r, e);
	if (r != 0) {
		handles_close(db);
		MEM_FREE(&db);
		return -1;
	}
	*db_r = db;
	return 0;
}

void
directory_db_close(struct directory_db **dbp)
{
	struct directory_db *db = *dbp;
	struct err e;

	if (db == NULL)
		return;
	directory_db_abort(db);
	if (!directory_db_failed(db) && db->commits > 0 && checkpoint(db, &e) != 0)
		log_event(LOG_WARN, NO_SESSION, "directory-checkpoint", LOG_ERR(&e), LOG_END);
	handles_close(db);
	MEM_FREE(dbp);
}

bool
directory_db_failed(const struct directory_db *db)
{
	return db->failed || file_lost();
}

bool
directory_db_log_damaged(const struct directory_db *db)
{
	return db->log_damaged;
}

static int
failed_already(struct err *e)
{
	return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "directory not available", NULL);
}

/* A DBT that only reads from s: Berkeley DB does not change what it is given to put. */
static DBT
dbt_of(struct slice s)
{
	DBT t = {0};

	assert(s.n <= VALUE_BYTES_MAX);
	t.data = (void *)(uintptr_t)s.p;
	t.size = (uint32_t)s.n;
	return t;
}

static struct slice
dbt_slice(const DBT *t)
{
	return slice_of(t->data, t->size);
}

int
directory_db_get(struct directory_db *db, struct slice key, struct buf *value_r, struct err *e)
{
	DBT k = dbt_of(key);
	DBT v = {0};
	int r;

	if (directory_db_failed(db))
		return failed_already(e);
	buf_reset(value_r);
	r = db->db->get(db->db, db->txn, &k, &v, 0);
	if (r == DB_NOTFOUND)
		return 0;
	if (r != 0)
		return db_error(db, r, "get", e);
	if (!buf_put_slice(value_r, dbt_slice(&v)))
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "directory damaged",
		    "a value of %u octets", v.size);
	return 1;
}

int
directory_db_scan(struct directory_db *db, struct slice prefix, struct slice after,
    directory_db_visit *visit, void *arg, struct err *e)
{
	/* visit may make keys in the memory that these came from. */
	char head[KEY_BYTES_MAX];
	char start[KEY_BYTES_MAX];
	DBT k, v = {0};
	DBC *c;
	int r;

	if (directory_db_failed(db))
		return failed_already(e);
	if (prefix.n > sizeof head || after.n > sizeof start)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "no such key", NULL);
	memcpy(head, prefix.p, prefix.n);
	if (after.n > 0)
		memcpy(start, after.p, after.n);
	prefix = slice_of(head, prefix.n);
	after = slice_of(start, after.n);
	k = dbt_of(after.n > 0 ? after : prefix);
	r = db->db->cursor(db->db, db->txn, &c, 0);
	if (r != 0)
		return db_error(db, r, "cursor", e);
	for (r = c->get(c, &k, &v, DB_SET_RANGE); r == 0; r = c->get(c, &k, &v, DB_NEXT)) {
		struct slice key = dbt_slice(&k);

		if (!slice_starts(key, prefix))
			break;
		if (after.n > 0 && slice_eq(key, after))
			continue;
		if (!visit(key, dbt_slice(&v), arg))
			break;
	}
	(void)c->close(c);
	return r == 0 || r == DB_NOTFOUND ? 0 : db_error(db, r, "scan", e);
}

int
directory_db_begin(struct directory_db *db, struct err *e)
{
	int r;

	assert(db->txn == NULL);
	if (directory_db_failed(db))
		return failed_already(e);
	r = db->env->txn_begin(db->env, NULL, &db->txn, DB_TXN_SYNC);
	if (r != 0) {
		db->txn = NULL;
		return db_error(db, r, "txn_begin", e);
	}
	return 0;
}

int
directory_db_put(struct directory_db *db, struct slice key, struct slice value, struct err *e)
{
	DBT k = dbt_of(key);
	DBT v = dbt_of(value);
	int r;

	assert(db->txn != NULL);
	if (directory_db_failed(db))
		return failed_already(e);
	r = db->db->put(db->db, db->txn, &k, &v, 0);
	return r == 0 ? 0 : db_error(db, r, "put", e);
}

int
directory_db_delete(struct directory_db *db, struct slice key, struct err *e)
{
	DBT k = dbt_of(key);
	int r;

	assert(db->txn != NULL);
	if (directory_db_failed(db))
		return failed_already(e);
	r = db->db->del(db->db, db->txn, &k, 0);
	return r == 0 || r == DB_NOTFOUND ? 0 : db_error(db, r, "delete", e);
}

int
directory_db_commit(struct directory_db *db, struct err *e)
{
	DB_TXN *txn = db->txn;
	struct err late;
	int r;

	assert(txn != NULL);
	if (directory_db_failed(db)) {
		directory_db_abort(db);
		return failed_already(e);
	}
	/* The same sync makes both durable. */
	r = put_mark(db);
	if (r != 0) {
		directory_db_abort(db);
		return db_error(db, r, "log_put", e);
	}
	db->txn = NULL; /* commit frees it, whatever it returns */
	r = txn->commit(txn, 0);
	if (r != 0)
		return db_error(db, r, "commit", e);
	env_log_place_of(db->env, &db->durable);
	if (++db->commits >= CHECKPOINT_COMMITS && checkpoint(db, &late) != 0)
		log_event(LOG_WARN, NO_SESSION, "directory-checkpoint", LOG_ERR(&late), LOG_END);
	return 0;
}

void
directory_db_abort(struct directory_db *db)
{
	DB_TXN *txn = db->txn;
	int r;

	db->txn = NULL;
	if (txn != NULL && (r = txn->abort(txn)) != 0)
		(void)db_error(db, r, "abort", NULL);
}
