/*
 * text_part: search in the body of a part as its reader sees it (RFC 9051
 * 6.4.4: decoded and case-insensitive): transfer encoding, charset and case
 * are undone while the octets stream by, in bounded memory.
 */
#ifndef COMMON_TEXT_PART_H
#define COMMON_TEXT_PART_H

#include "common/slice.h"
#include "common/text.h"
#include "common/transfer.h"

struct text_part;

/* The body of a part with that encoding and charset (empty: US-ASCII). Never NULL. */
struct text_part *text_part_new(enum transfer_encoding encoding, struct slice charset)
    __attribute__((warn_unused_result));
void text_part_free(struct text_part **t);
/*
 * The next octets of the body, in chunks of any size; their folded text goes to
 * each of n finders, whose `found` the caller looks at. Linear in `in` times n.
 */
void text_part_feed(struct text_part *t, struct slice in, struct text_finder *finders, size_t n);
/* The end of the body. The part cannot be fed again. */
void text_part_end(struct text_part *t, struct text_finder *finders, size_t n);

#endif
