/*
 * A connection waits for one thing at a time, `state`; front_set_state() is its only writer. Input
 * that comes while it waits for another process stays in the stream's buffer (RFC 2449 6.6):
 * pipelined commands are taken in order, and after a login they go through the relay to the worker
 * unread.
 *
 * The answer to the last command of a login is the worker's: only it knows whether the maildrop is
 * free (RFC 1939 4).
 */
#include "pop3d/front.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"
#include "common/tls.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTENERS_MAX 16
/* A drain that is not done by then is over all the same. */
#define DRAIN_MS 3000

static struct {
	struct listener_group *group;
	struct listener *listeners[LISTENERS_MAX];
	size_t listeners_n;
	struct front_conn *conns;
	struct loop_timer *drain_timer;
	uint64_t last_conn;
	bool draining;
} front;

static void on_ready(struct stream *s, void *arg);
static void on_end(struct stream *s, void *arg, enum stream_end why);
static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};

/* Which states may follow which. */
static const uint32_t next_states[FRONT_STATE_COUNT] = {
    [FRONT_HANDSHAKE] = 1u << FRONT_READY | 1u << FRONT_CLOSING,
    [FRONT_READY] = 1u << FRONT_READY | 1u << FRONT_HANDSHAKE | 1u << FRONT_VERIFYING |
		    1u << FRONT_CLOSING,
    [FRONT_AUTH_LINE] = 1u << FRONT_READY | 1u << FRONT_VERIFYING | 1u << FRONT_CLOSING,
    [FRONT_VERIFYING] = 1u << FRONT_READY | 1u << FRONT_AUTH_LINE | 1u << FRONT_DELAYING |
			1u << FRONT_ATTACHING | 1u << FRONT_CLOSING,
    [FRONT_DELAYING] = 1u << FRONT_READY | 1u << FRONT_CLOSING,
    [FRONT_ATTACHING] = 1u << FRONT_READY | 1u << FRONT_RELAYING | 1u << FRONT_CLOSING,
};

void
front_set_state(struct front_conn *c, enum front_state state)
{
	assert(next_states[c->state] & 1u << state);
	c->state = state;
}

/* ---- saying ---- */

static void
say(struct front_conn *c, const char *text)
{
	stream_write_str(c->stream, text);
	stream_write(c->stream, SLICE("\r\n"));
}

void
front_answer(struct front_conn *c, const char *text)
{
	say(c, text);
	front_set_state(c, FRONT_READY);
}

void
front_bye(struct front_conn *c, const char *text)
{
	if (c->state == FRONT_CLOSING || c->state == FRONT_RELAYING)
		return;
	front_forget(c);
	if (c->state != FRONT_HANDSHAKE)
		say(c, text);
	front_set_state(c, FRONT_CLOSING);
	stream_close(c->stream);
}

void
front_bad(struct front_conn *c, const char *text)
{
	front_answer(c, text);
	if (++c->bad >= FRONT_BAD_MAX)
		front_bye(c, "-ERR Too many errors");
}

void
front_trace(struct front_conn *c, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, 2048);
	log_put_fields(&b, fields);
	role_trace(slice_str(c->session), event, buf_slice(&b));
	buf_fini(&b);
}

/* ---- commands ---- */

/*
 * RFC 2449 5, in the AUTHORIZATION state. Without TLS no mechanism is offered, as each shows the
 * password (RFC 2595 2.3).
 */
static void
cmd_capa(struct front_conn *c, const struct pop3_command *cmd)
{
	bool tls = stream_is_tls(c->stream);

	(void)cmd;
	say(c,
	    "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER");
	if (tls)
		say(c, "USER\r\nSASL PLAIN LOGIN");
	else if (tls_server_ready(tls_server()))
		say(c, "STLS");
	front_answer(c, "IMPLEMENTATION Mailstead\r\n.");
}

/* RFC 2595 4. What the client sent after the command is dropped by stream_starttls(). */
static void
cmd_stls(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	if (stream_is_tls(c->stream)) {
		front_bad(c, "-ERR TLS is on already");
	} else if (!tls_server_ready(tls_server())) {
		front_answer(c, "-ERR [SYS/TEMP] TLS is not available");
	} else {
		say(c, "+OK Begin TLS negotiation");
		front_set_state(c, FRONT_HANDSHAKE);
		stream_starttls(c->stream, tls_server());
	}
}

static void
cmd_quit(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	front_bye(c, "+OK Bye");
}

static void
cmd_not_yet(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	front_bad(c, "-ERR Log in first");
}

static void
cmd_unknown(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	front_bad(c, "-ERR Unknown command");
}

static void (*const commands[POP3_VERB_COUNT])(struct front_conn *, const struct pop3_command *) = {
    [POP3_UNKNOWN] = cmd_unknown,
    [POP3_USER] = front_user,
    [POP3_PASS] = front_pass,
    [POP3_AUTH] = front_auth,
    [POP3_STLS] = cmd_stls,
    [POP3_CAPA] = cmd_capa,
    [POP3_QUIT] = cmd_quit,
    [POP3_STAT] = cmd_not_yet,
    [POP3_LIST] = cmd_not_yet,
    [POP3_RETR] = cmd_not_yet,
    [POP3_DELE] = cmd_not_yet,
    [POP3_NOOP] = cmd_not_yet, /* RFC 1939 5: only in the TRANSACTION state */
    [POP3_RSET] = cmd_not_yet,
    [POP3_UIDL] = cmd_not_yet,
    [POP3_TOP] = cmd_not_yet,
    [POP3_APOP] = cmd_unknown,
};

static void
run_command(struct front_conn *c, struct slice line)
{
	struct pop3_command cmd;
	bool ok = pop3_command_parse(line, &cmd);

	if (++c->commands > FRONT_COMMANDS_MAX) {
		front_bye(c, "-ERR Too many commands without a login");
		return;
	}
	/* RFC 1939 7: PASS comes right after a successful USER. */
	if (cmd.verb != POP3_PASS)
		c->user[0] = '\0';
	if (!ok)
		front_bad(c, "-ERR Wrong arguments");
	else
		commands[cmd.verb](c, &cmd);
}

/* ---- input ---- */

static void
on_line(struct front_conn *c, enum pop3_frame frame, struct slice line)
{
	switch (frame) {
	case POP3_FRAME_MORE:
		break;
	case POP3_FRAME_LINE:
		if (c->state == FRONT_AUTH_LINE)
			front_auth_line(c, line);
		else
			run_command(c, line);
		break;
	case POP3_FRAME_LONG:
	case POP3_FRAME_BARE:
		if (c->state == FRONT_AUTH_LINE)
			front_auth_line(c, slice_of(NULL, 0));
		else
			front_bad(c, frame == POP3_FRAME_LONG ? "-ERR Line is too long"
							      : "-ERR Lines end in CRLF");
		break;
	}
}

static bool
takes_input(const struct front_conn *c)
{
	return (c->state == FRONT_READY || c->state == FRONT_AUTH_LINE) && !stream_full(c->stream);
}

void
front_step(struct front_conn *c)
{
	while (takes_input(c)) {
		struct slice in = stream_input(c->stream), line;
		size_t used, max = c->state == FRONT_AUTH_LINE ? FRONT_AUTH_LINE_BYTES_MAX
							       : POP3_LINE_BYTES_MAX;
		enum pop3_frame frame;

		if (in.n == 0)
			return;
		frame = pop3_frame_next(&c->framer, in, max, &used, &line);
		if (frame == POP3_FRAME_MORE) {
			/* Half a line, and the client will not send the rest. */
			stream_consume_secret(c->stream, stream_eof(c->stream) ? in.n : used);
			return;
		}
		on_line(c, frame, line);
		/* STLS and the end have dropped the input themselves. */
		if (c->state == FRONT_HANDSHAKE || c->state == FRONT_CLOSING)
			return;
		stream_consume_secret(c->stream, used);
	}
}

/* ---- the life of a connection ---- */

static void
greet(struct front_conn *c)
{
	c->greeted = true;
	say(c, "+OK Mailstead ready");
}

static void
on_ready(struct stream *s, void *arg)
{
	struct front_conn *c = arg;

	if (c->state == FRONT_HANDSHAKE && stream_is_tls(s)) {
		front_set_state(c, FRONT_READY);
		c->framer = (struct pop3_framer){0};
		if (!c->greeted) /* after STLS there is no second greeting */
			greet(c);
	}
	front_step(c);
}

static void
conn_free(struct front_conn *c)
{
	front_forget(c);
	front_lease_close(c);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	listener_done(front.group, &c->client);
	loop_timer_free(&c->login_timer);
	loop_timer_free(&c->delay_timer);
	stream_free(&c->stream);
	free(c);
	if (front.draining && front.conns == NULL)
		role_exit(0);
}

static void
on_end(struct stream *s, void *arg, enum stream_end why)
{
	struct front_conn *c = arg;

	if (why == STREAM_ERROR)
		log_event(LOG_INFO, slice_str(c->session), "pop3-connection-failed",
		    LOG_CSTR("client", c->client.text), LOG_CSTR("error", stream_error(s)),
		    LOG_END);
	front_trace(c, "pop3-disconnect",
	    (const struct log_field[]){LOG_CSTR("client", c->client.text), LOG_END});
	conn_free(c);
}

static void
login_timeout(void *arg)
{
	front_bye(arg, "-ERR Too long without a login");
}

static void
conn_new(int fd, const struct client_address *a, bool tls)
{
	struct front_conn *c = MEM_NEW(struct front_conn);

	c->conn = ++front.last_conn;
	c->client = *a;
	snprintf(c->session, sizeof c->session, "pop3-%llx-%llx",
	    (unsigned long long)role_self()->generation, (unsigned long long)c->conn);
	c->next = front.conns;
	c->link = &front.conns;
	if (c->next)
		c->next->link = &c->next;
	front.conns = c;
	c->stream = stream_new(role_loop(), fd, FRONT_AUTH_LINE_BYTES_MAX, &events, c);
	c->login_timer = loop_timer_new(role_loop(), login_timeout, c);
	loop_timer_set(c->login_timer, config_number(role_config(), OPT_LOGIN_TIMEOUT));
	front_trace(
	    c, "pop3-connect", (const struct log_field[]){LOG_CSTR("client", a->text), LOG_END});
	if (tls) {
		c->state = FRONT_HANDSHAKE;
		stream_starttls(c->stream, tls_server());
	} else {
		c->state = FRONT_READY;
		greet(c);
	}
}

static void
accepted_clear(void *arg, int fd, const struct client_address *a)
{
	(void)arg;
	conn_new(fd, a, false);
}

static void
accepted_tls(void *arg, int fd, const struct client_address *a)
{
	(void)arg;
	conn_new(fd, a, true);
}

static void
refused_clear(void *arg, int fd, const struct client_address *a)
{
	static const char text[] = "-ERR [SYS/TEMP] Too many connections from your address\r\n";

	(void)arg;
	if (send(fd, text, sizeof text - 1, MSG_NOSIGNAL) < 0)
		log_event(LOG_DEBUG, NO_SESSION, "refusal-not-told", LOG_CSTR("client", a->text),
		    LOG_END);
	(void)close(fd);
}

static void
refused_tls(void *arg, int fd, const struct client_address *a)
{
	(void)arg;
	(void)a;
	(void)close(fd);
}

static struct listener_limits
limits(void)
{
	return (struct listener_limits){
	    .total_max = (unsigned)config_number(role_config(), OPT_LOGIN_CONNECTIONS),
	    .per_network_max = (unsigned)config_number(
		role_config(), OPT_LOGIN_CONNECTIONS_PER_ADDRESS),
	};
}

void
front_listen(const char *name, int fd)
{
	bool tls = slice_eq(slice_str(name), SLICE("pop3s"));

	assert(front.listeners_n < LISTENERS_MAX);
	if (front.group == NULL)
		front.group = listener_group_new(role_loop(), limits());
	front.listeners[front.listeners_n++] = listener_new(front.group, fd,
	    tls ? accepted_tls : accepted_clear, tls ? refused_tls : refused_clear, NULL);
}

void
front_reload(void)
{
	if (front.group)
		listener_group_limits(front.group, limits());
}

void
front_edge_down(struct edge *e)
{
	for (struct front_conn *c = front.conns; c; c = c->next) {
		if (c->request_edge == e)
			c->request_edge = NULL;
	}
}

static void
drain_over(void *arg)
{
	(void)arg;
	role_exit(0);
}

void
front_drain(void)
{
	struct front_conn *next;

	front.draining = true;
	for (size_t i = 0; i < front.listeners_n; i++)
		listener_free(&front.listeners[i]);
	front.listeners_n = 0;
	for (struct front_conn *c = front.conns; c; c = next) {
		next = c->next;
		front_bye(c, "-ERR [SYS/TEMP] Server shutting down");
	}
	if (front.conns == NULL) {
		role_exit(0);
		return;
	}
	front.drain_timer = loop_timer_new(role_loop(), drain_over, NULL);
	loop_timer_set(front.drain_timer, DRAIN_MS);
}
