/*
 * name: what a mailbox may be called. UTF-8 without control characters, levels
 * joined by "/", none of them empty; limits in store/store.h.
 */
#ifndef STORE_NAME_H
#define STORE_NAME_H

#include "common/err.h"
#include "common/slice.h"

/* True for INBOX in any case. */
bool name_is_inbox(struct slice name);
/* The name as it is stored; ERR_CODE_BAD_NAME and -1 when it cannot be one. *name_r points into name or is a literal. */
int name_check(struct slice name, struct slice *name_r, struct err *e) __attribute__((warn_unused_result));
/* True when name is below parent in the hierarchy. */
bool name_is_below(struct slice name, struct slice parent);
/* True when a keyword of a message may be called so. */
bool name_is_keyword(struct slice name);

#endif
