/*
 * quota: an amount of mail, and a limit to it: octets of the messages in
 * mailboxes and their number, each copy counted. What was expunged and is only
 * retained does not count.
 */
#ifndef STORE_QUOTA_H
#define STORE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

/* As a limit: there is none; what the server's settings say (in the directory alone). */
#define QUOTA_NONE UINT64_MAX
#define QUOTA_DEFAULT (UINT64_MAX - 1)
/* The greatest limit that can be set; what it bounds stays far from overflow. */
#define QUOTA_LIMIT_MAX (UINT64_C(1) << 50)
/* A row of QUOTA_ROWS, and how many of them there are at most in one. */
#define QUOTA_ROW_BYTES 32u
#define QUOTA_ROWS_MAX 1000u

/* What a message QUOTA_ROWS is of the whole telling. */
enum quota_part {
	QUOTA_CHANGE, /* not part of it */
	QUOTA_FIRST,  /* what was told before, and is not told again, is over */
	QUOTA_NEXT,
	QUOTA_LAST, /* also when it is the only one: after an empty QUOTA_FIRST */
};

struct quota {
	uint64_t bytes;
	uint64_t messages;
};

/* Saturates: what cannot be counted does not fit. */
static inline uint64_t
quota_add_one(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline struct quota
quota_add(struct quota a, struct quota b)
{
	return (struct quota){quota_add_one(a.bytes, b.bytes), quota_add_one(a.messages, b.messages)};
}

/* What of a is above b. */
static inline struct quota
quota_above(struct quota a, struct quota b)
{
	return (struct quota){a.bytes > b.bytes ? a.bytes - b.bytes : 0, a.messages > b.messages ? a.messages - b.messages : 0};
}

static inline struct quota
quota_min(struct quota a, struct quota b)
{
	return (struct quota){a.bytes < b.bytes ? a.bytes : b.bytes, a.messages < b.messages ? a.messages : b.messages};
}

static inline bool
quota_within(struct quota a, struct quota limit)
{
	return a.bytes <= limit.bytes && a.messages <= limit.messages;
}

/*
 * Does that much more fit beside what is used? Each of the two is judged only when there is more of it: who is above a limit that was
 * lowered may still do what adds nothing.
 */
static inline bool
quota_fits(struct quota limit, struct quota used, struct quota more)
{
	return (more.bytes == 0 || quota_add_one(used.bytes, more.bytes) <= limit.bytes) &&
	    (more.messages == 0 || quota_add_one(used.messages, more.messages) <= limit.messages);
}

#endif
