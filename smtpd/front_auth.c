/*
 * AUTH (RFC 4954). The front carries the exchange between the client and one verifier, which
 * decides; base64 and the cancelling "*" are ours, the octets inside are not looked at. On success authd has
 * opened the lease for this connection before the answer reaches us, and deliver holds it.
 */
#include "smtpd/front.h"
#include "smtpd/front_login.h"

#include "common/auth_proto.h"
#include "common/mem.h"
#include "common/transfer.h"

#include <assert.h>

/* A verifier computes a password hash, perhaps behind others. */
#define AUTH_MS 60000
#define MECHANISM_CHARS_MAX 20 /* RFC 4422 3.1 */
#define RESPONSE_BYTES_MAX 12288

static const struct smtp_reply_words temporary = {454, "4.7.0", "Authentication is not possible for the moment"};
static const struct smtp_reply_words malformed = {501, "5.5.2", "Bad authentication exchange"};

/* The same client comes to the same verifier, whose limits of tries then count all of its connections. */
static struct edge *
choose_verifier(const struct front *f)
{
	unsigned n = role_edge_count(ROLE_VERIFIER);
	const uint8_t *ip = f->client.peer.sin6_addr.s6_addr;
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < 16; i++)
		hash = (hash ^ ip[i]) * 16777619u;
	return n > 0 ? role_edge_at(ROLE_VERIFIER, hash % n) : NULL;
}

static void
exchange_over(struct front *f)
{
	f->verifier = NULL;
	if (f->state == FRONT_STATE_AUTH)
		smtpd_set_state(f, FRONT_STATE_READY);
}

static void
auth_refused(struct front *f, const struct smtp_reply_words *w)
{
	exchange_over(f);
	smtpd_trace(f, "auth-refused", LOG_NUM("code", w->code), LOG_CSTR("text", w->text), LOG_END);
	smtpd_reply_words(f, w);
}

static void
abort_exchange(struct front *f)
{
	IPC_TELL(f->verifier, AUTH_ABORT, .conn = f->conn);
}

static void
auth_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	(void)e;
	smtpd_gone(f);
	auth_refused(f, &temporary);
	smtpd_step(f);
}

static void
ask_verifier(struct front *f, struct slice mechanism, bool has_response, struct slice response)
{
	struct edge *v = f->verifier;
	uint64_t id = v ? ipc_expect(v, AUTH_MS, auth_gone, f) : 0;

	if (id != 0 && IPC_SEND(v, AUTH_STEP, .id = id, .conn = f->conn, .service = SLICE("submission"),
		.session = slice_str(f->id), .client_ip = slice_str(f->client.text), .mechanism = mechanism,
		.has_response = has_response, .response = response)) {
		smtpd_wait_for(f, FRONT_WAIT_AUTH, v, id);
		return;
	}
	if (id != 0)
		ipc_forget(v, id);
	auth_refused(f, &temporary);
}

/* Decodes base64 text ("=" is the empty response of RFC 4954 4) and sends it on. */
static void
relay(struct front *f, struct slice mechanism, struct slice text)
{
	struct buf b;

	buf_init(&b, RESPONSE_BYTES_MAX);
	if (slice_eq(text, SLICE("=")) || base64_decode(text, &b)) {
		ask_verifier(f, mechanism, true, buf_slice(&b));
	} else {
		abort_exchange(f);
		f->bad_commands++;
		auth_refused(f, &malformed);
	}
	if (b.p)
		mem_wipe(b.p, b.cap);
	buf_fini(&b);
}

static bool
mechanism_valid(struct slice m)
{
	for (size_t i = 0; i < m.n; i++)
		if (!ascii_alpha(m.p[i]) && !ascii_digit(m.p[i]) && m.p[i] != '-' && m.p[i] != '_')
			return false;
	return m.n > 0 && m.n <= MECHANISM_CHARS_MAX;
}

void
smtpd_auth(struct front *f, struct slice args)
{
	struct slice rest = args;
	struct slice mechanism;
	uint8_t upper[MECHANISM_CHARS_MAX];

	if (!slice_cut(&rest, ' ', &mechanism) || !mechanism_valid(mechanism)) {
		f->bad_commands++;
		smtpd_reply_words(f, smtp_syntax_reply(SMTP_SYNTAX_BAD_ARGS));
		return;
	}
	for (size_t i = 0; i < mechanism.n; i++)
		upper[i] = ascii_upper(mechanism.p[i]);
	mechanism = slice_of(upper, mechanism.n);
	smtpd_trace(f, "auth", LOG_STR("mechanism", mechanism), LOG_END);
	f->verifier = choose_verifier(f);
	if (rest.p == NULL)
		ask_verifier(f, mechanism, false, slice_of(NULL, 0));
	else
		relay(f, mechanism, rest);
}

void
smtpd_auth_line(struct front *f, struct slice line)
{
	static const struct smtp_reply_words cancelled = {501, "5.7.0", "Authentication cancelled"};

	if (slice_eq(line, SLICE("*"))) {
		abort_exchange(f);
		auth_refused(f, &cancelled);
		return;
	}
	if (line.n == 0)
		line = SLICE("=");
	relay(f, SLICE(""), line);
}

static void
send_challenge(struct front *f, struct slice challenge)
{
	struct buf b;

	buf_init(&b, 2 * challenge.n + 64);
	buf_put_str(&b, "334 ");
	base64_encode(challenge, 0, &b);
	buf_put_str(&b, "\r\n");
	stream_write(f->stream, buf_slice(&b));
	buf_fini(&b);
	if (f->state == FRONT_STATE_READY)
		smtpd_set_state(f, FRONT_STATE_AUTH);
}

static void
logged_in(struct front *f, const struct msg_AUTH_RESULT *m)
{
	f->account = m->account;
	if (!slice_cstr(m->login, f->login, sizeof(f->login)))
		f->login[0] = '\0';
	exchange_over(f);
	smtpd_trace(f, "login", LOG_CSTR("login", f->login), LOG_NUM("account", f->account), LOG_END);
	smtpd_reply(f, 235, "2.7.0", "Authentication succeeded");
}

static void
close_lease(uint64_t conn)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	if (conn != 0)
		IPC_TELL(store, LEASE_CLOSE, .conn = conn);
}

void
smtpd_on_auth(struct edge *e, struct msg_AUTH_RESULT *m)
{
	static const struct smtp_reply_words failed = {535, "5.7.8", "Authentication failed"};
	static const struct smtp_reply_words unsupported = {504, "5.5.4", "Mechanism not offered"};
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_AUTH);

	if (f == NULL) {
		/* The client left meanwhile: nobody else will ever close that lease. */
		close_lease(m->status == AUTH_OK ? m->conn : 0);
		return;
	}
	switch (m->status) {
	case AUTH_CONTINUE:
		send_challenge(f, m->challenge);
		break;
	case AUTH_OK:
		if (m->account != 0) {
			logged_in(f, m);
			break;
		}
		auth_refused(f, &temporary);
		break;
	case AUTH_FAILED:
		f->failed_logins++;
		auth_refused(f, &failed);
		break;
	case AUTH_MALFORMED:
		f->bad_commands++;
		auth_refused(f, &malformed);
		break;
	case AUTH_UNSUPPORTED:
		f->bad_commands++;
		auth_refused(f, &unsupported);
		break;
	default:
		auth_refused(f, &temporary);
		break;
	}
	smtpd_step(f);
}

void
smtpd_auth_end(struct front *f)
{
	abort_exchange(f);
	f->verifier = NULL;
	close_lease(f->account != 0 ? f->conn : 0);
	f->account = 0;
}
