/*
 * Two contexts: one that takes what it gets, where the other choice would be no encryption at all, and one for servers that must
 * prove who they are. The former still looks at the certificate, so that the time line can say what a policy would have found.
 * No session is resumed: each handshake proves the server anew.
 */
#include "common/log.h"
#include "common/mem.h"
#include "common/stream_tls_private.h"
#include "common/tls_client.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#define USAGE_DANE_TA 2
#define USAGE_DANE_EE 3
/* Usage, selector and matching type stand before the data (RFC 6698 2.1). */
#define TLSA_HEAD_BYTES 3
#define CIPHERS_ANY "DEFAULT:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=1"
#define CIPHERS_PROVEN "HIGH:!aNULL:!eNULL:!PSK:!SRP:!MD5:!RC4:!3DES"

struct tls_client {
	SSL_CTX *any;
	SSL_CTX *proven;
};

/* Of one connection. */
struct client_state {
	struct tls_client_facts facts;
	bool demanded; /* without proof there is no connection */
};

const char *
tls_client_proof_name(enum tls_client_proof p)
{
	static const char *const names[] = {
	    [TLS_PROOF_NONE] = "none", [TLS_PROOF_CA] = "ca", [TLS_PROOF_DANE_TA] = "dane-ta", [TLS_PROOF_DANE_EE] = "dane-ee"};

	return names[p];
}

/* ---- the contexts ---- */

static void
load_authorities(SSL_CTX *ctx, const char *ca_file)
{
	if (ca_file[0] == '\0' || SSL_CTX_load_verify_file(ctx, ca_file) == 1)
		return;
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	log_event(LOG_WARN, NO_SESSION, "authorities-not-read", LOG_CSTR("file", ca_file), LOG_CSTR("error", reason ? reason : "failed"),
	    LOG_END);
	ERR_clear_error();
}

static SSL_CTX *
context_new(const char *ciphers)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (ctx == NULL)
		return NULL;
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(ctx, ciphers) == 1 &&
	    SSL_CTX_dane_enable(ctx) > 0) {
		(void)SSL_CTX_dane_set_flags(ctx, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
		return ctx;
	}
	SSL_CTX_free(ctx);
	return NULL;
}

struct tls_client *
tls_client_new(const char *ca_file, struct err *e)
{
	struct tls_client *c = MEM_NEW(struct tls_client);

	/* No configuration file of the machine changes what is allowed here. */
	if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS, NULL) == 1) {
		c->any = context_new(CIPHERS_ANY);
		c->proven = context_new(CIPHERS_PROVEN);
	}
	if (c->any == NULL || c->proven == NULL) {
		const char *reason = ERR_reason_error_string(ERR_peek_last_error());

		(void)err_set(e, ERR_TEMP, ERR_CODE_NONE, "TLS is not available", "context: %s", reason ? reason : "failed");
		ERR_clear_error();
		tls_client_free(&c);
		return NULL;
	}
	load_authorities(c->any, ca_file);
	SSL_CTX_set1_cert_store(c->proven, SSL_CTX_get_cert_store(c->any));
	return c;
}

void
tls_client_free(struct tls_client **cp)
{
	struct tls_client *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	SSL_CTX_free(c->any);
	SSL_CTX_free(c->proven);
	MEM_FREE(&c);
}

/* ---- what is asked of one connection ---- */

static unsigned
add_records(SSL *ssl, const struct tls_client_want *want)
{
	unsigned usable = 0;

	for (unsigned i = 0; i < want->tlsa_count && i < TLS_CLIENT_TLSA_MAX; i++) {
		struct slice r = want->tlsa[i];

		if (r.n <= TLSA_HEAD_BYTES || (r.p[0] != USAGE_DANE_TA && r.p[0] != USAGE_DANE_EE))
			continue;
		usable += SSL_dane_tlsa_add(ssl, r.p[0], r.p[1], r.p[2], r.p + TLSA_HEAD_BYTES, r.n - TLSA_HEAD_BYTES) > 0;
	}
	ERR_clear_error();
	return usable;
}

static bool
set_names(SSL *ssl, const struct tls_client_want *want, bool dane)
{
	char name[TLS_CLIENT_NAME_BYTES_MAX + 1];

	/* TLSA records let a common name count (RFC 7672 3.2.3). */
	SSL_set_hostflags(
	    ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | (want->check == TLS_CLIENT_NAME ? X509_CHECK_FLAG_NEVER_CHECK_SUBJECT : 0));
	for (unsigned i = 0; i < want->name_count && i < TLS_CLIENT_NAMES_MAX; i++) {
		if (want->names[i].n == 0 || !slice_cstr(want->names[i], name, sizeof name))
			return false;
		if (i == 0 && SSL_set_tlsext_host_name(ssl, name) != 1)
			return false;
		if (i == 0 && dane ? SSL_dane_enable(ssl, name) <= 0 : SSL_add1_host(ssl, name) != 1)
			return false;
	}
	return true;
}

static SSL *
ssl_new(struct tls_client *c, const struct tls_client_want *want, unsigned *usable_r)
{
	bool dane = want->check == TLS_CLIENT_DANE && want->name_count > 0;
	SSL *ssl = SSL_new(want->check == TLS_CLIENT_ANY ? c->any : c->proven);

	*usable_r = 0;
	if (ssl == NULL || !set_names(ssl, want, dane)) {
		SSL_free(ssl);
		return NULL;
	}
	if (dane)
		*usable_r = add_records(ssl, want);
	return ssl;
}

bool
tls_client_tlsa_usable(struct tls_client *c, const struct tls_client_want *want)
{
	unsigned usable;
	SSL *ssl = ssl_new(c, want, &usable);

	SSL_free(ssl);
	return usable > 0;
}

/* ---- the handshake ---- */

static int
client_handshake(struct stream_tls *tls)
{
	ERR_clear_error();
	int result = SSL_do_handshake(tls->ssl);

	return result == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, result);
}

static void
client_done(struct stream_tls *tls)
{
	struct client_state *state = tls->state;
	struct tls_client_facts *f = &state->facts;
	long result = SSL_get_verify_result(tls->ssl);
	uint8_t usage = 0;

	if (result != X509_V_OK)
		f->why = X509_verify_cert_error_string(result);
	else if (SSL_get0_dane_tlsa(tls->ssl, &usage, NULL, NULL, NULL, NULL) >= 0)
		f->proof = usage == USAGE_DANE_EE ? TLS_PROOF_DANE_EE : TLS_PROOF_DANE_TA;
	else if (SSL_get0_peername(tls->ssl) == NULL)
		f->why = "no name was asked for";
	else
		f->proof = TLS_PROOF_CA;
}

static const char *
client_error(const struct stream_tls *tls)
{
	struct client_state *state = tls->state;
	long result = SSL_get_verify_result(tls->ssl);

	if (!state->demanded || result == X509_V_OK)
		return NULL;
	return state->facts.why = X509_verify_cert_error_string(result);
}

static void
client_free(struct stream_tls *tls)
{
	struct client_state *state = tls->state;

	MEM_FREE(&state);
	tls->state = NULL;
}

static const struct stream_tls_side side = {
    .handshake = client_handshake, .done = client_done, .error = client_error, .free = client_free};

void
tls_client_start(struct stream *s, struct tls_client *c, const struct tls_client_want *want)
{
	unsigned usable;

	if (s->state != STREAM_STATE_OPEN)
		return;
	SSL *ssl = ssl_new(c, want, &usable);

	if (ssl == NULL || SSL_set_fd(ssl, s->fd) != 1) {
		SSL_free(ssl);
		ERR_clear_error();
		stream_end(s, STREAM_ERROR, "TLS cannot be begun");
		return;
	}
	struct client_state *state = MEM_NEW(struct client_state);

	state->facts = (struct tls_client_facts){.why = "", .usable = usable};
	state->demanded = want->check == TLS_CLIENT_NAME || usable > 0;
	SSL_set_verify(ssl, state->demanded ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	SSL_set_connect_state(ssl);
	stream_tls_begin(s, ssl, &side, state);
}

void
tls_client_facts(const struct stream *s, struct tls_client_facts *facts_r)
{
	const struct stream_tls *tls = s->tls;

	*facts_r = (struct tls_client_facts){.why = ""};
	if (tls != NULL && tls->side == &side)
		*facts_r = ((const struct client_state *)tls->state)->facts;
}
