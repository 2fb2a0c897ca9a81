/*
 * Contexts and certificates. Each certificate of the key role has an SSL_CTX of its own (an RSA and
 * an EC one for the same names share theirs); the client's server name chooses. A new set of
 * certificates is built beside the old one and replaces it when complete; connections keep what
 * they began with.
 *
 * Session tickets are sealed with keys that never leave the process and are replaced every
 * TICKET_KEY_MS, so that a stolen key opens little. Tickets can be turned off (tls.tickets): some
 * senders could not resume sessions and lost mail over it.
 *
 * No client certificate is ever asked for, so none can fail.
 */
#include "common/tls.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"
#include "common/tls_private.h"

#include <assert.h>
#include <openssl/async.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdlib.h>

#define TICKET_KEY_MS (UINT64_C(12) * 3600 * 1000)
/* OpenSSL: 16 octets of name, 32 each for HMAC and AES. */
#define TICKET_KEY_BYTES 80
#define KEY_CERTS_MS_MAX 10000
#define CERTS_MAX 256
#define CHAIN_CERTS_MAX 16

/* Forward secrecy and authenticated encryption only (RFC 9325 4.2). */
#define TLS12_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL:!PSK:!SRP"
#define GROUPS "X25519:P-256:P-384:P-521"

struct tls_cert {
	struct tls_cert *next;
	char *names; /* one a line, "*.example.org" among them */
	SSL_CTX *ctx;
	bool is_default;
	bool has_rsa;
	bool has_ec;
};

struct tls_server {
	struct tls_cert *certs;
	struct tls_cert *coming; /* a set that is not complete yet */
	unsigned coming_count;
	uint64_t request; /* the id of the KEY_CERTS that is being answered */
	bool tickets;
	uint64_t ticket_key_at;
	uint8_t ticket_key[TICKET_KEY_BYTES];
};

static struct tls_server *the_server;

struct tls_server *
tls_server(void)
{
	return the_server;
}

static int
ssl_failed(struct err *e, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	err_set(e, ERR_TEMP, ERR_CODE_NONE, "TLS is not available", "%s: %s", what,
	    reason ? reason : "failed");
	ERR_clear_error();
	return -1;
}

/* ---- contexts ---- */

static struct tls_cert *
cert_for_name(struct tls_cert *list, struct slice name)
{
	for (struct tls_cert *c = list; c; c = c->next) {
		struct slice rest = slice_str(c->names), one;

		while (slice_cut(&rest, '\n', &one)) {
			if (slice_eq_nocase(one, name))
				return c;
			/* A wildcard stands for exactly one label (RFC 6125 6.4.3). */
			size_t dot = slice_index(name, '.');

			if (one.n > 2 && one.p[0] == '*' && one.p[1] == '.' && dot > 0 &&
			    slice_eq_nocase(slice_sub(one, 1, one.n), slice_sub(name, dot, name.n)))
				return c;
		}
	}
	return NULL;
}

static struct tls_cert *
cert_default(struct tls_cert *list)
{
	for (struct tls_cert *c = list; c; c = c->next) {
		if (c->is_default)
			return c;
	}
	return list;
}

/* An unknown name gets the default certificate: the client judges (RFC 6066 3). */
static int
on_server_name(SSL *ssl, int *alert, void *arg)
{
	struct tls_server *t = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert;
	if (name == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	struct tls_cert *c = cert_for_name(t->certs, slice_str(name));

	if (c == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	if (c->ctx != SSL_get_SSL_CTX(ssl))
		SSL_set_SSL_CTX(ssl, c->ctx);
	return SSL_TLSEXT_ERR_OK;
}

static bool
ctx_set_up(struct tls_server *t, SSL_CTX *ctx)
{
	static const uint8_t context[] = "mailstead";
	uint64_t options = SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
			   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
			   SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_SINGLE_ECDH_USE;

	if (!t->tickets)
		options |= SSL_OP_NO_TICKET;
	SSL_CTX_set_options(ctx, options);
	SSL_CTX_set_mode(ctx, SSL_MODE_ASYNC | SSL_MODE_RELEASE_BUFFERS |
				  SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_tlsext_servername_arg(ctx, t);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_cipher_list(ctx, TLS12_CIPHERS) == 1 &&
	       SSL_CTX_set1_groups_list(ctx, GROUPS) == 1 &&
	       SSL_CTX_set_session_id_context(ctx, context, sizeof context - 1) == 1 &&
	       SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name) == 1 &&
	       SSL_CTX_set_num_tickets(ctx, t->tickets ? 1 : 0) == 1 &&
	       SSL_CTX_set_tlsext_ticket_keys(ctx, t->ticket_key, sizeof t->ticket_key) == 1;
}

static void
new_ticket_key(struct tls_server *t)
{
	if (RAND_bytes(t->ticket_key, sizeof t->ticket_key) != 1)
		abort();
	t->ticket_key_at = clock_ms();
	for (struct tls_cert *c = t->certs; c; c = c->next)
		(void)SSL_CTX_set_tlsext_ticket_keys(c->ctx, t->ticket_key, sizeof t->ticket_key);
}

static void
certs_free(struct tls_cert **list)
{
	while (*list) {
		struct tls_cert *c = *list;

		*list = c->next;
		SSL_CTX_free(c->ctx);
		free(c->names);
		free(c);
	}
}

struct tls_server *
tls_server_new(struct err *e)
{
	assert(the_server == NULL);
	/* No configuration file of the machine changes what is allowed here. */
	if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS, NULL) !=
	    1) {
		(void)ssl_failed(e, "OpenSSL");
		return NULL;
	}
	if (!tls_provider_load(e))
		return NULL;
	if (ASYNC_init_thread(TLS_JOBS_MAX, 0) != 1) {
		(void)ssl_failed(e, "ASYNC_init_thread");
		return NULL;
	}
	struct tls_server *t = MEM_NEW(struct tls_server);

	t->tickets = role_config() == NULL || config_bool(role_config(), OPT_TLS_TICKETS);
	new_ticket_key(t);
	the_server = t;
	return t;
}

bool
tls_server_ready(const struct tls_server *t)
{
	return t->certs != NULL;
}

SSL *
tls_server_ssl(struct tls_server *t)
{
	if (t->certs == NULL)
		return NULL;
	if (clock_ms() - t->ticket_key_at > TICKET_KEY_MS)
		new_ticket_key(t);
	SSL *ssl = SSL_new(cert_default(t->certs)->ctx);

	if (ssl != NULL)
		SSL_set_accept_state(ssl);
	return ssl;
}

/* ---- certificates from the key role ---- */

/* Reads the chain, leaf first; the number of certificates, 0 when it is not one. */
static unsigned
chain_read(struct slice pem, X509 *chain_r[CHAIN_CERTS_MAX])
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	unsigned n = 0;

	while (bio != NULL && n < CHAIN_CERTS_MAX) {
		X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);

		if (x == NULL)
			break;
		chain_r[n++] = x;
	}
	BIO_free(bio);
	ERR_clear_error();
	return n;
}

/* Gives ctx the leaf, the rest of its chain, and the key without a private part. */
static int
ctx_add_chain(SSL_CTX *ctx, X509 *const *chain, unsigned n, uint32_t number, struct err *e)
{
	EVP_PKEY *key = tls_provider_key(X509_get0_pubkey(chain[0]), number);

	if (key == NULL)
		return ssl_failed(e, "the certificate's key is neither RSA nor EC");
	bool ok = SSL_CTX_use_certificate(ctx, chain[0]) == 1 &&
		  SSL_CTX_use_PrivateKey(ctx, key) == 1;

	for (unsigned i = 1; i < n && ok; i++)
		ok = SSL_CTX_add1_chain_cert(ctx, chain[i]) == 1;
	EVP_PKEY_free(key);
	return ok ? 0 : ssl_failed(e, "certificate");
}

/*
 * The certificate of the coming set for the same names but with another kind of key, or a new one.
 */
static struct tls_cert *
coming_cert(struct tls_server *t, struct slice names, bool ec)
{
	for (struct tls_cert *c = t->coming; c; c = c->next) {
		if (slice_eq(slice_str(c->names), names) && !(ec ? c->has_ec : c->has_rsa))
			return c;
	}
	struct tls_cert *c = MEM_NEW(struct tls_cert), **at = &t->coming;

	c->names = mem_copy_str(names.p, names.n);
	c->ctx = SSL_CTX_new(TLS_server_method());
	while (*at)
		at = &(*at)->next;
	*at = c;
	return c;
}

static int
add_cert(struct tls_server *t, const struct msg_KEY_CERT *m, struct err *e)
{
	X509 *chain[CHAIN_CERTS_MAX];
	unsigned n = chain_read(m->chain, chain);

	if (n == 0)
		return err_set(e, ERR_TEMP, ERR_CODE_MALFORMED, "TLS is not available",
		    "no certificate in the chain");
	bool ec = EVP_PKEY_is_a(X509_get0_pubkey(chain[0]), "EC");
	struct tls_cert *c = coming_cert(t, m->names, ec);
	int result = 0;

	if (c->ctx == NULL || (!c->has_ec && !c->has_rsa && !ctx_set_up(t, c->ctx)))
		result = ssl_failed(e, "context");
	if (result == 0)
		result = ctx_add_chain(c->ctx, chain, n, m->key, e);
	c->is_default = c->is_default || m->is_default;
	c->has_ec = c->has_ec || ec;
	c->has_rsa = c->has_rsa || !ec;
	for (unsigned i = 0; i < n; i++)
		X509_free(chain[i]);
	return result;
}

static void
on_certs_gone(void *obj, const struct err *e)
{
	struct tls_server *t = obj;

	t->request = 0;
	certs_free(&t->coming);
	/* Those that are there go on; the key role's successor is asked again. */
	log_event(t->certs ? LOG_INFO : LOG_WARN, NO_SESSION, "certificates-not-received", LOG_ERR(e), LOG_END);
}

void
tls_server_key_edge(struct tls_server *t, struct edge *key)
{
	if (t->request != 0 && key != NULL)
		ipc_forget(key, t->request);
	certs_free(&t->coming);
	t->coming_count = 0;
	t->request = 0;
	if (key == NULL)
		return;
	uint64_t id = ipc_expect(key, KEY_CERTS_MS_MAX, on_certs_gone, t);

	if (id == 0)
		return;
	if (!IPC_SEND(key, KEY_CERTS, .id = id))
		ipc_forget(key, id);
	else
		t->request = id;
}

static void
on_key_cert(struct edge *key, struct msg_KEY_CERT *m)
{
	struct tls_server *t = the_server;
	struct err e;

	if (t == NULL || t->request == 0 || m->id != t->request)
		return;
	if (!slice_empty(m->chain)) {
		if (++t->coming_count > CERTS_MAX)
			return;
		if (add_cert(t, m, &e) < 0) {
			log_event(LOG_ERROR, NO_SESSION, "certificate-refused",
			    LOG_STR("names", m->names), LOG_ERR(&e), LOG_END);
			return;
		}
	}
	if (m->more)
		return;
	(void)ipc_answered(key, m->id);
	t->request = 0;
	/* An empty chain: the key role has none, so TLS can be offered no longer. */
	if (t->coming == NULL && !slice_empty(m->chain))
		return;
	certs_free(&t->certs);
	t->certs = t->coming;
	t->coming = NULL;
	log_event(LOG_INFO, NO_SESSION, "certificates", LOG_NUM("count", t->coming_count), LOG_END);
}

static void
on_key_changed(struct edge *key, struct msg_KEY_CHANGED *m)
{
	(void)m;
	if (the_server != NULL)
		tls_server_key_edge(the_server, key);
}

const struct ipc_dispatch tls_from_key = {
    .KEY_CERT = on_key_cert,
    .KEY_SIGNED = tls_sign_answer,
    .KEY_CHANGED = on_key_changed,
};
