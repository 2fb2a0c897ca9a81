/*
 * USER and PASS (RFC 1939 7) and AUTH (RFC 5034): relayed to a verifier, whose word alone counts.
 * USER and PASS are the SASL mechanism PLAIN in other clothes and are sent as that. Whatever was
 * wrong, user or password, the client reads the same words after the same pause. No password is
 * taken without TLS (RFC 8314 4.1): already USER is refused, so that a client does not go on to
 * PASS.
 */
#include "pop3d/front.h"

#include "common/auth_proto.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"
#include "common/transfer.h"

#include <assert.h>
#include <stdio.h>

#define TEMPORARY "-ERR [SYS/TEMP] Temporary failure, try again later"

/* One client address always goes to the same verifier, so that it cannot keep all of them busy. */
static struct edge *
verifier_for(const struct front_conn *c)
{
	unsigned n = role_edge_count(ROLE_VERIFIER);
	uint32_t hash = 2166136261u;

	for (const char *p = c->client.text; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	return n ? role_edge_at(ROLE_VERIFIER, hash % n) : NULL;
}

static void
abort_exchange(struct front_conn *c)
{
	if (c->request_edge && !IPC_SEND(c->request_edge, AUTH_ABORT, .conn = c->conn))
		log_event(LOG_DEBUG, slice_str(c->session), "abort-not-sent", LOG_END);
}

void
front_forget(struct front_conn *c)
{
	if (c->delay_timer)
		loop_timer_stop(c->delay_timer);
	if (c->request_edge == NULL)
		return;
	if (c->state == FRONT_VERIFYING || c->state == FRONT_AUTH_LINE)
		abort_exchange(c);
	if (c->request != 0)
		ipc_forget(c->request_edge, c->request);
	c->request = 0;
	c->request_edge = NULL;
}

void
front_lease_close(struct front_conn *c)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	if (c->leased && store && !IPC_SEND(store, LEASE_CLOSE, .conn = c->conn))
		log_event(LOG_WARN, slice_str(c->session), "lease-close-lost", LOG_END);
	c->leased = false;
}

/* ---- asking the verifier ---- */

static void
peer_gone(void *obj, const struct err *e)
{
	struct front_conn *c = obj;

	log_event(LOG_WARN, slice_str(c->session), "login-failed-internally", LOG_ERR(e), LOG_END);
	c->request = 0;
	c->request_edge = NULL;
	front_lease_close(c);
	front_answer(c, TEMPORARY);
	front_step(c);
}

/* Sends one step of the exchange to verifier e. response.p == NULL: there is none. */
static void
auth_step(struct front_conn *c, struct edge *e, struct slice mechanism, struct slice response)
{
	front_set_state(c, FRONT_VERIFYING);
	c->request = e ? ipc_expect(e, FRONT_VERIFIER_MS, peer_gone, c) : 0;
	c->request_edge = e;
	if (c->request != 0 &&
	    IPC_SEND(e, AUTH_STEP, .id = c->request, .conn = c->conn, .service = SLICE("pop3"),
		.session = slice_str(c->session), .client_ip = slice_str(c->client.text),
		.mechanism = mechanism, .has_response = response.p != NULL, .response = response))
		return;
	if (c->request != 0)
		ipc_forget(e, c->request);
	c->request = 0;
	c->request_edge = NULL;
	front_answer(c, TEMPORARY);
}

/* Decodes the client's base64 and sends it on; false when it is none. */
static bool
send_response(struct front_conn *c, struct edge *e, struct slice mechanism, struct slice base64)
{
	struct buf response;

	buf_init(&response, FRONT_RESPONSE_BYTES_MAX);
	(void)buf_room(
	    &response, FRONT_RESPONSE_BYTES_MAX); /* no copies of a password from growing */
	bool ok = base64_decode(base64, &response);

	if (ok)
		auth_step(c, e, mechanism, buf_slice(&response));
	mem_wipe(response.p, response.cap);
	buf_fini(&response);
	return ok;
}

/* ---- the commands ---- */

static bool
may_login(struct front_conn *c)
{
	if (stream_is_tls(c->stream))
		return true;
	front_bad(c, "-ERR [AUTH] Passwords are taken over TLS only");
	return false;
}

void
front_user(struct front_conn *c, const struct pop3_command *cmd)
{
	if (!may_login(c))
		return;
	/* Who exists is not told: any name is welcome. */
	if (slice_cstr(cmd->arg[0], c->user, sizeof c->user))
		front_answer(c, "+OK");
	else
		front_bad(c, "-ERR Wrong arguments");
}

void
front_pass(struct front_conn *c, const struct pop3_command *cmd)
{
	struct buf plain;

	if (!may_login(c))
		return;
	if (c->user[0] == '\0') {
		front_bad(c, "-ERR Send USER first");
		return;
	}
	buf_init(&plain, 2 + 2 * POP3_LINE_BYTES_MAX);
	(void)buf_room(&plain, plain.max);
	buf_put_u8(&plain, 0); /* RFC 4616 2: [authzid] NUL authcid NUL passwd */
	buf_put_str(&plain, c->user);
	buf_put_u8(&plain, 0);
	buf_put_slice(&plain, cmd->arg[0]);
	assert(!plain.failed);
	c->user[0] = '\0';
	auth_step(c, verifier_for(c), SLICE("PLAIN"), buf_slice(&plain));
	mem_wipe(plain.p, plain.cap);
	buf_fini(&plain);
}

void
front_auth(struct front_conn *c, const struct pop3_command *cmd)
{
	struct slice initial = cmd->args > 1 ? cmd->arg[1] : slice_of(NULL, 0);

	if (!may_login(c))
		return;
	if (cmd->arg[0].n > FRONT_MECHANISM_BYTES_MAX)
		front_bad(c, "-ERR Unknown mechanism");
	else if (initial.p == NULL)
		auth_step(c, verifier_for(c), cmd->arg[0], slice_of(NULL, 0));
	else if (slice_eq(initial, SLICE("="))) /* RFC 5034 4: there, and empty */
		auth_step(c, verifier_for(c), cmd->arg[0], SLICE(""));
	else if (!send_response(c, verifier_for(c), cmd->arg[0], initial))
		front_bad(c, "-ERR Invalid base64");
}

/* The exchange ends here, not at the verifier. */
static void
cancel(struct front_conn *c, const char *why)
{
	abort_exchange(c);
	c->request_edge = NULL;
	front_bad(c, why);
}

void
front_auth_line(struct front_conn *c, struct slice line)
{
	struct edge *e = c->request_edge;

	if (e == NULL) /* the verifier that knew the exchange is gone */
		front_answer(c, TEMPORARY);
	else if (slice_eq(line, SLICE("*")))
		cancel(c, "-ERR Authentication cancelled");
	else if (line.p == NULL)
		cancel(c, "-ERR Invalid base64");
	else if (line.n == 0)
		auth_step(c, e, slice_of(NULL, 0), SLICE(""));
	else if (!send_response(c, e, slice_of(NULL, 0), line))
		cancel(c, "-ERR Invalid base64");
}

/* ---- the answers ---- */

static void
challenge(struct front_conn *c, struct slice octets)
{
	struct buf b;

	/* The table's 4096 octets of challenge fit. */
	buf_init(&b, 8192);
	buf_put_str(&b, "+ ");
	(void)base64_encode(octets, 0, &b);
	buf_put_str(&b, "\r\n");
	assert(!b.failed);
	stream_write(c->stream, buf_slice(&b));
	buf_fini(&b);
	front_set_state(c, FRONT_AUTH_LINE);
}

static void
delay_over(void *arg)
{
	struct front_conn *c = arg;

	front_answer(c, "-ERR [AUTH] Login failed");
	if (c->tries >= FRONT_TRIES_MAX)
		front_bye(c, "-ERR Too many failed logins");
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
attach(struct front_conn *c, struct slice login)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	char facts[512];

	c->leased = true;
	front_set_state(c, FRONT_ATTACHING);
	front_trace(c, "pop3-login",
	    (const struct log_field[]){LOG_STR("login", login), LOG_CSTR("client", c->client.text),
		LOG_CSTR("tls", stream_tls_text(c->stream)), LOG_END});
	snprintf(
	    facts, sizeof facts, "client=%s\ntls=%s\n", c->client.text, stream_tls_text(c->stream));
	c->request = store ? ipc_expect(store, FRONT_ATTACH_MS, peer_gone, c) : 0;
	c->request_edge = store;
	if (c->request != 0 && IPC_SEND(store, STORE_ATTACH, .id = c->request, .conn = c->conn,
				   .session = slice_str(c->session), .facts = slice_str(facts)))
		return;
	if (c->request != 0)
		ipc_forget(store, c->request);
	c->request = 0;
	c->request_edge = NULL;
	front_lease_close(c);
	front_answer(c, TEMPORARY);
}

/* The login succeeded after its client had left: nobody else will ever close that lease. */
static void
close_lease(uint64_t conn)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	if (store && !IPC_SEND(store, LEASE_CLOSE, .conn = conn))
		log_event(LOG_WARN, NO_SESSION, "lease-close-lost", LOG_END);
}

static void
on_auth_result(struct edge *e, struct msg_AUTH_RESULT *m)
{
	struct front_conn *c = ipc_answered(e, m->id);

	if (c == NULL) {
		if (m->status == AUTH_OK)
			close_lease(m->conn);
		return;
	}
	assert(c->state == FRONT_VERIFYING && c->request_edge == e);
	c->request = 0;
	/* Between two steps the exchange rests at that verifier. */
	if (m->status != AUTH_CONTINUE)
		c->request_edge = NULL;
	switch (m->status) {
	case AUTH_CONTINUE:
		challenge(c, m->challenge);
		break;
	case AUTH_OK:
		attach(c, m->login);
		break;
	case AUTH_FAILED:
		refused(c);
		break;
	case AUTH_MALFORMED:
		front_bad(c, "-ERR Malformed exchange");
		break;
	case AUTH_UNSUPPORTED:
		front_bad(c, "-ERR Unknown mechanism");
		break;
	default:
		front_answer(c, TEMPORARY);
		break;
	}
	front_step(c);
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
		bool in_use = m->code == ERR_CODE_IN_USE;

		log_event(in_use ? LOG_INFO : LOG_WARN, slice_str(c->session), "attach-refused",
		    LOG_NUM("class", m->class), LOG_NUM("code", m->code), LOG_END);
		front_lease_close(c);
		/* RFC 2449 8.1.2 */
		front_answer(
		    c, in_use ? "-ERR [IN-USE] Another session has this maildrop" : TEMPORARY);
		front_step(c);
		return;
	}
	loop_timer_free(&c->login_timer);
	front_set_state(c, FRONT_RELAYING);
	stream_relay(c->stream, m->relay);
	m->relay = -1;
}

const struct ipc_dispatch front_from_verifier = {.AUTH_RESULT = on_auth_result};
const struct ipc_dispatch front_from_store = {.STORE_ATTACHED = on_attached};
