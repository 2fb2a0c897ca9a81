/*
 * dkim_canon: the canonical forms of header fields and bodies (RFC 6376 3.4), for what libopendkim does not verify: ARC.
 * Pure, linear, streaming.
 */
#ifndef SMTPD_DKIM_CANON_H
#define SMTPD_DKIM_CANON_H

#include "common/buf.h"

#include <openssl/evp.h>

/* Appends the field (name, colon, folded value; with or without its last line end) in that form, with CRLF. */
void dkim_canon_field(struct slice field, bool relaxed, struct buf *out);
/* The field that holds the signature itself: with nothing in b=, and without CRLF (3.7). */
void dkim_canon_own_field(struct slice field, bool relaxed, struct buf *out);

#define DKIM_BODY_BLOCK_BYTES 4096

struct dkim_body {
	EVP_MD_CTX *hash; /* NULL: not begun */
	bool relaxed;
	bool any;	      /* something was hashed */
	bool line_begun;      /* the line has octets that count */
	bool white;	      /* relaxed: a run of white space not hashed yet */
	bool cr;	      /* a CR whose next octet is not known yet */
	uint64_t blank_lines; /* not hashed until something follows */
	size_t n;
	uint8_t block[DKIM_BODY_BLOCK_BYTES];
};

/* Begins a SHA-256 of the body in that form. */
void dkim_body_init(struct dkim_body *b, bool relaxed);
/* The next octets, in chunks of any size. */
void dkim_body_feed(struct dkim_body *b, struct slice chunk);
/* The hash of the whole body; an unfinished last line ends in CRLF. Once. */
void dkim_body_end(struct dkim_body *b, uint8_t hash_r[32]);
void dkim_body_fini(struct dkim_body *b);

#endif
