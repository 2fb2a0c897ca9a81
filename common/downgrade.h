/*
 * downgrade: a header for who takes no UTF-8 in it (RFC 6855 7, RFC 6856 2.1), by the rules of RFC 6858: what ASCII can carry is written in
 * ASCII, what it cannot is replaced or left out. Fields that are ASCII stay octet for octet, so a header without octets over 127 comes
 * out as it was. A pure function of the header: whoever asks gets the same octets.
 *
 *   addresses      an address whose local part is ASCII keeps it, its domain in A-labels; any other becomes
 *                  DOWNGRADE_ADDRESS, and stands, with its name, as the display name before that (RFC 6858 2.1)
 *   names, Subject, Comments, Content-Description: encoded words (RFC 2047)
 *   parameters of Content-Type and Content-Disposition: RFC 2231
 *   any other field is left out (RFC 6858 2.4); but one of Content-Type or Content-Transfer-Encoding stays, in some form
 *
 * Octets over 127 that are no UTF-8 are taken as mime_word_decode() takes them.
 */
#ifndef COMMON_DOWNGRADE_H
#define COMMON_DOWNGRADE_H

#include "common/arena.h"
#include "common/buf.h"
#include "common/mime.h"

/* It can never be anybody's (RFC 2606 2). */
#define DOWNGRADE_ADDRESS "invalid@internationalized-address.invalid"
/* Of a text field and of a display name that are written in encoded words; what is longer is cut. */
#define DOWNGRADE_TEXT_BYTES_MAX 8192
#define DOWNGRADE_NAME_BYTES_MAX 1024
/* Of a parameter's value. A longer one is left out. */
#define DOWNGRADE_PARAM_BYTES_MAX 250
/* Octets of one field that is written anew; one that needs more is left out. */
#define DOWNGRADE_FIELD_BYTES_MAX (512u * 1024)

/*
 * Appends the header block's form to out. kind is that of the entity: an embedded message/global is called message/rfc822,
 * since it is downgraded itself. *growth: how many octets more than it had it may still get, counted down; a field that
 * needs more is left out, as it is when out is full. scratch is used and reset. Behind HEADER_FIELDS_MAX fields
 * "?" stands for every octet over 127. Out holds no octet over 127 but what was in it.
 */
void downgrade_header(struct slice block, enum mime_kind kind, size_t *growth, struct arena *scratch, struct buf *out);

#endif
