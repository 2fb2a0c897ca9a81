/*
 * dkim_sign: makes DKIM signatures (RFC 6376 5, RFC 8301, RFC 8463), all but the private-key operation: the message streams
 * through, in chunks of any size, and for each key comes out the hash to be signed; what was made of it completes a
 * DKIM-Signature field. relaxed/relaxed, all of the body, no l=. Pure and linear; the header is kept in memory, the body is not.
 *
 * Which fields are signed stands in smtpd/dkim_sign.c. Those that deliver leaves out of the message when it writes it (Bcc,
 * Authentication-Results) are none of them, so the message may be signed as it came.
 */
#ifndef SMTPD_DKIM_SIGN_H
#define SMTPD_DKIM_SIGN_H

#include "common/buf.h"
#include "common/dkim_selector.h"

#define DKIM_SIGN_HEADER_BYTES_MAX (1024 * 1024) /* a bigger header is not signed */
#define DKIM_SIGN_FIELDS_MAX 64			 /* fields signed; a message that has more of these names is not signed */
#define DKIM_SIGN_NAMES_BYTES_MAX 1000		 /* of h=, not folded: the same */
#define DKIM_SIGN_FIELD_BYTES_MAX 2600		 /* of a finished DKIM-Signature field */

struct dkim_signer {
	enum dkim_algorithm algorithm;
	struct slice domain;   /* d=, in A-labels */
	struct slice selector; /* s= */
};

struct dkim_sign;

/* Never NULL. */
struct dkim_sign *dkim_sign_new(void);
/* Sets *s to NULL; NULL is fine. */
void dkim_sign_free(struct dkim_sign **s);
/* The next octets of the message. */
void dkim_sign_feed(struct dkim_sign *s, struct slice chunk);
/* The message is complete; once. NULL, or a fixed text: why it is not to be signed. */
const char *dkim_sign_end(struct dkim_sign *s);
/*
 * After dkim_sign_end() gave NULL, as often as there are keys: appends the field up to "b=" to field, and gives what the key is to
 * sign: with RSA a SHA-256 hash, with Ed25519 the same 32 octets as its message (RFC 8463 3). now: t=. False when field is full.
 */
bool dkim_sign_prepare(const struct dkim_sign *s, const struct dkim_signer *key, uint64_t now, struct buf *field, uint8_t hash_r[32])
    __attribute__((warn_unused_result));
/* Appends the signature, folded, and CRLF. False when field is full. */
bool dkim_sign_finish(struct slice signature, struct buf *field) __attribute__((warn_unused_result));

#endif
