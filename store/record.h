/*
 * record: what MSG_FETCH answers for one message. In the reply's memory file
 * they follow each other, in ascending order of UID: 80 octets and the summary
 * as a slice (u32 length, octets; common/summary.h). Integers are big-endian.
 */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include "common/cursor.h"
#include "store/store.h"

struct store_record {
	uint32_t uid;
	uint32_t flags;
	uint64_t keywords;
	uint64_t modseq;
	/* With STORE_WANT_DETAIL, else 0. */
	int64_t internal_date; /* seconds since 1970 UTC */
	int16_t zone_minutes;  /* the zone to show it in, east of UTC */
	int64_t save_date;     /* RFC 8514: when it came into this mailbox */
	uint64_t size;	       /* octets */
	uint64_t thread;       /* 0: not known */
	bool ascii_headers;    /* no header has an octet over 127; false: some has, or it is not known */
	uint8_t object_id[STORE_OBJECT_ID_BYTES];
	/* With STORE_WANT_SUMMARY; empty when the message has none: then make it from the object. */
	struct slice summary;
};

bool store_record_put(struct buf *b, const struct store_record *r);
/* The next record; false at the end or when the octets are no record (then c->bad). summary points into the input. */
bool store_record_next(struct cursor *c, struct store_record *record_r) __attribute__((warn_unused_result));

#endif
