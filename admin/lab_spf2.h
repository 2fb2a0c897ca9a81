/*
 * lab_spf2: libspf2's reading (admin/spf2.h) in a process without rights that is thrown away; its questions go to the
 * running server's resolver, whose answers only that process reads.
 */
#ifndef ADMIN_LAB_SPF2_H
#define ADMIN_LAB_SPF2_H

#include "admin/spf2.h"
#include "common/config.h"

#define LAB_SPF2_RESULT_SIZE 16

struct lab_spf2 {
	char result[LAB_SPF2_RESULT_SIZE];
	char reason[SPF2_REASON_SIZE];
	unsigned questions;
};

/* False after it was said why not: the process ended, or the resolver does not answer. Blocks. */
bool lab_spf2_read(const struct config *config, const struct spf2_query *q, struct lab_spf2 *read_r) __attribute__((warn_unused_result));

#endif
