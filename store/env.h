/*
 * env: the Berkeley DB environment of one account, used by one process with
 * one transaction at a time: private, without a lock subsystem, with recovery
 * at open, DB_CHKSUM on each database, commits that only reach the log's
 * buffer, and one env_flush() that makes all of them durable (group commit).
 *
 * Two databases: "index" (store/format.h), which cannot be derived, and
 * "summary", which can. Each transaction on the index also writes redo records (store/redo.h).
 *
 * Functions return 0 or -1 with *e, look-ups 1 (found), 0 (not) or -1. After
 * env_dead() or file_lost() nothing but env_close() helps. All of it blocks on the disk.
 */
#ifndef STORE_ENV_H
#define STORE_ENV_H

#include "common/err.h"
#include "store/format.h"
#include "store/redo.h"

struct env;

/*
 * Before it is opened: was the index cut short? Recovery would complete it with pages of nothing, on which Berkeley DB may walk in
 * circles. pages: what the log tells of the last checkpoint (store/logfile.h). Pages that came behind it a killed process may not have
 * written, but the log has all of them. When the log tells nothing, an index that is shorter than its own first page says may be cut.
 */
enum env_cut {
	ENV_WHOLE,
	ENV_MAYBE_CUT,
	ENV_CUT,
};
int env_look_at_index(const char *dir, const struct redo_pages *pages, enum env_cut *cut_r, struct err *e)
    __attribute__((warn_unused_result));
/* Opens, with recovery, the environment in directory dir; creates the index that is not there if `create`, the summaries always, and
 * anew when they were, or may have been, cut short. */
int env_open(const char *dir, bool create, const struct redo_pages *pages, struct env **env_r, struct err *e)
    __attribute__((warn_unused_result));
/* Before that: is the log whole as far as it is known to have been synced (store/logfile.h)? -1 with ERR_CODE_CORRUPT: no, and
 * opening would take the damage for the log's end. pages_r is filled in any case; NULL is fine. */
int env_log_check(const char *dir, struct redo_pages *pages_r, struct err *e) __attribute__((warn_unused_result));
/* A redo record is closed once it is longer than this: REDO_FULL_BYTES, or less where a test wants small transactions of several. */
void env_set_redo_bytes(size_t bytes);
/* Closes without a checkpoint; commits that were not flushed may be lost or not. NULL is fine. */
void env_close(struct env **env);
/* A page or a record was refused: rebuild. */
bool env_damaged(const struct env *env);
/* It is damaged, or panicked, or nobody knows what it holds, for example because the disk was full in the middle of a
 * commit: only another process that recovers it can tell. */
bool env_dead(const struct env *env);
/* The caller found a record that is not what it should be. Returns -1 with e. */
int env_refuse(struct env *env, const char *what, struct err *e);

/* The transaction; serial is one more than that of the last one that changed the index. */
int env_begin(struct env *env, uint64_t serial, struct err *e) __attribute__((warn_unused_result));
/* Visible at once, durable after the next env_flush(). On -1 the transaction was undone, or env_dead() / file_lost(). */
int env_commit(struct env *env, struct err *e) __attribute__((warn_unused_result));
void env_abort(struct env *env);
bool env_in_transaction(const struct env *env);

/* Makes all commits durable, and what recovery and transactions that were undone put into the log: one sync of it, none when
 * nothing came to it. So env_log_end() is a place that was synced. */
int env_flush(struct env *env, struct err *e) __attribute__((warn_unused_result));
/* It was opened, and holds the transactions up to serial: the first env_flush() makes sure of them, too. */
void env_recovered(struct env *env, uint64_t serial);
/* Writes changed pages and shortens the next recovery, and tells the log how many there are; implies env_flush(). */
int env_checkpoint(struct env *env, struct err *e) __attribute__((warn_unused_result));
/* The end of the log, and about how many octets lie between a place and it. */
struct env_log_place {
	uint32_t file;
	uint32_t offset;
};
struct env_log_place env_log_end(const struct env *env);
uint64_t env_log_since(const struct env *env, struct env_log_place place);
/* For who has an environment of his own: the end of its log (unchanged when that is not known), and a record in it that tells
 * env_log_check() that it was durable up to a place. 0, or Berkeley DB's error. */
struct __db_env;
void env_log_place_of(struct __db_env *db_env, struct env_log_place *place_r);
int env_log_mark(struct __db_env *db_env, struct env_log_place durable) __attribute__((warn_unused_result));
/* The serial of the last transaction that the log has whole: what the index holds is not older, or it is damaged. 0: none. */
int env_log_serial(struct env *env, uint64_t *serial_r, struct err *e) __attribute__((warn_unused_result));
/* Removes the log files before number keep that recovery does not need either. */
int env_log_trim(struct env *env, uint32_t keep, struct err *e);

/* value is reset first. */
int env_get(struct env *env, struct slice key, struct buf *value, struct err *e) __attribute__((warn_unused_result));
/* old: the value that is there now, when known (it makes the redo record short), else empty. */
int env_put(struct env *env, struct slice key, struct slice value, struct slice old, struct err *e)
    __attribute__((warn_unused_result));
/* A key that is not there counts as deleted. */
int env_delete(struct env *env, struct slice key, struct err *e) __attribute__((warn_unused_result));

/* fn is called with each key of the index that is about to be changed or deleted, inside the transaction; NULL ends it. */
typedef void env_change_fn(void *arg, struct slice key);
void env_on_change(struct env *env, env_change_fn *fn, void *arg);

/* The summaries, by number of the object; inside a transaction, without redo. */
int env_summary_get(struct env *env, uint64_t object, struct buf *value, struct err *e)
    __attribute__((warn_unused_result));
int env_summary_put(struct env *env, uint64_t object, struct slice value, struct err *e)
    __attribute__((warn_unused_result));
int env_summary_delete(struct env *env, uint64_t object, struct err *e) __attribute__((warn_unused_result));

/* A walk over the index in the order of keys. Must be closed before the transaction ends. */
struct env_cursor {
	struct env *env;
	void *dbc;
	struct slice key; /* valid until the next call on the cursor */
	struct slice value;
	uint8_t key_room[FORMAT_KEY_BYTES_MAX];
	uint8_t *value_room;
};
int env_cursor_open(struct env *env, struct env_cursor *c, struct err *e) __attribute__((warn_unused_result));
void env_cursor_close(struct env_cursor *c);
/* To the first key >= key; to the next; to the one before. At the end (0) the cursor is nowhere: seek again. */
int env_cursor_seek(struct env_cursor *c, struct slice key, struct err *e) __attribute__((warn_unused_result));
int env_cursor_next(struct env_cursor *c, struct err *e) __attribute__((warn_unused_result));
int env_cursor_prev(struct env_cursor *c, struct err *e) __attribute__((warn_unused_result));
int env_cursor_last(struct env_cursor *c, struct err *e) __attribute__((warn_unused_result));
/* Replaces the value where the cursor is. c->value becomes invalid. */
int env_cursor_put(struct env_cursor *c, struct slice value, struct err *e) __attribute__((warn_unused_result));
int env_cursor_delete(struct env_cursor *c, struct err *e) __attribute__((warn_unused_result));

/*
 * Many records at a time, for reading alone: fn gets each key and value from the first key >= from on, in order, until it gives
 * false. The slices are valid until it returns; it asks nothing of env.
 */
typedef bool env_scan_fn(void *arg, struct slice key, struct slice value);
int env_scan(struct env *env, struct slice from, env_scan_fn *fn, void *arg, struct err *e) __attribute__((warn_unused_result));

/* Recovers an environment whose index is gone, and gives its summaries; ends quietly at the first damage. */
typedef bool env_summary_fn(void *arg, uint64_t object, struct slice value);
void env_summary_read(const char *dir, env_summary_fn *fn, void *arg);

#endif
