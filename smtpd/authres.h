/*
 * authres: the Authentication-Results field (RFC 8601): writing ours, and
 * finding the ones in an incoming message that claim to be ours.
 */
#ifndef SMTPD_AUTHRES_H
#define SMTPD_AUTHRES_H

#include "common/buf.h"
#include "smtpd/verdict.h"

struct facts;

/*
 * Appends "Authentication-Results: ID; spf=... dkim=... dmarc=..." folded with CRLF and a tab, ending in CRLF. Every
 * value that came from outside is a token, a quoted string, or (a domain or address) checked octet by octet;
 * nothing of it can end the field. False when b is full.
 */
bool authres_render(const struct facts *f, const struct verdict *v, struct buf *b);

/*
 * True when field (name, colon, folded value) is an Authentication-Results field with this authserv-id,
 * whatever comments, folding, letter case, quoting or version stand around it (RFC 8601 5). A field
 * whose identifier cannot be read counts as claiming to be ours.
 */
bool authres_claims(struct slice field_name, struct slice field_value, struct slice authserv_id);

#endif
