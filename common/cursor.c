#include "common/cursor.h"

#include <assert.h>

struct slice
cursor_take(struct cursor *c, size_t n)
{
	assert(c->p <= c->end);
	if (c->bad || n > cursor_left(c)) {
		c->bad = true;
		return slice_of(NULL, 0);
	}
	struct slice s = slice_of(c->p, n);

	c->p += n;
	return s;
}

static uint64_t
take_be(struct cursor *c, size_t n)
{
	struct slice s = cursor_take(c, n);
	uint64_t v = 0;

	for (size_t i = 0; i < s.n; i++)
		v = v << 8 | s.p[i];
	return v;
}

uint8_t
cursor_u8(struct cursor *c)
{
	return (uint8_t)take_be(c, 1);
}

uint16_t
cursor_u16(struct cursor *c)
{
	return (uint16_t)take_be(c, 2);
}

uint32_t
cursor_u32(struct cursor *c)
{
	return (uint32_t)take_be(c, 4);
}

uint64_t
cursor_u64(struct cursor *c)
{
	return take_be(c, 8);
}

struct slice
cursor_slice(struct cursor *c, size_t max)
{
	uint32_t n = cursor_u32(c);

	if (n > max)
		c->bad = true;
	return cursor_take(c, n);
}

bool
cursor_done(const struct cursor *c)
{
	return !c->bad && c->p == c->end;
}

static void
put_be(struct buf *b, uint64_t v, size_t n)
{
	uint8_t out[8];

	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
	buf_put(b, out, n);
}

void
put_u8(struct buf *b, uint8_t v)
{
	put_be(b, v, 1);
}

void
put_u16(struct buf *b, uint16_t v)
{
	put_be(b, v, 2);
}

void
put_u32(struct buf *b, uint32_t v)
{
	put_be(b, v, 4);
}

void
put_u64(struct buf *b, uint64_t v)
{
	put_be(b, v, 8);
}

void
put_slice(struct buf *b, struct slice s)
{
	assert(s.n <= UINT32_MAX);
	put_u32(b, (uint32_t)s.n);
	buf_put_slice(b, s);
}
