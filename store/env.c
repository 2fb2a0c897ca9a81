/*
 * Why no lock subsystem and one process: with several, one that is killed leaves
 * the others blocked for ever (failchk hung in 18 of 20 trials); with one and
 * recovery at open nothing acknowledged was lost in any.
 * Why the log is not removed by Berkeley DB itself: the base copy needs every log file
 * since its beginning, and only this side knows where that is.
 *
 * The redo record of a transaction is put into the log right before its
 * commit record, so that both reach the disk with the same sync. A transaction
 * too big for one record writes the others while it runs.
 */
#include "store/env.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/file.h"
#include "store/logfile.h"
#include "common/mutant.h"

#include <assert.h>
#include <db.h>
#include <errno.h>
#include <fcntl.h>
#include <zlib.h>

#define CACHE_BYTES (4u << 20)
/* Its log files are small, because recovery writes zeros over the rest of the last one. */
#define LOG_BUFFER_BYTES (256u << 10)
#define PAGE_BYTES 4096u
#define INDEX_FILE "index.db"
#define SUMMARY_FILE "summary.db"
/* Of Berkeley DB's own records, the one that commits a transaction (its txn_regop). */
#define LOG_COMMIT_TYPE 10u
#define FILE_MODE 0600
/* Of a database's first page, in the machine's byte order. */
#define META_BYTES 72u
#define META_MAGIC_AT 12
#define META_PAGE_BYTES_AT 20
#define META_LAST_PAGE_AT 32
#define META_MAGIC 0x053162u
#define SUMMARY_VALUE_BYTES_MAX (STORE_SUMMARY_BYTES_MAX + FORMAT_HEADER_BYTES)

struct env {
	char dir[FILE_PATH_BYTES_MAX];
	DB_ENV *db_env;
	DB *index;
	DB *summary;
	DB_TXN *txn;
	uint64_t serial;
	struct buf redo;
	unsigned redo_part;
	struct env_log_place log_end;
	struct redo_durable durable; /* by the last flush */
	uint64_t committed;	     /* the last serial */
	env_change_fn *on_change;
	void *on_change_arg;
	bool unflushed; /* the log has more than was flushed, if only what came to nothing */
	bool damaged;
	bool dead;
	int cause; /* errno of the last call that failed under it; 0: none did */
};

static size_t redo_full_bytes = REDO_FULL_BYTES;

void
env_set_redo_bytes(size_t bytes)
{
	assert(bytes <= REDO_FULL_BYTES);
	redo_full_bytes = bytes;
}

static void
on_db_error(const DB_ENV *db_env, const char *prefix, const char *text)
{
	(void)db_env;
	(void)prefix;
	log_event(LOG_DEBUG, NO_SESSION, "db", LOG_CSTR("text", text), LOG_END);
}

/*
 * Berkeley DB's answer as an error. A full disk makes it panic, too: what fails
 * after a call that failed is put down to that call, and not taken for damage.
 */
static int
fail(struct env *env, int r, const char *what, struct err *e)
{
	struct env nowhere = {.cause = 0};
	int error = file_error();

	env = env != NULL ? env : &nowhere;
	if (error != 0)
		env->cause = error;
	else if (r == ENOSPC || r == EDQUOT || r == ENOMEM || r == EMFILE || r == ENFILE)
		error = env->cause = r;
	else if (r == DB_RUNRECOVERY)
		error = env->cause;
	env->dead |= r == DB_RUNRECOVERY;
	if (file_lost())
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "%s: a sync or a read of the log failed", what);
	if (error != 0)
		return err_sys(e, error, what);
	env->damaged = true;
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "%s: %s", what, db_strerror(r));
}

static DBT
dbt_of(struct slice s)
{
	DBT t;

	memset(&t, 0, sizeof t);
	t.data = (void *)(uintptr_t)s.p;
	t.size = (u_int32_t)s.n;
	return t;
}

static DBT
dbt_room(void *p, size_t n)
{
	DBT t;

	memset(&t, 0, sizeof t);
	t.data = p;
	t.ulen = (u_int32_t)n;
	t.flags = DB_DBT_USERMEM;
	return t;
}

/* ---- open and close ---- */

static int
open_db_env(struct env *env, u_int32_t flags, struct err *e)
{
	int r = db_env_create(&env->db_env, 0);

	if (r != 0)
		return fail(NULL, r, "db_env_create", e);
	env->db_env->set_errcall(env->db_env, on_db_error);
	if ((r = env->db_env->set_cachesize(env->db_env, 0, CACHE_BYTES, 1)) != 0 ||
	    (r = env->db_env->set_lg_bsize(env->db_env, LOG_BUFFER_BYTES)) != 0 ||
	    (r = env->db_env->set_lg_max(env->db_env, file_log_bytes())) != 0 ||
	    (r = env->db_env->set_flags(env->db_env, DB_TXN_NOSYNC, 1)) != 0 ||
	    (r = env->db_env->open(env->db_env, env->dir, flags, FILE_MODE)) != 0)
		return fail(env, r, "open of the environment", e);
	return 0;
}

static int
open_db(struct env *env, const char *name, bool create, DB **db_r, struct err *e)
{
	u_int32_t flags = DB_AUTO_COMMIT | (create ? (u_int32_t)DB_CREATE : 0);
	int r = db_create(db_r, env->db_env, 0);

	if (r != 0)
		return fail(NULL, r, "db_create", e);
	if ((r = (*db_r)->set_pagesize(*db_r, PAGE_BYTES)) != 0 ||
	    (!MUTANT(ENV_PAGE_SUM) && (r = (*db_r)->set_flags(*db_r, DB_CHKSUM)) != 0) ||
	    (r = (*db_r)->open(*db_r, NULL, name, NULL, DB_BTREE, flags, FILE_MODE)) != 0)
		return fail(env, r, "open of a database", e);
	return 0;
}

void
env_log_place_of(DB_ENV *db_env, struct env_log_place *place_r)
{
	DB_LOG_STAT *stat;

	if (db_env->log_stat(db_env, &stat, 0) != 0)
		return;
	*place_r = (struct env_log_place){stat->st_cur_file, stat->st_cur_offset};
	free(stat);
}

static int
write_mark(DB_ENV *db_env, struct buf *b, const struct redo_durable *durable, const struct redo_pages *pages)
{
	DB_LSN lsn;

	redo_mark(b, durable, pages);
	DBT record = dbt_of(buf_slice(b));

	return db_env->log_put(db_env, &lsn, &record, 0);
}

int
env_log_mark(DB_ENV *db_env, struct env_log_place durable)
{
	const struct redo_durable known = {0, durable.file, durable.offset};
	struct buf b;

	buf_init(&b, REDO_BYTES_MAX);
	int r = write_mark(db_env, &b, &known, &(struct redo_pages){0, 0});

	buf_fini(&b);
	return r;
}

int
env_log_check(const char *dir, struct redo_pages *pages_r, struct err *e)
{
	struct logfile_look look = {.damaged = false};
	int failed = logfile_look(dir, true, &look, e);

	if (pages_r != NULL)
		*pages_r = look.pages;
	if (failed < 0)
		return -1;
	if (!look.damaged)
		return 0;
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the log is damaged: file %u at %u", look.place.file,
	    look.place.offset);
}

static uint32_t
meta_at(const uint8_t *meta, unsigned at)
{
	uint32_t v;

	memcpy(&v, meta + at, sizeof v);
	return v;
}

/* Has it that many pages? 1, 0 or -1. */
static int
has_pages(int fd, uint32_t pages, struct err *e)
{
	uint8_t octet;

	return pages == 0 ? 1 : (int)file_read(fd, (uint64_t)pages * PAGE_BYTES - 1, &octet, 1, e);
}

/* The pages that a database's first one tells of; 0: it tells nothing, and is Berkeley DB's to refuse. -1: it cannot be read. */
static int
told_pages(int fd, uint32_t *pages_r, struct err *e)
{
	uint8_t meta[META_BYTES];
	int64_t n = file_read(fd, 0, meta, sizeof meta, e);

	*pages_r = 0;
	if (n == META_BYTES && meta_at(meta, META_MAGIC_AT) == META_MAGIC && meta_at(meta, META_PAGE_BYTES_AT) == PAGE_BYTES &&
	    meta_at(meta, META_LAST_PAGE_AT) < UINT32_MAX)
		*pages_r = meta_at(meta, META_LAST_PAGE_AT) + 1;
	return n < 0 ? -1 : 0;
}

/* How many pages has a database whose pages were all written? 0: that could not be told. */
static uint32_t
count_pages(const char *dir, const char *name)
{
	char path[FILE_PATH_BYTES_MAX];
	uint32_t pages;

	file_path(path, dir, name);
	int fd = file_open(path, O_RDONLY | O_NOFOLLOW, NULL);

	if (fd < 0)
		return 0;
	if (told_pages(fd, &pages, NULL) < 0 || has_pages(fd, pages, NULL) != 1)
		pages = 0;
	(void)file_close(fd, NULL);
	return pages;
}

/* Has a database a hole, among the pages that it tells of? Recovery leaves none that a power cut made. 1, 0 or -1. */
static int
has_hole(const char *dir, const char *name, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	uint8_t page[PAGE_BYTES];
	uint32_t pages, i;
	int64_t n = PAGE_BYTES;
	bool found = false;

	file_path(path, dir, name);
	int fd = file_open(path, O_RDONLY | O_NOFOLLOW, e);

	if (fd < 0)
		return -1;
	if (told_pages(fd, &pages, e) < 0)
		n = -1;
	for (i = 0; n == PAGE_BYTES && i < pages && !found; i++) {
		n = file_read(fd, (uint64_t)i * PAGE_BYTES, page, sizeof page, e);
		found = n == PAGE_BYTES && file_is_hole(page, sizeof page);
	}
	(void)file_close(fd, NULL);
	return n < 0 ? -1 : found;
}

/* Has a database fewer pages than were on the disk, and than it says itself? (Berkeley DB truncates it when its last pages become
 * free.) One that is not there has none, and is not cut. */
static int
look_at_pages(const char *dir, const char *name, uint32_t pages, enum env_cut *cut_r, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	enum env_cut if_short = pages != 0 ? ENV_CUT : ENV_MAYBE_CUT;

	file_path(path, dir, name);
	int exists = file_exists(path, e);

	*cut_r = ENV_WHOLE;
	if (exists <= 0)
		return exists;
	int fd = file_open(path, O_RDONLY | O_NOFOLLOW, e);

	if (fd < 0)
		return -1;
	uint32_t told;
	int has = told_pages(fd, &told, e);

	if (has == 0)
		has = has_pages(fd, pages == 0 || (told != 0 && told < pages) ? told : pages, e);
	(void)file_close(fd, NULL);
	if (has == 0)
		*cut_r = if_short;
	return has < 0 ? -1 : 0;
}

int
env_look_at_index(const char *dir, const struct redo_pages *pages, enum env_cut *cut_r, struct err *e)
{
	return look_at_pages(dir, INDEX_FILE, pages->index, cut_r, e);
}

/* They can be derived: better none than such as recovery completes with pages of nothing. */
static int
drop_cut_summary(const char *dir, const struct redo_pages *pages, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	enum env_cut cut;

	if (look_at_pages(dir, SUMMARY_FILE, pages->summary, &cut, e) < 0)
		return -1;
	file_path(path, dir, SUMMARY_FILE);
	return cut == ENV_WHOLE ? 0 : file_unlink(path, e);
}

/* What is on the disk right after a checkpoint, as recovery ends with one, too. */
static int
mark_pages(struct env *env, struct err *e)
{
	const struct redo_pages pages = {count_pages(env->dir, INDEX_FILE), count_pages(env->dir, SUMMARY_FILE)};
	int r = write_mark(env->db_env, &env->redo, &env->durable, &pages);

	env->unflushed = true;
	return r == 0 ? 0 : fail(env, r, "a mark", e);
}

/* Recovery takes a hole for a page that it has to make. One that it did not make was lost, and a search would never end there. */
static int
refuse_hole(struct env *env, struct err *e)
{
	int found;

	if (!file_hole_met() || MUTANT(ENV_HOLE))
		return 0;
	found = has_hole(env->dir, INDEX_FILE, e);
	if (found == 0)
		found = has_hole(env->dir, SUMMARY_FILE, e);
	return found > 0 ? env_refuse(env, "a page that is a hole", e) : found;
}

int
env_open(const char *dir, bool create, const struct redo_pages *pages, struct env **env_r, struct err *e)
{
	u_int32_t flags = DB_PRIVATE | DB_INIT_LOG | DB_INIT_MPOOL | DB_INIT_TXN | DB_CREATE | DB_RECOVER;
	struct env *env = MEM_NEW(struct env);

	*env_r = NULL;
	assert(strlen(dir) < sizeof env->dir);
	memcpy(env->dir, dir, strlen(dir));
	buf_init(&env->redo, REDO_BYTES_MAX);
	file_error_reset();
	file_pages_written(0);
	if (drop_cut_summary(dir, pages, e) < 0 || open_db_env(env, flags, e) < 0 || open_db(env, INDEX_FILE, create, &env->index, e) < 0 ||
	    open_db(env, SUMMARY_FILE, true, &env->summary, e) < 0) {
		env_close(&env);
		return -1;
	}
	file_pages_written(PAGE_BYTES);
	if (refuse_hole(env, e) < 0) {
		env_close(&env);
		return -1;
	}
	/* Durable with the first transaction; until then the log tells nothing of how many there are. */
	if (mark_pages(env, e) < 0) {
		env_close(&env);
		return -1;
	}
	env_log_place_of(env->db_env, &env->log_end);
	*env_r = env;
	return 0;
}

/*
 * Closing only releases: what was flushed is durable without it, and an
 * environment that panicked says nothing of use any more.
 */
void
env_close(struct env **env)
{
	struct env *v = *env;

	if (v == NULL)
		return;
	env_abort(v);
	if (v->index != NULL)
		(void)v->index->close(v->index, DB_NOSYNC);
	if (v->summary != NULL)
		(void)v->summary->close(v->summary, DB_NOSYNC);
	if (v->db_env != NULL)
		(void)v->db_env->close(v->db_env, 0);
	buf_fini(&v->redo);
	MEM_FREE(env);
}

bool
env_damaged(const struct env *env)
{
	return env->damaged;
}

bool
env_dead(const struct env *env)
{
	return env->dead || env->damaged;
}

int
env_refuse(struct env *env, const char *what, struct err *e)
{
	env->damaged = true;
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "a damaged record: %s", what);
}

/* ---- transactions ---- */

int
env_begin(struct env *env, uint64_t serial, struct err *e)
{
	assert(env->txn == NULL);
	file_error_reset();
	int r = env->db_env->txn_begin(env->db_env, NULL, &env->txn, 0);

	if (r != 0)
		return fail(env, r, "begin", e);
	env->serial = serial;
	env->redo_part = 0;
	redo_begin(&env->redo, serial, 0, &env->durable);
	return 0;
}

static int
write_redo(struct env *env, bool last, struct err *e)
{
	DB_LSN lsn;
	DBT record;
	int r;

	if (!redo_end(&env->redo, last))
		return err_set(e, ERR_BUG, ERR_CODE_TOO_BIG, "internal error", "a redo record passed its maximum");
	record = dbt_of(buf_slice(&env->redo));
	r = env->db_env->log_put(env->db_env, &lsn, &record, 0);
	if (r != 0)
		return fail(env, r, "log_put", e);
	env->log_end = (struct env_log_place){lsn.file, lsn.offset};
	env->unflushed = true;
	if (!last)
		redo_begin(&env->redo, env->serial, ++env->redo_part, &env->durable);
	return 0;
}

static int
redo_spill(struct env *env, struct err *e)
{
	return env->redo.n > redo_full_bytes ? write_redo(env, false, e) : 0;
}

/* All that was put into the log so far is on the disk. */
static void
note_durable(struct env *env)
{
	struct env_log_place end = {env->durable.file, env->durable.offset};

	env_log_place_of(env->db_env, &end);
	env->durable = (struct redo_durable){env->committed, end.file, end.offset};
}

int
env_commit(struct env *env, struct err *e)
{
	/* A transaction on summaries alone has nothing to redo. */
	bool changed = env->redo_part > 0 || env->redo.n > REDO_HEADER_BYTES;

	assert(env->txn != NULL);
	if (changed && !MUTANT(ENV_REDO_ORDER) && write_redo(env, true, e) < 0) {
		env_abort(env);
		return -1;
	}
	DB_TXN *txn = env->txn;

	env->txn = NULL;
	int r = txn->commit(txn, DB_TXN_NOSYNC);

	if (r != 0) {
		/* The redo record may be in the log while the transaction is not: only a new process can tell. */
		fail(env, r, "commit", e);
		env->dead = true;
		return -1;
	}
	env->unflushed = true;
	if (changed)
		env->committed = env->serial;
	return changed && MUTANT(ENV_REDO_ORDER) ? write_redo(env, true, e) : 0;
}

void
env_abort(struct env *env)
{
	DB_TXN *txn = env->txn;

	env->txn = NULL;
	if (txn != NULL && txn->abort(txn) != 0)
		env->dead = true;
}

bool
env_in_transaction(const struct env *env)
{
	return env->txn != NULL;
}

int
env_flush(struct env *env, struct err *e)
{
	if (!env->unflushed)
		return 0;
	file_error_reset();
	int r = MUTANT(ENV_FLUSH) ? 0 : env->db_env->log_flush(env->db_env, NULL);

	if (r != 0)
		return fail(env, r, "log_flush", e);
	env->unflushed = false;
	note_durable(env);
	return 0;
}

void
env_recovered(struct env *env, uint64_t serial)
{
	env->committed = serial;
}

int
env_checkpoint(struct env *env, struct err *e)
{
	assert(env->txn == NULL);
	if (!MUTANT(ENV_CHECKPOINT_FLUSH) && env_flush(env, e) < 0)
		return -1;
	file_error_reset();
	int r = env->db_env->txn_checkpoint(env->db_env, 0, 0, 0);

	if (r != 0)
		return fail(env, r, "checkpoint", e);
	/* The next transaction tells that the ones before it were durable; behind the last one a mark does. */
	if (mark_pages(env, e) < 0)
		return -1;
	return MUTANT(ENV_MARK_FLUSH) ? 0 : env_flush(env, e);
}

struct env_log_place
env_log_end(const struct env *env)
{
	return env->log_end;
}

uint64_t
env_log_since(const struct env *env, struct env_log_place place)
{
	uint64_t end = (uint64_t)env->log_end.file * file_log_bytes() + env->log_end.offset;
	uint64_t start = (uint64_t)place.file * file_log_bytes() + place.offset;

	return end > start ? end - start : 0;
}

/* "log.0000000012" -> 12; 0 for any other name. */
static uint32_t
log_number(const char *name)
{
	uint64_t number;
	struct slice s = slice_str(name);

	if (s.n != 14 || !slice_starts(s, SLICE("log.")) || !slice_u64(slice_sub(s, 4, s.n), UINT32_MAX, &number))
		return 0;
	return (uint32_t)number;
}

static int
trim_one(void *arg, const char *path, const char *name, struct err *e)
{
	const uint32_t *keep = arg;
	uint32_t number = log_number(name);

	return number != 0 && number < *keep ? file_unlink(path, e) : 0;
}

/* Of those that went before one may have come back in a power cut; Berkeley DB does not name it, since one behind it is missing. */
int
env_log_trim(struct env *env, uint32_t keep, struct err *e)
{
	char **list = NULL;
	uint32_t needed = 0;
	file_error_reset();
	int r = env->db_env->log_archive(env->db_env, &list, 0);

	/* It takes a log that it could not open for none that may go, and the environment is lost all the same. */
	if (r != 0 || file_error() != 0) {
		free(list);
		return fail(env, r, "log_archive", e);
	}
	for (char **name = list; name != NULL && *name != NULL; name++)
		if (log_number(*name) >= needed)
			needed = log_number(*name) + 1;
	free(list);
	if (needed < keep || MUTANT(ENV_TRIM))
		keep = needed;
	return file_each(env->dir, trim_one, &keep, e);
}

/* ---- records ---- */

static int
get(struct env *env, DB *db, struct slice key, size_t bytes_max, struct buf *value, struct err *e)
{
	DBT k = dbt_of(key);
	DBT v;
	int r;

	buf_reset(value);
	for (size_t room = 1024;; room = v.size) {
		uint8_t *to = room <= bytes_max ? buf_room(value, room) : NULL;

		if (to == NULL) {
			env->damaged = true;
			return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "a record of %zu octets", room);
		}
		v = dbt_room(to, room);
		file_error_reset();
		r = db->get(db, env->txn, &k, &v, 0);
		if (r != DB_BUFFER_SMALL)
			break;
	}
	if (r == DB_NOTFOUND)
		return 0;
	if (r != 0)
		return fail(env, r, "get", e);
	buf_added(value, v.size);
	return 1;
}

int
env_get(struct env *env, struct slice key, struct buf *value, struct err *e)
{
	return get(env, env->index, key, FORMAT_VALUE_BYTES_MAX, value, e);
}

void
env_on_change(struct env *env, env_change_fn *fn, void *arg)
{
	env->on_change = fn;
	env->on_change_arg = arg;
}

static void
tell_change(struct env *env, struct slice key)
{
	if (env->on_change != NULL)
		env->on_change(env->on_change_arg, key);
}

int
env_put(struct env *env, struct slice key, struct slice value, struct slice old, struct err *e)
{
	DBT k = dbt_of(key), v = dbt_of(value);

	assert(env->txn != NULL && value.n <= FORMAT_VALUE_BYTES_MAX);
	tell_change(env, key);
	int r = env->index->put(env->index, env->txn, &k, &v, 0);

	if (r != 0)
		return fail(env, r, "put", e);
	if (old.n > 0)
		redo_change(&env->redo, key, old, value);
	else
		redo_put(&env->redo, key, value);
	return redo_spill(env, e);
}

int
env_delete(struct env *env, struct slice key, struct err *e)
{
	DBT k = dbt_of(key);

	assert(env->txn != NULL);
	tell_change(env, key);
	int r = env->index->del(env->index, env->txn, &k, 0);

	if (r == DB_NOTFOUND)
		return 0;
	if (r != 0)
		return fail(env, r, "delete", e);
	redo_delete(&env->redo, key);
	return redo_spill(env, e);
}

/* ---- summaries: value = header and checksum of format.h, then the summary ---- */

int
env_summary_get(struct env *env, uint64_t object, struct buf *value, struct err *e)
{
	struct format_key key = format_key_u64(FORMAT_SUMMARY, object);
	struct cursor payload;
	unsigned count;
	int r = get(env, env->summary, format_key_slice(&key), SUMMARY_VALUE_BYTES_MAX, value, e);

	if (r <= 0)
		return r;
	if (!format_check(format_key_slice(&key), buf_slice(value), &count, &payload)) {
		buf_reset(value);
		return 0;
	}
	buf_drop(value, FORMAT_HEADER_BYTES);
	return 1;
}

int
env_summary_put(struct env *env, uint64_t object, struct slice summary, struct err *e)
{
	struct format_key key = format_key_u64(FORMAT_SUMMARY, object);
	DBT k = dbt_of(format_key_slice(&key)), v;
	struct buf b;
	int r = ENOMEM;

	assert(env->txn != NULL && summary.n <= STORE_SUMMARY_BYTES_MAX);
	buf_init(&b, SUMMARY_VALUE_BYTES_MAX);
	format_begin(&b, FORMAT_SUMMARY, 0);
	buf_put_slice(&b, summary);
	if (format_end(&b, format_key_slice(&key))) {
		v = dbt_of(buf_slice(&b));
		r = env->summary->put(env->summary, env->txn, &k, &v, 0);
	}
	buf_fini(&b);
	return r == 0 ? 0 : fail(env, r, "put of a summary", e);
}

int
env_summary_delete(struct env *env, uint64_t object, struct err *e)
{
	struct format_key key = format_key_u64(FORMAT_SUMMARY, object);
	DBT k = dbt_of(format_key_slice(&key));

	assert(env->txn != NULL);
	int r = env->summary->del(env->summary, env->txn, &k, 0);

	return r == 0 || r == DB_NOTFOUND ? 0 : fail(env, r, "delete of a summary", e);
}

/* ---- cursors ---- */

int
env_cursor_open(struct env *env, struct env_cursor *c, struct err *e)
{
	DBC *dbc;
	int r = env->index->cursor(env->index, env->txn, &dbc, 0);

	*c = (struct env_cursor){.env = env};
	if (r != 0)
		return fail(env, r, "cursor", e);
	c->dbc = dbc;
	c->value_room = mem_resize(NULL, FORMAT_VALUE_BYTES_MAX, 1);
	return 0;
}

void
env_cursor_close(struct env_cursor *c)
{
	DBC *dbc = c->dbc;

	if (dbc != NULL && dbc->close(dbc) != 0)
		c->env->dead = true;
	c->dbc = NULL;
	MEM_FREE(&c->value_room);
}

static int
cursor_get(struct env_cursor *c, DBT *k, u_int32_t flag, struct err *e)
{
	DBC *dbc = c->dbc;
	DBT v = dbt_room(c->value_room, FORMAT_VALUE_BYTES_MAX);

	file_error_reset();
	int r = dbc->get(dbc, k, &v, flag);

	c->key = c->value = slice_of(NULL, 0);
	if (r == DB_NOTFOUND)
		return 0;
	if (r != 0)
		return fail(c->env, r, "cursor get", e);
	/* The least key above any is that with a zero octet behind it, which has room. */
	if (k->size == 0 || k->size >= FORMAT_KEY_BYTES_MAX)
		return env_refuse(c->env, "a key of a length that none has", e);
	c->key = slice_of(k->data, k->size);
	c->value = slice_of(v.data, v.size);
	return 1;
}

int
env_cursor_seek(struct env_cursor *c, struct slice key, struct err *e)
{
	DBT k = dbt_room(c->key_room, sizeof c->key_room);

	assert(key.n <= sizeof c->key_room);
	if (key.n > 0)
		memmove(c->key_room, key.p, key.n);
	k.size = (u_int32_t)key.n;
	return cursor_get(c, &k, DB_SET_RANGE, e);
}

int
env_cursor_next(struct env_cursor *c, struct err *e)
{
	DBT k = dbt_room(c->key_room, sizeof c->key_room);

	return cursor_get(c, &k, DB_NEXT, e);
}

int
env_cursor_prev(struct env_cursor *c, struct err *e)
{
	DBT k = dbt_room(c->key_room, sizeof c->key_room);

	return cursor_get(c, &k, DB_PREV, e);
}

int
env_cursor_last(struct env_cursor *c, struct err *e)
{
	DBT k = dbt_room(c->key_room, sizeof c->key_room);

	return cursor_get(c, &k, DB_LAST, e);
}

int
env_cursor_put(struct env_cursor *c, struct slice value, struct err *e)
{
	struct env *env = c->env;
	DBC *dbc = c->dbc;
	DBT k = dbt_of(c->key), v = dbt_of(value);

	assert(env->txn != NULL && c->key.n > 0);
	tell_change(env, c->key);
	int r = dbc->put(dbc, &k, &v, DB_CURRENT);

	if (r != 0)
		return fail(env, r, "cursor put", e);
	redo_change(&env->redo, c->key, c->value, value);
	c->value = slice_of(NULL, 0);
	return redo_spill(env, e);
}

int
env_cursor_delete(struct env_cursor *c, struct err *e)
{
	struct env *env = c->env;
	DBC *dbc = c->dbc;

	assert(env->txn != NULL && c->key.n > 0);
	tell_change(env, c->key);
	int r = dbc->del(dbc, 0);

	if (r != 0)
		return fail(env, r, "cursor delete", e);
	redo_delete(&env->redo, c->key);
	return redo_spill(env, e);
}

#define SCAN_BYTES (256u * 1024)
_Static_assert(SCAN_BYTES > FORMAT_VALUE_BYTES_MAX + FORMAT_KEY_BYTES_MAX + PAGE_BYTES, "a scan takes the longest record");

/* Gives what one bulk read brought; false when fn had enough. */
static bool
give_bulk(DBT *bulk, env_scan_fn *fn, void *arg)
{
	void *at, *key, *value;
	size_t key_n, value_n;

	DB_MULTIPLE_INIT(at, bulk);
	for (;;) {
		DB_MULTIPLE_KEY_NEXT(at, bulk, key, key_n, value, value_n);
		if (at == NULL)
			return true;
		if (!fn(arg, slice_of(key, key_n), slice_of(value, value_n)))
			return false;
	}
}

int
env_scan(struct env *env, struct slice from, env_scan_fn *fn, void *arg, struct err *e)
{
	uint8_t key_room[FORMAT_KEY_BYTES_MAX];
	uint8_t *room = mem_resize(NULL, SCAN_BYTES, 1);
	DBT k = dbt_room(key_room, sizeof key_room), bulk = dbt_room(room, SCAN_BYTES);
	u_int32_t move = DB_SET_RANGE;
	DBC *dbc;
	int r;

	assert(from.n > 0 && from.n <= sizeof key_room);
	memcpy(key_room, from.p, from.n);
	k.size = (u_int32_t)from.n;
	file_error_reset();
	r = env->index->cursor(env->index, env->txn, &dbc, DB_CURSOR_BULK);
	if (r == 0) {
		do {
			r = dbc->get(dbc, &k, &bulk, move | DB_MULTIPLE_KEY);
			move = DB_NEXT;
		} while (r == 0 && give_bulk(&bulk, fn, arg));
		if (dbc->close(dbc) != 0)
			env->damaged = true;
	}
	free(room);
	return r == 0 || r == DB_NOTFOUND ? 0 : fail(env, r, "scan", e);
}

/* ---- reading what a dead environment left ---- */

/* Is the log's next record the commit of the transaction whose last redo record the cursor is at? */
static bool
commit_follows(DB_LOGC *logc)
{
	DB_LSN lsn;
	DBT next;
	u_int32_t type = 0;

	memset(&next, 0, sizeof next);
	if (logc->get(logc, &lsn, &next, DB_NEXT) == 0 && next.size >= sizeof type)
		memcpy(&type, next.data, sizeof type);
	return type == LOG_COMMIT_TYPE;
}

int
env_log_serial(struct env *env, uint64_t *serial_r, struct err *e)
{
	struct redo redo = {.last = false};
	DB_LOGC *logc = NULL;
	DB_LSN lsn;
	DBT record;
	int r;

	*serial_r = 0;
	memset(&record, 0, sizeof record);
	file_error_reset();
	r = env->db_env->log_cursor(env->db_env, &logc, 0);
	if (r == 0)
		for (r = logc->get(logc, &lsn, &record, DB_LAST); r == 0; r = logc->get(logc, &lsn, &record, DB_PREV))
			if (redo_open(slice_of(record.data, record.size), &redo) && redo.last)
				break;
	/* The end of one that was never committed: the one before it was, since serials leave no gap. */
	if (r == 0 && redo.serial > 0)
		*serial_r = commit_follows(logc) ? redo.serial : redo.serial - 1;
	if (logc != NULL)
		(void)logc->close(logc, 0);
	return r == 0 || r == DB_NOTFOUND ? 0 : fail(env, r, "reading the log's end", e);
}

/* The cursor's keys and values that are sound; false when fn had enough. */
static bool
give_summaries(DBC *dbc, env_summary_fn *fn, void *arg)
{
	struct cursor payload, c;
	unsigned count;
	DBT k, v;

	memset(&k, 0, sizeof k);
	memset(&v, 0, sizeof v);
	while (dbc->get(dbc, &k, &v, DB_NEXT) == 0) {
		struct slice key = slice_of(k.data, k.size), value = slice_of(v.data, v.size);

		c = cursor_of(slice_sub(key, 1, key.n));
		uint64_t object = cursor_u64(&c);

		if (!cursor_done(&c) || !format_check(key, value, &count, &payload))
			continue;
		if (!fn(arg, object, slice_sub(value, FORMAT_HEADER_BYTES, value.n)))
			return false;
	}
	return true;
}

void
env_summary_read(const char *dir, env_summary_fn *fn, void *arg)
{
	struct env *env = MEM_NEW(struct env);
	struct logfile_look look = {.damaged = false};
	enum env_cut cut;
	DBC *dbc = NULL;

	assert(strlen(dir) < sizeof env->dir);
	memcpy(env->dir, dir, strlen(dir));
	file_error_reset();
	file_pages_written(0);
	/* Berkeley DB believes the length that the first record of a damaged log says. */
	if (logfile_look(dir, true, &look, NULL) == 0 && !look.damaged &&
	    look_at_pages(dir, SUMMARY_FILE, look.pages.summary, &cut, NULL) == 0 && cut == ENV_WHOLE &&
	    open_db_env(env, DB_PRIVATE | DB_INIT_LOG | DB_INIT_MPOOL | DB_INIT_TXN | DB_CREATE | DB_RECOVER, NULL) == 0 &&
	    open_db(env, SUMMARY_FILE, false, &env->summary, NULL) == 0 &&
	    (!file_hole_met() || has_hole(dir, SUMMARY_FILE, NULL) == 0) && env->summary->cursor(env->summary, NULL, &dbc, 0) == 0) {
		file_pages_written(PAGE_BYTES);
		(void)give_summaries(dbc, fn, arg);
		(void)dbc->close(dbc);
	}
	env_close(&env);
}
