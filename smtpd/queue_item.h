/*
 * queue_item: a message that waits for another try, as it is handed between
 * deliver and queue (QUEUE_ADD.item, QUEUE_ITEM.item) and as it is kept in the queue's
 * database, and what came of a try (QUEUE_RESULT.results).
 *
 * The encoded forms, version 4; of an item also version 3, without what is between bars, version 2, without what is in <> either, and
 * version 1, without what is in brackets either, is read. Integers are big-endian, a slice is a u32 length and that many octets.
 *
 * item:    u8 version, u64 internal date (seconds since 1970), slice session, slice mail_from,
 *          [u8 flags, u8 ret, slice envid,] <u32 skip, slice forward_from, slice report_id,>
 *          |u64 release (milliseconds since 1970), u32 hold_for, u8 priority (9 is 0),|
 *          u16 count, that many of { u64 account, u32 sequence, u8 target, u8 state, slice address, slice text [, u8 notify, slice orcpt]
 *          <, u8 flags, slice status, slice mta, u32 attempts, u64 next try (milliseconds since 1970)> }; nothing follows
 * results: u16 count, that many of { u32 sequence, u8 state, u8 flags, slice status, slice mta, slice text }; nothing follows
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

#define QUEUE_ITEM_VERSION 4
#define QUEUE_ITEM_BYTES_MAX 65000 /* with what the queue adds it is one record of its database */
#define QUEUE_ADDRESS_BYTES_MAX 320
/* Of words that are not in the way of others: when an item has many recipients each of its texts is cut to its share. */
#define QUEUE_TEXT_BYTES_MAX 400
#define QUEUE_TEXT_BYTES_SURE 64
#define QUEUE_MTA_BYTES_MAX 300
#define QUEUE_STATUS_BYTES_MAX 11 /* "5.123.123" and more than it */
#define QUEUE_SESSION_BYTES_MAX 64

/* Stable numbers: they are on disk. */
enum queue_state {
	QUEUE_PENDING = 1, /* to be tried (again) */
	QUEUE_DONE = 2,	   /* in its mailbox, or taken by another server */
	QUEUE_FAILED = 3,  /* for good: the sender is to be told */
	QUEUE_STATE_LAST = QUEUE_FAILED,
};

const char *queue_state_name(enum queue_state s);

/* Of a recipient; on disk. */
enum queue_recipient_flags {
	QUEUE_UNSURE = 1,	    /* the reply to the end of the message was lost: another server may have it already */
	QUEUE_DSN_PASSED = 2,	    /* another server has taken over what is to be reported (RFC 3461 5.2.3) */
	QUEUE_FORWARDED = 4,	    /* goes on for one of ours: forward_from is its reverse-path */
	QUEUE_REPORTED_DELAY = 8,   /* the sender was told */
	QUEUE_REPORTED_FAILURE = 16,
	QUEUE_REPORTED_SUCCESS = 32,
	/* Of the report that report_id names: of its failure or success when that is marked as reported, else of its delay. */
	QUEUE_IN_REPORT = 64,
	QUEUE_RECIPIENT_FLAGS_ALL = 127,
};

struct queue_recipient {
	uint64_t account; /* 0: of another server */
	uint32_t sequence;
	uint8_t target; /* enum store_target */
	enum queue_state state;
	struct slice address;
	struct slice text; /* why, of the last try; at most QUEUE_TEXT_BYTES_MAX */
	uint8_t notify;	   /* bits of enum smtp_notify: the sender's wish at RCPT (RFC 3461) */
	struct slice orcpt;
	uint8_t flags;	     /* enum queue_recipient_flags */
	struct slice status; /* of the last try, "5.1.1" (RFC 3463); may be empty */
	struct slice mta;    /* who said text, "mx.example[192.0.2.1]"; empty: this server */
	uint32_t attempts;
	uint64_t next_ms;
};

/* Stable numbers: they are on disk. */
enum queue_flags { QUEUE_SMTPUTF8 = 1, QUEUE_EIGHTBIT = 2, QUEUE_BINARY = 4, QUEUE_REQUIRETLS = 8, QUEUE_HELD = 16,
	QUEUE_TLS_OPTIONAL = 32, /* what the recipient's domain says of TLS does not count (RFC 8689 4.2.2); never with QUEUE_REQUIRETLS */
	QUEUE_FLAGS_ALL = 63 };

struct queue_item {
	uint64_t internal_date;
	struct slice session;
	struct slice mail_from; /* empty: the null reverse-path */
	uint8_t flags; /* bits of enum queue_flags: what MAIL and the header say of the message */
	enum smtp_ret ret;
	struct slice envid;
	uint32_t skip; /* octets before what leaves: the Return-Path that is for mailboxes alone */
	struct slice report_id; /* of the report to the sender that is being made; empty: none is */
	struct slice forward_from; /* the reverse-path of those with QUEUE_FORWARDED */
	uint64_t release_ms; /* nothing is tried before (RFC 4865); 0: at once */
	uint32_t hold_for;   /* the sender asked for so many seconds; 0: for a time, or not at all */
	int8_t priority;     /* SMTP_PRIORITY_MIN to SMTP_PRIORITY_MAX (RFC 6710) */
	struct queue_recipient *recipients;
	uint16_t count; /* 1 ... */
};

/*
 * Appends the encoded form. text and mta are cut to what fits; QUEUE_TEXT_BYTES_SURE of them always do when queue_item_fits(). False when
 * something else passes its maximum or b (of QUEUE_ITEM_BYTES_MAX) is full.
 */
bool queue_item_encode(const struct queue_item *i, struct buf *b) __attribute__((warn_unused_result));
/* Recipients so many, with addresses and orcpts of so many octets in all, can be one item. */
bool queue_item_fits(size_t recipients, size_t bytes);
/* Hostile input. Slices point into in, the recipients are in a. False when it is not the encoded form
 * (a sequence that stands twice included), or at a's cap. */
bool queue_item_decode(struct slice in, struct arena *a, struct queue_item *item_r)
    __attribute__((warn_unused_result));

struct queue_result {
	uint32_t sequence;
	enum queue_state state; /* QUEUE_PENDING: failed for the moment */
	uint8_t flags;		/* QUEUE_UNSURE, QUEUE_DSN_PASSED */
	struct slice status;
	struct slice mta;
	struct slice text;
};

/* How far a try came (TRANSPORT_RESULT.reached). */
enum transport_reached {
	TRANSPORT_REACHED = 0,	    /* a server was spoken to, and each recipient has its result */
	TRANSPORT_UNREACHABLE = 1, /* no server of the destination could be spoken to: nor could it for another message */
	TRANSPORT_RETURNED = 2,	    /* not tried: the piece comes back as it was (transport is leaving) */
};

struct queue_results {
	struct queue_result *v;
	uint16_t count;
};

/* As queue_item_encode(): text and mta are cut to their share. */
bool queue_results_encode(const struct queue_results *r, struct buf *b) __attribute__((warn_unused_result));
bool queue_results_decode(struct slice in, struct arena *a, struct queue_results *results_r)
    __attribute__((warn_unused_result));

/*
 * Applies results to an item: recipients that are pending and named get what the result says (the slices
 * of results are kept, not copied; flags are added). Others stay. Gives the number still pending.
 */
unsigned queue_item_apply(struct queue_item *item, const struct queue_results *results);

#endif
