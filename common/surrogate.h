/*
 * surrogate: a message for who takes no UTF-8 in headers (RFC 6855 7): the same message with every header downgraded
 * (common/downgrade.h), its own and those of parts and embedded messages, as far as its structure is known; bodies stay octet
 * for octet. It is a message like any other: all that is told of it, sizes too, comes from its own summary. The same message
 * gives the same surrogate.
 */
#ifndef COMMON_SURROGATE_H
#define COMMON_SURROGATE_H

#include "common/err.h"
#include "common/summary.h"

/* Octets that a surrogate may have over its message; past it fields are left out. */
#define SURROGATE_GROWTH_BYTES_MAX (8u << 20)
/* Octets of a header that are looked at as fields; in what is beyond "?" stands for each octet over 127. */
#define SURROGATE_HEADER_BYTES_MAX (1u << 20)

struct surrogate {
	int fd; /* a memory file */
	uint64_t octets;
	struct buf encoded;
	struct summary summary; /* points into encoded */
};

/*
 * Makes the surrogate of the message in fd, of which sum is told. 1: s_r is it, to be given back by surrogate_fini(); 0: the message
 * needs none, its headers are ASCII; -1 and e: it cannot be read, or sum is not of it, or there is no room. Memory is the
 * file and a few MiB. Blocks on the disk.
 */
int surrogate_make(int fd, const struct summary *sum, struct surrogate *s_r, struct err *e) __attribute__((warn_unused_result));
void surrogate_fini(struct surrogate *s);
/* How long the surrogate is, without making it: only headers are read. Returns as surrogate_make() does. */
int surrogate_measure(int fd, const struct summary *sum, uint64_t *octets_r, struct err *e) __attribute__((warn_unused_result));

#endif
