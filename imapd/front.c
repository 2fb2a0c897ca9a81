/*
 * IMAP before login: the commands of RFC 3501 6.1 and 6.2, and their words. What becomes of a login
 * is common/login.h's.
 */
#include "imapd/front.h"

#include "common/log.h"
#include "common/login.h"
#include "common/mem.h"
#include "common/tls.h"
#include "imapd/capability.h"
#include "imapd/imap_args.h"
#include "imapd/imap_framer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

/* Before login: one line, one command, all literals included. */
#define LINE_BYTES_MAX 8192
#define COMMAND_BYTES_MAX 16384
/* A line of an AUTHENTICATE exchange: base64 of LOGIN_RESPONSE_BYTES_MAX. */
#define AUTH_LINE_BYTES_MAX 16390
#define ARENA_BYTES_MAX 65536
/* A refused literal that is read to its end. */
#define DROP_BYTES_MAX 65536

struct front_conn {
	struct login_conn conn;
	struct imap_framer framer;
	char login[321];
	char tag[IMAP_TAG_BYTES_MAX + 1];
};

static struct arena *arena; /* of the command being read */

static const struct imap_framer_limits command_limits = {LINE_BYTES_MAX, COMMAND_BYTES_MAX,
    DROP_BYTES_MAX};
static const struct imap_framer_limits auth_limits = {AUTH_LINE_BYTES_MAX, AUTH_LINE_BYTES_MAX,
    DROP_BYTES_MAX};

static struct front_conn *
front_of(struct login_conn *c)
{
	return (struct front_conn *)c; /* its first member */
}

/* ---- saying ---- */

#define SAY_BYTES_MAX 16384

/* Text to the client, printf-like. */
static void __attribute__((format(printf, 2, 3)))
say(struct front_conn *c, const char *fmt, ...)
{
	char text[SAY_BYTES_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	assert(n >= 0 && (size_t)n < sizeof text);
	stream_write(c->conn.stream, slice_of(text, (size_t)n));
}

/* `tag status text` */
static void
answer(struct front_conn *c, const char *status, const char *text)
{
	say(c, "%s %s %s\r\n", c->tag, status, text);
}

/* `tag BAD text`, and BYE after too many. */
static void
bad(struct front_conn *c, const char *text)
{
	say(c, "%s BAD %s\r\n", c->tag[0] ? c->tag : "*", text);
	login_bad(&c->conn);
}

/* What follows cannot be told from commands. */
static void
fatal(struct front_conn *c, const char *why)
{
	say(c, "* BYE %s\r\n", why);
	login_bye(&c->conn, NULL);
}

static const char *
capabilities(const struct front_conn *c)
{
	if (stream_is_tls(c->conn.stream))
		return CAPABILITY_TLS;
	return tls_server_ready(tls_server()) ? CAPABILITY_CLEAR : CAPABILITY_CLEAR_NO_TLS;
}

/* ---- commands ---- */

static void
cmd_capability(struct front_conn *c, struct imap_scan *s)
{
	if (!imap_no_args(s)) {
		bad(c, s->why);
		return;
	}
	say(c, "* CAPABILITY %s\r\n", capabilities(c));
	answer(c, "OK", "CAPABILITY completed");
}

static void
cmd_noop(struct front_conn *c, struct imap_scan *s)
{
	if (imap_no_args(s))
		answer(c, "OK", "NOOP completed");
	else
		bad(c, s->why);
}

static void
cmd_id(struct front_conn *c, struct imap_scan *s)
{
	struct imap_id id;

	if (!imap_id_args(s, &id)) {
		bad(c, s->why);
		return;
	}
	say(c, "* ID %s\r\n", IMAP_ID_TEXT);
	answer(c, "OK", "ID completed");
}

static void
cmd_logout(struct front_conn *c, struct imap_scan *s)
{
	if (!imap_no_args(s)) {
		bad(c, s->why);
		return;
	}
	say(c, "* BYE Logging out\r\n%s OK LOGOUT completed\r\n", c->tag);
	login_bye(&c->conn, NULL);
}

/* RFC 3501 6.2.1. What the client sent after the command is dropped by stream_starttls(). */
static void
cmd_starttls(struct front_conn *c, struct imap_scan *s)
{
	if (!imap_no_args(s)) {
		bad(c, s->why);
	} else if (stream_is_tls(c->conn.stream)) {
		bad(c, "TLS is on already");
	} else if (!tls_server_ready(tls_server())) {
		answer(c, "NO", "[UNAVAILABLE] TLS is not available");
	} else {
		say(c, "%s OK Begin TLS negotiation now\r\n", c->tag);
		login_starttls(&c->conn);
	}
}

/* RFC 3501 6.2.3 */
static void
cmd_login(struct front_conn *c, struct imap_scan *s)
{
	struct imap_login login;

	if (imap_login_args(s, &login))
		login_plain(&c->conn, login.user, login.password);
	else
		bad(c, s->why);
}

/* RFC 3501 6.2.2, RFC 4959 */
static void
cmd_authenticate(struct front_conn *c, struct imap_scan *s)
{
	struct imap_authenticate auth;

	if (imap_authenticate_args(s, &auth))
		login_auth(&c->conn, auth.mechanism, auth.initial);
	else
		bad(c, s->why);
}

static const struct {
	const char *name;
	void (*run)(struct front_conn *c, struct imap_scan *s);
} commands[] = {
    {"CAPABILITY", cmd_capability}, {"NOOP", cmd_noop},		  {"LOGOUT", cmd_logout},
    {"ID", cmd_id},		    {"STARTTLS", cmd_starttls},	  {"LOGIN", cmd_login},
    {"AUTHENTICATE", cmd_authenticate},
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
	struct imap_scan s = imap_scan_of(text, arena);
	struct imap_head head;
	bool ok = imap_head(&s, &head);

	keep_tag(c, head.tag);
	if (!ok) {
		bad(c, s.why);
		return;
	}
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		if (!head.uid && slice_eq_nocase(head.name, slice_str(commands[i].name))) {
			commands[i].run(c, &s);
			return;
		}
	}
	bad(c, "Unknown command, or one that needs a login");
}

/* The command is refused before it is whole. */
static void
refuse_early(struct front_conn *c, const char *why)
{
	struct imap_scan s = imap_scan_of(imap_framer_command(&c->framer), arena);
	struct slice tag = slice_of(NULL, 0);

	if (!imap_tag(&s, &tag))
		tag = slice_of(NULL, 0);
	keep_tag(c, tag);
	bad(c, why);
}

static void
literal_announced(struct front_conn *c)
{
	bool sync = c->framer.literal_sync;

	if (imap_framer_accept(&c->framer)) {
		if (sync)
			say(c, "+ OK\r\n");
		return;
	}
	refuse_early(c, "[TOOBIG] Literal is too long");
	if (c->conn.state == LOGIN_READY && !imap_framer_refuse(&c->framer))
		fatal(c, "[TOOBIG] Literal is too long");
}

static void
command_come(struct front_conn *c)
{
	struct slice text = imap_framer_command(&c->framer);

	if (c->conn.state == LOGIN_LINE)
		login_line(&c->conn, text);
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
		if (c->conn.state == LOGIN_LINE)
			login_line(&c->conn, slice_of(NULL, 0));
		else
			refuse_early(c, c->framer.why);
		break;
	case IMAP_FRAME_FATAL:
		fatal(c, c->framer.why);
		break;
	}
	if (c->framer.text.n > 0) /* it may have been a password */
		mem_wipe(c->framer.text.p, c->framer.text.n);
	imap_framer_next(&c->framer);
	arena_reset(arena);
}

/* A line of an exchange is no command: it has other limits, and no literals. */
static enum imap_frame
feed(struct front_conn *c, struct slice in, size_t *used_r)
{
	bool line = c->conn.state == LOGIN_LINE;

	imap_framer_plain(&c->framer, line);
	imap_framer_limits(&c->framer, line ? auth_limits : command_limits);
	return imap_framer_feed(&c->framer, in, used_r);
}

static void
step(struct login_conn *conn)
{
	struct front_conn *c = front_of(conn);

	while (login_takes_input(conn)) {
		struct slice in = stream_input(conn->stream);
		enum imap_frame frame;
		size_t used;

		if (in.n == 0)
			return;
		frame = feed(c, in, &used);
		stream_consume(conn->stream, used);
		on_frame(c, frame);
	}
}

/* ---- the life of a connection ---- */

static void
trace(struct login_conn *c, const char *event)
{
	const char *tls = stream_is_tls(c->stream) ? stream_tls_text(c->stream) : "";

	login_trace(c, event,
	    (const struct log_field[]){LOG_CSTR("client", c->client.text), LOG_CSTR("tls", tls), LOG_END});
}

static void
opened(struct login_conn *c, bool tls_first)
{
	/* Unique for ever: traces are kept longer than processes live. */
	snprintf(c->session, sizeof c->session, "i%llx-%llx", (unsigned long long)clock_wall_us(),
	    (unsigned long long)c->conn);
	imap_framer_init(&front_of(c)->framer, command_limits);
	if (!tls_first)
		trace(c, "imap-connect");
}

static void
greet(struct login_conn *c)
{
	say(front_of(c), "* OK [CAPABILITY %s] Mailstead ready\r\n", capabilities(front_of(c)));
}

/* What is wrong with the command itself counts as an error. */
static void
failed(struct login_conn *conn, enum login_failure why)
{
	static const struct {
		bool bad;
		const char *text;
	} answers[LOGIN_FAILURE_COUNT] = {
	    [LOGIN_TEMPORARY] = {false, "[UNAVAILABLE] Temporary failure, try again later"},
	    [LOGIN_REFUSED] = {false, "[AUTHENTICATIONFAILED] Login failed"},
	    [LOGIN_MALFORMED] = {true, "Malformed exchange"},
	    [LOGIN_UNSUPPORTED] = {false, "[CANNOT] Unknown mechanism"},
	    [LOGIN_TOO_LONG] = {true, "Arguments are too long"},
	    [LOGIN_NOT_BASE64] = {true, "Invalid base64"},
	    [LOGIN_CANCELLED] = {true, "AUTHENTICATE cancelled"},
	    [LOGIN_CLEAR] = {false, "[PRIVACYREQUIRED] Start TLS first"},
	    [LOGIN_IN_USE] = {false, "[UNAVAILABLE] Temporary failure, try again later"},
	};

	if (answers[why].bad)
		bad(front_of(conn), answers[why].text);
	else
		answer(front_of(conn), "NO", answers[why].text);
}

static void
accepted(struct login_conn *conn, struct slice login)
{
	struct front_conn *c = front_of(conn);

	if (!slice_cstr(login, c->login, sizeof c->login))
		c->login[0] = '\0';
}

static void
attached(struct login_conn *conn)
{
	struct front_conn *c = front_of(conn);

	say(c, "%s OK [CAPABILITY " CAPABILITY_LOGGED_IN "] Logged in\r\n", c->tag);
	login_trace(conn, "imap-login",
	    (const struct log_field[]){LOG_CSTR("login", c->login), LOG_CSTR("client", conn->client.text), LOG_END});
}

static void
closed(struct login_conn *c)
{
	trace(c, "imap-disconnect");
	imap_framer_fini(&front_of(c)->framer);
}

static const struct login_protocol imap = {
    .service = "imap",
    .tls_listener = "imaps",
    .failed_event = "imap-connection-failed",
    .conn_bytes = sizeof(struct front_conn),
    .input_bytes_max = COMMAND_BYTES_MAX,
    .too_many_connections = "* BYE [LIMIT] Too many connections from your address",
    .no_room = "* BYE [UNAVAILABLE] Too many connections, and this one has waited longest; try again",
    .too_many_errors = "* BYE Too many errors",
    .too_many_tries = "* BYE Too many failed logins",
    .too_late = "* BYE Too long without a login",
    .draining = "* BYE Server shutting down",
    .opened = opened,
    .greet = greet,
    .step = step,
    .failed = failed,
    .accepted = accepted,
    .attached = attached,
    .closed = closed,
};

int
front_init(struct err *e)
{
	arena = arena_new(ARENA_BYTES_MAX);
	return login_init(&imap, e);
}
