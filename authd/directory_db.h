/*
 * directory_db: the directory's keys and values, kept in one Berkeley DB
 * environment that exactly this process has open (docs/architecture.md). A
 * commit is durable when it returns. Calls block for disk reads that miss the
 * cache and for one sync per commit: both are rare and short here.
 *
 * Any failure below, once open, means that memory can no longer be believed to
 * match the disk: db->failed is set, everything after fails as well, and the process
 * should end, so that its successor recovers.
 */
#ifndef AUTHD_DIRECTORY_DB_H
#define AUTHD_DIRECTORY_DB_H

#include "common/buf.h"
#include "common/err.h"

struct directory_db;

/*
 * Opens (makes, when there is none) the environment in the directory path, which exists. Recovers after a crash; when the
 * database is damaged it is rebuilt from the base copy and the log, and *rebuilt_r is true. -1 and e otherwise.
 */
int directory_db_open(const char *path, struct directory_db **db_r, bool *rebuilt_r, struct err *e)
    __attribute__((warn_unused_result));
/* Closes after a checkpoint. NULL is fine. */
void directory_db_close(struct directory_db **db);
/* Was its log found damaged when it was opened? Then changes since the last checkpoint may be missing. */
bool directory_db_log_damaged(const struct directory_db *db);
/* Has anything failed since it was opened? */
bool directory_db_failed(const struct directory_db *db);

/* 1 and the value in value_r (reset first), 0 when there is none, -1 and e. Inside a transaction
 * its writes are seen. */
int directory_db_get(struct directory_db *db, struct slice key, struct buf *value_r, struct err *e)
    __attribute__((warn_unused_result));

/*
 * Calls visit for each key that starts with prefix and is greater than after (empty: all), in
 * memcmp order, until it returns false or the keys end. The slices are valid during the call; visit
 * must not change the database.
 */
typedef bool directory_db_visit(struct slice key, struct slice value, void *arg);
int directory_db_scan(struct directory_db *db, struct slice prefix, struct slice after,
    directory_db_visit *visit, void *arg, struct err *e) __attribute__((warn_unused_result));

/* One transaction at a time: begin, puts and deletes, then commit or abort. */
int directory_db_begin(struct directory_db *db, struct err *e) __attribute__((warn_unused_result));
int directory_db_put(struct directory_db *db, struct slice key, struct slice value, struct err *e)
    __attribute__((warn_unused_result));
/* A key that is not there is no error. */
int directory_db_delete(struct directory_db *db, struct slice key, struct err *e)
    __attribute__((warn_unused_result));
/* 0: durable. -1: nothing of it will be seen. */
int directory_db_commit(struct directory_db *db, struct err *e) __attribute__((warn_unused_result));
void directory_db_abort(struct directory_db *db);

#endif
