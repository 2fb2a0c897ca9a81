/*
 * Whole TLS handshakes between OpenSSL as a client and a stream that has no private key: the key
 * role's code is at the other end of a real edge, in this process. Both kinds of key, both
 * versions, server names, tickets, relay, a hundred at once, and a key role that is away, silent or
 * dies in the middle.
 */
#include "authd/key.h"
#include "common/role.h"
#include "common/stream.h"
#include "common/tls.h"

#include <check.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 100

/* Stands in for common/role.c: this process is a front with an edge to a key role. */
static struct edge *front_edge;

struct edge *
role_edge(enum role peer, uint32_t instance)
{
	ck_assert(peer == ROLE_KEY && instance == 0);
	return front_edge;
}

const struct config *
role_config(void)
{
	return NULL;
}

static struct loop *loop;
static struct edge *key_edge;
static bool key_silent;
static struct key_store *keys;

struct client {
	struct stream *stream; /* the server's end */
	SSL *ssl;
	int fd;
	bool connected;
	bool failed;
	bool server_ready;
	bool server_ended;
	bool relay;
	enum stream_end why;
	struct buf got; /* at the server */
};

static struct client clients[CLIENTS_MAX];
static SSL_CTX *client_ctx;

/* ---- certificates made here ---- */

static EVP_PKEY *
make_key(const char *kind)
{
	if (strcmp(kind, "EC") == 0)
		return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	if (strcmp(kind, "RSA1024") == 0)
		return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024);
	return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
}

static void
pem_text(BIO *bio, char text_r[16384])
{
	int n = BIO_read(bio, text_r, 16383);

	ck_assert_int_gt(n, 0);
	text_r[n] = '\0';
	BIO_free(bio);
}

static void
make_pair(EVP_PKEY *key, const char *san, char cert_r[16384], char key_r[16384])
{
	X509 *x = X509_new();
	BIO *bio = BIO_new(BIO_s_mem());

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
	    (const unsigned char *)"common.test", -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	if (san) {
		X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);

		X509_add_ext(x, ext, -1);
		X509_EXTENSION_free(ext);
	}
	X509_set_pubkey(x, key);
	ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
	PEM_write_bio_X509(bio, x);
	pem_text(bio, cert_r);
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	pem_text(bio, key_r);
	X509_free(x);
}

static int
add_pair(const char *kind, const char *san, struct err *e)
{
	char cert[16384], pem[16384];
	EVP_PKEY *key = make_key(kind);

	make_pair(key, san, cert, pem);
	EVP_PKEY_free(key);
	return key_store_add(keys, slice_str(cert), slice_str(pem), e);
}

/* ---- the edge ---- */

static void
maybe_sign(struct edge *e, struct msg_KEY_SIGN *m)
{
	if (!key_silent)
		key_from_front.KEY_SIGN(e, m);
}

static struct ipc_dispatch key_dispatch;

static void
front_down(struct edge *e, void *arg)
{
	(void)arg;
	ck_assert_ptr_eq(e, front_edge);
	front_edge = NULL;
	edge_free(&e);
	tls_server_key_edge(tls_server(), NULL);
}

static void
key_down(struct edge *e, void *arg)
{
	(void)arg;
	key_edge = NULL;
	edge_free(&e);
}

static void
connect_edge(void)
{
	static const struct edge_events front_events = {.on_down = front_down},
					key_events = {.on_down = key_down};
	int fds[2];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	front_edge = edge_new(loop, fds[0], ROLE_POP3_FRONT,
	    (struct edge_peer){.role = ROLE_KEY, .generation = 1}, &tls_from_key, &front_events,
	    NULL);
	key_edge = edge_new(loop, fds[1], ROLE_KEY,
	    (struct edge_peer){.role = ROLE_POP3_FRONT, .generation = 2}, &key_dispatch,
	    &key_events, NULL);
	tls_server_key_edge(tls_server(), front_edge);
}

/* ---- clients ---- */

static void
on_ready(struct stream *s, void *arg)
{
	struct client *c = arg;
	struct slice in = stream_input(s);

	c->server_ready = true;
	buf_put_slice(&c->got, in);
	stream_write(s, in);
	stream_consume(s, in.n);
}

static void
on_end(struct stream *s, void *arg, enum stream_end why)
{
	struct client *c = arg;

	(void)s;
	c->server_ended = true;
	c->why = why;
}

static void
client_open(struct client *c)
{
	static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};
	int fds[2];

	*c = (struct client){0};
	buf_init(&c->got, 1 << 20);
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	c->fd = fds[0];
	c->stream = stream_new(loop, fds[1], 65536, &events, c);
	c->ssl = SSL_new(client_ctx);
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_connect_state(c->ssl);
	stream_starttls(c->stream, tls_server());
}

static void
client_close(struct client *c)
{
	stream_free(&c->stream);
	SSL_free(c->ssl);
	c->ssl = NULL;
	close(c->fd);
	buf_fini(&c->got);
}

static void
stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void
turn(void)
{
	struct loop_timer *t = loop_timer_new(loop, stop, NULL);

	loop_timer_set(t, 1);
	loop_run(loop);
	loop_timer_free(&t);
}

static void
client_step(struct client *c)
{
	if (c->connected || c->failed)
		return;
	ERR_clear_error();
	int r = SSL_do_handshake(c->ssl), what = SSL_get_error(c->ssl, r);

	if (r == 1)
		c->connected = true;
	else if (what != SSL_ERROR_WANT_READ && what != SSL_ERROR_WANT_WRITE)
		c->failed = true;
}

/* Lets n clients shake hands; all of them must come to an end. */
static void
shake(unsigned n)
{
	uint64_t until = clock_ms() + 20000;
	bool open = true;

	while (open) {
		ck_assert_uint_lt(clock_ms(), until);
		turn();
		open = false;
		for (unsigned i = 0; i < n; i++) {
			client_step(&clients[i]);
			open = open ||
			       !(clients[i].failed ||
				   (clients[i].connected && clients[i].server_ready)) ||
			       (clients[i].failed && !clients[i].server_ended);
		}
	}
}

static void
echo(struct client *c, const char *text)
{
	char back[64] = "";
	int n = 0;

	ck_assert_int_eq(SSL_write(c->ssl, text, (int)strlen(text)), (int)strlen(text));
	for (int i = 0; i < 1000 && n <= 0; i++) {
		turn();
		n = SSL_read(c->ssl, back, sizeof back - 1);
	}
	ck_assert_str_eq(back, text);
}

static void
setup(void)
{
	struct err e;

	loop = loop_new();
	keys = key_store_new();
	key_serve(keys);
	key_silent = false;
	key_dispatch = key_from_front;
	key_dispatch.KEY_SIGN = maybe_sign;
	client_ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_verify(client_ctx, SSL_VERIFY_NONE, NULL);
	ck_assert_ptr_nonnull(tls_server_new(&e));
	ck_assert(!tls_server_ready(tls_server()));
}

static void
teardown(void)
{
	key_store_free(&keys);
	ck_assert_ptr_null(keys);
}

static void
use(const char *kind, const char *san)
{
	struct err e = {0};

	if (add_pair(kind, san, &e) < 0)
		ck_abort_msg("%s", e.detail);
	if (front_edge)
		tls_server_key_edge(tls_server(), front_edge);
	else
		connect_edge();
	for (int i = 0; i < 20; i++)
		turn();
	ck_assert(tls_server_ready(tls_server()));
}

static const struct {
	const char *kind;
	int version;
	const char *ciphers12;
	const char *text;
} handshakes[] = {
    {"RSA", TLS1_3_VERSION, NULL, "TLS1.3 TLS_AES_256_GCM_SHA384"},
    {"EC", TLS1_3_VERSION, NULL, "TLS1.3 TLS_AES_256_GCM_SHA384"},
    {"RSA", TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", "TLS1.2 ECDHE-RSA-AES128-GCM-SHA256"},
    {"EC", TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS1.2 ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"RSA", TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305", "TLS1.2 ECDHE-RSA-CHACHA20-POLY1305"},
};

START_TEST(handshake_kinds)
{
	use(handshakes[_i].kind, "DNS:mail.test");
	SSL_CTX_set_min_proto_version(client_ctx, handshakes[_i].version);
	SSL_CTX_set_max_proto_version(client_ctx, handshakes[_i].version);
	if (handshakes[_i].ciphers12)
		ck_assert_int_eq(SSL_CTX_set_cipher_list(client_ctx, handshakes[_i].ciphers12), 1);
	client_open(&clients[0]);
	shake(1);
	if (!clients[0].connected)
		ck_abort_msg("%s", stream_error(clients[0].stream));
	ck_assert(stream_is_tls(clients[0].stream));
	ck_assert_str_eq(stream_tls_text(clients[0].stream), handshakes[_i].text);
	echo(&clients[0], "hello");
	client_close(&clients[0]);
}
END_TEST

/* TLS 1.2 with RSA picks PKCS1 when the client offers no PSS. */
START_TEST(rsa_pkcs1)
{
	use("RSA", "DNS:mail.test");
	SSL_CTX_set_max_proto_version(client_ctx, TLS1_2_VERSION);
	ck_assert_int_eq(SSL_CTX_set1_sigalgs_list(client_ctx, "RSA+SHA256"), 1);
	client_open(&clients[0]);
	shake(1);
	ck_assert(clients[0].connected);
	int type = 0;

	ck_assert_int_eq(SSL_get_peer_signature_type_nid(clients[0].ssl, &type), 1);
	ck_assert_int_eq(type, EVP_PKEY_RSA);
	client_close(&clients[0]);
}
END_TEST

START_TEST(old_versions_and_key_exchanges_are_refused)
{
	use("RSA", "DNS:mail.test");
	SSL_CTX_set_security_level(client_ctx, 0);
	SSL_CTX_set_min_proto_version(client_ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(client_ctx, TLS1_1_VERSION);
	client_open(&clients[0]);
	shake(1);
	ck_assert(clients[0].failed);
	ck_assert_int_eq(clients[0].why, STREAM_ERROR);
	client_close(&clients[0]);

	SSL_CTX_set_max_proto_version(client_ctx, TLS1_2_VERSION);
	ck_assert_int_eq(SSL_CTX_set_cipher_list(client_ctx, "AES128-GCM-SHA256:AES256-SHA"), 1);
	client_open(&clients[0]);
	shake(1);
	ck_assert(clients[0].failed);
	client_close(&clients[0]);
}
END_TEST

static void
peer_name(struct client *c, char text_r[256])
{
	X509 *x = SSL_get1_peer_certificate(c->ssl);
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	const ASN1_STRING *s = sk_GENERAL_NAME_value(names, 0)->d.dNSName;

	snprintf(
	    text_r, 256, "%.*s", ASN1_STRING_length(s), (const char *)ASN1_STRING_get0_data(s));
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	X509_free(x);
}

START_TEST(server_name_chooses)
{
	static const struct {
		const char *ask, *get;
	} cases[] = {
	    {"second.test", "second.test"},
	    {"SECOND.test", "second.test"},
	    {"a.wild.test", "*.wild.test"},
	    {"a.b.wild.test", "first.test"},
	    {"wild.test", "first.test"},
	    {"unknown.test", "first.test"},
	    {NULL, "first.test"},
	};

	use("RSA", "DNS:first.test");
	use("EC", "DNS:second.test,DNS:also.test");
	use("EC", "DNS:*.wild.test");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char name[256];

		client_open(&clients[0]);
		if (cases[i].ask)
			SSL_set_tlsext_host_name(clients[0].ssl, cases[i].ask);
		shake(1);
		ck_assert(clients[0].connected);
		peer_name(&clients[0], name);
		ck_assert_str_eq(name, cases[i].get);
		ck_assert_str_eq(
		    stream_tls_sni(clients[0].stream), cases[i].ask ? cases[i].ask : "");
		client_close(&clients[0]);
	}
}
END_TEST

START_TEST(both_kinds_for_one_name)
{
	static const struct {
		const char *sigalgs;
		const char *kind;
	} cases[] = {{"ECDSA+SHA256", "EC"}, {"RSA-PSS+SHA256", "RSA"}};

	use("RSA", "DNS:mail.test");
	use("EC", "DNS:mail.test");
	for (int i = 0; i < 2; i++) {
		client_open(&clients[0]);
		SSL_set1_sigalgs_list(clients[0].ssl, cases[i].sigalgs);
		shake(1);
		ck_assert(clients[0].connected);
		X509 *x = SSL_get1_peer_certificate(clients[0].ssl);

		ck_assert(EVP_PKEY_is_a(X509_get0_pubkey(x), cases[i].kind));
		X509_free(x);
		client_close(&clients[0]);
	}
}
END_TEST

START_TEST(tickets_resume)
{
	use("EC", "DNS:mail.test");
	SSL_CTX_set_session_cache_mode(client_ctx, SSL_SESS_CACHE_CLIENT);
	client_open(&clients[0]);
	shake(1);
	echo(&clients[0], "ticket please");
	SSL_SESSION *session = SSL_get1_session(clients[0].ssl);

	ck_assert(SSL_SESSION_is_resumable(session));
	/* Without a shutdown OpenSSL's client forgets the session. */
	SSL_shutdown(clients[0].ssl);
	client_close(&clients[0]);
	/* Resuming needs no signature. */
	key_silent = true;
	client_open(&clients[0]);
	SSL_set_session(clients[0].ssl, session);
	shake(1);
	if (!clients[0].connected)
		ck_abort_msg("%s", stream_error(clients[0].stream));
	ck_assert(SSL_session_reused(clients[0].ssl));
	echo(&clients[0], "resumed");
	client_close(&clients[0]);
	SSL_SESSION_free(session);
}
END_TEST

START_TEST(client_certificate_is_no_problem)
{
	char cert[16384], pem[16384];
	EVP_PKEY *key = make_key("EC");

	use("RSA", "DNS:mail.test");
	make_pair(key, "DNS:client.test", cert, pem);
	BIO *bio = BIO_new_mem_buf(cert, -1);
	X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	SSL_CTX_use_certificate(client_ctx, x);
	SSL_CTX_use_PrivateKey(client_ctx, key);
	client_open(&clients[0]);
	shake(1);
	ck_assert(clients[0].connected);
	client_close(&clients[0]);
	BIO_free(bio);
	X509_free(x);
	EVP_PKEY_free(key);
}
END_TEST

START_TEST(a_hundred_at_once)
{
	use("RSA", "DNS:mail.test");
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		client_open(&clients[i]);
	shake(CLIENTS_MAX);
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		ck_assert(clients[i].connected);
		echo(&clients[i], "hello");
		client_close(&clients[i]);
	}
}
END_TEST

/* More handshakes wait for the key role than there are jobs; some clients leave meanwhile. */
START_TEST(waiting_for_a_place)
{
	use("EC", "DNS:mail.test");
	key_silent = true;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		client_open(&clients[i]);
	for (int n = 0; n < 30; n++) {
		turn();
		for (unsigned i = 0; i < CLIENTS_MAX; i++)
			client_step(&clients[i]);
	}
	/* The first 70 go: jobs and places in the queue come free. */
	for (unsigned i = 0; i < 70; i++)
		client_close(&clients[i]);
	key_silent = false;
	for (int n = 0; n < 200; n++) {
		turn();
		for (unsigned i = 70; i < CLIENTS_MAX; i++)
			client_step(&clients[i]);
	}
	for (unsigned i = 70; i < CLIENTS_MAX; i++) {
		ck_assert(clients[i].connected);
		client_close(&clients[i]);
	}
}
END_TEST

START_TEST(key_role_dies_in_the_middle)
{
	use("RSA", "DNS:mail.test");
	key_silent = true;
	for (unsigned i = 0; i < 10; i++)
		client_open(&clients[i]);
	for (int n = 0; n < 10; n++) {
		turn();
		for (unsigned i = 0; i < 10; i++)
			client_step(&clients[i]);
	}
	edge_free(&key_edge);
	shake(10);
	for (unsigned i = 0; i < 10; i++) {
		ck_assert(clients[i].failed);
		ck_assert_int_eq(clients[i].why, STREAM_ERROR);
		ck_assert_str_eq(stream_error(clients[i].stream), "the key role is away");
		client_close(&clients[i]);
	}
	/* While it is away: the same, at once. */
	ck_assert_ptr_null(front_edge);
	client_open(&clients[0]);
	shake(1);
	ck_assert(clients[0].failed);
	client_close(&clients[0]);
	/* It is back: all is well again. */
	key_silent = false;
	connect_edge();
	client_open(&clients[0]);
	shake(1);
	ck_assert(clients[0].connected);
	client_close(&clients[0]);
}
END_TEST

/* A session that takes its command and begins TLS while there is more: what the fronts do. */
static void
on_command(struct stream *s, void *arg)
{
	struct client *c = arg;
	struct slice in = stream_input(s);

	if (stream_is_tls(s)) {
		on_ready(s, arg);
		return;
	}
	ck_assert_uint_eq(in.n, 14);
	stream_consume(s, 6);
	stream_write_str(s, "+OK begin\r\n");
	stream_starttls(s, tls_server());
	ck_assert_uint_eq(stream_input(s).n, 0);
	c->server_ready = false;
}

/* Octets in clear that are here already when TLS begins: not input any more, then and later. */
START_TEST(input_behind_the_command_is_dropped)
{
	static const struct stream_events events = {.on_ready = on_command, .on_end = on_end};
	struct client *c = &clients[0];
	int fds[2];
	char text[64] = "";

	use("EC", "DNS:mail.test");
	*c = (struct client){0};
	buf_init(&c->got, 65536);
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	c->fd = fds[0];
	c->stream = stream_new(loop, fds[1], 65536, &events, c);
	ck_assert_int_eq(write(c->fd, "STLS\r\nDELE 1\r\n", 14), 14);
	for (int i = 0; i < 5; i++)
		turn();
	ck_assert_int_eq(read(c->fd, text, sizeof text), 11);
	ck_assert_str_eq(text, "+OK begin\r\n");
	c->ssl = SSL_new(client_ctx);
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_connect_state(c->ssl);
	shake(1);
	ck_assert(c->connected);
	ck_assert_uint_eq(c->got.n, 0);
	/* What comes back is all that the session has read. */
	echo(c, "NOOP\r\n");
	ck_assert(slice_eq(buf_slice(&c->got), SLICE("NOOP\r\n")));
	client_close(c);
}
END_TEST

/* What a session has consumed itself is gone as well, and what it says after the command waits for TLS. */
START_TEST(clear_input_is_dropped)
{
	static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};
	int fds[2];
	char text[64] = "";

	use("EC", "DNS:mail.test");
	struct client *c = &clients[0];

	*c = (struct client){0};
	buf_init(&c->got, 65536);
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	c->fd = fds[0];
	c->stream = stream_new(loop, fds[1], 65536, &events, c);
	stream_read_enable(c->stream, false);
	/*
	 * As a session does that sees STLS and, behind it in one segment, a command of the
	 * attacker.
	 */
	ck_assert_int_eq(write(c->fd, "STLS\r\nDELE 1\r\n", 14), 14);
	stream_read_enable(c->stream, true);
	turn();
	ck_assert_uint_eq(c->got.n, 14); /* read before: the session's own affair */
	c->got.n = 0;
	stream_write_str(c->stream, "+OK begin\r\n");
	stream_starttls(c->stream, tls_server());
	/* Output that comes after it waits for TLS. */
	stream_write_str(c->stream, "secret");
	for (int i = 0; i < 5; i++)
		turn();
	ssize_t n = read(c->fd, text, sizeof text);

	ck_assert(slice_eq(slice_of(text, (size_t)n), SLICE("STLS\r\nDELE 1\r\n+OK begin\r\n")));
	c->ssl = SSL_new(client_ctx);
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_connect_state(c->ssl);
	c->server_ready = false;
	shake(1);
	ck_assert(c->connected);
	for (int i = 0; i < 5; i++)
		turn();
	ck_assert_int_eq(SSL_read(c->ssl, text, sizeof text), 6);
	ck_assert_uint_eq(c->got.n, 0);
	client_close(c);
}
END_TEST

START_TEST(buffered_clear_input_is_never_seen_under_tls)
{
	static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};
	int fds[2];

	use("EC", "DNS:mail.test");
	struct client *c = &clients[0];

	*c = (struct client){0};
	buf_init(&c->got, 65536);
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	c->fd = fds[0];
	/*
	 * One octet of room: the rest stays in the kernel and meets the handshake, which it breaks.
	 */
	c->stream = stream_new(loop, fds[1], 1, &events, c);
	ck_assert_int_eq(write(c->fd, "xDELE 1\r\n", 9), 9);
	stream_read_enable(c->stream, false);
	stream_starttls(c->stream, tls_server());
	for (int i = 0; i < 10; i++)
		turn();
	ck_assert(c->server_ended);
	ck_assert_int_eq(c->why, STREAM_ERROR);
	ck_assert_uint_eq(c->got.n, 0);
	client_close(c);
}
END_TEST

START_TEST(garbage_instead_of_tls)
{
	use("EC", "DNS:mail.test");
	client_open(&clients[0]);
	ck_assert_int_eq(write(clients[0].fd, "EHLO example.org\r\n", 18), 18);
	for (int i = 0; i < 20 && !clients[0].server_ended; i++)
		turn();
	ck_assert(clients[0].server_ended);
	ck_assert_int_eq(clients[0].why, STREAM_ERROR);
	client_close(&clients[0]);
}
END_TEST

START_TEST(silent_client_times_out)
{
	use("EC", "DNS:mail.test");
	client_open(&clients[0]);
	stream_set_timeout(clients[0].stream, 100);
	for (int i = 0; i < 1000 && !clients[0].server_ended; i++)
		turn();
	ck_assert(clients[0].server_ended);
	ck_assert_int_eq(clients[0].why, STREAM_TIMEOUT);
	client_close(&clients[0]);
}
END_TEST

START_TEST(without_a_certificate)
{
	connect_edge();
	for (int i = 0; i < 10; i++)
		turn();
	ck_assert(!tls_server_ready(tls_server()));
	client_open(&clients[0]);
	turn();
	ck_assert(clients[0].server_ended);
	client_close(&clients[0]);
}
END_TEST

START_TEST(certificates_go_away)
{
	use("EC", "DNS:mail.test");
	key_store_free(&keys);
	keys = key_store_new();
	key_serve(keys);
	tls_server_key_edge(tls_server(), front_edge);
	for (int i = 0; i < 10; i++)
		turn();
	ck_assert(!tls_server_ready(tls_server()));
}
END_TEST

/* The key role was replaced: a number of the one before gets nothing, and new certificates heal it. */
START_TEST(old_numbers_get_no_signature)
{
	use("EC", "DNS:mail.test");
	key_store_free(&keys);
	keys = key_store_new();
	key_serve(keys);
	struct err e;

	ck_assert_int_eq(add_pair("EC", "DNS:mail.test", &e), 0);
	client_open(&clients[0]);
	shake(1);
	ck_assert(clients[0].failed);
	client_close(&clients[0]);
	tls_server_key_edge(tls_server(), front_edge);
	for (int i = 0; i < 10; i++)
		turn();
	client_open(&clients[0]);
	shake(1);
	ck_assert(clients[0].connected);
	client_close(&clients[0]);
}
END_TEST

START_TEST(big_data_through_a_relay)
{
	const size_t n = 1000000;
	int fds[2];
	uint8_t *data = malloc(n), *back = malloc(n);
	size_t sent = 0, got = 0;

	use("EC", "DNS:mail.test");
	for (size_t i = 0; i < n; i++)
		data[i] = (uint8_t)(i * 13 + i / 999);
	client_open(&clients[0]);
	shake(1);
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	stream_relay(clients[0].stream, fds[1]);
	uint64_t until = clock_ms() + 15000;
	static uint8_t worker[65536];
	size_t worker_n = 0;

	SSL_set_mode(
	    clients[0].ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while (got < n) {
		size_t k = 0;

		ck_assert_uint_lt(clock_ms(), until);
		if (sent < n && SSL_write_ex(clients[0].ssl, data + sent, n - sent, &k) == 1)
			sent += k;
		turn();
		/* The worker sends back what it gets. */
		ssize_t r = recv(fds[0], worker + worker_n, sizeof worker - worker_n, 0);

		if (r > 0)
			worker_n += (size_t)r;
		r = worker_n ? send(fds[0], worker, worker_n, 0) : 0;
		if (r > 0) {
			memmove(worker, worker + r, worker_n - (size_t)r);
			worker_n -= (size_t)r;
		}
		while (SSL_read_ex(clients[0].ssl, back + got, n - got, &k) == 1)
			got += k;
	}
	ck_assert(memcmp(data, back, n) == 0);
	/* The worker's end reaches the client as close_notify. */
	close(fds[0]);
	for (int i = 0; i < 5; i++)
		turn();
	int r = SSL_read(clients[0].ssl, back, 1);

	ck_assert_int_eq(SSL_get_error(clients[0].ssl, r), SSL_ERROR_ZERO_RETURN);
	SSL_shutdown(clients[0].ssl);
	close(clients[0].fd);
	for (int i = 0; i < 100 && !clients[0].server_ended; i++)
		turn();
	ck_assert(clients[0].server_ended);
	ck_assert_int_eq(clients[0].why, STREAM_EOF);
	clients[0].fd = dup(0);
	client_close(&clients[0]);
	free(data);
	free(back);
}
END_TEST

/* ---- the key role's own judgement ---- */

START_TEST(keys_are_checked)
{
	static char cert[16384], pem[16384], other_cert[16384], other_pem[16384];
	struct err e;
	EVP_PKEY *key = make_key("EC"), *other = make_key("EC");

	make_pair(key, NULL, cert, pem);
	make_pair(other, NULL, other_cert, other_pem);
	ck_assert_int_eq(key_store_add(keys, slice_str(cert), slice_str(other_pem), &e), -1);
	ck_assert_int_eq(key_store_add(keys, slice_str("junk"), slice_str(pem), &e), -1);
	ck_assert_int_eq(key_store_add(keys, slice_str(cert), slice_str("junk"), &e), -1);
	ck_assert_int_eq(key_store_add(keys, slice_str(pem), slice_str(cert), &e), -1);
	ck_assert_int_eq(key_store_add(keys, slice_of(NULL, 0), slice_of(NULL, 0), &e), -1);
	ck_assert_int_eq(add_pair("RSA1024", "DNS:weak.test", &e), -1);
	ck_assert_uint_eq(key_store_count(keys), 0);
	ck_assert_int_eq(key_store_add(keys, slice_str(cert), slice_str(pem), &e), 0);
	ck_assert_uint_eq(key_store_count(keys), 1);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
}
END_TEST

START_TEST(requests_are_checked)
{
	static const struct {
		uint32_t key;
		const char *scheme, *digest_name;
		size_t digest_n;
		int want;
	} cases[] = {
	    {0, "ecdsa", "SHA2-256", 32, 0},
	    {0, "ecdsa", "SHA2-384", 48, 0},
	    {0, "ecdsa", "SHA2-256", 31, -1},
	    {0, "ecdsa", "SHA2-256", 33, -1},
	    {0, "ecdsa", "SHA2-256", 0, -1},
	    {0, "ecdsa", "SHA1", 20, -1},
	    {0, "ecdsa", "MD5", 16, -1},
	    {0, "ecdsa", "", 32, -1},
	    {0, "rsa-pss", "SHA2-256", 32, -1},
	    {0, "rsa-pkcs1", "SHA2-256", 32, -1},
	    {0, "", "SHA2-256", 32, -1},
	    {1, "rsa-pss", "SHA2-256", 32, 0},
	    {1, "rsa-pkcs1", "SHA2-512", 64, 0},
	    {1, "rsa-none", "SHA2-256", 32, -1},
	    {1, "ecdsa", "SHA2-256", 32, -1},
	    {2, "ecdsa", "SHA2-256", 32, -1},
	    {UINT32_MAX, "ecdsa", "SHA2-256", 32, -1},
	};
	static const uint8_t digest[64];
	struct err e;

	ck_assert_int_eq(add_pair("EC", "DNS:a.test", &e), 0);
	ck_assert_int_eq(add_pair("RSA", "DNS:b.test", &e), 0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t sig[KEY_SIGNATURE_BYTES_MAX];
		size_t n;
		uint32_t number = key_store_number(keys, 0) + cases[i].key;
		int got = key_store_sign(keys, number, slice_str(cases[i].scheme),
		    slice_str(cases[i].digest_name), slice_of(digest, cases[i].digest_n), sig, &n,
		    &e);

		if (got != cases[i].want)
			ck_abort_msg("case %zu: %d", i, got);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("tls");
	TCase *c = tcase_create("tls");

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_loop_test(c, handshake_kinds, 0, sizeof handshakes / sizeof *handshakes);
	tcase_add_test(c, rsa_pkcs1);
	tcase_add_test(c, old_versions_and_key_exchanges_are_refused);
	tcase_add_test(c, server_name_chooses);
	tcase_add_test(c, both_kinds_for_one_name);
	tcase_add_test(c, tickets_resume);
	tcase_add_test(c, client_certificate_is_no_problem);
	tcase_add_test(c, a_hundred_at_once);
	tcase_add_test(c, waiting_for_a_place);
	tcase_add_test(c, key_role_dies_in_the_middle);
	tcase_add_test(c, input_behind_the_command_is_dropped);
	tcase_add_test(c, clear_input_is_dropped);
	tcase_add_test(c, buffered_clear_input_is_never_seen_under_tls);
	tcase_add_test(c, garbage_instead_of_tls);
	tcase_add_test(c, silent_client_times_out);
	tcase_add_test(c, without_a_certificate);
	tcase_add_test(c, certificates_go_away);
	tcase_add_test(c, old_numbers_get_no_signature);
	tcase_add_test(c, big_data_through_a_relay);
	tcase_add_test(c, keys_are_checked);
	tcase_add_test(c, requests_are_checked);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
