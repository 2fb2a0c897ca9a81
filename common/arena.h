/*
 * arena: memory that lives together and dies together (a command, a session,
 * a process), with a cap in octets. Passing the cap is a limit the peer has
 * reached: the allocation returns NULL and the caller answers ERR_LIMIT.
 */
#ifndef COMMON_ARENA_H
#define COMMON_ARENA_H

#include "common/slice.h"

struct arena;

/* A new arena that gives out at most bytes_max octets between resets. */
struct arena *arena_new(size_t bytes_max) __attribute__((warn_unused_result));
/* Frees *a with all it gave out, and sets it to NULL; NULL is fine. */
void arena_free(struct arena **a);
/* Takes back all that was given out; keeps one block for reuse. */
void arena_reset(struct arena *a);
/* Octets given out since the last reset. */
size_t arena_used(const struct arena *a);

/* Zeroed, aligned for any type; NULL once the cap would be passed. */
void *arena_alloc(struct arena *a, size_t n) __attribute__((warn_unused_result));
/* n * size without overflow; NULL at the cap or on overflow. */
void *arena_array(struct arena *a, size_t n, size_t size) __attribute__((warn_unused_result));
#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))

/* Copies s; on the cap returns false and leaves *copy_r empty. */
bool arena_copy(struct arena *a, struct slice s, struct slice *copy_r)
    __attribute__((warn_unused_result));

#endif
