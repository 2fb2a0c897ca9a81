#include "common/arena.h"

#include "common/mem.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>

/* Blocks double from 1 KiB to 64 KiB; a larger request has its own block. */
#define ARENA_BLOCK_MIN 1024
#define ARENA_BLOCK_MAX 65536

struct block {
	struct block *next;
	size_t size;
	size_t used;
	alignas(max_align_t) uint8_t data[];
};

struct arena {
	struct block *top;
	size_t bytes_max;
	size_t used;
	size_t block_next;
};

struct arena *
arena_new(size_t bytes_max)
{
	struct arena *a = MEM_NEW(struct arena);

	a->bytes_max = bytes_max;
	a->block_next = ARENA_BLOCK_MIN;
	return a;
}

static void
free_blocks(struct block *b)
{
	while (b) {
		struct block *next = b->next;

		free(b);
		b = next;
	}
}

void
arena_free(struct arena **a)
{
	if (*a == NULL)
		return;
	free_blocks((*a)->top);
	MEM_FREE(a);
}

void
arena_reset(struct arena *a)
{
	struct block *keep = a->top;

	if (keep && keep->size > ARENA_BLOCK_MAX) {
		free_blocks(keep);
		keep = NULL;
	}
	if (keep) {
		free_blocks(keep->next);
		keep->next = NULL;
		memset(keep->data, 0, keep->used);
		keep->used = 0;
	}
	a->top = keep;
	a->used = 0;
}

size_t
arena_used(const struct arena *a)
{
	return a->used;
}

static void
add_block(struct arena *a, size_t n)
{
	size_t size = a->block_next > n ? a->block_next : n;
	struct block *b = mem_new_array(1, size_add(sizeof *b, size));

	if (a->block_next < ARENA_BLOCK_MAX)
		a->block_next *= 2;
	b->size = size;
	b->next = a->top;
	a->top = b;
}

void *
arena_alloc(struct arena *a, size_t n)
{
	const size_t align = alignof(max_align_t);

	if (n > SIZE_MAX - align)
		return NULL;
	n = (n + align - 1) / align * align;
	if (n == 0)
		n = align;
	if (n > a->bytes_max - a->used)
		return NULL;
	if (a->top == NULL || n > a->top->size - a->top->used)
		add_block(a, n);

	void *p = a->top->data + a->top->used;

	a->top->used += n;
	a->used += n;
	assert(a->used <= a->bytes_max);
	return p;
}

void *
arena_array(struct arena *a, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	return arena_alloc(a, bytes);
}

bool
arena_copy(struct arena *a, struct slice s, struct slice *copy_r)
{
	void *p = arena_alloc(a, s.n);

	*copy_r = slice_of(NULL, 0);
	if (p == NULL)
		return false;
	if (s.n)
		memcpy(p, s.p, s.n);
	*copy_r = slice_of(p, s.n);
	return true;
}
