/*
 * session_step() runs to where it has to wait: for input, for room in the output, for the keeper.
 * The answer to each command is complete before the next is read, so pipelined commands (RFC 2449
 * 6.6) are answered in order.
 *
 * Messages are removed only by QUIT (cmd_quit.c). Whatever else ends a session, a lost connection
 * or the autologout (RFC 1939 3), leaves the maildrop as it was.
 */
#include "pop3d/session.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"
#include "pop3d/keeper.h"
#include "pop3d/pop3_lang.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INPUT_BYTES_MAX 4096

static struct {
	struct session *first;
	struct session *holder; /* of the maildrop */
	unsigned count;
	const struct session_events *ev;
} sessions;

static const uint32_t next_states[SESSION_STATE_COUNT] = {
    [SESSION_LOADING] = 1u << SESSION_READY | 1u << SESSION_CLOSING,
    [SESSION_READY] = 1u << SESSION_READY | 1u << SESSION_FETCHING | 1u << SESSION_LISTING |
		      1u << SESSION_SENDING | 1u << SESSION_UPDATING | 1u << SESSION_CLOSING,
    [SESSION_FETCHING] = 1u << SESSION_READY | 1u << SESSION_SENDING | 1u << SESSION_CLOSING,
    [SESSION_LISTING] = 1u << SESSION_READY | 1u << SESSION_CLOSING,
    [SESSION_SENDING] = 1u << SESSION_READY | 1u << SESSION_CLOSING,
    [SESSION_UPDATING] = 1u << SESSION_CLOSING,
};

void
session_set_state(struct session *s, enum session_state state)
{
	assert(next_states[s->state] & 1u << state);
	s->state = state;
}

unsigned
session_count(void)
{
	return sessions.count;
}

void
session_set_events(const struct session_events *ev)
{
	sessions.ev = ev;
}

/* ---- saying ---- */

void
session_say(struct session *s, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (s->stream == NULL)
		return;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line, fmt, ap);

	va_end(ap);
	assert(n >= 0 && (size_t)n < sizeof line);
	stream_write(s->stream, slice_of(line, (size_t)n));
}

void
session_answer(struct session *s, const char *text)
{
	session_say(s, "%s\r\n", text);
	session_set_state(s, SESSION_READY);
}

void
session_bad(struct session *s, const char *text)
{
	session_answer(s, text);
	if (++s->bad >= SESSION_BAD_MAX)
		session_close(s, "-ERR Too many errors");
}

/* ---- the end ---- */

static void
release_maildrop(struct session *s)
{
	if (sessions.holder == s) {
		keeper_forget();
		sessions.holder = NULL;
	}
	if (!s->over)
		sessions.ev->over(s->number);
	s->over = true;
}

static void
session_free(struct session *s)
{
	release_maildrop(s);
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	sessions.count--;
	session_objects_drop(s);
	if (s->object >= 0)
		(void)close(s->object);
	maildrop_fini(&s->drop);
	uidset_fini(&s->uids);
	stream_free(&s->stream);
	free(s);
	if (sessions.count == 0)
		sessions.ev->none_left();
}

static void
trace_end(struct session *s, const char *why)
{
	struct buf b;

	buf_init(&b, 512);
	log_put_fields(
	    &b, (const struct log_field[]){LOG_CSTR("why", why), LOG_NUM("messages", s->drop.count),
		    LOG_NUM("sent", s->sent), LOG_NUM("removed", s->removed), LOG_END});
	role_trace(slice_str(s->name), "pop3-session-end", buf_slice(&b));
	buf_fini(&b);
}

void
session_close(struct session *s, const char *text)
{
	if (s->state == SESSION_CLOSING)
		return;
	release_maildrop(s);
	if (text != NULL)
		session_say(s, "%s\r\n", text);
	session_set_state(s, SESSION_CLOSING);
	if (s->stream == NULL)
		session_free(s);
	else
		stream_close(s->stream);
}

static void
on_end(struct stream *stream, void *arg, enum stream_end why)
{
	static const char *const words[] = {
	    [STREAM_EOF] = "closed by the client",
	    [STREAM_TIMEOUT] = "timeout",
	    [STREAM_ERROR] = "error",
	    [STREAM_CLOSED] = "quit",
	};
	struct session *s = arg;

	trace_end(s, words[why]);
	if (why == STREAM_ERROR)
		log_event(LOG_INFO, slice_str(s->name), "pop3-session-failed",
		    LOG_CSTR("error", stream_error(stream)), LOG_END);
	/* What QUIT began is seen to its end without the client. */
	if (s->state == SESSION_UPDATING)
		stream_free(&s->stream);
	else
		session_free(s);
}

void
session_revoke(uint64_t number)
{
	for (struct session *s = sessions.first; s; s = s->next) {
		if (s->number == number && s->state != SESSION_UPDATING) {
			session_close(s, NULL);
			return;
		}
	}
}

void
session_end_all(void)
{
	struct session *next;

	for (struct session *s = sessions.first; s; s = next) {
		next = s->next;
		if (s->state != SESSION_UPDATING)
			session_close(s, NULL);
	}
}

/* ---- commands ---- */

/* RFC 2449 5, in the TRANSACTION state. SASL stays listed (RFC 5034 3); STLS is over. */
static void
cmd_capa(struct session *s)
{
	session_say(s,
	    "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n"
	    "EXPIRE NEVER\r\nLANG\r\nUTF8 USER\r\nUSER\r\nSASL PLAIN LOGIN\r\n");
	session_answer(s, "IMPLEMENTATION Mailstead\r\n.");
}

static void
cmd_noop(struct session *s)
{
	session_answer(s, "+OK");
}

static void
cmd_lang(struct session *s)
{
	session_answer(s, pop3_lang_answer(&s->command));
}

static void
cmd_login(struct session *s)
{
	session_bad(s, "-ERR Already logged in");
}

static void
cmd_unknown(struct session *s)
{
	session_bad(s, "-ERR Unknown command");
}

static void (*const commands[POP3_VERB_COUNT])(struct session *) = {
    [POP3_UNKNOWN] = cmd_unknown,
    [POP3_USER] = cmd_login,
    [POP3_PASS] = cmd_login,
    [POP3_AUTH] = cmd_login,
    [POP3_STLS] = cmd_login,
    [POP3_CAPA] = cmd_capa,
    [POP3_QUIT] = cmd_quit,
    [POP3_STAT] = cmd_stat,
    [POP3_LIST] = cmd_list,
    [POP3_RETR] = cmd_retr,
    [POP3_DELE] = cmd_dele,
    [POP3_NOOP] = cmd_noop,
    [POP3_RSET] = cmd_rset,
    [POP3_UIDL] = cmd_uidl,
    [POP3_TOP] = cmd_retr,
    [POP3_APOP] = cmd_unknown,
    [POP3_UTF8] = cmd_login, /* RFC 6856 2: only in the AUTHORIZATION state */
    [POP3_LANG] = cmd_lang,
};

static void
run_line(struct session *s, enum pop3_frame frame, struct slice line)
{
	if (frame == POP3_FRAME_LONG)
		session_bad(s, "-ERR Line is too long");
	else if (frame == POP3_FRAME_BARE)
		session_bad(s, "-ERR Lines end in CRLF");
	else if (!pop3_command_parse(line, &s->command))
		session_bad(s, "-ERR Wrong arguments");
	else
		commands[s->command.verb](s);
}

/* Takes one command from the input; false when there is none. */
static bool
take_command(struct session *s)
{
	struct slice in = stream_input(s->stream), line;
	size_t used;

	if (in.n == 0)
		return false;
	enum pop3_frame frame = pop3_frame_next(&s->framer, in, POP3_LINE_BYTES_MAX, &used, &line);

	if (frame == POP3_FRAME_MORE) {
		/* Half a line, and the client will not send the rest. */
		stream_consume(s->stream, stream_eof(s->stream) ? in.n : used);
		return false;
	}
	run_line(s, frame, line);
	/* Closing has dropped the input itself. */
	if (s->state != SESSION_CLOSING)
		stream_consume(s->stream, used);
	return true;
}

void
session_step(struct session *s)
{
	while (s->stream != NULL && !stream_full(s->stream)) {
		switch (s->state) {
		case SESSION_READY:
			if (!take_command(s))
				return;
			break;
		case SESSION_LISTING:
			if (cmd_list_more(s))
				session_set_state(s, SESSION_READY);
			break;
		case SESSION_SENDING:
			if (cmd_retr_more(s))
				session_set_state(s, SESSION_READY);
			break;
		default:
			return;
		}
	}
}

static void
on_ready(struct stream *stream, void *arg)
{
	(void)stream;
	session_step(arg);
}

void
session_new(int fd, uint64_t number, struct slice name, bool utf8)
{
	static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};
	struct session *s = MEM_NEW(struct session);

	s->number = number;
	s->object = -1;
	s->utf8 = utf8;
	if (!slice_cstr(name, s->name, sizeof s->name))
		s->name[0] = '\0';
	s->next = sessions.first;
	s->link = &sessions.first;
	if (s->next)
		s->next->link = &s->next;
	sessions.first = s;
	sessions.count++;
	s->stream = stream_new(role_loop(), fd, INPUT_BYTES_MAX, &events, s);
	stream_set_timeout(s->stream, config_number(role_config(), OPT_POP3_TIMEOUT));
	if (sessions.holder != NULL) {
		/* RFC 1939 4, RFC 2449 8.1.2. */
		session_close(s, "-ERR [IN-USE] Another session has this maildrop");
		return;
	}
	sessions.holder = s;
	session_load(s);
}
