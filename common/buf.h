/*
 * buf: octets being built, with a maximum given at init. Every put returns
 * false once the maximum would be passed, leaves the content as it was and
 * keeps `failed` set, so that a run of puts needs one check at its end.
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include "common/slice.h"

struct buf {
	uint8_t *p;
	size_t n;
	size_t cap;
	size_t max;
	bool failed;
};

/* Caller's struct; max is the most octets it may ever hold. */
void buf_init(struct buf *b, size_t max);
/* Frees the memory; the buf may be used again with the same max. */
void buf_fini(struct buf *b);
/* Empties it and clears `failed`; keeps the memory. */
void buf_reset(struct buf *b);

bool buf_put(struct buf *b, const void *p, size_t n);
bool buf_put_slice(struct buf *b, struct slice s);
bool buf_put_str(struct buf *b, const char *s);
bool buf_put_u8(struct buf *b, uint8_t c);
/* As slice_hex(). */
bool buf_put_hex(struct buf *b, struct slice s);
/* In quotes, with a backslash before each quote and backslash (RFC 5322 3.2.4, RFC 3501 4.3). */
void buf_put_quoted(struct buf *b, struct slice s);
bool buf_putf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Room for n more octets at the end, to be filled by the caller (read(2))
 * and then counted with buf_added(); NULL past the maximum.
 */
uint8_t *buf_room(struct buf *b, size_t n);
void buf_added(struct buf *b, size_t n);

/* Drops n octets from the front (moves the rest); n <= b->n. */
void buf_drop(struct buf *b, size_t n);

/* A view of the content, valid until the next change. */
static inline struct slice
buf_slice(const struct buf *b)
{
	return slice_of(b->p, b->n);
}

#endif
