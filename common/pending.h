/*
 * pending: requests that wait for an answer, by id, each with a deadline and an owner. One table
 * per edge; the ids are unique in the process, so that an answer on the wrong edge finds nothing.
 * All operations are O(log n).
 */
#ifndef COMMON_PENDING_H
#define COMMON_PENDING_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct pending;

typedef void pending_gone_fn(void *obj, const struct err *e);

struct pending_entry {
	pending_gone_fn *gone;
	void *obj;
};

/* A table of at most entries_max. */
struct pending *pending_new(unsigned entries_max) __attribute__((warn_unused_result));
/* Frees *p without a call for what still waits; NULL is fine. */
void pending_free(struct pending **p);

/* A new id that waits until deadline_ms (as clock_ms()), or 0 when the table is full. Never 0
 * otherwise, never reused. */
uint64_t pending_add(struct pending *p, uint64_t deadline_ms, struct pending_entry entry);
/* Takes the entry of id out; false when that id is not waiting. */
bool pending_take(struct pending *p, uint64_t id, struct pending_entry *entry_r);
/* The object of id, which goes on waiting; NULL when that id is not waiting. */
void *pending_find(const struct pending *p, uint64_t id);
/* Takes out the entry with the earliest deadline when that is at or before now_ms; UINT64_MAX takes
 * any. */
bool pending_take_due(struct pending *p, uint64_t now_ms, struct pending_entry *entry_r);
/* The earliest deadline, or UINT64_MAX when nothing waits. */
uint64_t pending_next_deadline(const struct pending *p);
unsigned pending_count(const struct pending *p);

#endif
