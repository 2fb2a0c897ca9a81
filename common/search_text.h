/*
 * search_text: looks for folded text in a message's object: headers with their encoded words decoded, bodies with transfer
 * encoding and charset undone (RFC 3501 6.4.4). Memory is bounded whatever the message; blocks only on the disk.
 */
#ifndef COMMON_SEARCH_TEXT_H
#define COMMON_SEARCH_TEXT_H

#include "common/summary.h"

/* Octets of one header that are looked at. */
#define SEARCH_HEADER_BYTES_MAX (1u << 20)

/* BODY: the text of all text parts, and the headers of messages within. */
bool search_body(int fd, const struct summary *sum, struct slice needle_folded);
/* The whole header as text (TEXT is this or BODY). */
bool search_header_text(int fd, const struct summary *sum, struct slice needle_folded);
/* Some field of that name has the text; an empty needle: there is such a field. */
bool search_header_field(int fd, const struct summary *sum, struct slice name, struct slice needle_folded);

#endif
