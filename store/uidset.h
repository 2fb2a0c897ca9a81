/*
 * uidset: a set of UIDs as ranges, and its form in messages: pairs of u32
 * (first, last), big-endian, ascending, not touching each other; inside the
 * message when it fits its field, else in a sealed memory file beside it.
 */
#ifndef STORE_UIDSET_H
#define STORE_UIDSET_H

#include "common/buf.h"
#include "common/err.h"

/* Every second one of a million messages. */
#define UIDSET_RANGES_MAX 524288u
#define UIDSET_RANGE_BYTES 8u
/* Octets of a uids field inside a message; of the event's. */
#define UIDSET_FIELD_BYTES_MAX 32768u
#define UIDSET_EVENT_BYTES_MAX 49152u

struct uid_range {
	uint32_t first;
	uint32_t last;
};

/* All zero is the empty set. */
struct uidset {
	struct uid_range *ranges;
	size_t n;
	size_t cap;
	bool unsorted; /* ranges were added out of order; see uidset_sort() */
};

void uidset_fini(struct uidset *set);
/* Empties it, keeps the memory. */
void uidset_reset(struct uidset *set);
/*
 * Adds first..last (in either order; 0 is ignored). Constant time. False when it would have more than
 * UIDSET_RANGES_MAX ranges: the set is as before. After additions out of order call uidset_sort().
 */
bool uidset_add(struct uidset *set, uint32_t first, uint32_t last) __attribute__((warn_unused_result));
/* Brings the ranges into ascending order and joins them. Cheap when nothing was out of order. */
void uidset_sort(struct uidset *set);

/* These need a sorted set. */
bool uidset_contains(const struct uidset *set, uint32_t uid);
/* Index of the first range whose last is >= uid; set->n when none. */
size_t uidset_seek(const struct uidset *set, uint32_t uid);
uint64_t uidset_count(const struct uidset *set);
/* Members in order: start with uid 0; false after the last. *at is the position, 0 at first. */
bool uidset_next(const struct uidset *set, size_t *at, uint32_t *uid);
/* True when both have the same members. */
bool uidset_equal(const struct uidset *a, const struct uidset *b);

/* Appends the encoded set; false past b's maximum. */
bool uidset_put(struct buf *b, const struct uidset *set);
/* Decodes into set_r (reset first). False when it is not exactly the form above. */
bool uidset_get(struct slice in, struct uidset *set_r) __attribute__((warn_unused_result));

/*
 * For sending: when the set fits, *field_r points into b (reset first) and *fd_r is -1; else *field_r is empty
 * and *fd_r a memory file for the caller to close. -1 when the kernel refuses one.
 */
int uidset_send(const struct uidset *set, struct buf *b, struct slice *field_r, int *fd_r, struct err *e)
    __attribute__((warn_unused_result));
/* The receiving side; fd stays the caller's. -1 with ERR_CODE_MALFORMED for anything that uidset_send() does not make. */
int uidset_receive(struct slice field, int fd, struct uidset *set_r, struct err *e)
    __attribute__((warn_unused_result));

#endif
