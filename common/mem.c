#include "common/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
mem_die(const char *why)
{
	fprintf(stderr, "level=bug event=memory why=\"%s\"\n", why);
	abort();
}

size_t
size_add(size_t a, size_t b)
{
	size_t r;

	if (__builtin_add_overflow(a, b, &r))
		mem_die("size overflow");
	return r;
}

size_t
size_mul(size_t a, size_t b)
{
	size_t r;

	if (__builtin_mul_overflow(a, b, &r))
		mem_die("size overflow");
	return r;
}

void *
mem_new_array(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (p == NULL)
		mem_die("out of memory");
	return p;
}

void *
mem_resize(void *p, size_t n, size_t size)
{
	size_t bytes = size_mul(n, size);
	void *q = realloc(p, bytes ? bytes : 1);

	if (q == NULL)
		mem_die("out of memory");
	return q;
}

char *
mem_copy_str(const void *p, size_t n)
{
	char *s = mem_new_array(size_add(n, 1), 1);

	if (n)
		memcpy(s, p, n);
	return s;
}

bool
mem_is_zero(const void *p, size_t n)
{
	const char *octets = p;

	return n == 0 || (octets[0] == 0 && memcmp(octets, octets + 1, n - 1) == 0);
}

void
mem_wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
}
