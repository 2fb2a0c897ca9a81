/*
 * sign: one message on its way through the sign role: which keys there are for its author's domain, its hash, the signatures, the
 * fields. Asks the key role over role_edge(ROLE_KEY, 0). The message is read once, from its file, in chunks: that takes all of the process
 * for as long as it takes (a tenth of a second for 25 MiB); waiting for the key role does not.
 */
#ifndef SMTPD_SIGN_H
#define SMTPD_SIGN_H

#include "common/err.h"
#include "common/ipc.h"

#define SIGN_FIELDS_BYTES_MAX 4096 /* of all DKIM-Signature fields of a message */
#define SIGN_KEY_MS 10000	   /* for one answer of the key role */

struct sign_result {
	/* ERR_NONE; ERR_TEMP: the message could not be read as announced, or the key role is away. */
	struct err err;
	struct slice fields; /* whole header fields with CRLF; empty: the message goes unsigned */
	struct slice domain; /* d= of them */
	const char *why;     /* it goes unsigned; else "" */
	unsigned signatures;
	uint8_t sha256[32]; /* of what was signed */
};

struct sign;
/* Called once; r is valid until sign_free(). It must not free the job. */
typedef void sign_done_fn(void *arg, const struct sign_result *r);

/* What must be opened before the sandbox closes. */
void sign_global_init(void);

/* Owns fd. Never NULL; done may be called before it returns only by sign_start(). */
struct sign *sign_new(int fd, uint64_t bytes, sign_done_fn *done, void *arg);
/* domain: the author's, as written. */
void sign_start(struct sign *s, struct slice domain);
/* Without calling done; sets *s to NULL; NULL is fine. */
void sign_free(struct sign **s);

/* The handlers of the edge to the key role. */
extern const struct ipc_dispatch sign_from_key;

#endif
