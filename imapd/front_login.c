/*
 * LOGIN and AUTHENTICATE (RFC 3501 6.2.2, 6.2.3, RFC 4959): relayed to a verifier, whose word alone counts. LOGIN is the
 * SASL mechanism PLAIN in other clothes and is sent as that. Whatever was wrong, user or password,
 * the client reads the same words after the same pause.
 */
#include "imapd/front.h"

#include "common/auth_proto.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"
#include "common/transfer.h"
#include "imapd/capability.h"

#include <assert.h>

/* The client's address always goes to the same verifier: one address cannot keep all of them busy. */
static struct edge *
verifier_for(const struct front_conn *c)
{
	unsigned n = role_edge_count(ROLE_VERIFIER);
	uint32_t hash = 2166136261u;

	for (const char *p = c->client.text; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	return n ? role_edge_at(ROLE_VERIFIER, hash % n) : NULL;
}

void
front_forget(struct front_conn *c)
{
	bool exchange = c->state == FRONT_VERIFYING || c->state == FRONT_AUTH_LINE;

	if (c->delay_timer)
		loop_timer_stop(c->delay_timer);
	if (c->request_edge == NULL)
		return;
	if (exchange && !IPC_SEND(c->request_edge, AUTH_ABORT, .conn = c->conn))
		log_event(LOG_DEBUG, slice_str(c->session), "abort-not-sent", LOG_END);
	if (c->request != 0)
		ipc_forget(c->request_edge, c->request);
	c->request = 0;
	c->request_edge = NULL;
}

static void
close_lease(uint64_t conn)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	if (store && !IPC_SEND(store, LEASE_CLOSE, .conn = conn))
		log_event(LOG_WARN, NO_SESSION, "lease-close-lost", LOG_NUM("conn", conn), LOG_END);
}

void
front_lease_close(struct front_conn *c)
{
	if (c->leased)
		close_lease(c->conn);
	c->leased = false;
}

/* A login that did not get as far as its mailboxes leaves no lease, which the next one would run into. */
static void
unavailable(struct front_conn *c)
{
	front_lease_close(c);
	front_answer(c, "NO", "[UNAVAILABLE] Temporary failure, try again later");
	front_step(c);
}

static void
peer_gone(void *obj, const struct err *e)
{
	struct front_conn *c = obj;

	log_event(LOG_WARN, slice_str(c->session), "login-failed-internally", LOG_ERR(e), LOG_END);
	c->request = 0;
	c->request_edge = NULL;
	unavailable(c);
}

/* Sends one step of the exchange. response.p == NULL: there is none. */
static void
auth_step(struct front_conn *c, struct slice mechanism, struct slice response)
{
	struct edge *e = c->continuing ? c->request_edge : verifier_for(c);

	if (e == NULL) {
		front_answer(c, "NO", "[UNAVAILABLE] Temporary failure, try again later");
		return;
	}
	c->request = ipc_expect(e, FRONT_VERIFIER_MS, peer_gone, c);
	c->request_edge = e;
	front_set_state(c, FRONT_VERIFYING);
	if (c->request != 0 &&
	    IPC_SEND(e, AUTH_STEP, .id = c->request, .conn = c->conn, .service = SLICE("imap"),
		.session = slice_str(c->session), .client_ip = slice_str(c->client.text),
		.mechanism = mechanism, .has_response = response.p != NULL, .response = response))
		return;
	if (c->request != 0)
		ipc_forget(e, c->request);
	c->request = 0;
	c->request_edge = NULL;
	front_answer(c, "NO", "[UNAVAILABLE] Temporary failure, try again later");
}

/* ---- the commands ---- */

static bool
may_login(struct front_conn *c)
{
	if (stream_is_tls(c->stream))
		return true;
	front_answer(c, "NO", "[PRIVACYREQUIRED] Start TLS first");
	return false;
}

void
front_login(struct front_conn *c, struct imap_scan *s)
{
	struct imap_login login;
	struct buf plain;

	if (!imap_login_args(s, &login)) {
		front_bad(c, s->why);
		return;
	}
	if (!may_login(c))
		return;
	buf_init(&plain, FRONT_RESPONSE_BYTES_MAX);
	buf_put_u8(&plain, 0); /* RFC 4616 2: [authzid] NUL authcid NUL passwd */
	buf_put_slice(&plain, login.user);
	buf_put_u8(&plain, 0);
	buf_put_slice(&plain, login.password);
	c->continuing = false;
	if (plain.failed)
		front_bad(c, "Arguments are too long");
	else
		auth_step(c, SLICE("PLAIN"), buf_slice(&plain));
	mem_wipe(plain.p, plain.n);
	buf_fini(&plain);
}

/* Decodes the client's base64 and sends it on; false when it is none. */
static bool
send_response(struct front_conn *c, struct slice mechanism, struct slice base64)
{
	struct buf response;
	bool ok;

	buf_init(&response, FRONT_RESPONSE_BYTES_MAX);
	ok = base64_decode(base64, &response);
	if (ok)
		auth_step(c, mechanism, slice_of(response.n ? response.p : (const uint8_t *)"", response.n));
	if (response.p)
		mem_wipe(response.p, response.cap);
	buf_fini(&response);
	return ok;
}

void
front_authenticate(struct front_conn *c, struct imap_scan *s)
{
	struct imap_authenticate auth;

	if (!imap_authenticate_args(s, &auth)) {
		front_bad(c, s->why);
		return;
	}
	if (!may_login(c))
		return;
	if (auth.mechanism.n > 32) {
		front_answer(c, "NO", "[CANNOT] Unknown mechanism");
		return;
	}
	c->continuing = false;
	if (auth.initial.p == NULL)
		auth_step(c, auth.mechanism, slice_of(NULL, 0));
	else if (slice_eq(auth.initial, SLICE("=")))
		auth_step(c, auth.mechanism, SLICE(""));
	else if (!send_response(c, auth.mechanism, auth.initial))
		front_bad(c, "Invalid base64");
}

/* The exchange ends here, not at the verifier. */
static void
cancel(struct front_conn *c, const char *why)
{
	if (c->request_edge && !IPC_SEND(c->request_edge, AUTH_ABORT, .conn = c->conn))
		log_event(LOG_DEBUG, slice_str(c->session), "abort-not-sent", LOG_END);
	c->request_edge = NULL;
	front_bad(c, why);
}

void
front_auth_line(struct front_conn *c, struct slice line)
{
	if (c->request_edge == NULL)
		front_answer(c, "NO", "[UNAVAILABLE] Temporary failure, try again later");
	else if (slice_eq(line, SLICE("*")))
		cancel(c, "AUTHENTICATE cancelled");
	else if (line.p == NULL || !send_response(c, slice_of(NULL, 0), line))
		cancel(c, "Invalid base64");
}

/* ---- the answers ---- */

static void
challenge(struct front_conn *c, struct slice octets)
{
	struct buf b;

	buf_init(&b, 8192);
	if (!base64_encode(octets, 0, &b))
		buf_reset(&b);
	stream_write(c->stream, SLICE("+ "));
	stream_write(c->stream, buf_slice(&b));
	stream_write(c->stream, SLICE("\r\n"));
	buf_fini(&b);
	c->continuing = true;
	front_set_state(c, FRONT_AUTH_LINE);
	front_step(c);
}

static void
delay_over(void *arg)
{
	struct front_conn *c = arg;

	front_answer(c, "NO", "[AUTHENTICATIONFAILED] Login failed");
	if (c->tries >= FRONT_TRIES_MAX)
		front_bye(c, "Too many failed logins");
	else
		front_step(c);
}

static void
refused(struct front_conn *c)
{
	c->tries++;
	front_set_state(c, FRONT_DELAYING);
	if (c->delay_timer == NULL)
		c->delay_timer = loop_timer_new(role_loop(), delay_over, c);
	loop_timer_set(c->delay_timer, (uint64_t)c->tries * FRONT_REFUSED_DELAY_MS);
}

static void
attach(struct front_conn *c)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	char facts[512];

	c->leased = true;
	if (store == NULL) {
		unavailable(c);
		return;
	}
	snprintf(facts, sizeof facts, "client=%s\ntls=%s\n", c->client.text, stream_tls_text(c->stream));
	c->request = ipc_expect(store, FRONT_ATTACH_MS, peer_gone, c);
	c->request_edge = store;
	front_set_state(c, FRONT_ATTACHING);
	if (c->request != 0 &&
	    IPC_SEND(store, STORE_ATTACH, .id = c->request, .conn = c->conn, .session = slice_str(c->session),
		.facts = slice_str(facts)))
		return;
	if (c->request != 0)
		ipc_forget(store, c->request);
	c->request = 0;
	c->request_edge = NULL;
	unavailable(c);
}

static void
on_auth_result(struct edge *e, struct msg_AUTH_RESULT *m)
{
	struct front_conn *c = ipc_answered(e, m->id);

	if (c == NULL) {
		/* The client has left meanwhile: nobody else will ever close that lease. */
		if (m->status == AUTH_OK)
			close_lease(m->conn);
		return;
	}
	assert(c->state == FRONT_VERIFYING && c->request_edge == e);
	c->request = 0;
	if (m->status == AUTH_CONTINUE) {
		challenge(c, m->challenge);
		return;
	}
	c->request_edge = NULL;
	switch (m->status) {
	case AUTH_OK:
		if (!slice_cstr(m->login, c->login, sizeof c->login))
			c->login[0] = '\0';
		attach(c);
		return;
	case AUTH_FAILED:
		refused(c);
		return;
	case AUTH_MALFORMED:
		front_bad(c, "Malformed exchange");
		break;
	case AUTH_UNSUPPORTED:
		front_answer(c, "NO", "[CANNOT] Unknown mechanism");
		break;
	default:
		front_answer(c, "NO", "[UNAVAILABLE] Temporary failure, try again later");
		break;
	}
	front_step(c);
}

static void
logged_in(struct front_conn *c, int relay)
{
	struct buf fields;

	front_say(c, "%s OK [CAPABILITY " CAPABILITY_LOGGED_IN "] Logged in\r\n", c->tag);
	loop_timer_free(&c->login_timer);
	front_set_state(c, FRONT_RELAYING);
	buf_init(&fields, 2048);
	log_put_fields(&fields,
	    (const struct log_field[]){LOG_CSTR("login", c->login), LOG_CSTR("client", c->client.text), LOG_END});
	role_trace(slice_str(c->session), "imap-login", buf_slice(&fields));
	buf_fini(&fields);
	stream_relay(c->stream, relay);
}

static void
on_attached(struct edge *e, struct msg_STORE_ATTACHED *m)
{
	struct front_conn *c = ipc_answered(e, m->id);

	if (c == NULL)
		return;
	assert(c->state == FRONT_ATTACHING && c->request_edge == e);
	c->request = 0;
	c->request_edge = NULL;
	if (m->class != ERR_NONE || m->relay < 0) {
		log_event(LOG_WARN, slice_str(c->session), "attach-refused", LOG_NUM("class", m->class),
		    LOG_NUM("code", m->code), LOG_END);
		unavailable(c);
		return;
	}
	logged_in(c, m->relay);
	m->relay = -1;
}

const struct ipc_dispatch front_from_verifier = {.AUTH_RESULT = on_auth_result};
const struct ipc_dispatch front_from_store = {.STORE_ATTACHED = on_attached};
