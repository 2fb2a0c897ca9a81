/*
 * rebuild: makes the index directory of an account: the first one of a new
 * account, or a new one from base copy and log when Berkeley DB refused a page.
 *
 * It is built as "index.new", complete and synced with a base copy of its own,
 * and put in place by renames:
 *   index -> index.old, sync; index.new -> index, sync; and index.old is removed at leisure.
 * So at any moment: "index" is whole; or it is missing while "index.old" and a
 * whole "index.new" are there. "index.new" beside "index" is unfinished.
 */
#ifndef STORE_REBUILD_H
#define STORE_REBUILD_H

#include "store/env.h"

/* Puts the first records of a new account in, in one or more transactions. */
typedef int rebuild_fill_fn(void *arg, struct env *env, struct err *e);

/* Finishes or clears away what an interrupted build left under root. exists_r: there is an index. */
int rebuild_settle(const char *root, bool *exists_r, struct err *e) __attribute__((warn_unused_result));
/* Makes the index of a new account; fill's last transaction has serial. */
int rebuild_create(const char *root, rebuild_fill_fn *fill, void *arg, uint64_t serial, uint64_t time,
    struct err *e) __attribute__((warn_unused_result));
/*
 * Makes a new index from base copy and log of the old one. damage (else it is what a crash may leave), why: for the administrator's
 * log. least: the serial that the old one is known to have come to, or 0. -1 with ERR_CODE_CORRUPT when a transaction that was durable
 * is missing in them.
 */
int rebuild_from_log(const char *root, bool damage, const char *why, uint64_t least, uint64_t time, struct err *e)
    __attribute__((warn_unused_result));

/* The index that the next one replaces is to be kept as root/aside/index, a directory that is there, and not removed. */
int rebuild_keep(const char *root, const char *aside, struct err *e) __attribute__((warn_unused_result));

/* After a rebuild: what summaries the old index still has, one by one, until fn gives false; then the old index is removed. */
void rebuild_take_summaries(const char *root, env_summary_fn *fn, void *arg);

/* Marks the index as damaged, so that the next open rebuilds it; and whether it is. */
void rebuild_mark(const char *root);
bool rebuild_marked(const char *root);
int rebuild_unmark(const char *root, struct err *e) __attribute__((warn_unused_result));

#endif
