/*
 * A change of one flag in a chunk of 36 entries differs in the checksum, the
 * flag and the modseq: patches of some forty octets instead of 872.
 */
#include "store/redo.h"

#include <assert.h>
#include <zlib.h>

#define BDB_HEADER_BYTES 16u
/* Equal octets between two differences that are cheaper to repeat than to skip. */
#define GAP_OCTETS 4u
#define PATCH_OVERHEAD 4u

void
redo_begin(struct buf *b, uint64_t serial, unsigned part)
{
	uint32_t type = REDO_TYPE;
	uint8_t rest[BDB_HEADER_BYTES - sizeof type] = {0};

	assert(part <= UINT16_MAX);
	buf_reset(b);
	buf_put(b, &type, sizeof type);
	buf_put(b, rest, sizeof rest);
	put_u8(b, REDO_VERSION);
	put_u8(b, 0);
	put_u16(b, (uint16_t)part);
	put_u64(b, serial);
}

static void
put_head(struct buf *b, enum redo_kind kind, struct slice key)
{
	assert(key.n > 0 && key.n <= UINT16_MAX);
	put_u8(b, (uint8_t)kind);
	put_u16(b, (uint16_t)key.n);
	buf_put_slice(b, key);
}

void
redo_put(struct buf *b, struct slice key, struct slice value)
{
	put_head(b, REDO_PUT, key);
	put_slice(b, value);
}

void
redo_delete(struct buf *b, struct slice key)
{
	put_head(b, REDO_DELETE, key);
}

/* The next run of differing octets at or after *from; false when there is none. */
static bool
next_run(struct slice old, struct slice value, size_t *from, size_t *end_r)
{
	size_t at = *from, same = 0;

	while (at < value.n && old.p[at] == value.p[at])
		at++;
	if (at == value.n)
		return false;
	*from = at;
	*end_r = at + 1;
	for (at++; at < value.n && same <= GAP_OCTETS; at++) {
		if (old.p[at] == value.p[at]) {
			same++;
		} else {
			same = 0;
			*end_r = at + 1;
		}
	}
	return true;
}

void
redo_change(struct buf *b, struct slice key, struct slice old, struct slice value)
{
	size_t bytes = 2, count = 0, end;

	if (old.n != value.n || value.n > UINT16_MAX) {
		redo_put(b, key, value);
		return;
	}
	for (size_t at = 0; next_run(old, value, &at, &end); at = end) {
		bytes += PATCH_OVERHEAD + (end - at);
		count++;
	}
	if (bytes >= value.n + 4 || count > UINT16_MAX) {
		redo_put(b, key, value);
		return;
	}
	put_head(b, REDO_PATCH, key);
	put_u16(b, (uint16_t)count);
	for (size_t at = 0; next_run(old, value, &at, &end); at = end) {
		put_u16(b, (uint16_t)at);
		put_u16(b, (uint16_t)(end - at));
		buf_put(b, value.p + at, end - at);
	}
}

static uint32_t
sum(const uint8_t *p, size_t n)
{
	return (uint32_t)crc32(0, p, (uInt)n);
}

bool
redo_end(struct buf *b, bool last)
{
	if (b->failed)
		return false;
	b->p[BDB_HEADER_BYTES + 1] = last;
	put_u32(b, sum(b->p + BDB_HEADER_BYTES, b->n - BDB_HEADER_BYTES));
	return !b->failed;
}

bool
redo_is_ours(struct slice record)
{
	uint32_t type;

	if (record.n < sizeof type)
		return false;
	memcpy(&type, record.p, sizeof type);
	return type == REDO_TYPE;
}

bool
redo_open(struct slice record, struct redo *redo_r)
{
	struct cursor c;
	uint8_t version, last;

	if (!redo_is_ours(record) || record.n < REDO_HEADER_BYTES + 4 || record.n > REDO_BYTES_MAX)
		return false;
	c = cursor_of(slice_sub(record, record.n - 4, record.n));
	if (cursor_u32(&c) != sum(record.p + BDB_HEADER_BYTES, record.n - BDB_HEADER_BYTES - 4))
		return false;
	c = cursor_of(slice_sub(record, BDB_HEADER_BYTES, record.n - 4));
	version = cursor_u8(&c);
	last = cursor_u8(&c);
	redo_r->last = last == 1;
	redo_r->part = cursor_u16(&c);
	redo_r->serial = cursor_u64(&c);
	redo_r->ops = c;
	return !c.bad && version == REDO_VERSION && last <= 1;
}

static void
skip_patches(struct cursor *c, unsigned count)
{
	for (unsigned i = 0; i < count && !c->bad; i++) {
		(void)cursor_u16(c);
		(void)cursor_take(c, cursor_u16(c));
	}
}

bool
redo_next(struct redo *r, struct redo_op *op_r)
{
	struct cursor *c = &r->ops;

	if (c->bad || cursor_left(c) == 0)
		return false;
	*op_r = (struct redo_op){.kind = (enum redo_kind)cursor_u8(c)};
	op_r->key = cursor_take(c, cursor_u16(c));
	switch (op_r->kind) {
	case REDO_PUT:
		op_r->value = cursor_slice(c, REDO_BYTES_MAX);
		break;
	case REDO_DELETE:
		break;
	case REDO_PATCH:
		op_r->patch_count = cursor_u16(c);
		op_r->patches = *c;
		skip_patches(c, op_r->patch_count);
		break;
	default:
		c->bad = true;
	}
	if (op_r->key.n == 0)
		c->bad = true;
	return !c->bad;
}

void
redo_patch(const struct redo_op *op, uint8_t *value, size_t n)
{
	struct cursor c = op->patches;

	assert(op->kind == REDO_PATCH);
	for (unsigned i = 0; i < op->patch_count; i++) {
		size_t at = cursor_u16(&c);
		struct slice octets = cursor_take(&c, cursor_u16(&c));

		assert(!c.bad);
		if (at <= n && octets.n <= n - at && octets.n > 0)
			memcpy(value + at, octets.p, octets.n);
	}
}
