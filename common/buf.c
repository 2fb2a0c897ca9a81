#include "common/buf.h"

#include "common/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST 256

void
buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

void
buf_fini(struct buf *b)
{
	free(b->p);
	*b = (struct buf){.max = b->max};
}

void
buf_reset(struct buf *b)
{
	b->n = 0;
	b->failed = false;
}

uint8_t *
buf_room(struct buf *b, size_t n)
{
	assert(b->n <= b->cap && b->cap <= b->max);
	if (n > b->max - b->n) {
		b->failed = true;
		return NULL;
	}
	if (n > b->cap - b->n) {
		size_t want = b->cap < BUF_FIRST ? BUF_FIRST : b->cap;

		while (want - b->n < n)
			want = size_mul(want, 2);
		if (want > b->max)
			want = b->max;
		b->p = mem_resize(b->p, want, 1);
		b->cap = want;
	}
	return b->p + b->n;
}

void
buf_added(struct buf *b, size_t n)
{
	assert(n <= b->cap - b->n);
	b->n += n;
}

bool
buf_put(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return true;
	uint8_t *to = buf_room(b, n);

	if (to == NULL)
		return false;
	memcpy(to, p, n);
	b->n += n;
	return true;
}

bool
buf_put_slice(struct buf *b, struct slice s)
{
	return buf_put(b, s.p, s.n);
}

bool
buf_put_str(struct buf *b, const char *s)
{
	return buf_put(b, s, strlen(s));
}

bool
buf_put_u8(struct buf *b, uint8_t c)
{
	return buf_put(b, &c, 1);
}

bool
buf_put_hex(struct buf *b, struct slice s)
{
	uint8_t *to = buf_room(b, 2 * s.n);

	if (to == NULL)
		return !b->failed;
	slice_hex(s, (char *)to);
	buf_added(b, 2 * s.n);
	return true;
}

void
buf_put_quoted(struct buf *b, struct slice s)
{
	buf_put_u8(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			buf_put_u8(b, '\\');
		buf_put_u8(b, s.p[i]);
	}
	buf_put_u8(b, '"');
}

bool
buf_putf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int need = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	assert(need >= 0);

	/* vsnprintf writes a NUL too: room for it must not count against max. */
	char small[256];
	char *text = small;
	size_t n = (size_t)need;

	if (n >= sizeof small)
		text = mem_new_array(n + 1, 1);
	vsnprintf(text, n + 1, fmt, again);
	va_end(again);
	bool ok = buf_put(b, text, n);

	if (text != small)
		free(text);
	return ok;
}

void
buf_drop(struct buf *b, size_t n)
{
	assert(n <= b->n);
	b->n -= n;
	if (b->n && n)
		memmove(b->p, b->p + n, b->n);
}
