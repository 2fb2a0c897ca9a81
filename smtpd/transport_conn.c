/*
 * A stream under a session. The session may end in the middle of anything that is called here, and tells so at once; the memory lives
 * until the stream is over too, which is told from the loop.
 */
#include "smtpd/transport.h"

#include "common/mem.h"
#include "common/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

/* Unread input held: replies, a few at a time. */
#define INPUT_BYTES_MAX (16u * 1024)
/* What a connection that is being closed may still take. */
#define CLOSE_MS 6000

struct transport_conn {
	struct transport_conn *next;
	struct transport_job *job; /* NULL: it waits, or ends */
	struct stream *stream;
	struct transport_session *session;
	struct loop_timer *timer;
	char key[TRANSPORT_KEY_MAX];
	char mta[TRANSPORT_MTA_MAX];
	/* What the handshake is to prove; copied, since the route may be gone. */
	char names[2][TLS_CLIENT_NAME_BYTES_MAX + 1]; /* the base domain of its TLSA records, the domain of the mail */
	char host[TLS_CLIENT_NAME_BYTES_MAX + 1];     /* its own name, which a policy wants (RFC 8461 4.2) */
	struct slice tlsa[TRANSPORT_TLSA_MAX];
	unsigned tlsa_count;
	struct arena *arena;
	bool dane;
	bool name_proven;
	bool mx_proven;
	enum transport_tls tls;
	unsigned messages;
	uint64_t message_until_ms; /* it is to be written by then; 0: none is being written */
	bool connected, handshake, closing, waiting;
	bool tls_first;
};

static struct transport_conn *conns;

static void
conn_free(struct transport_conn *c)
{
	struct transport_conn **at = &conns;

	assert(c->job == NULL);
	while (*at != c) {
		assert(*at != NULL);
		at = &(*at)->next;
	}
	*at = c->next;
	stream_free(&c->stream);
	transport_session_free(&c->session);
	loop_timer_free(&c->timer);
	arena_free(&c->arena);
	MEM_FREE(&c);
	transport_leave_when_done();
}

const char *
transport_conn_mta(const struct transport_conn *c)
{
	return c->mta;
}

bool
transport_conn_tls_was_choice(const struct transport_conn *c)
{
	return c->tls == TRANSPORT_TLS_MAY;
}

/* ---- what the session stands on ---- */

static void
wire_write(void *ctx, struct slice octets)
{
	struct transport_conn *c = ctx;

	stream_write(c->stream, octets);
}

static bool
wire_full(void *ctx)
{
	struct transport_conn *c = ctx;

	return stream_full(c->stream);
}

static void
wire_starttls(void *ctx)
{
	struct transport_conn *c = ctx;
	struct tls_client_want want = {.check = TLS_CLIENT_DANE, .tlsa = c->tlsa, .tlsa_count = c->tlsa_count};

	for (unsigned i = 0; i < 2 && c->names[i][0] != '\0'; i++)
		want.names[want.name_count++] = slice_str(c->names[i]);
	/* Records of which none counts prove nothing; then it is as if there were none for who wants a proof. */
	if (!c->dane || (c->name_proven && !tls_client_tlsa_usable(transport_tls_client(), &want)))
		want.check = c->name_proven ? TLS_CLIENT_NAME : TLS_CLIENT_ANY;
	if (want.check == TLS_CLIENT_NAME && want.name_count > 0) {
		want.names[0] = slice_str(c->host);
		want.name_count = 1;
	}
	c->handshake = true;
	tls_client_start(c->stream, transport_tls_client(), &want);
}

static void
wire_deadline(void *ctx, uint64_t ms)
{
	struct transport_conn *c = ctx;

	c->message_until_ms = 0;
	if (!c->closing)
		loop_timer_set(c->timer, ms);
}

static void
wire_deadline_of_piece(void *ctx, uint64_t ms, uint64_t total_ms)
{
	struct transport_conn *c = ctx;
	uint64_t now = clock_ms();

	if (c->message_until_ms == 0)
		c->message_until_ms = now + total_ms;
	if (now + ms > c->message_until_ms)
		ms = c->message_until_ms > now ? c->message_until_ms - now : 0;
	if (!c->closing)
		loop_timer_set(c->timer, ms);
}

static void
wire_close(void *ctx)
{
	struct transport_conn *c = ctx;

	c->closing = true;
	if (c->connected)
		stream_close(c->stream);
	loop_timer_set(c->timer, c->connected ? CLOSE_MS : 0);
}

/* ---- what it tells ---- */

static void
session_open(void *arg)
{
	struct transport_conn *c = arg;

	if (c->job != NULL)
		transport_job_open(c->job);
	else
		transport_session_quit(c->session);
}

static void
session_dot(void *arg)
{
	struct transport_conn *c = arg;

	if (c->job != NULL)
		transport_job_dot(c->job);
}

static unsigned
waiting_count(void)
{
	unsigned n = 0;

	for (const struct transport_conn *c = conns; c != NULL; c = c->next)
		n += c->waiting;
	return n;
}

/* No other message is to come over this connection: those that wait are no more than those at work. */
static bool
has_had_enough(const struct transport_conn *c)
{
	return transport_draining() || c->messages >= TRANSPORT_MESSAGES_MAX || transport_session_spent(c->session) ||
	       waiting_count() >= config_number(role_config(), OPT_TRANSPORT_CONNECTIONS);
}

/* The connection waits for another message, unless it has had enough. */
static void
wait_for_more(struct transport_conn *c)
{
	if (!transport_session_idle(c->session))
		return;
	if (has_had_enough(c)) {
		transport_session_quit(c->session);
		return;
	}
	c->waiting = true;
	loop_timer_set(c->timer, TRANSPORT_IDLE_MS);
}

static void
session_message(void *arg, const struct transport_failure *rest)
{
	struct transport_conn *c = arg;
	struct transport_job *job = c->job;

	c->job = NULL;
	c->messages++;
	wait_for_more(c);
	if (job != NULL)
		transport_job_message(job, rest);
}

static void
session_over(void *arg, const struct transport_failure *why)
{
	struct transport_conn *c = arg;
	struct transport_job *job = c->job;

	c->job = NULL;
	c->waiting = false;
	if (job != NULL)
		transport_job_over(job, why);
}

static void
session_recoded(void *arg, unsigned bodies)
{
	struct transport_conn *c = arg;
	const struct log_field fields[] = {LOG_CSTR("mta", c->mta), LOG_NUM("bodies", bodies), LOG_END};

	if (c->job != NULL)
		transport_trace(c->job, "recoded", fields);
}

static void
session_reply(void *arg, enum transport_stage stage, const struct smtp_reply *reply, struct slice recipient)
{
	struct transport_conn *c = arg;
	struct buf b;

	if (c->job == NULL)
		return;
	buf_init(&b, SMTP_REPLY_TEXT_MAX + TRANSPORT_TEXT_MAX);
	(void)smtp_reply_print(reply, &b);
	const struct log_field fields[] = {LOG_CSTR("mta", c->mta), LOG_CSTR("at", transport_stage_name(stage)), LOG_STR("to", recipient),
	    LOG_STR("reply", slice_sub(buf_slice(&b), 0, TRANSPORT_TEXT_MAX)), LOG_END};

	transport_trace(c->job, "remote-reply", fields);
	buf_fini(&b);
}

/* ---- the stream ---- */

static void
trace_tls(const struct transport_conn *c, const struct tls_client_facts *f)
{
	const struct log_field fields[] = {LOG_CSTR("mta", c->mta), LOG_CSTR("tls", stream_tls_text(c->stream)),
	    LOG_CSTR("proof", tls_client_proof_name(f->proof)), LOG_CSTR("why", f->why), LOG_NUM("tlsa", c->tlsa_count),
	    LOG_NUM("usable", f->usable), LOG_END};

	if (c->job != NULL)
		transport_trace(c->job, "remote-tls", fields);
}

/* A connection is used for another message: what it is like belongs to that one's time line too. */
static void
trace_again(const struct transport_conn *c)
{
	struct tls_client_facts facts;
	const struct log_field fields[] = {LOG_CSTR("mta", c->mta), LOG_NUM("messages", c->messages), LOG_END};

	transport_trace(c->job, "remote-again", fields);
	tls_client_facts(c->stream, &facts);
	if (stream_is_tls(c->stream))
		trace_tls(c, &facts);
}

static void
handshake_done(struct transport_conn *c)
{
	struct tls_client_facts facts;

	c->handshake = false;
	tls_client_facts(c->stream, &facts);
	trace_tls(c, &facts);
	if (c->tls_first)
		transport_session_begin_secured(c->session, facts.proof != TLS_PROOF_NONE);
	else
		transport_session_secured(c->session, facts.proof != TLS_PROOF_NONE);
}

static void
on_ready(struct stream *s, void *arg)
{
	struct transport_conn *c = arg;

	if (c->closing)
		return;
	if (!c->connected) {
		c->connected = true;
		if (c->tls_first) {
			wire_deadline(c, config_number(role_config(), OPT_TRANSPORT_TIMEOUT_COMMAND));
			wire_starttls(c);
			return;
		}
		transport_session_begin(c->session);
	} else if (c->handshake) {
		handshake_done(c);
	}
	size_t used = c->closing || c->handshake ? 0 : transport_session_input(c->session, stream_input(s));

	/* TLS that begins, and a stream that is closed, have dropped their input already. */
	if (c->closing || c->handshake)
		return;
	stream_consume(s, used);
	transport_session_writable(c->session);
}

static void
on_end(struct stream *s, void *arg, enum stream_end why)
{
	struct transport_conn *c = arg;
	const char *error = stream_error(s);

	c->connected = false; /* what is closed now has no stream to leave by */
	if (why != STREAM_ERROR || error[0] == '\0')
		error = "the server closed the connection";
	transport_session_ended(c->session, error, stream_input(s));
	conn_free(c);
}

static void
on_timer(void *arg)
{
	struct transport_conn *c = arg;

	if (c->closing) {
		conn_free(c);
	} else if (c->waiting) {
		c->waiting = false;
		transport_session_quit(c->session);
	} else {
		transport_session_ended(c->session, "the server did not answer in time", slice_of(NULL, 0));
	}
}

/* ---- for jobs ---- */

static void
set_names(struct transport_conn *c, const struct transport_target *t)
{
	struct slice base = t->host->tlsa == TRANSPORT_TLSA_RECORDS ? t->host->base : t->host->name;

	if (t->host->literal || !slice_cstr(t->host->name, c->host, sizeof c->host) || !slice_cstr(base, c->names[0], sizeof c->names[0]))
		return;
	if (t->destination.n > 0 && !slice_eq(t->destination, base) && !slice_cstr(t->destination, c->names[1], sizeof c->names[1]))
		c->names[1][0] = '\0';
}

static void
set_tlsa(struct transport_conn *c, const struct transport_host *h)
{
	c->dane = h->tlsa == TRANSPORT_TLSA_RECORDS;
	c->arena = arena_new(TRANSPORT_ROUTE_BYTES_MAX);
	/* What is not kept does not count, which makes the demand no smaller. */
	for (unsigned i = 0; c->dane && i < h->tlsa_count; i++)
		if (arena_copy(c->arena, h->tlsa_records[i], &c->tlsa[c->tlsa_count]))
			c->tlsa_count++;
}

static struct transport_session *
session_new(struct transport_conn *c, const struct transport_target *t)
{
	static const struct transport_wire wire = {
	    .write = wire_write, .full = wire_full, .starttls = wire_starttls, .deadline = wire_deadline,
	    .deadline_of_piece = wire_deadline_of_piece, .close = wire_close};
	static const struct transport_session_events events = {.on_open = session_open, .on_dot = session_dot,
	    .on_message = session_message, .on_over = session_over, .on_recoded = session_recoded, .on_reply = session_reply};
	const struct config *config = role_config();
	const struct transport_session_config session = {.helo = slice_str(config_string(config, OPT_HOSTNAME)), .mta = slice_str(c->mta),
	    .tls = t->tls, .mx_proven = t->mx_proven, .user = t->login.user, .password = t->login.password,
	    .command_ms = config_number(config, OPT_TRANSPORT_TIMEOUT_COMMAND),
	    .data_ms = config_number(config, OPT_TRANSPORT_TIMEOUT_DATA),
	    .data_rate = config_number(config, OPT_TRANSPORT_DATA_RATE), .dot_ms = config_number(config, OPT_TRANSPORT_TIMEOUT_DOT)};

	return transport_session_new(&session, &wire, c, &events, c);
}

/* This machine has no socket, port or memory left: that says nothing of the server. */
static bool
lacks_means(int error)
{
	return error == EADDRNOTAVAIL || error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM || error == EAGAIN;
}

static uint64_t
connect_ms(const struct transport_job *job)
{
	uint64_t ms = config_number(role_config(), OPT_TRANSPORT_TIMEOUT_CONNECT);

	return job->fresh && ms > TRANSPORT_FRESH_CONNECT_MS ? TRANSPORT_FRESH_CONNECT_MS : ms;
}

void
transport_target_name(const struct transport_target *t, char mta[TRANSPORT_MTA_MAX])
{
	char ip[TRANSPORT_IP_TEXT_MAX];

	transport_address_text(t->address, ip);
	snprintf(mta, TRANSPORT_MTA_MAX, "%.*s[%s]", t->host->literal ? 0 : (int)t->host->name.n, (const char *)t->host->name.p, ip);
}

struct transport_conn *
transport_conn_new(struct transport_job *job, const struct transport_target *t, struct transport_failure *why_r)
{
	static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};
	struct transport_conn *c = MEM_NEW(struct transport_conn);
	const char *error = "";

	transport_target_name(t, c->mta);
	c->stream = stream_connect(role_loop(), t->address, NULL, INPUT_BYTES_MAX, &events, c, &error);
	if (c->stream == NULL) {
		transport_failure_set(why_r, TRANSPORT_AT_CONNECT, false, "4.4.1", error);
		why_r->ours = lacks_means(errno);
		MEM_FREE(&c);
		return NULL;
	}
	c->job = job;
	c->tls = t->tls;
	c->name_proven = t->name_proven;
	c->mx_proven = t->mx_proven;
	c->tls_first = t->tls_first;
	(void)!slice_cstr(t->key, c->key, sizeof c->key);
	set_names(c, t);
	set_tlsa(c, t->host);
	c->timer = loop_timer_new(role_loop(), on_timer, c);
	c->session = session_new(c, t);
	c->next = conns;
	conns = c;
	loop_timer_set(c->timer, connect_ms(job));
	return c;
}

static struct transport_conn *
take_waiting(struct transport_conn *c, struct transport_job *job)
{
	c->waiting = false;
	c->job = job;
	trace_again(c);
	return c;
}

struct transport_conn *
transport_conn_waiting(struct transport_job *job, struct slice key)
{
	for (struct transport_conn *c = conns; c != NULL; c = c->next)
		if (c->waiting && transport_session_idle(c->session) && slice_eq(slice_str(c->key), key))
			return take_waiting(c, job);
	return NULL;
}

/* Nothing about it depends on the destination: neither relay nor policy nor TLSA records. */
static bool
is_general(const struct transport_conn *c)
{
	return c->tls == TRANSPORT_TLS_MAY && !c->name_proven && !c->dane && c->key[0] != TRANSPORT_KEY_RELAY;
}

struct transport_conn *
transport_conn_to_server(struct transport_job *job, const struct transport_target *t)
{
	char mta[TRANSPORT_MTA_MAX];

	if (t->tls != TRANSPORT_TLS_MAY || t->name_proven || t->key.p[0] == TRANSPORT_KEY_RELAY || t->host->literal)
		return NULL;
	transport_target_name(t, mta);
	for (struct transport_conn *c = conns; c != NULL; c = c->next)
		if (c->waiting && is_general(c) && c->mx_proven == t->mx_proven && strcmp(c->mta, mta) == 0 &&
		    transport_session_idle(c->session)) {
			(void)!slice_cstr(t->key, c->key, sizeof c->key);
			return take_waiting(c, job);
		}
	return NULL;
}

bool
transport_conn_take(struct transport_conn *c, struct transport_failure *why_r)
{
	if (transport_session_take(c->session, &c->job->message, why_r))
		return true;
	c->job = NULL;
	wait_for_more(c);
	return false;
}

void
transport_conn_drop(struct transport_conn *c)
{
	c->job = NULL;
	transport_session_quit(c->session);
}

void
transport_conns_quit(void)
{
	for (struct transport_conn *c = conns, *next; c != NULL; c = next) {
		next = c->next;
		if (c->waiting) {
			c->waiting = false;
			transport_session_quit(c->session);
		}
	}
}
