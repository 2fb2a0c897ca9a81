/*
 * mime_word: RFC 2047 encoded words in header text, to UTF-8.
 */
#ifndef COMMON_MIME_WORD_H
#define COMMON_MIME_WORD_H

#include "common/buf.h"
#include "common/slice.h"

#define MIME_WORD_BYTES_MAX 1024 /* a longer "=?...?=" is left as text (RFC 2047 2 allows 75) */

/*
 * Appends the text of a header value to out: unfolded, encoded words decoded,
 * white space between two of them dropped (RFC 2047 6.2), raw octets over 127
 * taken as UTF-8 when they are and as windows-1252 when not. Words of one
 * charset that follow each other are converted together, since senders split characters
 * between them. Line ends and NUL never come out. What is no valid word stays
 * as it is. False when out's maximum was reached; out then holds a prefix of the text.
 */
bool mime_word_decode(struct slice value, struct buf *out);

#endif
