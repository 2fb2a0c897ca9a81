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
 * Berkeley DB's file calls go through store/file.h, which syncs the directories
 * that it does not, and lets it have the reserve when the disk is full. A base
 * copy does not get the reserve: without room for it the log files stay.
 */
#include "authd/directory_db.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/file.h"

#include <assert.h>
#include <db.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define DB_NAME "directory.db"
#define BASE_DIR "base"
#define MARK_NAME "rebuilding"
#define CACHE_BYTES (8u << 20)
/* Commits between two checkpoints: bounds the time of a recovery. */
#define CHECKPOINT_COMMITS 2000
#define VALUE_BYTES_MAX (1u << 20)
#define COPY_BYTES 65536
#define KEY_BYTES_MAX 512

struct directory_db {
	char path[PATH_MAX];
	DB_ENV *env;
	DB *db;
	DB_TXN *txn;
	unsigned commits; /* since the last checkpoint */
	bool failed;
};

/* Syncs the directory that holds path. */
static int
parent_sync(const char *path)
{
	char dir[PATH_MAX];
	size_t at = slice_rindex(slice_str(path), '/');
	int fd, r;

	if (at == strlen(path))
		at = slice_cstr(SLICE("."), dir, sizeof dir) ? 1 : 0;
	else if (!slice_cstr(slice_of(path, at > 0 ? at : 1), dir, sizeof dir))
		return -1;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	r = fsync(fd);
	if (close(fd) != 0)
		r = -1;
	return r;
}

static int
rename_synced(const char *from, const char *to)
{
	return rename(from, to) != 0 || parent_sync(to) != 0 ? -1 : 0;
}

static int
path_of(const struct directory_db *db, const char *name, char out[PATH_MAX], struct err *e)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", db->path, name);

	if (n < 0 || n >= PATH_MAX)
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "path too long", "%s", db->path);
	return 0;
}

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
env_open(struct directory_db *db, uint32_t recover)
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
	int r = env_open(db, recover);

	if (r == 0)
		r = database_open(db);
	if (r == 0)
		r = database_read_all(db);
	if (r != 0)
		handles_close(db);
	return r;
}

static int
fd_copy(int from, int to)
{
	uint8_t block[COPY_BYTES];
	ssize_t n, done;

	while ((n = read(from, block, sizeof block)) != 0) {
		if (n < 0)
			return -1;
		for (ssize_t at = 0; at < n; at += done) {
			done = write(to, block + at, (size_t)(n - at));
			if (done < 0)
				return -1;
		}
	}
	return fsync(to);
}

/* A durable copy of file `from` under the name `to`: both or nothing. */
static int
file_copy(struct directory_db *db, const char *from, const char *to, struct err *e)
{
	char source[PATH_MAX], target[PATH_MAX], fresh[PATH_MAX + 8];
	int in, out, r;

	if (path_of(db, from, source, e) != 0 || path_of(db, to, target, e) != 0)
		return -1;
	(void)snprintf(fresh, sizeof fresh, "%s.new", target);
	in = open(source, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return err_sys(e, errno, from);
	out = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = out < 0 ? -1 : fd_copy(in, out);
	if (out >= 0 && close(out) != 0)
		r = -1;
	(void)close(in);
	if (r != 0 || rename_synced(fresh, target) != 0) {
		err_sys(e, errno, to);
		(void)unlink(fresh);
		return -1;
	}
	return 0;
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
		(void)unlink(*p);
	free(list);
	return 0;
}

/* Checkpoint, base copy, then the old log files go: in this order. */
static int
checkpoint(struct directory_db *db, struct err *e)
{
	int r = db->env->txn_checkpoint(db->env, 0, 0, DB_FORCE);

	assert(db->txn == NULL);
	if (r != 0)
		return db_error(db, r, "txn_checkpoint", e);
	db->commits = 0;
	if (file_copy(db, DB_NAME, BASE_DIR "/" DB_NAME, e) != 0)
		return -1;
	return logs_remove(db, e);
}

static int
dirs_make(struct directory_db *db, struct err *e)
{
	char base[PATH_MAX];

	if (path_of(db, BASE_DIR, base, e) != 0)
		return -1;
	if (mkdir(db->path, 0700) == 0) {
		if (parent_sync(db->path) != 0)
			return err_sys(e, errno, db->path);
	} else if (errno != EEXIST) {
		return err_sys(e, errno, db->path);
	}
	if (mkdir(base, 0700) != 0 && errno != EEXIST)
		return err_sys(e, errno, base);
	return parent_sync(base) != 0 ? err_sys(e, errno, db->path) : 0;
}

static int
mark_make(const char *mark, struct err *e)
{
	int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || close(fd) != 0 || parent_sync(mark) != 0)
		return err_sys(e, errno, mark);
	return 0;
}

/* The damaged file stays beside, for whoever wants to look at it; the one before it goes. */
static int
rebuild(struct directory_db *db, struct err *e)
{
	char file[PATH_MAX], aside[PATH_MAX], base[PATH_MAX], mark[PATH_MAX];
	int r;

	if (path_of(db, DB_NAME, file, e) != 0 || path_of(db, DB_NAME ".damaged", aside, e) != 0 ||
	    path_of(db, BASE_DIR "/" DB_NAME, base, e) != 0 || path_of(db, MARK_NAME, mark, e) != 0)
		return -1;
	if (mark_make(mark, e) != 0)
		return -1;
	if (rename_synced(file, aside) != 0 && errno != ENOENT)
		return err_sys(e, errno, file);
	/* Without a base copy the log still begins at the beginning. */
	if (access(base, F_OK) == 0 && file_copy(db, BASE_DIR "/" DB_NAME, DB_NAME, e) != 0)
		return -1;
	r = handles_open(db, DB_RECOVER_FATAL);
	if (r != 0)
		return db_error(db, r, "rebuild of the directory", e);
	if (checkpoint(db, e) != 0)
		return -1;
	if (unlink(mark) != 0 || parent_sync(mark) != 0)
		return err_sys(e, errno, mark);
	return 0;
}

/* A rebuild was begun and not ended, or the database is gone while its base copy is there. */
static bool
rebuild_is_due(struct directory_db *db)
{
	char file[PATH_MAX], base[PATH_MAX], mark[PATH_MAX];
	struct err e;

	if (path_of(db, DB_NAME, file, &e) != 0 ||
	    path_of(db, BASE_DIR "/" DB_NAME, base, &e) != 0 ||
	    path_of(db, MARK_NAME, mark, &e) != 0)
		return false;
	return access(mark, F_OK) == 0 || (access(base, F_OK) == 0 && access(file, F_OK) != 0);
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
	if (e->code != ERR_CODE_NO_SPACE || db->failed)
		return -1;
	log_event(LOG_WARN, NO_SESSION, "directory-checkpoint", LOG_ERR(e), LOG_END);
	return 0;
}

/* Opens, or rebuilds what does not open for its own damage. */
static int
open_or_rebuild(struct directory_db *db, bool *rebuilt_r, struct err *e)
{
	int r = DB_RUNRECOVERY;

	file_error_reset();
	if (!rebuild_is_due(db))
		r = handles_open(db, DB_RECOVER);
	*rebuilt_r = false;
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
	if (strlen(path) >= FILE_PATH_BYTES_MAX || !slice_cstr(slice_str(path), db->path, sizeof db->path)) {
		MEM_FREE(&db);
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "directory not available", "the path is too long");
	}
	r = dirs_make(db, e);
	if (r == 0)
		file_reserve(path);
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
	if (!db->failed && db->commits > 0 && checkpoint(db, &e) != 0)
		log_event(LOG_WARN, NO_SESSION, "directory-checkpoint", LOG_ERR(&e), LOG_END);
	handles_close(db);
	MEM_FREE(dbp);
}

bool
directory_db_failed(const struct directory_db *db)
{
	return db->failed;
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

	if (db->failed)
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

	if (db->failed)
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
	if (db->failed)
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
	if (db->failed)
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
	if (db->failed)
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
	if (db->failed) {
		directory_db_abort(db);
		return failed_already(e);
	}
	db->txn = NULL; /* commit frees it, whatever it returns */
	r = txn->commit(txn, 0);
	if (r != 0)
		return db_error(db, r, "commit", e);
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
