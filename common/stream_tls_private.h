/*
 * What the two sides of TLS under a stream share: stream_tls.c moves octets through an SSL; the server's side
 * (stream_tls_server.c) and the client's (stream_tls_client.c) make the SSL and do the handshake.
 */
#ifndef COMMON_STREAM_TLS_PRIVATE_H
#define COMMON_STREAM_TLS_PRIVATE_H

#include "common/stream_private.h"

#include <openssl/ssl.h>

struct stream_tls;

struct stream_tls_side {
	/* One step of the handshake; what SSL_get_error() says. WANT_ASYNC: somebody will call stream_kick(). */
	int (*handshake)(struct stream_tls *tls);
	/* The handshake has succeeded. */
	void (*done)(struct stream_tls *tls);
	/* Why the handshake failed, when this side knows better than OpenSSL; else NULL. Static text. */
	const char *(*error)(const struct stream_tls *tls);
	/* Gives back tls->state; the SSL is freed afterwards. */
	void (*free)(struct stream_tls *tls);
};

struct stream_tls {
	SSL *ssl;
	const struct stream_tls_side *side;
	void *state;
	bool up;
	char text[64];
};

/*
 * Puts ssl, which it owns and which has the socket, under s; s is open and without TLS. Input buffered in clear is discarded, output
 * queued in clear leaves first.
 */
void stream_tls_begin(struct stream *s, SSL *ssl, const struct stream_tls_side *side, void *state);

#endif
