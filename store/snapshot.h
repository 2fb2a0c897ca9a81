/*
 * snapshot: the index as it was at one moment, read in pieces while transactions go on. Before a record is changed for
 * the first time since that moment its value is put aside; a reader takes what was put aside, and else what is there.
 *
 * One at a time over an environment. What is put aside is held in memory: past SNAPSHOT_BYTES_MAX the snapshot is lost,
 * and reading it gives ERR_TEMP. No cursor may be open while a transaction is: pause it.
 */
#ifndef STORE_SNAPSHOT_H
#define STORE_SNAPSHOT_H

#include "store/env.h"

#define SNAPSHOT_BYTES_MAX (64u << 20)

struct snapshot;

/* Outside of transactions. Ends with snapshot_end(), before the environment is closed. */
struct snapshot *snapshot_begin(struct env *env);
void snapshot_end(struct snapshot **s);
/* How many octets may be put aside, for tests of that edge. */
void snapshot_limit(struct snapshot *s, size_t bytes_max);

/* All zero is a cursor that is nowhere. */
struct snapshot_cursor {
	struct env_cursor db;
	bool open;
	int db_r;	 /* of the last move of db: 1 when it has a record */
	bool at_saved;	 /* the record given last had been put aside */
	struct buf last; /* its key */
	struct slice key;
	struct slice value; /* both valid until the next call, or the next change of the index */
};
/* To the first key >= key; to the next one. 1, 0 at the end, -1. */
int snapshot_seek(struct snapshot *s, struct snapshot_cursor *c, struct slice key, struct err *e)
    __attribute__((warn_unused_result));
int snapshot_next(struct snapshot *s, struct snapshot_cursor *c, struct err *e) __attribute__((warn_unused_result));
/* Lets go of the database; snapshot_next() goes on after the last key given. */
void snapshot_pause(struct snapshot_cursor *c);
void snapshot_close(struct snapshot_cursor *c);

/* ---- the messages of a mailbox, both halves joined ---- */

struct snapshot_messages {
	uint32_t mailbox;
	struct snapshot_cursor entries_at;
	struct snapshot_cursor details_at;
	bool begun;
	bool entries_end;
	bool details_end;
	unsigned entry; /* the next one of each chunk */
	unsigned detail;
	struct format_entries entries;
	struct format_details details;
};
enum snapshot_found {
	SNAPSHOT_END = 0,
	SNAPSHOT_MESSAGE = 1,
	SNAPSHOT_ENTRY_ONLY = 2,  /* no details belong to it */
	SNAPSHOT_DETAIL_ONLY = 3, /* the entry is missing */
	SNAPSHOT_DAMAGED = 4,	  /* a chunk cannot be read; it is passed over */
};
void snapshot_messages_begin(struct snapshot_messages *w, uint32_t mailbox);
/* The next one in order of UIDs; enum snapshot_found, or -1. */
int snapshot_messages_next(struct snapshot *s, struct snapshot_messages *w, struct format_message *m_r, struct err *e)
    __attribute__((warn_unused_result));
void snapshot_messages_pause(struct snapshot_messages *w);
void snapshot_messages_close(struct snapshot_messages *w);

#endif
