/*
 * retained: what MSG_RETAINED_LIST answers: messages that were expunged, from
 * the oldest on; then each deleted mailbox, followed by its messages. Integers
 * are big-endian; see store_retained_put() for the order of fields.
 */
#ifndef STORE_RETAINED_H
#define STORE_RETAINED_H

#include "common/cursor.h"
#include "store/store.h"

/* A message that may come back: by the mailbox it was in and its UID there, which no other ever gets. */
struct store_retained_id {
	uint32_t mailbox;
	uint32_t uid;
};
#define STORE_RETAINED_ID_BYTES 8u
/* Ids of one request. */
#define STORE_RETAINED_IDS_MAX 100000u

struct store_retained {
	uint32_t mailbox;
	uint32_t uid;	/* 0: it is the deleted mailbox itself */
	bool gone;	/* the mailbox was deleted */
	uint64_t time;	/* when it was expunged or its mailbox deleted; seconds since 1970 */
	uint64_t bytes; /* of all its messages, when it is a mailbox */
	struct slice name; /* of the mailbox, as it is now or was when it was deleted */
	/* Of a message. */
	uint32_t flags;
	int64_t internal_date;
	int16_t zone_minutes;
	struct slice keywords; /* names, one per line */
	struct slice summary;  /* common/summary.h; empty when it was lost or not asked for */
	bool object;	       /* its descriptor is the next one of the answer */
	/* Of a mailbox. */
	uint32_t messages;
	uint32_t special_use;
	uint32_t uidvalidity;
	bool subscribed;
};

bool store_retained_put(struct buf *b, const struct store_retained *r);
/* The next one; false at the end or when the octets are no entry (then c->bad). The slices point into the input. */
bool store_retained_next(struct cursor *c, struct store_retained *retained_r) __attribute__((warn_unused_result));

/* Where a list goes on: opaque to who asks for it. All zero: at its beginning. */
#define STORE_RETAINED_PLACE_BYTES 32u

#endif
