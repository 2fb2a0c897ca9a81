/*
 * mem: allocation that cannot fail quietly. When the machine has no memory
 * left the process ends (the supervisor starts it again); a limit that a
 * peer can reach is never met here but by the byte caps of arena and buf.
 */
#ifndef COMMON_MEM_H
#define COMMON_MEM_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed memory of n * size octets; never NULL. The caller frees it. */
void *mem_new_array(size_t n, size_t size) __attribute__((malloc, warn_unused_result));
#define MEM_NEW(type) ((type *)mem_new_array(1, sizeof(type)))

/* realloc to n * size octets; never NULL. New octets are not zeroed. */
void *mem_resize(void *p, size_t n, size_t size) __attribute__((warn_unused_result));

/* A heap copy of n octets with a NUL behind them. */
char *mem_copy_str(const void *p, size_t n) __attribute__((malloc, warn_unused_result));

/* Frees *p (NULL is fine) and sets it to NULL. */
#define MEM_FREE(pp)                                                                               \
	do {                                                                                       \
		free(*(pp));                                                                       \
		*(pp) = NULL;                                                                      \
	} while (0)

/* Overflow ends the process: a size that overflows is a bug of ours. */
size_t size_add(size_t a, size_t b);
size_t size_mul(size_t a, size_t b);

/* Are all n octets zero? Yes for none. */
bool mem_is_zero(const void *p, size_t n);

/* Overwrites secrets in a way the compiler keeps. */
void mem_wipe(void *p, size_t n);

#endif
