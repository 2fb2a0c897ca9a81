/*
 * dsn_private: what the files of smtpd/dsn.h share.
 */
#ifndef SMTPD_DSN_PRIVATE_H
#define SMTPD_DSN_PRIVATE_H

#include "smtpd/dsn.h"

#define DSN_LINE_CHARS 76	/* where lines are folded if they can be */
#define DSN_TOKEN_BYTES_MAX 900 /* of a word that cannot be folded; what is longer is cut */

/*
 * Appends s with line ends and tabs as spaces, and "?" for what must not stand in a text: controls, characters that turn the
 * direction of text, what is no UTF-8; without utf8 for every character outside ASCII, too.
 */
void dsn_put_safe(struct buf *b, struct slice s, bool utf8);
/* "Name: value", folded before spaces (RFC 5322 2.2.3), with its CRLF. value is safe. */
void dsn_put_field(struct buf *b, const char *name, struct slice value);
/* Words of text, in lines of DSN_LINE_CHARS that begin with so many spaces, the last one with its CRLF. text is safe. */
void dsn_put_wrapped(struct buf *b, unsigned indent, struct slice text);
/* The status to be shown: a valid one that fits the action. */
struct slice dsn_status_of(const struct dsn_recipient *r);

/* Appends the text for the person: UTF-8, lines with CRLF. header: of the original. */
void dsn_text_write(const struct dsn_report *r, struct slice header, struct arena *a, struct buf *b);
/* Appends the content of message/delivery-status, or (utf8) of message/global-delivery-status. */
void dsn_fields_write(const struct dsn_report *r, bool utf8, struct buf *b);

#endif
