#include "common/cursor.h"
#include "smtpd/queue.h"

#include <zlib.h>

#define META_MAGIC "MSQMETA1"

static uint32_t
crc_of(struct slice s)
{
	return (uint32_t)crc32_z(crc32_z(0, NULL, 0), s.p, s.n);
}

/* Puts the checksum of body before it. */
static void
put_checked(struct buf *b, struct slice body)
{
	put_u32(b, crc_of(body));
	buf_put_slice(b, body);
}

bool
queue_record_encode(const struct queue_message *m, struct buf *b)
{
	struct buf body;
	bool good;

	buf_init(&body, QUEUE_ITEM_BYTES_MAX + 128);
	put_u8(&body, QUEUE_RECORD_VERSION);
	put_u32(&body, m->attempts);
	put_u64(&body, m->next_ms);
	put_u64(&body, m->added_ms);
	put_u64(&body, m->bytes);
	buf_put(&body, m->sha256, sizeof(m->sha256));
	put_slice(&body, slice_of(m->item, m->item_bytes));
	good = !body.failed;
	put_checked(b, buf_slice(&body));
	buf_fini(&body);
	return good && !b->failed;
}

bool
queue_record_decode(struct slice record, struct queue_message *m_r, struct slice *item_r)
{
	struct cursor c = cursor_of(record);
	uint32_t crc = cursor_u32(&c);

	*m_r = (struct queue_message){0};
	if (c.bad || crc != crc_of(slice_of(c.p, cursor_left(&c))))
		return false;
	if (cursor_u8(&c) != QUEUE_RECORD_VERSION)
		return false;
	m_r->attempts = cursor_u32(&c);
	m_r->next_ms = cursor_u64(&c);
	m_r->added_ms = cursor_u64(&c);
	m_r->bytes = cursor_u64(&c);
	struct slice hash = cursor_take(&c, sizeof(m_r->sha256));
	if (c.bad)
		return false;
	memcpy(m_r->sha256, hash.p, hash.n);
	*item_r = cursor_slice(&c, QUEUE_ITEM_BYTES_MAX);
	return cursor_done(&c);
}

bool
queue_meta_encode(struct slice record, struct slice summary, struct buf *b)
{
	struct buf body;
	bool good;

	buf_init(&body, QUEUE_META_BYTES_MAX);
	put_slice(&body, record);
	put_slice(&body, summary);
	good = !body.failed;
	buf_put_str(b, META_MAGIC);
	put_checked(b, buf_slice(&body));
	buf_fini(&body);
	return good && !b->failed;
}

bool
queue_meta_decode(struct slice meta, struct slice *record_r, struct slice *summary_r)
{
	struct cursor c = cursor_of(meta);
	struct slice magic = cursor_take(&c, sizeof(META_MAGIC) - 1);
	uint32_t crc = cursor_u32(&c);

	if (c.bad || !slice_eq(magic, SLICE(META_MAGIC)) || crc != crc_of(slice_of(c.p, cursor_left(&c))))
		return false;
	*record_r = cursor_slice(&c, QUEUE_META_BYTES_MAX);
	*summary_r = cursor_slice(&c, QUEUE_META_BYTES_MAX);
	return cursor_done(&c);
}
