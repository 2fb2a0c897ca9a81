/*
 * octets: what kinds of octets a text has: those that only some ways take (RFC 6152, RFC 3030), and lines that none does. Pure; fed in
 * chunks of any size.
 */
#ifndef SMTPD_OCTETS_H
#define SMTPD_OCTETS_H

#include "common/slice.h"

#include <stdbool.h>

#define OCTETS_LINE_MAX 998 /* RFC 5322 2.1.1, without CRLF */

struct octets {
	bool eightbit; /* octets over 127 */
	bool nul;
	bool bare_cr;
	bool bare_lf;
	bool line_too_long;
	/* between two chunks */
	bool cr;     /* the last octet was CR */
	size_t line; /* octets of the current line */
};

/* Caller's struct, all zero at first; what was found stays set. */
void octets_look(struct octets *o, struct slice chunk);
/* At the end of the text. */
void octets_end(struct octets *o);

#endif
