/*
 * index: an account as its keeper sees it: mailboxes and messages, over one
 * environment (store/env.h) and the objects beside it. One process, one
 * transaction at a time:
 *
 *   index_begin(); changes…; index_commit();   visible here at once
 *   index_flush();                             durable: now answers and events may leave
 *
 * A change that fails leaves the transaction to be undone by index_abort().
 * What a transaction changed in mailboxes is listed in index_changes() for those who watch.
 *
 * Functions return 0, or -1 with e: ERR_PERM and ERR_LIMIT are the request's fault; after ERR_TEMP ask
 * index_broken(): then the process must end. Everything here may block on the disk. Order among requests is the caller's.
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include "common/err.h"
#include "store/format.h"
#include "store/quota.h"
#include "store/retained.h"
#include "store/uidset.h"

struct index;

/*
 * Opens the account in directory root (which exists), making a new one when it is empty; recovers, and rebuilds when a
 * page is refused. now: seconds since 1970.
 */
int index_open(const char *root, uint64_t now, struct index **index_r, struct err *e) __attribute__((warn_unused_result));
/* Checkpoints (unless broken), marks the index as cleanly closed, frees. NULL is fine. */
void index_close(struct index **index);
/* A sync failed or a page was refused: nothing that was not flushed may be answered, the process must end. */
bool index_broken(const struct index *ix);
/* The time that new records get. */
void index_set_now(struct index *ix, uint64_t now);

int index_begin(struct index *ix, struct err *e) __attribute__((warn_unused_result));
int index_commit(struct index *ix, struct err *e) __attribute__((warn_unused_result));
void index_abort(struct index *ix);
int index_flush(struct index *ix, struct err *e) __attribute__((warn_unused_result));

/* What is in mailboxes. */
struct quota index_usage(const struct index *ix);
/* Was there never a message in it? */
bool index_is_empty(const struct index *ix);
/* The account's highest modseq and last serial: they never go back. */
uint64_t index_modseq(const struct index *ix);
uint64_t index_serial(const struct index *ix);

/* ---- requests that were done before ---- */

/* Rings of remembered requests, by who asked. */
enum index_ring {
	INDEX_RING_DELIVERY = 0,
	INDEX_RING_WORKER = 1,
};
#define INDEX_RING_DELIVERY_SLOTS 2048u
#define INDEX_RING_WORKER_SLOTS 512u

/* 1 with the recorded answer in reply (reset first); 0 when this request was not done (or is too old); -1. */
int index_request_find(struct index *ix, const uint8_t origin[STORE_ORIGIN_BYTES], uint64_t sequence,
    struct buf *reply, struct err *e) __attribute__((warn_unused_result));
/* Records it in the running transaction. */
int index_request_done(struct index *ix, enum index_ring ring, const uint8_t origin[STORE_ORIGIN_BYTES],
    uint64_t sequence, struct slice reply, struct err *e) __attribute__((warn_unused_result));

/* ---- what a transaction changed ---- */

enum index_change_kind {
	INDEX_CHANGE_NEW,     /* octets: entries */
	INDEX_CHANGE_FLAGS,   /* octets: entries */
	INDEX_CHANGE_EXPUNGE, /* octets: ranges as uidset_put() makes them */
	INDEX_CHANGE_TABLE,   /* mailboxes came, went or got another name; mailbox is the one that went, or 0 */
};
struct index_change {
	enum index_change_kind kind;
	uint32_t mailbox;
	struct buf octets; /* failed: too many to tell, the watchers must open it again */
};
/* Changes since index_changes_reset(), in order; valid until the next call. */
const struct index_change *index_changes(const struct index *ix, size_t *count_r);
void index_changes_reset(struct index *ix);

/* ---- mailboxes ---- */

/* The mailbox of that number, when it exists and can be opened, else NULL; valid until the next change. */
const struct format_mailbox *index_mailbox(const struct index *ix, uint32_t number);
/* Its keywords as lines (store/entry.h). */
struct slice index_keywords(const struct index *ix, uint32_t number);
/* By enum store_target: the mailbox with that use, else INBOX. */
uint32_t index_target(const struct index *ix, unsigned target);
/* enum mbox_verb. number_r and uidvalidity_r: of the mailbox created or renamed, else 0. */
int index_mailbox_change(struct index *ix, unsigned verb, struct slice name, struct slice new_name,
    uint32_t special_use, uint32_t *number_r, uint32_t *uidvalidity_r, struct err *e)
    __attribute__((warn_unused_result));
/* MBOX_ADOPT. *number_r and *uidvalidity_r: of the mailbox that has the name then. */
int index_mailbox_adopt(struct index *ix, uint32_t number, struct slice name, uint32_t uidvalidity, uint32_t uidnext,
    uint32_t *number_r, uint32_t *uidvalidity_r, struct err *e) __attribute__((warn_unused_result));
/* The whole table, as store/mailbox_list.h encodes it, appended to b. */
int index_list(struct index *ix, struct buf *b, struct err *e) __attribute__((warn_unused_result));
/* Moves the \Recent mark up to uid. */
int index_recent(struct index *ix, uint32_t mailbox, uint32_t uid, struct err *e) __attribute__((warn_unused_result));

/* The i-th mailbox that a new account gets; false behind the last. */
bool index_default_mailbox(unsigned i, struct slice *name_r, uint32_t *use_r);

/* ---- messages ---- */

struct index_append {
	uint32_t mailbox;
	uint32_t uid; /* at least that one, up to STORE_IMPORT_MAX; 0: the next */
	uint32_t flags;
	struct slice keywords; /* names, one per line */
	int64_t internal_date;
	int16_t zone_minutes;
	uint64_t size;
	uint8_t object_id[STORE_OBJECT_ID_BYTES]; /* its object is on disk, directory included */
	struct slice summary;
	struct quota limit; /* of the account; ERR_CODE_OVER_QUOTA beyond it */
};
/* The number for the next object to be written; each call another one. Not before the object is on disk does an append
 * use it up for good. */
uint64_t index_object_reserve(struct index *ix);
/* No append waits: numbers that came to nothing are given out again. So objects that no transaction knows are never far from
 * the next number, where object_clean() looks for them. */
void index_object_unreserve(struct index *ix);
/* The one that it will give next. */
uint64_t index_object_next(const struct index *ix);
int index_append(struct index *ix, const struct index_append *a, uint32_t *uid_r, struct err *e)
    __attribute__((warn_unused_result));
/* True when that much more fits. */
bool index_quota_fits(const struct index *ix, struct quota limit, struct quota more);
/* What the last index_copy(), index_undelete() or index_undelete_mailbox() would have added, or added. */
struct quota index_quota_wanted(const struct index *ix);

/* Is there room on the disk for that many octets more, with what recovery and deletion need left over? */
bool index_has_space(const struct index *ix, uint64_t more);

struct index_flags {
	uint32_t mailbox;
	unsigned mode; /* enum store_flags_mode */
	uint32_t flags;
	struct slice keywords;
	uint64_t unchangedsince; /* UINT64_MAX: always */
	const struct uidset *uids;
};
/* Only messages that change get the new modseq, in *modseq_r (0 when none did). modified_r (reset first): refused by unchangedsince. */
int index_flags(struct index *ix, const struct index_flags *f, uint64_t *modseq_r, struct uidset *modified_r,
    struct err *e) __attribute__((warn_unused_result));

/* All or nothing. The two sets (reset first) correspond member by member. limit: as of an append; a move adds nothing. */
int index_copy(struct index *ix, uint32_t mailbox, uint32_t target, bool move, const struct uidset *uids,
    struct quota limit, struct uidset *source_r, struct uidset *target_r, struct err *e)
    __attribute__((warn_unused_result));
int index_expunge(struct index *ix, uint32_t mailbox, bool only_deleted, const struct uidset *uids,
    uint64_t *modseq_r, struct err *e) __attribute__((warn_unused_result));

/* Stores a summary that was made anew, when the message is there and has that hash. */
int index_summary(struct index *ix, uint32_t mailbox, uint32_t uid, const uint8_t sha256[STORE_SHA256_BYTES],
    struct slice summary, struct err *e) __attribute__((warn_unused_result));

/* ---- reading ---- */

/* All entries of a mailbox in order, a chunk at a time; false from fn ends it. */
typedef bool index_view_fn(void *arg, const struct store_entry *entries, size_t n);
int index_view(struct index *ix, uint32_t mailbox, index_view_fn *fn, void *arg, struct err *e)
    __attribute__((warn_unused_result));

struct index_fetch {
	uint32_t mailbox;
	unsigned want; /* enum store_want */
	const struct uidset *uids;
	struct buf *records; /* appended: store/record.h; its maximum ends a batch */
	int *objects;	     /* room for STORE_OBJECTS_MAX, when wanted; the caller closes them */
	uint32_t count;	     /* filled: number of records */
	uint32_t next_uid;   /* filled: where to go on, 0 when all were answered */
};
int index_fetch(struct index *ix, struct index_fetch *f, struct err *e) __attribute__((warn_unused_result));

/* ---- what may come back: expunged messages, deleted mailboxes with theirs (index_retain.c, index_retained.c) ---- */

/* Copies counted each. None of it is in index_usage(). */
struct quota index_retained(const struct index *ix);
/*
 * What the limit on it is compared with: octets, and INDEX_RETAINED_MESSAGE_BYTES for each message, which is what the
 * smallest one takes of a disk.
 */
#define INDEX_RETAINED_MESSAGE_BYTES 4096u
uint64_t index_retained_cost(const struct index *ix);
/* Is it more than bytes_max without `less` of it, or are more than STORE_DELETED_MAILBOXES_MAX mailboxes retained? */
bool index_retained_over(const struct index *ix, uint64_t bytes_max, uint64_t less);

struct index_retained_list {
	struct slice mailbox; /* only what is or was in one of that name; empty: all */
	uint64_t since;	      /* expunged or deleted at that time or later */
	uint64_t before;      /* and before that one */
	unsigned want;	      /* STORE_WANT_SUMMARY, STORE_WANT_OBJECT */
	uint8_t place[STORE_RETAINED_PLACE_BYTES]; /* where to begin; filled: where to go on */
	bool more;	      /* filled: there is something to go on with */
	struct buf *records;  /* appended: store/retained.h; its maximum ends a batch */
	uint32_t count;	      /* filled: number of records */
	int *objects;	      /* room for STORE_OBJECTS_MAX, when wanted; the caller closes them */
	uint32_t object_count;
};
int index_retained_list(struct index *ix, struct index_retained_list *list, struct err *e) __attribute__((warn_unused_result));

/*
 * Brings messages back to the mailboxes they were in, or, when one was deleted, to one of its name, made anew when there
 * is none: as new messages with their flags but \Deleted, keywords and internal date. All or nothing, save
 * that those which are not there (any more) are passed over. n: at most STORE_RETAINED_IDS_MAX. ids is brought into order.
 */
int index_undelete(struct index *ix, struct store_retained_id *ids, size_t n, struct quota limit, uint32_t *count_r,
    struct err *e) __attribute__((warn_unused_result));
/*
 * A deleted mailbox is there again with all that was in it, under that name (empty: its own). It keeps its UIDVALIDITY when
 * no name ever lost a higher one, and the special uses that no other has.
 */
int index_undelete_mailbox(struct index *ix, uint32_t number, struct slice name, struct quota limit,
    uint32_t *uidvalidity_r, struct err *e) __attribute__((warn_unused_result));
/* Takes messages out of what is retained for good; index_purge() removes their files when that is durable. */
int index_forget(struct index *ix, struct store_retained_id *ids, size_t n, struct quota *usage_r, struct err *e)
    __attribute__((warn_unused_result));
/* The same for a deleted mailbox that is empty and of which nothing is retained, a step at a time. *done_r: there is nothing
 * more to do. */
int index_forget_mailbox(struct index *ix, uint32_t number, bool *done_r, struct err *e) __attribute__((warn_unused_result));

/* ---- housekeeping, outside of transactions ---- */

/*
 * Forgets for good what was expunged or deleted before `before`, and the oldest of what is over bytes_max (see
 * index_retained_over()), and removes the files of objects that nobody refers to: one transaction of bounded size each time,
 * flushed. 1 when there may be more, 0, -1.
 */
int index_purge(struct index *ix, uint64_t before, uint64_t bytes_max, struct err *e) __attribute__((warn_unused_result));
/* The same, but only files of what is already forgotten. */
int index_purge_files(struct index *ix, struct err *e) __attribute__((warn_unused_result));
/* True when so much log was written that a checkpoint, or a new base copy, is worth its time. */
bool index_wants_upkeep(const struct index *ix);
/* A bounded piece of that work: 1 when there is more, 0, -1. */
int index_upkeep(struct index *ix, struct err *e) __attribute__((warn_unused_result));
/* A checkpoint and a whole new base copy at once. */
int index_upkeep_now(struct index *ix, struct err *e) __attribute__((warn_unused_result));

/* ---- checking (tests; `mailstead store check`) ---- */

/* Compares counts, sums, references, chunks and objects with each other; -1 and the first contradiction in e. */
int index_check(struct index *ix, struct err *e) __attribute__((warn_unused_result));

#endif
