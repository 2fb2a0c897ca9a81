/*
 * quota: an amount of mail, and a limit to it: octets of the messages in
 * mailboxes and their number, each copy counted. What was expunged and is only
 * retained does not count.
 */
#ifndef STORE_QUOTA_H
#define STORE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

/* As a limit: there is none. */
#define QUOTA_NONE UINT64_MAX

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
