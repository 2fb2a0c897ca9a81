/*
 * queue_item: a message that waits for another try, as it is handed between
 * deliver and queue (QUEUE_ADD.item, QUEUE_ITEM.item) and as it is kept in the queue's
 * database, and what came of a try (QUEUE_RESULT.results).
 *
 * The encoded forms, version 2; of an item also version 1, without what is in brackets, is read. Integers are big-endian, a slice is a u32
 * length and that many octets.
 *
 * item:    u8 version, u64 internal date (seconds since 1970), slice session, slice mail_from,
 *          [u8 flags, u8 ret, slice envid,] u16 count, that many of { u64 account, u32 sequence,
 *          u8 target, u8 state, slice address, slice text [, u8 notify, slice orcpt] }; nothing follows
 * results: u16 count, that many of { u32 sequence, u8 state, slice text }; nothing follows
 *
 * account and sequence stay the same for ever: together with the queue id as the origin they make
 * a delivery that is tried again one delivery (docs/architecture.md, "From MAIL to 250").
 */
#ifndef SMTPD_QUEUE_ITEM_H
#define SMTPD_QUEUE_ITEM_H

#include "common/arena.h"
#include "common/buf.h"
#include "common/slice.h"
#include "smtpd/smtp_grammar.h"

#define QUEUE_ITEM_VERSION 2
#define QUEUE_ITEM_BYTES_MAX 65000 /* with what the queue adds it is one record of its database */
#define QUEUE_ADDRESS_BYTES_MAX 320
#define QUEUE_TEXT_BYTES_MAX 100
#define QUEUE_SESSION_BYTES_MAX 64

/* Stable numbers: they are on disk. */
enum queue_state {
	QUEUE_PENDING = 1, /* to be tried (again) */
	QUEUE_DONE = 2,	   /* in its mailbox */
	QUEUE_FAILED = 3,  /* for good: the sender is to be told */
	QUEUE_STATE_LAST = QUEUE_FAILED,
};

const char *queue_state_name(enum queue_state s);

struct queue_recipient {
	uint64_t account;
	uint32_t sequence;
	uint8_t target; /* enum store_target */
	enum queue_state state;
	struct slice address;
	struct slice text; /* why, of the last try; at most QUEUE_TEXT_BYTES_MAX */
	uint8_t notify;	   /* bits of enum smtp_notify: the sender's wish at RCPT (RFC 3461) */
	struct slice orcpt;
};

/* Stable numbers: they are on disk. */
enum queue_flags { QUEUE_SMTPUTF8 = 1, QUEUE_EIGHTBIT = 2, QUEUE_BINARY = 4, QUEUE_REQUIRETLS = 8, QUEUE_FLAGS_ALL = 15 };

struct queue_item {
	uint64_t internal_date;
	struct slice session;
	struct slice mail_from; /* empty: the null reverse-path */
	uint8_t flags; /* bits of enum queue_flags: what MAIL said of the message */
	enum smtp_ret ret;
	struct slice envid;
	struct queue_recipient *recipients;
	uint16_t count; /* 1 ... */
};

/* Appends the encoded form. False when a text passes its maximum or b (of QUEUE_ITEM_BYTES_MAX) is full. */
bool queue_item_encode(const struct queue_item *i, struct buf *b) __attribute__((warn_unused_result));
/* Hostile input. Slices point into in, the recipients are in a. False when it is not the encoded form
 * (a sequence that stands twice included), or at a's cap. */
bool queue_item_decode(struct slice in, struct arena *a, struct queue_item *item_r)
    __attribute__((warn_unused_result));

struct queue_result {
	uint32_t sequence;
	enum queue_state state; /* QUEUE_PENDING: failed for the moment */
	struct slice text;
};

struct queue_results {
	struct queue_result *v;
	uint16_t count;
};

bool queue_results_encode(const struct queue_results *r, struct buf *b) __attribute__((warn_unused_result));
bool queue_results_decode(struct slice in, struct arena *a, struct queue_results *results_r)
    __attribute__((warn_unused_result));

/*
 * Applies results to an item: recipients that are pending and named get the new state and text (the slices
 * of results are kept, not copied). Others stay. Gives the number still pending.
 */
unsigned queue_item_apply(struct queue_item *item, const struct queue_results *results);

#endif
