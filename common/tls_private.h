/*
 * The inside of TLS: contexts and certificates (tls.c), the OpenSSL provider whose keys have no
 * private part (tls_provider.c), and the request that a handshake waits for (tls_sign.c).
 * stream_tls.c puts it under a stream.
 */
#ifndef COMMON_TLS_PRIVATE_H
#define COMMON_TLS_PRIVATE_H

#include "common/slice.h"
#include "common/tls.h"

#include <openssl/ssl.h>

/* RSA keys up to 8192 bits. As the message table has it. */
#define TLS_SIGNATURE_BYTES_MAX 1024
/* Longest wait for the key role within one handshake. */
#define TLS_SIGN_MS_MAX 10000
/*
 * Handshakes that wait for the key role at once; each holds a stack of 32 KiB. More of them queue
 * for a place.
 */
#define TLS_JOBS_MAX 64

/* Registers the provider "mailstead" and prefers OpenSSL's own for all else. Once per process. */
bool tls_provider_load(struct err *e);
/*
 * A key of the provider: public's public part and the key role's number. NULL when the kind of key
 * is unknown.
 */
EVP_PKEY *tls_provider_key(EVP_PKEY *public, uint32_t number);

struct tls_signing;

/* One connection in its handshake, as tls_sign.c knows it; embedded in the connection. */
struct tls_waiter {
	void (*wake)(void *arg);
	void *arg;
	const char *error; /* why a signature failed; NULL when none did */
	struct tls_signing *signing;
	bool paused; /* its job waits for the key role */
	bool queued; /* it waits for a job */
	struct tls_waiter *next;
	struct tls_waiter *prev;
};

/*
 * One step of the handshake on behalf of w. Returns what SSL_get_error() says; SSL_ERROR_WANT_ASYNC
 * and SSL_ERROR_WANT_ASYNC_JOB mean that w->wake() will be called.
 */
int tls_sign_handshake(struct tls_waiter *w, SSL *ssl);
/* Ends a wait: nothing of w or ssl is used afterwards by a pending answer. */
void tls_sign_abandon(struct tls_waiter *w, SSL *ssl);
/* Called by the provider inside a handshake: suspends it until the key role has answered. */
bool tls_sign(uint32_t key, const char *scheme, const char *digest_name, struct slice digest,
    size_t sig_size, uint8_t *sig_r, size_t *sig_n_r);
void tls_sign_answer(struct edge *e, struct msg_KEY_SIGNED *m);

/* A connection's SSL in server state, or NULL when there is no certificate. */
SSL *tls_server_ssl(struct tls_server *t);

#endif
