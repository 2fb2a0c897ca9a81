/*
 * One connection's exchange with the verifier, then with the store. At most one request is under
 * way; between two steps of an exchange request is 0 and request_edge says at which verifier it
 * rests, until that edge goes down. Whatever was wrong, user or password, the client reads the same
 * words after the same pause.
 */
#include "common/auth_proto.h"
#include "common/log.h"
#include "common/login_private.h"
#include "common/mem.h"
#include "common/role.h"
#include "common/transfer.h"

#include <assert.h>
#include <stdio.h>

/* "+ ", base64 of the message table's 4096 octets of challenge, CRLF. */
#define CHALLENGE_LINE_BYTES_MAX 8192

/* One client address always goes to the same verifier, so that it cannot keep all of them busy. */
static struct edge *
verifier_for(const struct login_conn *c)
{
	unsigned n = role_edge_count(ROLE_VERIFIER);
	uint32_t hash = 2166136261u;

	for (const char *p = c->client.text; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	return n ? role_edge_at(ROLE_VERIFIER, hash % n) : NULL;
}

static void
abort_exchange(struct login_conn *c)
{
	if (c->request_edge && !IPC_SEND(c->request_edge, AUTH_ABORT, .conn = c->conn))
		log_event(LOG_DEBUG, slice_str(c->session), "abort-not-sent", LOG_END);
}

void
login_forget(struct login_conn *c)
{
	if (c->delay_timer)
		loop_timer_stop(c->delay_timer);
	if (c->request_edge == NULL)
		return;
	if (c->state == LOGIN_VERIFYING || c->state == LOGIN_LINE)
		abort_exchange(c);
	if (c->request != 0)
		ipc_forget(c->request_edge, c->request);
	c->request = 0;
	c->request_edge = NULL;
}

static void
lease_close(uint64_t conn)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	IPC_TELL(store, LEASE_CLOSE, .conn = conn);
}

void
login_lease_close(struct login_conn *c)
{
	if (c->leased)
		lease_close(c->conn);
	c->leased = false;
}

/* The login is over; nothing is under way for it any more. */
static void
fail(struct login_conn *c, enum login_failure why)
{
	c->request = 0;
	c->request_edge = NULL;
	login_lease_close(c);
	login_set_state(c, LOGIN_READY);
	c->protocol->failed(c, why);
}

static void
peer_gone(void *obj, const struct err *e)
{
	struct login_conn *c = obj;

	log_event(LOG_WARN, slice_str(c->session), "login-failed-internally", LOG_ERR(e), LOG_END);
	fail(c, LOGIN_TEMPORARY);
	c->protocol->step(c);
}

/* A request to e (NULL: it is away) begins; false when it cannot. */
static bool
request_begin(struct login_conn *c, struct edge *e, uint32_t ms)
{
	c->request = e ? ipc_expect(e, ms, peer_gone, c) : 0;
	c->request_edge = e;
	return c->request != 0;
}

static void
request_unsent(struct login_conn *c)
{
	if (c->request != 0)
		ipc_forget(c->request_edge, c->request);
	fail(c, LOGIN_TEMPORARY);
}

/* Sends one step of the exchange to verifier e. response.p == NULL: there is none. */
static void
auth_step(struct login_conn *c, struct edge *e, struct slice mechanism, struct slice response)
{
	login_set_state(c, LOGIN_VERIFYING);
	if (!request_begin(c, e, LOGIN_VERIFIER_MS) ||
	    !IPC_SEND(e, AUTH_STEP, .id = c->request, .conn = c->conn,
		.service = slice_str(c->protocol->service), .session = slice_str(c->session),
		.client_ip = slice_str(c->client.text), .mechanism = mechanism,
		.has_response = response.p != NULL, .response = response))
		request_unsent(c);
}

/* The exchange ends here, not at the verifier. */
static void
cancel(struct login_conn *c, enum login_failure why)
{
	abort_exchange(c);
	fail(c, why);
}

/* A buf for a password: it gets its room at once, as growing would leave copies behind. */
static void
secret_init(struct buf *b)
{
	buf_init(b, LOGIN_RESPONSE_BYTES_MAX);
	(void)buf_room(b, LOGIN_RESPONSE_BYTES_MAX);
}

static void
secret_fini(struct buf *b)
{
	if (b->p)
		mem_wipe(b->p, b->cap);
	buf_fini(b);
}

/* Decodes the client's base64 and sends it on. */
static void
send_response(struct login_conn *c, struct edge *e, struct slice mechanism, struct slice base64)
{
	struct buf response;

	secret_init(&response);
	if (base64_decode(base64, &response))
		auth_step(c, e, mechanism, buf_slice(&response));
	else
		cancel(c, LOGIN_NOT_BASE64);
	secret_fini(&response);
}

/* ---- from the protocol ---- */

bool
login_allowed(struct login_conn *c)
{
	if (stream_is_tls(c->stream))
		return true;
	fail(c, LOGIN_CLEAR);
	return false;
}

void
login_plain(struct login_conn *c, struct slice user, struct slice password)
{
	struct buf plain;

	if (!login_allowed(c))
		return;
	secret_init(&plain);
	buf_put_u8(&plain, 0); /* RFC 4616 2: [authzid] NUL authcid NUL passwd */
	buf_put_slice(&plain, user);
	buf_put_u8(&plain, 0);
	buf_put_slice(&plain, password);
	if (plain.failed)
		fail(c, LOGIN_TOO_LONG);
	else
		auth_step(c, verifier_for(c), SLICE("PLAIN"), buf_slice(&plain));
	secret_fini(&plain);
}

void
login_auth(struct login_conn *c, struct slice mechanism, struct slice initial)
{
	struct edge *e = verifier_for(c);

	if (!login_allowed(c))
		return;
	if (mechanism.n > LOGIN_MECHANISM_BYTES_MAX)
		fail(c, LOGIN_UNSUPPORTED);
	else if (initial.p == NULL)
		auth_step(c, e, mechanism, slice_of(NULL, 0));
	else if (slice_eq(initial, SLICE("=")))
		auth_step(c, e, mechanism, SLICE(""));
	else
		send_response(c, e, mechanism, initial);
}

void
login_line(struct login_conn *c, struct slice line)
{
	if (c->request_edge == NULL) /* the verifier that knew the exchange is gone */
		fail(c, LOGIN_TEMPORARY);
	else if (slice_eq(line, SLICE("*")))
		cancel(c, LOGIN_CANCELLED);
	else if (line.p == NULL)
		cancel(c, LOGIN_NOT_BASE64);
	else
		send_response(c, c->request_edge, slice_of(NULL, 0), line);
}

/* ---- the answers ---- */

/* RFC 3501 6.2.2, RFC 5034 4: "+" SP base64 CRLF. */
static void
challenge(struct login_conn *c, struct slice octets)
{
	struct buf b;

	buf_init(&b, CHALLENGE_LINE_BYTES_MAX);
	buf_put_str(&b, "+ ");
	(void)base64_encode(octets, 0, &b);
	buf_put_str(&b, "\r\n");
	assert(!b.failed);
	stream_write(c->stream, buf_slice(&b));
	buf_fini(&b);
	login_set_state(c, LOGIN_LINE);
}

static void
delay_over(void *arg)
{
	struct login_conn *c = arg;

	fail(c, LOGIN_REFUSED);
	if (c->tries >= LOGIN_TRIES_MAX)
		login_bye(c, c->protocol->too_many_tries);
	else
		c->protocol->step(c);
}

static void
refused(struct login_conn *c)
{
	c->tries++;
	login_set_state(c, LOGIN_DELAYING);
	if (c->delay_timer == NULL)
		c->delay_timer = loop_timer_new(role_loop(), delay_over, c);
	loop_timer_set(c->delay_timer, (uint64_t)c->tries * LOGIN_REFUSED_DELAY_MS);
}

static void
attach(struct login_conn *c, struct slice login)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	char facts[512];

	c->leased = true;
	c->protocol->accepted(c, login);
	snprintf(
	    facts, sizeof facts, "client=%s\ntls=%s\n", c->client.text, stream_tls_text(c->stream));
	login_set_state(c, LOGIN_ATTACHING);
	if (!request_begin(c, store, LOGIN_ATTACH_MS) ||
	    !IPC_SEND(store, STORE_ATTACH, .id = c->request, .conn = c->conn, .utf8 = c->utf8,
		.session = slice_str(c->session), .facts = slice_str(facts)))
		request_unsent(c);
}

/* A step that ended the exchange. */
static void
exchange_over(struct login_conn *c, const struct msg_AUTH_RESULT *m)
{
	c->request_edge = NULL;
	switch (m->status) {
	case AUTH_OK:
		attach(c, m->login);
		break;
	case AUTH_FAILED:
		refused(c);
		break;
	case AUTH_MALFORMED:
		fail(c, LOGIN_MALFORMED);
		break;
	case AUTH_UNSUPPORTED:
		fail(c, LOGIN_UNSUPPORTED);
		break;
	default:
		fail(c, LOGIN_TEMPORARY);
		break;
	}
}

static void
on_auth_result(struct edge *e, struct msg_AUTH_RESULT *m)
{
	struct login_conn *c = ipc_answered(e, m->id);

	if (c == NULL) {
		/* The client left meanwhile: nobody else will ever close that lease. */
		if (m->status == AUTH_OK)
			lease_close(m->conn);
		return;
	}
	assert(c->state == LOGIN_VERIFYING && c->request_edge == e);
	c->request = 0;
	if (m->status == AUTH_CONTINUE)
		challenge(c, m->challenge);
	else
		exchange_over(c, m);
	c->protocol->step(c);
}

static void
attach_refused(struct login_conn *c, const struct msg_STORE_ATTACHED *m)
{
	bool in_use = m->code == ERR_CODE_IN_USE;

	log_event(in_use ? LOG_INFO : LOG_WARN, slice_str(c->session), "attach-refused",
	    LOG_NUM("class", m->class), LOG_NUM("code", m->code), LOG_END);
	fail(c, in_use ? LOGIN_IN_USE : LOGIN_TEMPORARY);
	c->protocol->step(c);
}

static void
on_attached(struct edge *e, struct msg_STORE_ATTACHED *m)
{
	struct login_conn *c = ipc_answered(e, m->id);

	if (c == NULL)
		return;
	assert(c->state == LOGIN_ATTACHING && c->request_edge == e);
	c->request = 0;
	c->request_edge = NULL;
	if (m->class != ERR_NONE || m->relay < 0) {
		attach_refused(c, m);
		return;
	}
	if (c->protocol->attached)
		c->protocol->attached(c);
	loop_timer_free(&c->login_timer);
	login_set_state(c, LOGIN_RELAYING);
	stream_relay(c->stream, m->relay);
	m->relay = -1;
}

const struct ipc_dispatch login_from_verifier = {.AUTH_RESULT = on_auth_result};
const struct ipc_dispatch login_from_store = {.STORE_ATTACHED = on_attached};
