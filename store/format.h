/*
 * format: the records of an account's index, octet by octet as docs/format.md
 * has them: keys, and values with a header and a checksum of their own. What is
 * read is hostile input: a decoder gives false for anything that the encoder
 * would not have made. No I/O here.
 *
 * Every value begins with: table (1), version (1), count (2), CRC-32 (4) of the
 * key and the whole value with this field as zero. Integers are big-endian.
 */
#ifndef STORE_FORMAT_H
#define STORE_FORMAT_H

#include "common/cursor.h"
#include "store/entry.h"
#include "store/store.h"

#define FORMAT_VERSION 1
#define FORMAT_HEADER_BYTES 8u
#define FORMAT_KEY_BYTES_MAX 24u
/* Chunks, with key and page overhead, fit four to a page of 4096 octets. */
#define FORMAT_CHUNK_BYTES_MAX 900u
#define FORMAT_VALUE_BYTES_MAX 65536u

/* The tables: first octet of a key and of its value. */
enum format_table {
	FORMAT_ACCOUNT = 'A',
	FORMAT_MAILBOX = 'M',
	FORMAT_KEYWORDS = 'K',
	FORMAT_ENTRIES = 'E',
	FORMAT_DETAILS = 'D',
	FORMAT_REFS = 'O',
	FORMAT_TOMBSTONES = 'T',
	FORMAT_EXPUNGED = 'X',
	FORMAT_GARBAGE = 'G',
	FORMAT_REQUEST = 'R',
	FORMAT_SUMMARY = 'S', /* in the database of summaries */
};

struct format_key {
	uint8_t p[FORMAT_KEY_BYTES_MAX];
	size_t n;
};

static inline struct slice
format_key_slice(const struct format_key *k)
{
	return slice_of(k->p, k->n);
}

struct format_key format_key(enum format_table table);
struct format_key format_key_u32(enum format_table table, uint32_t a);
struct format_key format_key_u32_u32(enum format_table table, uint32_t a, uint32_t b);
struct format_key format_key_u64(enum format_table table, uint64_t a);
/* Tombstones of (mailbox, modseq, piece); what was expunged at (time, serial, piece). */
struct format_key format_key_tombstones(uint32_t mailbox, uint64_t modseq, uint32_t piece);
struct format_key format_key_expunged(uint64_t time, uint64_t serial, uint32_t piece);
struct format_key format_key_request(uint8_t ring, uint32_t slot);

/* Starts a value in b (reset first), and ends it by its checksum; false when b's maximum was passed. */
void format_begin(struct buf *b, enum format_table table, unsigned count);
bool format_end(struct buf *b, struct slice key);
/* Checks header and checksum of a value of key's table; the payload in *payload_r. */
bool format_check(struct slice key, struct slice value, unsigned *count_r, struct cursor *payload_r)
    __attribute__((warn_unused_result));

/* ---- A: the account ---- */

#define FORMAT_RINGS 2u
struct format_account {
	uint64_t serial; /* of the last transaction; one more with each */
	uint64_t modseq; /* the highest given out */
	uint64_t next_object;
	uint64_t bytes; /* of all messages in mailboxes, copies counted each */
	uint64_t messages;
	uint64_t created; /* seconds since 1970 */
	uint32_t next_mailbox;
	uint32_t next_uidvalidity;
	uint32_t retired_uidvalidity; /* the highest that some name had and lost */
	uint64_t ring_next[FORMAT_RINGS];
	uint64_t retained_bytes; /* of all messages that may come back: in X, and in deleted mailboxes */
	uint64_t retained_messages;
};
bool format_account_put(struct buf *b, const struct format_account *a);
bool format_account_get(struct slice value, struct format_account *account_r) __attribute__((warn_unused_result));

/* ---- M: a mailbox; K: its keywords as lines ---- */

struct format_mailbox {
	uint32_t number; /* in the key */
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint32_t messages;
	uint32_t unseen;
	uint32_t deleted;
	uint32_t recent_uid;
	uint32_t special_use; /* of a deleted one: what it had, as its subscription */
	uint32_t retained;    /* messages of it in X */
	bool subscribed;
	bool selectable;
	uint64_t highestmodseq;
	uint64_t bytes;
	uint64_t tombstone_floor; /* expunges up to this modseq are no longer told apart */
	uint64_t gone_at;	  /* seconds since 1970 when it was deleted; 0: it exists */
	struct slice name;
};
bool format_mailbox_put(struct buf *b, const struct format_mailbox *m);
bool format_mailbox_get(struct slice key, struct slice value, struct format_mailbox *mailbox_r)
    __attribute__((warn_unused_result));

/* ---- E and D: messages, in two rows of chunks, because flags change and the rest does not ---- */

/* Entries in columns (format.c); no chunk is empty. At worst each takes its 24 octets, so that a change never splits a chunk. */
#define FORMAT_ENTRIES_MAX 36u
#define FORMAT_COLUMNS_BYTES (4u + 4u + 4u + 8u + 8u)
struct format_entries {
	unsigned n;
	struct store_entry e[FORMAT_ENTRIES_MAX];
};
bool format_entries_put(struct buf *b, struct slice key, const struct format_entries *c);
bool format_entries_get(struct slice key, struct slice value, struct format_entries *chunk_r)
    __attribute__((warn_unused_result));

struct format_detail {
	uint32_t uid;
	int16_t zone_minutes;
	bool ascii_headers; /* by its summary (common/summary.h); false when that is not known */
	int64_t internal_date;
	int64_t save_date;
	uint64_t size;
	uint64_t thread;
	uint8_t object_id[STORE_OBJECT_ID_BYTES];
};
#define FORMAT_DETAIL_BYTES 56u
#define FORMAT_DETAILS_MAX 15u
struct format_details {
	unsigned n;
	struct format_detail d[FORMAT_DETAILS_MAX];
};
bool format_details_put(struct buf *b, struct slice key, const struct format_details *c);
bool format_details_get(struct slice key, struct slice value, struct format_details *chunk_r)
    __attribute__((warn_unused_result));
_Static_assert(FORMAT_HEADER_BYTES + FORMAT_COLUMNS_BYTES + FORMAT_ENTRIES_MAX * STORE_ENTRY_BYTES <= FORMAT_CHUNK_BYTES_MAX, "chunk");
_Static_assert(FORMAT_HEADER_BYTES + FORMAT_DETAILS_MAX * FORMAT_DETAIL_BYTES <= FORMAT_CHUNK_BYTES_MAX, "chunk");

/* ---- O: how many messages refer to each of 128 objects, kept for retention included ---- */

#define FORMAT_REFS_MAX 128u
struct format_refs {
	uint32_t count[FORMAT_REFS_MAX];
};
bool format_refs_put(struct buf *b, struct slice key, const struct format_refs *r);
bool format_refs_get(struct slice key, struct slice value, struct format_refs *refs_r)
    __attribute__((warn_unused_result));

/* ---- T: payload is ranges as of store/uidset.h, at most FORMAT_TOMBSTONE_RANGES_MAX ---- */

#define FORMAT_TOMBSTONE_RANGES_MAX 100u

/* ---- X: what was expunged, for undeleting it until the retention time is over; never empty ---- */

#define FORMAT_EXPUNGED_MAX 10u
struct format_message {
	struct store_entry entry;
	struct format_detail detail;
};
struct format_expunged {
	uint32_t mailbox;
	unsigned n;
	struct format_message m[FORMAT_EXPUNGED_MAX];
};
bool format_expunged_put(struct buf *b, struct slice key, const struct format_expunged *x);
bool format_expunged_get(struct slice key, struct slice value, struct format_expunged *expunged_r)
    __attribute__((warn_unused_result));

/* ---- R: a request that was done, and the answer it got ---- */

#define FORMAT_REPLY_BYTES_MAX 60000u
struct format_request {
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t sequence;
	struct slice reply; /* an encoded message (common/msg.h) with id 0 and without descriptors */
};
bool format_request_put(struct buf *b, struct slice key, const struct format_request *r);
bool format_request_get(struct slice key, struct slice value, struct format_request *request_r)
    __attribute__((warn_unused_result));

#endif
