/*
 * sts_cache: policies that were fetched, in memory and in STATE/sts, one file for each domain, so that a restart does not open the
 * door that they close (RFC 8461 10.2). A file is "MSTS1 ID FETCHED EXPIRES\n" and the policy; it is replaced as a whole. What cannot
 * be read is as if it had never been fetched. Blocks on the disk.
 */
#ifndef SMTPD_STS_CACHE_H
#define SMTPD_STS_CACHE_H

#include "common/err.h"
#include "common/name_table.h"
#include "smtpd/sts_policy.h"

#define STS_CACHE_POLICIES_MAX 10000 /* past it the one that ends first makes room */

struct sts_entry {
	struct name_link link; /* by domain */
	struct sts_entry *next, *previous;
	char id[STS_ID_CHARS_MAX + 1];
	uint64_t fetched; /* seconds since 1970 */
	uint64_t expires;
	struct sts_policy policy; /* its slices point into text */
	uint8_t *text;
	size_t text_bytes;
	char domain[];
};

/* Reads what is in dir, which exists; now: seconds since 1970, at which what has expired is removed. -1 and e when dir cannot be read. */
int sts_cache_open(const char *dir, uint64_t now, struct err *e);
/* NULL: none that has not expired. Valid until the next sts_cache_put(). */
struct sts_entry *sts_cache_find(struct slice domain, uint64_t now);
/* Takes a policy over; text is one, and is copied. A failure of the disk is logged: it is in memory then. */
struct sts_entry *sts_cache_put(struct slice domain, struct slice id, uint64_t now, struct slice text);
void sts_cache_close(void);

#endif
