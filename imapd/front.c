/*
 * A connection waits for one thing at a time, `state`; front_set_state() is its only writer. Input that comes
 * while it waits for another process stays in the stream's buffer: pipelined commands are taken in order,
 * and after a login they go through the relay to the worker unread.
 */
#include "imapd/front.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"
#include "imapd/capability.h"

#include <assert.h>
#include <stdarg.h>
#include <unistd.h>

#define LISTENERS_MAX 16
/* A drain that is not done by then is over all the same. */
#define DRAIN_MS 3000

static struct {
	struct listener_group *group;
	struct listener *listeners[LISTENERS_MAX];
	size_t listeners_n;
	struct front_conn *conns;
	struct arena *arena; /* of the command being read */
	struct loop_timer *drain_timer;
	uint64_t last_conn;
	bool draining;
} front;

static void on_ready(struct stream *s, void *arg);
static void on_end(struct stream *s, void *arg, enum stream_end why);
static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};

static const struct imap_framer_limits command_limits = {FRONT_LINE_BYTES_MAX, FRONT_COMMAND_BYTES_MAX,
    FRONT_DROP_BYTES_MAX};
static const struct imap_framer_limits auth_limits = {FRONT_AUTH_LINE_BYTES_MAX, FRONT_AUTH_LINE_BYTES_MAX,
    FRONT_DROP_BYTES_MAX};

void
front_set_state(struct front_conn *c, enum front_state state)
{
	assert(c->state != FRONT_RELAYING && c->state != FRONT_CLOSING);
	c->state = state;
	imap_framer_plain(&c->framer, state == FRONT_AUTH_LINE);
	imap_framer_limits(&c->framer, state == FRONT_AUTH_LINE ? auth_limits : command_limits);
}

/* ---- saying ---- */

#define SAY_BYTES_MAX 16384

void
front_say(struct front_conn *c, const char *fmt, ...)
{
	char text[SAY_BYTES_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	assert(n >= 0 && (size_t)n < sizeof text);
	stream_write(c->stream, slice_of(text, (size_t)n));
}

void
front_answer(struct front_conn *c, const char *status, const char *text)
{
	front_say(c, "%s %s %s\r\n", c->tag, status, text);
	front_set_state(c, FRONT_READY);
}

void
front_bye(struct front_conn *c, const char *text)
{
	if (c->state == FRONT_CLOSING || c->state == FRONT_RELAYING)
		return;
	front_forget(c);
	if (c->state != FRONT_HANDSHAKE)
		front_say(c, "* BYE %s\r\n", text);
	front_set_state(c, FRONT_CLOSING);
	stream_close(c->stream);
}

void
front_bad(struct front_conn *c, const char *text)
{
	front_say(c, "%s BAD %s\r\n", c->tag[0] ? c->tag : "*", text);
	front_set_state(c, FRONT_READY);
	if (++c->bad >= FRONT_BAD_MAX)
		front_bye(c, "Too many errors");
}

static const char *
capabilities(const struct front_conn *c)
{
	if (stream_is_tls(c->stream))
		return CAPABILITY_TLS;
	return tls_server_ready(tls_server()) ? CAPABILITY_CLEAR : CAPABILITY_CLEAR_NO_TLS;
}

/* ---- commands ---- */

static void
cmd_capability(struct front_conn *c, struct imap_scan *s)
{
	if (!imap_no_args(s)) {
		front_bad(c, s->why);
		return;
	}
	front_say(c, "* CAPABILITY %s\r\n", capabilities(c));
	front_answer(c, "OK", "CAPABILITY completed");
}

static void
cmd_noop(struct front_conn *c, struct imap_scan *s)
{
	if (imap_no_args(s))
		front_answer(c, "OK", "NOOP completed");
	else
		front_bad(c, s->why);
}

static void
cmd_id(struct front_conn *c, struct imap_scan *s)
{
	struct imap_id id;

	if (!imap_id_args(s, &id)) {
		front_bad(c, s->why);
		return;
	}
	front_say(c, "* ID %s\r\n", IMAP_ID_TEXT);
	front_answer(c, "OK", "ID completed");
}

static void
cmd_logout(struct front_conn *c, struct imap_scan *s)
{
	if (!imap_no_args(s)) {
		front_bad(c, s->why);
		return;
	}
	front_say(c, "* BYE Logging out\r\n%s OK LOGOUT completed\r\n", c->tag);
	front_set_state(c, FRONT_CLOSING);
	stream_close(c->stream);
}

/* RFC 3501 6.2.1. What the client sent after the command is dropped by stream_starttls(). */
static void
cmd_starttls(struct front_conn *c, struct imap_scan *s)
{
	if (!imap_no_args(s)) {
		front_bad(c, s->why);
	} else if (stream_is_tls(c->stream)) {
		front_bad(c, "TLS is on already");
	} else if (!tls_server_ready(tls_server())) {
		front_answer(c, "NO", "[UNAVAILABLE] TLS is not available");
	} else {
		front_say(c, "%s OK Begin TLS negotiation now\r\n", c->tag);
		front_set_state(c, FRONT_HANDSHAKE);
		stream_starttls(c->stream, tls_server());
	}
}

static const struct {
	const char *name;
	void (*run)(struct front_conn *c, struct imap_scan *s);
} commands[] = {
    {"CAPABILITY", cmd_capability}, {"NOOP", cmd_noop},		  {"LOGOUT", cmd_logout},
    {"ID", cmd_id},		    {"STARTTLS", cmd_starttls},	  {"LOGIN", front_login},
    {"AUTHENTICATE", front_authenticate},
};

static void
keep_tag(struct front_conn *c, struct slice tag)
{
	c->tag[0] = '\0';
	if (!slice_cstr(tag, c->tag, sizeof c->tag))
		c->tag[0] = '\0';
}

static void
run_command(struct front_conn *c, struct slice text)
{
	struct imap_scan s = imap_scan_of(text, front.arena);
	struct imap_head head;
	bool ok = imap_head(&s, &head);

	keep_tag(c, head.tag);
	if (!ok) {
		front_bad(c, s.why);
		return;
	}
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		if (!head.uid && slice_eq_nocase(head.name, slice_str(commands[i].name))) {
			commands[i].run(c, &s);
			return;
		}
	}
	front_bad(c, "Unknown command, or one that needs a login");
}

/* The command is refused before it is whole. */
static void
refuse_early(struct front_conn *c, const char *why)
{
	struct imap_scan s = imap_scan_of(imap_framer_command(&c->framer), front.arena);
	struct slice tag = slice_of(NULL, 0);

	if (!imap_tag(&s, &tag))
		tag = slice_of(NULL, 0);
	keep_tag(c, tag);
	front_bad(c, why);
}

static void
literal_announced(struct front_conn *c)
{
	bool sync = c->framer.literal_sync;

	if (imap_framer_accept(&c->framer)) {
		if (sync)
			front_say(c, "+ OK\r\n");
		return;
	}
	refuse_early(c, "[TOOBIG] Literal is too long");
	if (c->state == FRONT_READY && !imap_framer_refuse(&c->framer))
		front_bye(c, "[TOOBIG] Literal is too long");
}

static void
command_come(struct front_conn *c)
{
	struct slice text = imap_framer_command(&c->framer);

	if (c->state == FRONT_AUTH_LINE)
		front_auth_line(c, text);
	else
		run_command(c, text);
}

static void
on_frame(struct front_conn *c, enum imap_frame frame)
{
	switch (frame) {
	case IMAP_FRAME_MORE:
	case IMAP_FRAME_SPOOL:
		return;
	case IMAP_FRAME_LITERAL:
		literal_announced(c);
		return;
	case IMAP_FRAME_COMMAND:
		command_come(c);
		break;
	case IMAP_FRAME_ERROR:
		if (c->state == FRONT_AUTH_LINE)
			front_auth_line(c, slice_of(NULL, 0));
		else
			refuse_early(c, c->framer.why);
		break;
	case IMAP_FRAME_FATAL:
		front_bye(c, c->framer.why);
		break;
	}
	if (c->framer.text.n > 0) /* it may have been a password */
		mem_wipe(c->framer.text.p, c->framer.text.n);
	imap_framer_next(&c->framer);
	arena_reset(front.arena);
}

static bool
takes_input(const struct front_conn *c)
{
	return c->state == FRONT_READY || c->state == FRONT_AUTH_LINE;
}

void
front_step(struct front_conn *c)
{
	while (takes_input(c) && !stream_full(c->stream)) {
		struct slice in = stream_input(c->stream);
		enum imap_frame frame;
		size_t used;

		if (in.n == 0)
			return;
		frame = imap_framer_feed(&c->framer, in, &used);
		stream_consume(c->stream, used);
		on_frame(c, frame);
	}
}

/* ---- the life of a connection ---- */

static void
greet(struct front_conn *c)
{
	c->greeted = true;
	front_say(c, "* OK [CAPABILITY %s] Mailstead ready\r\n", capabilities(c));
}

static void
trace(struct front_conn *c, const char *event)
{
	struct buf fields;

	buf_init(&fields, 2048);
	log_put_fields(&fields,
	    (const struct log_field[]){LOG_CSTR("client", c->client.text),
		LOG_CSTR("tls", stream_is_tls(c->stream) ? stream_tls_text(c->stream) : ""), LOG_END});
	role_trace(slice_str(c->session), event, buf_slice(&fields));
	buf_fini(&fields);
}

static void
on_ready(struct stream *s, void *arg)
{
	struct front_conn *c = arg;

	if (c->state == FRONT_HANDSHAKE && stream_is_tls(s)) {
		front_set_state(c, FRONT_READY);
		if (!c->greeted) /* after STARTTLS there is no second greeting */
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
	imap_framer_fini(&c->framer);
	stream_free(&c->stream);
	mem_wipe(c, sizeof *c);
	free(c);
	if (front.draining && front.conns == NULL)
		role_exit(0);
}

static void
on_end(struct stream *s, void *arg, enum stream_end why)
{
	struct front_conn *c = arg;

	if (why == STREAM_ERROR)
		log_event(LOG_INFO, slice_str(c->session), "imap-connection-failed",
		    LOG_CSTR("client", c->client.text), LOG_CSTR("error", stream_error(s)), LOG_END);
	trace(c, "imap-disconnect");
	conn_free(c);
}

static void
login_timeout(void *arg)
{
	front_bye(arg, "Too long without a login");
}

static void
conn_new(int fd, const struct client_address *a, bool tls)
{
	struct front_conn *c = MEM_NEW(struct front_conn);

	c->conn = ++front.last_conn;
	c->client = *a;
	/* Unique for ever: traces are kept longer than processes live. */
	snprintf(c->session, sizeof c->session, "i%llx-%llx", (unsigned long long)clock_wall_us(),
	    (unsigned long long)c->conn);
	imap_framer_init(&c->framer, command_limits);
	c->state = FRONT_READY;
	c->next = front.conns;
	c->link = &front.conns;
	if (c->next)
		c->next->link = &c->next;
	front.conns = c;
	c->stream = stream_new(role_loop(), fd, FRONT_COMMAND_BYTES_MAX, &events, c);
	c->login_timer = loop_timer_new(role_loop(), login_timeout, c);
	loop_timer_set(c->login_timer, config_number(role_config(), OPT_LOGIN_TIMEOUT));
	if (!tls) {
		trace(c, "imap-connect");
		greet(c);
		return;
	}
	c->state = FRONT_HANDSHAKE;
	stream_starttls(c->stream, tls_server());
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
	static const char text[] = "* BYE [LIMIT] Too many connections from your address\r\n";

	(void)arg;
	if (write(fd, text, sizeof text - 1) < 0)
		log_event(LOG_DEBUG, NO_SESSION, "refusal-not-told", LOG_CSTR("client", a->text), LOG_END);
	close(fd);
}

static void
refused_tls(void *arg, int fd, const struct client_address *a)
{
	(void)arg;
	(void)a;
	close(fd);
}

static struct listener_limits
limits(void)
{
	return (struct listener_limits){
	    .total_max = (unsigned)config_number(role_config(), OPT_LOGIN_CONNECTIONS),
	    .per_network_max = (unsigned)config_number(role_config(), OPT_LOGIN_CONNECTIONS_PER_ADDRESS),
	};
}

void
front_listen(const char *name, int fd)
{
	bool tls = slice_eq(slice_str(name), SLICE("imaps"));

	assert(front.listeners_n < LISTENERS_MAX);
	if (front.group == NULL)
		front.group = listener_group_new(role_loop(), limits());
	if (front.arena == NULL)
		front.arena = arena_new(FRONT_ARENA_BYTES_MAX);
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
	for (struct front_conn *c = front.conns; c; c = c->next)
		if (c->request_edge == e && c->request == 0)
			c->request_edge = NULL;
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
		front_bye(c, "Server shutting down");
	}
	if (front.conns == NULL) {
		role_exit(0);
		return;
	}
	front.drain_timer = loop_timer_new(role_loop(), drain_over, NULL);
	loop_timer_set(front.drain_timer, DRAIN_MS);
}
