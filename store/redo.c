/*
 * A change of one flag in a chunk of 36 entries differs in the checksum, the
 * flag and the modseq: patches of some forty octets instead of 872.
 */
#include "store/redo.h"

#include "common/mutant.h"

#include <assert.h>
#include <zlib.h>

#define BDB_HEADER_BYTES 16u
#define LAST_AT 17u
#define SUM_BYTES 4u
/* Equal octets between two differences that are cheaper to repeat than to skip. */
#define GAP_OCTETS 4u
#define PATCH_OVERHEAD 4u

enum { LAST_NOT, LAST_OF_ALL, LAST_MARK };

void
redo_begin(struct buf *b, uint64_t serial, unsigned part, const struct redo_durable *durable)
{
	uint32_t type = REDO_TYPE;
	uint8_t rest[BDB_HEADER_BYTES - sizeof type] = {0};

	assert(part <= UINT16_MAX);
	buf_reset(b);
	buf_put(b, &type, sizeof type);
	buf_put(b, rest, sizeof rest);
	put_u8(b, REDO_VERSION);
	put_u8(b, LAST_NOT);
	put_u16(b, (uint16_t)part);
	put_u64(b, serial);
	put_u64(b, durable->serial);
	put_u32(b, durable->file);
	put_u32(b, durable->offset);
	assert(b->failed || b->n == REDO_HEADER_BYTES);
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

static bool
end(struct buf *b, uint8_t last)
{
	if (b->failed)
		return false;
	b->p[LAST_AT] = last;
	put_u32(b, sum(b->p + BDB_HEADER_BYTES, b->n - BDB_HEADER_BYTES));
	return !b->failed;
}

bool
redo_end(struct buf *b, bool last)
{
	return end(b, last ? LAST_OF_ALL : LAST_NOT);
}

void
redo_mark(struct buf *b, const struct redo_durable *durable, const struct redo_pages *pages)
{
	redo_begin(b, 0, 0, durable);
	put_u32(b, pages->index);
	put_u32(b, pages->summary);
	bool ended = end(b, LAST_MARK);

	assert(ended);
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
redo_is_mark(struct slice record)
{
	return redo_is_ours(record) && record.n > LAST_AT && record.p[LAST_AT] == LAST_MARK;
}

static bool
has_size(size_t n)
{
	return n >= REDO_HEADER_BYTES + SUM_BYTES && n <= REDO_BYTES_MAX;
}

bool
redo_open(struct slice record, struct redo *redo_r)
{
	struct cursor c;
	uint8_t version, last;

	if (!redo_is_ours(record) || !has_size(record.n))
		return false;
	c = cursor_of(slice_sub(record, record.n - SUM_BYTES, record.n));
	if (cursor_u32(&c) != sum(record.p + BDB_HEADER_BYTES, record.n - BDB_HEADER_BYTES - SUM_BYTES) && !MUTANT(REDO_SUM))
		return false;
	c = cursor_of(slice_sub(record, BDB_HEADER_BYTES, record.n - SUM_BYTES));
	version = cursor_u8(&c);
	last = cursor_u8(&c);
	redo_r->last = last == LAST_OF_ALL;
	redo_r->mark = last == LAST_MARK;
	redo_r->part = cursor_u16(&c);
	redo_r->serial = cursor_u64(&c);
	redo_r->durable.serial = cursor_u64(&c);
	redo_r->durable.file = cursor_u32(&c);
	redo_r->durable.offset = cursor_u32(&c);
	redo_r->pages = (struct redo_pages){0, 0};
	if (redo_r->mark) {
		redo_r->pages.index = cursor_u32(&c);
		redo_r->pages.summary = cursor_u32(&c);
		if (redo_r->serial != 0 || redo_r->part != 0 || cursor_left(&c) > 0)
			return false;
	}
	redo_r->ops = c;
	return !c.bad && version == REDO_VERSION && last <= LAST_MARK;
}

/* ---- mending ---- */

/* Which octet, from 0 at first, and which bit of it gives that difference of the sums when it is flipped; false: none. */
static bool
find_flip(uint32_t difference, size_t n, size_t *octet_r, unsigned *bit_r)
{
	const z_crc_t *table = get_crc_table();
	uint8_t by_top[256];

	for (unsigned i = 0; i < 256; i++)
		by_top[table[i] >> 24] = (uint8_t)i;
	/* From the last octet on: each step back takes one octet's turn of the register away. */
	for (size_t i = n; i-- > 0;) {
		for (unsigned bit = 0; bit < 8; bit++) {
			if (difference == table[1u << bit]) {
				*octet_r = i;
				*bit_r = bit;
				return true;
			}
		}
		uint8_t step = by_top[difference >> 24];

		difference = (uint32_t)((difference ^ table[step]) << 8 | step);
	}
	return false;
}

bool
redo_mend(uint8_t *record, size_t n)
{
	uint32_t type = REDO_TYPE;
	struct redo r;
	size_t octet;
	unsigned bit;

	if (!has_size(n))
		return false;
	memcpy(record, &type, sizeof type);
	memset(record + sizeof type, 0, BDB_HEADER_BYTES - sizeof type);
	struct cursor c = cursor_of(slice_of(record + n - SUM_BYTES, SUM_BYTES));
	uint32_t difference = cursor_u32(&c) ^ sum(record + BDB_HEADER_BYTES, n - BDB_HEADER_BYTES - SUM_BYTES);

	/* One bit of the difference: of the sum itself. */
	if (difference != 0 && (difference & (difference - 1)) == 0)
		for (unsigned i = 0; i < SUM_BYTES; i++)
			record[n - SUM_BYTES + i] ^= (uint8_t)(difference >> (24 - 8 * i));
	else if (difference != 0 && find_flip(difference, n - BDB_HEADER_BYTES - SUM_BYTES, &octet, &bit))
		record[BDB_HEADER_BYTES + octet] ^= (uint8_t)(1u << bit);
	return redo_open(slice_of(record, n), &r);
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
