/*
 * tls: the server side of TLS for the fronts. Private keys are never in the process: each
 * private-key operation is sent to the key role and the handshake is suspended (OpenSSL provider
 * with SSL_MODE_ASYNC) until its answer comes.
 */
#ifndef COMMON_TLS_H
#define COMMON_TLS_H

#include "common/err.h"
#include "common/ipc.h"

struct tls_server;

/*
 * TLS 1.2 and 1.3 only, server preference, no renegotiation, no compression; to be called before
 * the sandbox closes.
 */
struct tls_server *tls_server_new(struct err *e);
/*
 * Asks the key role for its certificates over this edge: to be called when the edge comes up
 * (again); NULL when it went down. Signatures are asked of role_edge(ROLE_KEY, 0); while that is
 * NULL handshakes fail, and the certificates stay.
 */
void tls_server_key_edge(struct tls_server *t, struct edge *key);
/* True once at least one certificate is there: STARTTLS may be offered. */
bool tls_server_ready(const struct tls_server *t);
/* The process's only one, made by a front's init. */
struct tls_server *tls_server(void);

/* The front's dispatch for its edge to the key role: put into role_spec.dispatch[ROLE_KEY]. */
extern const struct ipc_dispatch tls_from_key;

#endif
