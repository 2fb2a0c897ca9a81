/*
 * The server's side. The handshake runs in OpenSSL's async mode (tls_sign.c); once it is done no private key is needed again and
 * the mode is turned off.
 */
#include "common/mem.h"
#include "common/stream_tls_private.h"
#include "common/tls_private.h"

static void
wake(void *arg)
{
	stream_kick(arg);
}

static int
server_handshake(struct stream_tls *tls)
{
	return tls_sign_handshake(tls->state, tls->ssl);
}

static void
server_done(struct stream_tls *tls)
{
	SSL_clear_mode(tls->ssl, SSL_MODE_ASYNC);
}

static const char *
server_error(const struct stream_tls *tls)
{
	const struct tls_waiter *waiter = tls->state;

	return waiter->error;
}

static void
server_free(struct stream_tls *tls)
{
	struct tls_waiter *waiter = tls->state;

	tls_sign_abandon(waiter, tls->ssl);
	MEM_FREE(&waiter);
	tls->state = NULL;
}

void
stream_starttls(struct stream *s, struct tls_server *server)
{
	static const struct stream_tls_side side = {
	    .handshake = server_handshake, .done = server_done, .error = server_error, .free = server_free};

	if (s->state != STREAM_STATE_OPEN)
		return;
	SSL *ssl = tls_server_ssl(server);

	if (ssl == NULL || SSL_set_fd(ssl, s->fd) != 1) {
		SSL_free(ssl);
		stream_end(s, STREAM_ERROR, "there is no certificate yet");
		return;
	}
	struct tls_waiter *waiter = MEM_NEW(struct tls_waiter);

	waiter->wake = wake;
	waiter->arg = s;
	stream_tls_begin(s, ssl, &side, waiter);
}
