#include "store/record.h"

bool
store_record_put(struct buf *b, const struct store_record *r)
{
	put_u32(b, r->uid);
	put_u32(b, r->flags);
	put_u64(b, r->keywords);
	put_u64(b, r->modseq);
	put_u64(b, (uint64_t)r->internal_date);
	put_u64(b, (uint64_t)r->save_date);
	put_u64(b, r->size);
	put_u64(b, r->thread);
	put_u16(b, (uint16_t)r->zone_minutes);
	put_u16(b, r->ascii_headers);
	put_u32(b, 0);
	buf_put(b, r->object_id, sizeof r->object_id);
	put_slice(b, r->summary);
	return !b->failed;
}

bool
store_record_next(struct cursor *c, struct store_record *record_r)
{
	struct store_record *r = record_r;

	if (c->bad || cursor_left(c) == 0)
		return false;
	r->uid = cursor_u32(c);
	r->flags = cursor_u32(c);
	r->keywords = cursor_u64(c);
	r->modseq = cursor_u64(c);
	r->internal_date = (int64_t)cursor_u64(c);
	r->save_date = (int64_t)cursor_u64(c);
	r->size = cursor_u64(c);
	r->thread = cursor_u64(c);
	r->zone_minutes = (int16_t)cursor_u16(c);
	r->ascii_headers = cursor_u16(c) != 0;
	(void)cursor_u32(c);
	struct slice id = cursor_take(c, sizeof r->object_id);

	r->summary = cursor_slice(c, STORE_SUMMARY_BYTES_MAX);
	if (c->bad)
		return false;
	memcpy(r->object_id, id.p, sizeof r->object_id);
	return true;
}
