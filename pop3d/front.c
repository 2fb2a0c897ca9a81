/*
 * POP3 before login, its AUTHORIZATION state (RFC 1939 4): commands and their words. What becomes
 * of a login is common/login.h's.
 *
 * The answer to the last command of a login is the worker's: only it knows whether the maildrop is
 * free (RFC 1939 4).
 */
#include "pop3d/front.h"

#include "common/log.h"
#include "common/login.h"
#include "common/role.h"
#include "common/tls.h"
#include "pop3d/pop3_command.h"
#include "pop3d/pop3_lang.h"

#include <stdio.h>

/* A line of an AUTH exchange: base64 of LOGIN_RESPONSE_BYTES_MAX octets, CRLF. */
#define AUTH_LINE_BYTES_MAX 16386
/* Before login. */
#define COMMANDS_MAX 100

struct front_conn {
	struct login_conn conn;
	struct pop3_framer framer;
	char user[POP3_LINE_BYTES_MAX + 1]; /* of the USER command just before; else empty */
	unsigned commands;
};

static struct front_conn *
front_of(struct login_conn *c)
{
	return (struct front_conn *)c; /* its first member */
}

/* ---- saying ---- */

static void
say(struct front_conn *c, const char *text)
{
	stream_write_str(c->conn.stream, text);
	stream_write(c->conn.stream, SLICE("\r\n"));
}

/* For a command that was wrong; closes after too many. */
static void
bad(struct front_conn *c, const char *text)
{
	say(c, text);
	login_bad(&c->conn);
}

/* ---- commands ---- */

/*
 * RFC 2449 5, in the AUTHORIZATION state. Without TLS no mechanism is offered, as each shows the
 * password (RFC 2595 2.3).
 */
static void
cmd_capa(struct front_conn *c, const struct pop3_command *cmd)
{
	bool tls = stream_is_tls(c->conn.stream);

	(void)cmd;
	say(c,
	    "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n"
	    "EXPIRE NEVER\r\nLANG\r\nUTF8 USER");
	if (tls)
		say(c, "USER\r\nSASL PLAIN LOGIN");
	else if (tls_server_ready(tls_server()))
		say(c, "STLS");
	say(c, "IMPLEMENTATION Mailstead\r\n.");
}

/* RFC 2595 4. What the client sent after the command is dropped by stream_starttls(). */
static void
cmd_stls(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	if (stream_is_tls(c->conn.stream)) {
		bad(c, "-ERR TLS is on already");
	} else if (c->conn.utf8) {
		bad(c, "-ERR Not after UTF8"); /* RFC 6856 2.1 */
	} else if (!tls_server_ready(tls_server())) {
		say(c, "-ERR [SYS/TEMP] TLS is not available");
	} else {
		say(c, "+OK Begin TLS negotiation");
		c->framer = (struct pop3_framer){0};
		login_starttls(&c->conn);
	}
}

/* RFC 6856 2.1: what it changes is in messages, so it is the worker's. Names and passwords may be UTF-8 without it (2.2). */
static void
cmd_utf8(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	c->conn.utf8 = true;
	say(c, "+OK UTF-8 enabled");
}

static void
cmd_lang(struct front_conn *c, const struct pop3_command *cmd)
{
	say(c, pop3_lang_answer(cmd));
}

static void
cmd_quit(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	login_bye(&c->conn, "+OK Bye");
}

/*
 * USER and PASS (RFC 1939 7). No password is taken without TLS: already USER is refused, so that a
 * client does not go on to PASS. Who exists is not told: any name is welcome.
 */
static void
cmd_user(struct front_conn *c, const struct pop3_command *cmd)
{
	if (!login_allowed(&c->conn))
		return;
	if (slice_cstr(cmd->arg[0], c->user, sizeof c->user))
		say(c, "+OK");
	else
		bad(c, "-ERR Wrong arguments");
}

static void
cmd_pass(struct front_conn *c, const struct pop3_command *cmd)
{
	if (!login_allowed(&c->conn))
		return;
	if (c->user[0] == '\0')
		bad(c, "-ERR Send USER first");
	else
		login_plain(&c->conn, slice_str(c->user), cmd->arg[0]);
	c->user[0] = '\0';
}

/* RFC 5034 */
static void
cmd_auth(struct front_conn *c, const struct pop3_command *cmd)
{
	struct slice initial = cmd->args > 1 ? cmd->arg[1] : slice_of(NULL, 0);

	login_auth(&c->conn, cmd->arg[0], initial);
}

static void
cmd_not_yet(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	bad(c, "-ERR Log in first");
}

static void
cmd_unknown(struct front_conn *c, const struct pop3_command *cmd)
{
	(void)cmd;
	bad(c, "-ERR Unknown command");
}

static void (*const commands[POP3_VERB_COUNT])(struct front_conn *, const struct pop3_command *) = {
    [POP3_UNKNOWN] = cmd_unknown,
    [POP3_USER] = cmd_user,
    [POP3_PASS] = cmd_pass,
    [POP3_AUTH] = cmd_auth,
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
    [POP3_UTF8] = cmd_utf8,
    [POP3_LANG] = cmd_lang,
};

static void
run_command(struct front_conn *c, struct slice line)
{
	struct pop3_command cmd;
	bool ok = pop3_command_parse(line, &cmd);

	if (++c->commands > COMMANDS_MAX) {
		login_bye(&c->conn, "-ERR Too many commands without a login");
		return;
	}
	/* RFC 1939 7: PASS comes right after a successful USER. */
	if (cmd.verb != POP3_PASS)
		c->user[0] = '\0';
	if (!ok)
		bad(c, "-ERR Wrong arguments");
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
		if (c->conn.state == LOGIN_LINE)
			login_line(&c->conn, line);
		else
			run_command(c, line);
		break;
	case POP3_FRAME_LONG:
	case POP3_FRAME_BARE:
		if (c->conn.state == LOGIN_LINE)
			login_line(&c->conn, slice_of(NULL, 0));
		else
			bad(c, frame == POP3_FRAME_LONG ? "-ERR Line is too long"
							      : "-ERR Lines end in CRLF");
		break;
	}
}

static void
step(struct login_conn *conn)
{
	struct front_conn *c = front_of(conn);

	while (login_takes_input(conn)) {
		struct slice in = stream_input(conn->stream), line;
		size_t used,
		    max = conn->state == LOGIN_LINE ? AUTH_LINE_BYTES_MAX : POP3_LINE_BYTES_MAX;
		enum pop3_frame frame;

		if (in.n == 0)
			return;
		frame = pop3_frame_next(&c->framer, in, max, &used, &line);
		if (frame == POP3_FRAME_MORE) {
			/* Half a line, and the client will not send the rest. */
			stream_consume_secret(conn->stream, stream_eof(conn->stream) ? in.n : used);
			return;
		}
		on_line(c, frame, line);
		/* STLS and the end have dropped the input themselves. */
		if (conn->state == LOGIN_HANDSHAKE || conn->state == LOGIN_CLOSING)
			return;
		stream_consume_secret(conn->stream, used);
	}
}

/* ---- the life of a connection ---- */

static void
opened(struct login_conn *c, bool tls_first)
{
	(void)tls_first;
	snprintf(c->session, sizeof c->session, "pop3-%llx-%llx",
	    (unsigned long long)role_self()->generation, (unsigned long long)c->conn);
	login_trace(c, "pop3-connect",
	    (const struct log_field[]){LOG_CSTR("client", c->client.text), LOG_END});
}

static void
greet(struct login_conn *c)
{
	say(front_of(c), "+OK Mailstead ready");
}

/* What is wrong with the command itself counts as an error. */
static void
failed(struct login_conn *c, enum login_failure why)
{
	static const struct {
		bool bad;
		const char *text;
	} answers[LOGIN_FAILURE_COUNT] = {
	    [LOGIN_TEMPORARY] = {false, "-ERR [SYS/TEMP] Temporary failure, try again later"},
	    [LOGIN_REFUSED] = {false, "-ERR [AUTH] Login failed"},
	    [LOGIN_MALFORMED] = {true, "-ERR Malformed exchange"},
	    [LOGIN_UNSUPPORTED] = {true, "-ERR Unknown mechanism"},
	    [LOGIN_TOO_LONG] = {true, "-ERR Wrong arguments"},
	    [LOGIN_NOT_BASE64] = {true, "-ERR Invalid base64"},
	    [LOGIN_CANCELLED] = {true, "-ERR Authentication cancelled"},
	    [LOGIN_CLEAR] = {true, "-ERR [AUTH] Passwords are taken over TLS only"},
	    /* RFC 2449 8.1.2 */
	    [LOGIN_IN_USE] = {false, "-ERR [IN-USE] Another session has this maildrop"},
	};

	if (answers[why].bad)
		bad(front_of(c), answers[why].text);
	else
		say(front_of(c), answers[why].text);
}

static void
accepted(struct login_conn *c, struct slice login)
{
	login_trace(c, "pop3-login",
	    (const struct log_field[]){LOG_STR("login", login), LOG_CSTR("client", c->client.text),
		LOG_CSTR("tls", stream_tls_text(c->stream)), LOG_END});
}

static void
closed(struct login_conn *c)
{
	login_trace(c, "pop3-disconnect",
	    (const struct log_field[]){LOG_CSTR("client", c->client.text), LOG_END});
}

static const struct login_protocol pop3 = {
    .service = "pop3",
    .tls_listener = "pop3s",
    .failed_event = "pop3-connection-failed",
    .conn_bytes = sizeof(struct front_conn),
    .input_bytes_max = AUTH_LINE_BYTES_MAX,
    .too_many_connections = "-ERR [SYS/TEMP] Too many connections from your address",
    .no_room = "-ERR [SYS/TEMP] Too many connections, and this one has waited longest; try again",
    .too_many_errors = "-ERR Too many errors",
    .too_many_tries = "-ERR Too many failed logins",
    .too_late = "-ERR Too long without a login",
    .draining = "-ERR [SYS/TEMP] Server shutting down",
    .opened = opened,
    .greet = greet,
    .step = step,
    .failed = failed,
    .accepted = accepted,
    .closed = closed,
};

int
front_init(struct err *e)
{
	return login_init(&pop3, e);
}
