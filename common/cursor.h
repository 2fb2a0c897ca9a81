/*
 * cursor: the one way that bytes from another process or from disk are read,
 * and the one way they are written. Integers are big-endian, strings have an
 * explicit length. A failed read returns zero or the empty slice and keeps
 * `bad` set: a decoder reads all its fields and checks once at the end.
 */
#ifndef COMMON_CURSOR_H
#define COMMON_CURSOR_H

#include "common/buf.h"
#include "common/slice.h"

struct cursor {
	const uint8_t *p;
	const uint8_t *end;
	bool bad;
};

static inline struct cursor
cursor_of(struct slice s)
{
	return (struct cursor){s.p, s.p ? s.p + s.n : s.p, false};
}

static inline size_t
cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->p);
}

/* n octets as they stand; empty and bad when fewer are left. */
struct slice cursor_take(struct cursor *c, size_t n);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
/* u32 length and that many octets; bad when the length passes max. The slice points into the input. */
struct slice cursor_slice(struct cursor *c, size_t max);
/* True when nothing was bad and nothing is left over. */
bool cursor_done(const struct cursor *c);

/* The writers. buf's `failed` says whether all fitted. */
void put_u8(struct buf *b, uint8_t v);
void put_u16(struct buf *b, uint16_t v);
void put_u32(struct buf *b, uint32_t v);
void put_u64(struct buf *b, uint64_t v);
void put_slice(struct buf *b, struct slice s);

#endif
