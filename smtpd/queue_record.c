#include "common/cursor.h"
#include "smtpd/queue.h"
#include "smtpd/queue_record.h"

#include <zlib.h>

#define META_MAGIC "MSQMETA1"
#define BATCH_MAGIC "MSQBATC1"

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
	put_u64(&body, m->spot.pack);
	put_u32(&body, m->spot.at);
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
	uint8_t version;

	*m_r = (struct queue_message){0};
	if (c.bad || crc != crc_of(slice_of(c.p, cursor_left(&c))))
		return false;
	version = cursor_u8(&c);
	if (version != QUEUE_RECORD_VERSION && version != 1)
		return false;
	m_r->attempts = cursor_u32(&c);
	m_r->next_ms = cursor_u64(&c);
	m_r->added_ms = cursor_u64(&c);
	m_r->bytes = cursor_u64(&c);
	struct slice hash = cursor_take(&c, sizeof(m_r->sha256));
	if (c.bad)
		return false;
	memcpy(m_r->sha256, hash.p, hash.n);
	if (version != 1) {
		m_r->spot.pack = cursor_u64(&c);
		m_r->spot.at = cursor_u32(&c);
	}
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

void
queue_batch_head_encode(unsigned count, uint32_t bytes, uint8_t *out)
{
	struct buf b;

	buf_init(&b, QUEUE_BATCH_HEAD_BYTES);
	buf_put_str(&b, BATCH_MAGIC);
	put_u32(&b, count);
	put_u32(&b, bytes);
	put_u32(&b, crc_of(slice_sub(buf_slice(&b), sizeof(BATCH_MAGIC) - 1, b.n)));
	memcpy(out, b.p, QUEUE_BATCH_HEAD_BYTES);
	buf_fini(&b);
}

bool
queue_batch_head_decode(struct slice head, unsigned *count_r, uint32_t *bytes_r)
{
	struct cursor c = cursor_of(head);
	struct slice magic = cursor_take(&c, sizeof(BATCH_MAGIC) - 1);
	struct slice figures = slice_of(c.p, c.bad || cursor_left(&c) < 8 ? 0 : 8);

	*count_r = cursor_u32(&c);
	*bytes_r = cursor_u32(&c);
	return cursor_u32(&c) == crc_of(figures) && cursor_done(&c) && slice_eq(magic, SLICE(BATCH_MAGIC)) &&
	    *count_r <= QUEUE_ADDS_MAX && *bytes_r >= queue_row_at(*count_r);
}

void
queue_row_encode(const struct queue_row *r, uint8_t *out)
{
	struct buf b, body;

	buf_init(&b, QUEUE_ROW_BYTES);
	buf_init(&body, QUEUE_ROW_BYTES);
	buf_put(&body, r->id, SMTP_QUEUE_ID_CHARS);
	put_u32(&body, r->at);
	put_u32(&body, r->meta_bytes);
	put_u32(&body, r->text_bytes);
	put_u8(&b, (uint8_t)r->state);
	put_checked(&b, buf_slice(&body));
	memcpy(out, b.p, QUEUE_ROW_BYTES);
	buf_fini(&b);
	buf_fini(&body);
}

bool
queue_row_decode(struct slice row, struct queue_row *row_r)
{
	struct cursor c = cursor_of(row);
	uint8_t state = cursor_u8(&c);
	uint32_t crc = cursor_u32(&c);

	*row_r = (struct queue_row){.state = state};
	if (c.bad || crc != crc_of(slice_of(c.p, cursor_left(&c))) || (state != QUEUE_ROW_WAITING && state != QUEUE_ROW_DONE))
		return false;
	struct slice id = cursor_take(&c, SMTP_QUEUE_ID_CHARS);

	row_r->at = cursor_u32(&c);
	row_r->meta_bytes = cursor_u32(&c);
	row_r->text_bytes = cursor_u32(&c);
	if (!cursor_done(&c) || !smtp_queue_id_valid(id))
		return false;
	memcpy(row_r->id, id.p, id.n);
	return true;
}
