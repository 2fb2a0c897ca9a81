/*
 * dkim_key: key records (RFC 6376 3.6.1, RFC 8301, RFC 8463). Pure, but for
 * OpenSSL reading the key.
 */
#ifndef SMTPD_DKIM_KEY_H
#define SMTPD_DKIM_KEY_H

#include "common/buf.h"
#include "smtpd/dkim_check.h"

struct dkim_key {
	uint32_t bits;
	bool testing; /* t=y */
	bool strict;  /* t=s: i= must have exactly the domain d= */
};

/*
 * Reads a key record for a signature with the given a=. NULL when it is good: then record_r holds a record made
 * by us that says the same, fit for libopendkim (at most DKIM_KEY_BYTES_MAX octets with the NUL it adds). Else
 * a fixed text, and *result_r.
 */
const char *dkim_key_read(struct slice text, struct slice algorithm, struct dkim_key *key_r,
    struct buf *record_r, enum dkim_result *result_r);

/* Appends the DNS name of a key: selector "._domainkey." domain, in A-labels. False when it is none. */
bool dkim_key_name(struct slice selector, struct slice domain, struct buf *out);

/* The record to be used of an answer that has some: the one with a p= tag. *several_r when there is more than one (6376 3.6.2.2). */
struct slice dkim_key_pick(const struct dns_answer *answer, bool *several_r);

/* True when b (base64, white space in it) is the signature of the SHA-256 hash by the key in a record of dkim_key_read(). */
bool dkim_key_verifies(struct slice record, const uint8_t hash[32], struct slice b);
/* True when the base64 text (white space in it) says these octets. */
bool dkim_base64_is(struct slice text, const uint8_t *octets, size_t n);

#endif
