/*
 * The life of a session. Callbacks of the stream, of timers and of other
 * processes only note what happened and call smtpd_step(), which never runs
 * inside itself and is the one place where input is consumed. A session whose
 * stream has ended while something is still to be answered is freed at once: the
 * question is forgotten, and an answer that comes late finds nobody.
 */
#include "smtpd/front.h"
#include "smtpd/front_login.h"
#include "smtpd/front_room.h"

#include "common/config.h"
#include "common/mem.h"
#include "common/tls.h"
#include "smtpd/front_client.h"
#include "smtpd/front_policy.h"
#include "smtpd/proxy_header.h"

#include <assert.h>
#include <unistd.h>

/* Which states may follow; every one may end in CLOSING. */
static const unsigned follows[FRONT_STATE_COUNT] = {
    [FRONT_STATE_GREETING] = FRONT_STATE_BIT(FRONT_STATE_HELO),
    [FRONT_STATE_HELO] = FRONT_STATE_BIT(FRONT_STATE_READY) | FRONT_STATE_BIT(FRONT_STATE_CHUNK),
    [FRONT_STATE_READY] = FRONT_STATE_BIT(FRONT_STATE_CHUNK) | FRONT_STATE_BIT(FRONT_STATE_READY) | FRONT_STATE_BIT(FRONT_STATE_HELO) |
	FRONT_STATE_BIT(FRONT_STATE_AUTH) | FRONT_STATE_BIT(FRONT_STATE_MAIL),
    [FRONT_STATE_AUTH] = FRONT_STATE_BIT(FRONT_STATE_READY),
    [FRONT_STATE_MAIL] = FRONT_STATE_BIT(FRONT_STATE_READY) | FRONT_STATE_BIT(FRONT_STATE_RCPT) |
	FRONT_STATE_BIT(FRONT_STATE_CHUNK),
    [FRONT_STATE_RCPT] = FRONT_STATE_BIT(FRONT_STATE_READY) | FRONT_STATE_BIT(FRONT_STATE_RCPT) |
	FRONT_STATE_BIT(FRONT_STATE_DATA) | FRONT_STATE_BIT(FRONT_STATE_CHUNK),
    [FRONT_STATE_CHUNK] = FRONT_STATE_BIT(FRONT_STATE_CHUNKED) | FRONT_STATE_BIT(FRONT_STATE_HANDED) |
	FRONT_STATE_BIT(FRONT_STATE_READY) | FRONT_STATE_BIT(FRONT_STATE_HELO),
    [FRONT_STATE_CHUNKED] = FRONT_STATE_BIT(FRONT_STATE_CHUNK) | FRONT_STATE_BIT(FRONT_STATE_READY),
    [FRONT_STATE_DATA] = FRONT_STATE_BIT(FRONT_STATE_READY) | FRONT_STATE_BIT(FRONT_STATE_HANDED),
    [FRONT_STATE_HANDED] = FRONT_STATE_BIT(FRONT_STATE_READY),
    [FRONT_STATE_CLOSING] = 0,
};

void
smtpd_set_state(struct front *f, enum front_state to)
{
	assert(to == FRONT_STATE_CLOSING || (follows[f->state] & FRONT_STATE_BIT(to)));
	f->state = to;
}

bool
smtpd_outside(const struct front *f)
{
	return !smtpd_service.submission && !f->port->lmtp;
}

static void
front_free(struct front *f)
{
	if (f->asked)
		ipc_forget(f->asked, f->asked_id);
	smtpd_auth_end(f);
	smtpd_data_drop(f);
	client_check_free(&f->check);
	free(f->told);
	if (f->previous)
		f->previous->next = f->next;
	else
		smtpd_service.sessions = f->next;
	if (f->next)
		f->next->previous = f->previous;
	smtpd_service.session_count--;
	if (!f->uncounted)
		listener_done(f->port->group, &f->client);
	stream_free(&f->stream);
	loop_timer_free(&f->timer);
	loop_timer_free(&f->again);
	arena_free(&f->t.arena);
	free(f);
	if (smtpd_service.draining && smtpd_service.session_count == 0)
		role_exit(0);
}

/* ---- time ---- */

static uint64_t
silence_ms(void)
{
	return config_number(role_config(), OPT_SMTP_TIMEOUT);
}

/* Until when the client must have come further, besides the limit of silence; UINT64_MAX: no such limit. */
static uint64_t
deadline_ms(const struct front *f)
{
	if (f->state == FRONT_STATE_DATA || f->t.data.fd >= 0)
		return f->t.data.began_ms + FRONT_DATA_MS_MAX;
	if (smtpd_service.submission && f->account == 0)
		return f->began_ms + config_number(role_config(), OPT_LOGIN_TIMEOUT);
	if (f->state == FRONT_STATE_CHUNK)
		return f->chunk.began_ms + FRONT_DATA_MS_MAX;
	return UINT64_MAX;
}

/* Sets the timer for the wait that begins now: for the client, not for our own processes. */
static void
arm_timer(struct front *f)
{
	uint64_t now = clock_ms();
	uint64_t until = deadline_ms(f);
	uint64_t ms = silence_ms();

	if (f->state == FRONT_STATE_GREETING || f->state == FRONT_STATE_CLOSING)
		return;
	if (f->wait != FRONT_WAIT_NONE) {
		loop_timer_stop(f->timer);
		return;
	}
	if (until <= now)
		ms = 0;
	else if (until - now < ms)
		ms = until - now;
	loop_timer_set(f->timer, ms);
}

static void
on_timer(void *arg)
{
	struct front *f = arg;

	if (f->state == FRONT_STATE_GREETING) {
		smtpd_greet(f);
		smtpd_step(f);
		return;
	}
	smtpd_close(f, "4.4.2", "Timeout, closing the connection");
}

static void
on_again(void *arg)
{
	smtpd_step(arg);
}

/* ---- the step ---- */

/*
 * Runs one line out of a copy: a command may end the stream's input (STARTTLS, the end of
 * the connection) while its own words are still needed. What it was is wiped, as it may have been a password.
 */
static void
run_line(struct front *f, struct slice line, size_t used)
{
	static uint8_t copy[FRONT_AUTH_LINE_BYTES_MAX];

	assert(line.n <= sizeof(copy));
	if (line.n > 0)
		memcpy(copy, line.p, line.n);
	smtpd_consume(f, used);
	smtpd_command(f, slice_of(copy, line.n));
	mem_wipe(copy, line.n);
}

/* One command line, if a whole one is there. */
static bool
line_step(struct front *f)
{
	size_t max = f->state == FRONT_STATE_AUTH || smtpd_service.submission
	    ? FRONT_AUTH_LINE_BYTES_MAX
	    : FRONT_LINE_BYTES_MAX;
	struct slice line;
	size_t used;
	enum smtp_frame got = smtp_line_next(&f->line, stream_input(f->stream), max, &line, &used);

	if (got == SMTP_FRAME_BAD) {
		const struct policy_input in = {.submission = smtpd_service.submission, .bare_line_end = 1};

		smtpd_reply_words(f, smtpd_judge(f, POLICY_COMMAND, &in));
		smtpd_close(f, NULL, NULL);
		return false;
	}
	if (got == SMTP_FRAME_LINE) {
		run_line(f, line, used);
		return true;
	}
	smtpd_consume(f, used);
	f->thrown += used;
	if (got == SMTP_FRAME_LONG) {
		smtpd_reply(f, 500, "5.5.2", "Line too long");
		f->bad_commands++;
	}
	if (f->thrown > FRONT_THROWN_BYTES_MAX)
		smtpd_close(f, "4.7.0", "Too much input without a command");
	return got != SMTP_FRAME_MORE || used > 0;
}

/* As much as has come of what is due in this state; false when nothing was taken. */
static bool
input_step(struct front *f)
{
	if (f->state == FRONT_STATE_DATA)
		return smtpd_data_step(f);
	return f->state == FRONT_STATE_CHUNK ? smtpd_chunk_step(f) : line_step(f);
}

static bool
may_go_on(const struct front *f)
{
	return f->wait == FRONT_WAIT_NONE && f->state != FRONT_STATE_GREETING &&
	    f->state != FRONT_STATE_CLOSING && !stream_full(f->stream);
}

/* Ends the session of a client that does too often what it may do; also what is left of a drain. */
static bool
still_patient(struct front *f)
{
	if (smtpd_service.draining)
		smtpd_close(f, "4.3.2", "Shutting down, connect again");
	else if (f->bad_commands >= FRONT_BAD_COMMANDS_MAX)
		smtpd_close(f, "4.7.0", "Too many errors");
	else if (!f->port->lmtp && f->refused_recipients >= FRONT_REFUSED_RECIPIENTS_MAX)
		smtpd_close(f, "4.7.0", "Too many refused recipients");
	else if (f->failed_logins >= FRONT_FAILED_LOGINS_MAX)
		smtpd_close(f, "4.7.0", "Too many failed logins");
	else if (f->commands >= FRONT_COMMANDS_MAX)
		smtpd_close(f, "4.7.0", "Too many commands in one connection");
	return f->state != FRONT_STATE_CLOSING;
}

void
smtpd_step(struct front *f)
{
	unsigned commands = 0;
	bool more = true;

	assert(!f->stepping);
	f->stepping = true;
	while (more && may_go_on(f)) {
		if (!still_patient(f))
			break;
		more = input_step(f);
		if (more && ++commands == FRONT_STEP_COMMANDS_MAX) {
			loop_timer_set(f->again, 0);
			break;
		}
	}
	/* Half a line, and nothing will come behind it. */
	if (!more && may_go_on(f) && stream_eof(f->stream))
		stream_consume(f->stream, stream_input(f->stream).n);
	f->stepping = false;
	arm_timer(f);
}

void
smtpd_wait_for(struct front *f, enum front_wait what, struct edge *e, uint64_t id)
{
	assert(f->wait == FRONT_WAIT_NONE && id != 0);
	f->wait = what;
	f->asked_at_ms = clock_ms();
	f->asked = e;
	f->asked_id = id;
	/* Our own processes have their own deadlines; the client need not say anything meanwhile. */
	stream_set_timeout(f->stream, 0);
}

struct front *
smtpd_answered(struct edge *e, uint64_t id, enum front_wait what)
{
	struct front *f = ipc_answered(e, id);

	if (f == NULL)
		return NULL;
	assert(f->wait == what && f->asked_id == id);
	smtpd_gone(f);
	return f;
}

void
smtpd_gone(struct front *f)
{
	f->waited_since_ms += clock_ms() - f->asked_at_ms;
	f->wait = FRONT_WAIT_NONE;
	f->asked = NULL;
	f->asked_id = 0;
	stream_set_timeout(f->stream, silence_ms() + FRONT_STREAM_GRACE_MS);
}

void
smtpd_transaction_reset(struct front *f)
{
	struct arena *a = f->t.arena;

	smtpd_data_drop(f);
	arena_reset(a);
	f->t = (struct front_transaction){.arena = a, .data.fd = -1};
	if (f->state != FRONT_STATE_HELO)
		smtpd_set_state(f, FRONT_STATE_READY);
}

void
smtpd_consume(struct front *f, size_t n)
{
	uint64_t now = clock_ms();

	stream_consume(f->stream, n);
	f->waited_since_ms += n / LISTENER_OCTETS_PER_MS;
	if (f->waited_since_ms > now)
		f->waited_since_ms = now;
}

void
smtpd_end_now(struct front *f, const char *enhanced, const char *text)
{
	assert(!f->stepping);
	smtpd_reply(f, 421, enhanced, text);
	stream_flush_now(f->stream);
	smtpd_trace(f, "closing", LOG_CSTR("why", text), LOG_END);
	front_free(f);
}

void
smtpd_close(struct front *f, const char *enhanced, const char *text)
{
	if (f->state == FRONT_STATE_CLOSING)
		return;
	if (f->asked) {
		ipc_forget(f->asked, f->asked_id);
		smtpd_gone(f);
	}
	if (text) {
		smtpd_reply(f, 421, enhanced, text);
		smtpd_trace(f, "closing", LOG_CSTR("why", text), LOG_END);
	}
	smtpd_set_state(f, FRONT_STATE_CLOSING);
	loop_timer_stop(f->timer);
	loop_timer_stop(f->again);
	stream_close(f->stream);
}

void
smtpd_peer_lost(struct front *f, const struct edge *e)
{
	enum role role = edge_peer(e)->role;

	if (f->verifier == e) {
		f->verifier = NULL;
		if (f->state == FRONT_STATE_AUTH)
			smtpd_close(f, "4.3.0", "Authentication was interrupted");
	}
	/* The lease was deliver's: the client has to log in again, and only a new connection can. */
	if (role == ROLE_DELIVER && f->account != 0) {
		f->account = 0;
		smtpd_close(f, "4.3.0", "Restarting, connect again");
	}
	/* The share of the spool went with the process that counted it; the file itself is still ours. */
	if (role == ROLE_QUEUE)
		f->t.data.spool_lost = f->t.data.spool_id != 0;
}

void
smtpd_drain(struct front *f)
{
	if (f->wait != FRONT_WAIT_DELIVER)
		smtpd_close(f, "4.3.2", "Shutting down, connect again");
}

/* ---- the stream ---- */

static void
on_ready(struct stream *s, void *arg)
{
	struct front *f = arg;

	(void)s;
	if (f->state == FRONT_STATE_GREETING && f->port->tls_first && stream_is_tls(f->stream))
		smtpd_greet(f);
	smtpd_step(f);
}

static void
on_end(struct stream *s, void *arg, enum stream_end why)
{
	static const char *const words[] = {
	    [STREAM_EOF] = "client", [STREAM_TIMEOUT] = "timeout", [STREAM_ERROR] = "error", [STREAM_CLOSED] = "server"};
	struct front *f = arg;

	smtpd_trace(f, "disconnect", LOG_CSTR("by", words[why]), LOG_NUM("commands", f->commands),
	    LOG_NUM("messages", f->transactions),
	    LOG_CSTR("error", why == STREAM_ERROR ? stream_error(s) : ""), LOG_END);
	front_free(f);
}

static const struct stream_events stream_events = {.on_ready = on_ready, .on_end = on_end};

static struct front *
front_new(int fd, const struct client_address *a, const struct front_port *port)
{
	struct front *f = MEM_NEW(struct front);

	f->stream = stream_new(role_loop(), fd, FRONT_INPUT_BYTES_MAX, &stream_events, f);
	f->timer = loop_timer_new(role_loop(), on_timer, f);
	f->again = loop_timer_new(role_loop(), on_again, f);
	f->t.arena = arena_new(FRONT_TRANSACTION_BYTES_MAX);
	f->t.data.fd = -1;
	f->client = *a;
	f->conn = ++smtpd_service.next_conn;
	f->port = port;
	f->may_xclient = smtpd_outside(f) &&
	    proxy_networks_have(slice_str(config_string(role_config(), OPT_SMTP_XCLIENT_FROM)), &a->peer.sin6_addr);
	f->began_ms = f->waited_since_ms = clock_ms();
	smtp_session_id(f->id);
	f->next = smtpd_service.sessions;
	if (f->next)
		f->next->previous = f;
	smtpd_service.sessions = f;
	smtpd_service.session_count++;
	return f;
}

void
smtpd_accept(int fd, const struct client_address *a, const struct front_port *port)
{
	struct front *f = front_new(fd, a, port);

	smtpd_trace(f, "connect", LOG_CSTR("service", port->lmtp ? "lmtp" : port->local ? "local" : smtpd_service.name),
	    LOG_CSTR("peer", a->text), LOG_NUM("port", ntohs(a->peer.sin6_port)), LOG_CSTR("local", a->local_text), LOG_END);
	stream_set_timeout(f->stream, silence_ms() + FRONT_STREAM_GRACE_MS);
	smtpd_client_begin(f);
	if (port->tls_first)
		stream_starttls(f->stream, tls_server());
	else if (port->local)
		smtpd_local_begin(f, fd);
	else
		loop_timer_set(f->timer, smtpd_outside(f) && !smtpd_client_is_known(f) ? FRONT_GREET_DELAY_MS : 0);
}
