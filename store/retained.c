#include "store/retained.h"

#include "store/entry.h"

enum { RETAINED_GONE = 1, RETAINED_SUBSCRIBED = 2, RETAINED_OBJECT = 4, RETAINED_BITS = 7 };

/* 64 names of keywords, each with its LF. */
#define KEYWORDS_BYTES_MAX (STORE_KEYWORDS_MAX * (STORE_KEYWORD_BYTES_MAX + 1))

bool
store_retained_put(struct buf *b, const struct store_retained *r)
{
	put_u32(b, r->mailbox);
	put_u32(b, r->uid);
	put_u32(b, (r->gone ? (uint32_t)RETAINED_GONE : 0) | (r->subscribed ? (uint32_t)RETAINED_SUBSCRIBED : 0) |
		       (r->object ? (uint32_t)RETAINED_OBJECT : 0));
	put_u64(b, r->time);
	put_u64(b, r->bytes);
	put_slice(b, r->name);
	put_u32(b, r->flags);
	put_u64(b, (uint64_t)r->internal_date);
	put_u16(b, (uint16_t)r->zone_minutes);
	put_slice(b, r->keywords);
	put_slice(b, r->summary);
	put_u32(b, r->messages);
	put_u32(b, r->special_use);
	put_u32(b, r->uidvalidity);
	return !b->failed;
}

bool
store_retained_next(struct cursor *c, struct store_retained *retained_r)
{
	struct store_retained *r = retained_r;

	if (c->bad || cursor_left(c) == 0)
		return false;
	r->mailbox = cursor_u32(c);
	r->uid = cursor_u32(c);
	uint32_t bits = cursor_u32(c);

	r->gone = (bits & RETAINED_GONE) != 0;
	r->subscribed = (bits & RETAINED_SUBSCRIBED) != 0;
	r->object = (bits & RETAINED_OBJECT) != 0;
	r->time = cursor_u64(c);
	r->bytes = cursor_u64(c);
	r->name = cursor_slice(c, STORE_NAME_BYTES_MAX);
	r->flags = cursor_u32(c);
	r->internal_date = (int64_t)cursor_u64(c);
	r->zone_minutes = (int16_t)cursor_u16(c);
	r->keywords = cursor_slice(c, KEYWORDS_BYTES_MAX);
	r->summary = cursor_slice(c, STORE_SUMMARY_BYTES_MAX);
	r->messages = cursor_u32(c);
	r->special_use = cursor_u32(c);
	r->uidvalidity = cursor_u32(c);
	c->bad = c->bad || (bits & ~(uint32_t)RETAINED_BITS) != 0 || r->mailbox == 0;
	return !c->bad;
}
