/*
 * dns_name: domain names as mail uses them. libidn2 makes the A-labels; the
 * syntax is checked here, because libidn2 lets "a_b" and more pass.
 */
#ifndef COMMON_DNS_NAME_H
#define COMMON_DNS_NAME_H

#include "common/buf.h"
#include "common/slice.h"

#define DNS_NAME_BYTES_MAX 253 /* text form without the final dot */
#define DNS_LABEL_BYTES_MAX 63

/*
 * The name in A-label form, lower case, without a final dot, appended to out: U-labels are converted (RFC 5891,
 * non-transitional). False, with out unchanged, unless it is 1 ... 127 labels of letters, digits, hyphen (not at
 * an end) and underscore, 253 octets in all.
 */
bool dns_name_to_ascii(struct slice name, struct buf *out);
/* Labels of a name without final dot; 0 for the empty name. */
unsigned dns_name_labels(struct slice name);
/* name is parent or lies below it (ASCII case-insensitive, at a label boundary). */
bool dns_name_within(struct slice name, struct slice parent);

#endif
