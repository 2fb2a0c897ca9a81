/*
 * The transport over OpenSSL, for both sides. Buffers are given back between records (SSL_MODE_RELEASE_BUFFERS).
 */
#include "common/mem.h"
#include "common/stream_tls_private.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

/* The most of one TLS record. */
#define RECORD_BYTES_MAX 16384

static void
set_error(struct stream *s, const char *fallback)
{
	const struct stream_tls *tls = s->tls;
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	const char *own = tls->up ? NULL : tls->side->error(tls);

	s->error = own != NULL ? own : reason != NULL ? reason : fallback;
	ERR_clear_error();
}

/* What an SSL call that did not succeed means. */
static enum xfer
unfinished(struct stream *s, int what, int errnum, int *want_r)
{
	switch (what) {
	case SSL_ERROR_WANT_READ:
		*want_r = LOOP_READ;
		return XFER_AGAIN;
	case SSL_ERROR_WANT_WRITE:
		*want_r = LOOP_WRITE;
		return XFER_AGAIN;
	case SSL_ERROR_WANT_ASYNC:
	case SSL_ERROR_WANT_ASYNC_JOB:
		*want_r = 0;
		return XFER_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return XFER_EOF;
	case SSL_ERROR_SYSCALL:
		set_error(s, errnum ? strerrordesc_np(errnum) : "the peer closed the connection");
		return XFER_ERROR;
	default:
		set_error(s, "TLS failed");
		return XFER_ERROR;
	}
}

static enum xfer
tls_read(struct stream *s, void *p, size_t n, size_t *n_r, int *want_r)
{
	struct stream_tls *tls = s->tls;

	ERR_clear_error();
	errno = 0;
	int result = SSL_read_ex(tls->ssl, p, n, n_r);

	if (result == 1)
		return XFER_OK;
	return unfinished(s, SSL_get_error(tls->ssl, result), errno, want_r);
}

static enum xfer
tls_write(struct stream *s, const void *p, size_t n, bool more, size_t *n_r, int *want_r)
{
	struct stream_tls *tls = s->tls;

	if (s->state == STREAM_STATE_TLS_FLUSH)
		return stream_clear.write(s, p, n, more, n_r, want_r);
	ERR_clear_error();
	errno = 0;
	int result = SSL_write_ex(tls->ssl, p, n, n_r);

	if (result == 1)
		return XFER_OK;
	return unfinished(s, SSL_get_error(tls->ssl, result), errno, want_r);
}

static enum xfer
tls_handshake(struct stream *s, int *want_r)
{
	struct stream_tls *tls = s->tls;

	errno = 0;
	int what = tls->side->handshake(tls);

	if (what != SSL_ERROR_NONE)
		return unfinished(s, what, errno, want_r);
	tls->up = true;
	tls->side->done(tls);
	/*
	 * "TLSv1.3" is OpenSSL's word, "TLS1.3" the one of trace headers (RFC 8314 4.3 refers to
	 * the registry's names).
	 */
	const char *version = SSL_get_version(tls->ssl);

	snprintf(tls->text, sizeof tls->text, "TLS%s %s",
	    strncmp(version, "TLSv", 4) == 0 ? version + 4 : version,
	    SSL_get_cipher_name(tls->ssl));
	return XFER_OK;
}

static bool
tls_pending(struct stream *s)
{
	const struct stream_tls *tls = s->tls;

	return SSL_pending(tls->ssl) > 0;
}

static void
tls_finish(struct stream *s)
{
	struct stream_tls *tls = s->tls;

	if (tls->up)
		(void)SSL_shutdown(tls->ssl);
	ERR_clear_error();
}

static void
tls_free(struct stream *s)
{
	struct stream_tls *tls = s->tls;

	tls->side->free(tls);
	SSL_free(tls->ssl);
	MEM_FREE(&tls);
	s->tls = NULL;
}

static const struct stream_transport transport = {
    .write_max = RECORD_BYTES_MAX,
    .read = tls_read,
    .write = tls_write,
    .handshake = tls_handshake,
    .pending = tls_pending,
    .finish = tls_finish,
    .free = tls_free,
};

void
stream_tls_begin(struct stream *s, SSL *ssl, const struct stream_tls_side *side, void *state)
{
	assert(s->tls == NULL && s->state == STREAM_STATE_OPEN);
	/* Octets sent in clear after the command must never be taken for octets under TLS. */
	buf_fini(&s->in);
	s->in_head = 0;
	s->read_off = false;
	struct stream_tls *tls = MEM_NEW(struct stream_tls);

	tls->ssl = ssl;
	tls->side = side;
	tls->state = state;
	s->tls = tls;
	s->transport = &transport;
	s->clear = s->out;
	s->out = (struct out_queue){0};
	s->state = STREAM_STATE_TLS_FLUSH;
	stream_progress(s);
	if (!s->running)
		stream_kick(s);
}

bool
stream_is_tls(const struct stream *s)
{
	const struct stream_tls *tls = s->tls;

	return tls != NULL && tls->up;
}

const char *
stream_tls_text(const struct stream *s)
{
	const struct stream_tls *tls = s->tls;

	return tls ? tls->text : "";
}

const char *
stream_tls_sni(const struct stream *s)
{
	const struct stream_tls *tls = s->tls;
	const char *name = tls ? SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name) : NULL;

	return name ? name : "";
}
