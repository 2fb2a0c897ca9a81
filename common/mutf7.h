/*
 * mutf7: mailbox names between modified UTF-7, as the wire has them, and UTF-8, as the store has them
 * (RFC 3501 5.1.3). Strict, so that a name has exactly one form and what was stored comes back octet for octet.
 */
#ifndef COMMON_MUTF7_H
#define COMMON_MUTF7_H

#include "common/buf.h"

/*
 * Appends the UTF-8 form of a modified UTF-7 name. False (out is as before) when it is none: an octet outside
 * 0x20-0x7e, a shift without end, bits left over, an encoded printable US-ASCII character, a null shift, a lone
 * surrogate, U+0000; or when out is full.
 */
bool mutf7_decode(struct slice name, struct buf *out) __attribute__((warn_unused_result));

/* Appends the modified UTF-7 form of UTF-8 text. False (out is as before) when s is no UTF-8 or out is full. */
bool mutf7_encode(struct slice s, struct buf *out) __attribute__((warn_unused_result));

#endif
