/*
 * index_private: what the files of the index share. Mailboxes are held in
 * memory as a whole table (name, counts, keywords); messages are not.
 */
#ifndef STORE_INDEX_PRIVATE_H
#define STORE_INDEX_PRIVATE_H

#include "store/base.h"
#include "store/env.h"
#include "store/file.h"
#include "store/index.h"

#define INDEX_KEYWORDS_BYTES_MAX 16384u
/* Records of mailboxes, those of deleted ones included: no new one past it (a deletion may leave a bare name more). */
#define INDEX_MAILBOXES_MAX (4u * STORE_MAILBOXES_MAX)
#define INDEX_MAILBOXES_READ_MAX (INDEX_MAILBOXES_MAX + STORE_MAILBOXES_MAX)
#define INDEX_CHANGE_BYTES_MAX (64u << 20)
/* A base copy after so much log, when that is also longer than half the last copy. */
#define INDEX_BASE_LOG_BYTES_MIN (16u << 20)
/* Below this much log a keeper that leaves writes no base copy. */
#define INDEX_BASE_LOG_BYTES_IDLE (1u << 20)
/* What one step of the purge takes: records, or objects; messages. */
#define INDEX_PURGE_RECORDS 64u
#define INDEX_PURGE_MESSAGES (INDEX_PURGE_RECORDS * FORMAT_EXPUNGED_MAX)

struct index_mailbox {
	struct format_mailbox m; /* m.name points to name */
	char *name;
	struct buf keywords;
	bool dirty;
	bool keywords_dirty;
};

struct index_slot {
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t sequence;
	uint32_t next; /* in its hash chain: index + 1, 0 ends */
	bool used;
};

#define INDEX_SLOTS (INDEX_RING_DELIVERY_SLOTS + INDEX_RING_WORKER_SLOTS)
#define INDEX_SLOT_HEADS 1024u

struct index {
	char root[FILE_PATH_BYTES_MAX];
	char dir[FILE_PATH_BYTES_MAX];
	struct env *env;
	uint64_t now;
	struct format_account account;
	uint64_t reserve_object;
	struct quota quota_wanted;
	struct index_mailbox **mailboxes; /* ascending by number */
	size_t mailbox_count;
	size_t mailbox_cap;
	struct index_slot *slots; /* both rings, one after the other */
	uint32_t slot_heads[INDEX_SLOT_HEADS];
	struct index_change *changes;
	size_t change_count;
	size_t change_cap;
	struct buf value; /* scratch of single records */
	struct buf old;
	bool broken;
	bool clean; /* the one before closed in order */
	struct base_info base;
	struct base_writer *base_writer;
	struct env_log_place checkpoint; /* the log's end at the last one */
};

/* ---- index.c ---- */

/* Writes a finished value at key (the redo record is made from what was there). */
int index_put(struct index *ix, const struct format_key *key, struct buf *value, struct err *e);
/* Next modseq of the account. */
uint64_t index_modseq_next(struct index *ix);
/* A change to be told; the octets are for the caller to fill. */
struct buf *index_change_add(struct index *ix, enum index_change_kind kind, uint32_t mailbox);
/* Does that much more fit? It is what index_quota_wanted() tells. */
int index_quota_check(struct index *ix, struct quota limit, struct quota more, struct err *e);
/* Marks the process's state as beyond use when the environment is. */
int index_failed(struct index *ix);

/* ---- index_mailbox.c ---- */

struct index_mailbox *index_mailbox_get(const struct index *ix, uint32_t number);
struct index_mailbox *index_mailbox_open(struct index *ix, uint32_t number, struct err *e);
/* The one of that name that can be opened; it is made, with its superiors, when there is none. NULL and e. */
struct index_mailbox *index_mailbox_named(struct index *ix, struct slice name, struct err *e);
/* Deletes a record of the table that holds no messages, with its keywords. */
int index_mailbox_erase(struct index *ix, struct index_mailbox *mb, struct err *e);
/* A mailbox with the account's next number, not yet written. */
struct index_mailbox *index_mailbox_new(struct index *ix, struct slice name);
/* Takes one read from the database into the table. */
int index_mailbox_load(struct index *ix, const struct format_mailbox *m, struct err *e);
void index_mailbox_forget(struct index *ix, struct index_mailbox *mb);
void index_mailboxes_free(struct index *ix);
/* Writes those that changed. */
int index_mailboxes_save(struct index *ix, struct err *e);
/* INBOX and the special-use mailboxes of a new account. */
int index_mailboxes_default(struct index *ix, struct err *e);
/* Bits of the keywords in lines; create: those that are missing are made (ERR_LIMIT when there is no room), else left out. */
int index_keyword_bits(struct index_mailbox *mb, struct slice lines, bool create, uint64_t *bits_r, struct err *e);

/* ---- index_walk.c: the chunks of a mailbox in order ---- */

struct walk {
	struct index *ix;
	struct env_cursor c;
	enum format_table table; /* FORMAT_ENTRIES or FORMAT_DETAILS */
	uint32_t mailbox;
	const struct uidset *set; /* NULL: all */
	size_t range;		  /* of set, at or behind the last UID asked for */
	uint32_t last;		  /* the chunk's last UID when it was read */
	struct format_entries entries;
	struct format_details details;
};
int walk_open(struct walk *w, struct index *ix, enum format_table table, uint32_t mailbox, const struct uidset *set,
    struct err *e);
void walk_close(struct walk *w);
/* To the first / next chunk that may hold members of the set, to the last one of all. 1, 0 at the end, -1. */
int walk_first(struct walk *w, struct err *e);
int walk_next(struct walk *w, struct err *e);
int walk_tail(struct walk *w, struct err *e);
/* Is uid a member? To be asked in ascending order. */
bool walk_wants(struct walk *w, uint32_t uid);
/* Writes the changed chunk back, or deletes it when it is empty. */
int walk_save(struct walk *w, struct err *e);

/* ---- index_message.c ---- */

struct message_list {
	struct format_message *m;
	size_t n;
	size_t cap;
};
void message_list_fini(struct message_list *l);
/* The messages of the set with both halves. */
int messages_collect(struct index *ix, uint32_t mailbox, const struct uidset *set, struct message_list *l,
    struct err *e);
/* Gives them new UIDs (in l) and puts them at the end of mb. One modseq for all. */
int messages_add(struct index *ix, struct index_mailbox *mb, struct message_list *l, struct err *e);
enum { MESSAGES_RETAIN = 1, MESSAGES_ONLY_DELETED = 2 };
/* Takes them out, of a deleted mailbox too; l (empty before) gets them. */
int messages_remove(struct index *ix, struct index_mailbox *mb, const struct uidset *set, unsigned how,
    struct message_list *l, struct err *e);
/* Bits of the source's keywords become bits of the target's, which gets those that it lacks. */
int messages_map_keywords(struct index_mailbox *source, struct index_mailbox *target, struct message_list *l,
    struct err *e);
/* One reference more or less to the object of each message. */
int messages_refer(struct index *ix, const struct format_message *m, size_t n, int by, struct err *e);
/* They leave what is retained of mb; counts only. */
int messages_unretain(struct index *ix, struct index_mailbox *mb, const struct format_message *m, size_t n,
    struct err *e);
/* Every UID. */
const struct uidset *uidset_all(void);

#endif
