/*
 * dkim_length: how long a body is in its canonical forms (RFC 6376 3.4.3, 3.4.4), whatever l= says: the library tells only
 * what it has hashed, so not whether anything follows that a signature leaves out. Pure.
 */
#ifndef SMTPD_DKIM_LENGTH_H
#define SMTPD_DKIM_LENGTH_H

#include "common/slice.h"

struct dkim_length_form {
	uint64_t octets;
	uint64_t blank_lines; /* not counted until something follows */
	bool line_begun;
	bool white; /* relaxed: a run of white space not counted yet */
};

/* Zeroed at the start. */
struct dkim_length {
	struct dkim_length_form simple;
	struct dkim_length_form relaxed;
};

/* The next octets of the body, in chunks of any size; the last line must end in CRLF. */
void dkim_length_feed(struct dkim_length *l, struct slice chunk);

#endif
