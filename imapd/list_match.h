/*
 * list_match: the wildcards of LIST and LSUB (RFC 3501 6.3.8) over names in UTF-8. Pure.
 */
#ifndef IMAPD_LIST_MATCH_H
#define IMAPD_LIST_MATCH_H

#include "common/slice.h"

/* Octets of one pattern, its reference included; nothing matches a longer one. */
#define LIST_PATTERN_BYTES_MAX 4096

/*
 * True when name matches pattern: "*" matches anything, "%" anything without "/". The name INBOX matches in any
 * case. Time is at most the product of both lengths in words of 64 octets of the pattern, whatever the wildcards.
 * Not to be called by two threads.
 */
bool list_match(struct slice pattern, struct slice name);

#endif
