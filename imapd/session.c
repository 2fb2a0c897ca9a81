#include "imapd/session.h"

#include "common/charset.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/mutf7.h"
#include "common/text.h"
#include "imapd/fetch_surrogate.h"

#include <assert.h>

/* Turns in one wake-up, so that one busy session cannot starve the others. */
#define TURNS_PER_WAKE 64
/* How much later than the autologout the stream itself gives up: a client that does not even read. */
#define STALL_MS 60000

static void on_ready(struct stream *st, void *arg);
static void on_end(struct stream *st, void *arg, enum stream_end why);
static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};

/* ---- output ---- */

bool
session_push(struct session *s)
{
	assert(!s->out.failed);
	if (s->out.n > 0) {
		stream_write(s->stream, buf_slice(&s->out));
		if (s->out.cap > STREAM_OUT_HIGH)
			buf_fini(&s->out);
		else
			buf_reset(&s->out);
	}
	return !stream_full(s->stream);
}

static void
cancel_command(struct session *s)
{
	if (s->row && s->row->end)
		s->row->end(s);
	for (unsigned i = 0; i < SESSION_REQUESTS_MAX; i++)
		keeper_forget(&s->requests[i].request);
	mailbox_wait_forget(&s->table_wait);
	append_free(s);
	s->row = NULL;
	s->work = NULL;
}

void
session_end(struct session *s)
{
	cancel_command(s);
	session_deselect(s);
	(void)session_push(s);
	s->phase = SESSION_ENDED;
	stream_close(s->stream);
}

void
session_bye(struct session *s, const char *text)
{
	if (s->phase == SESSION_ENDED)
		return;
	buf_putf(&s->out, "* BYE %s\r\n", text);
	session_end(s);
}

/* ---- the end of a command ---- */

void
session_answer(struct session *s, const char *status, const char *code, const char *text)
{
	assert(s->phase != SESSION_ENDED && s->phase != SESSION_FLUSH);
	buf_reset(&s->answer);
	buf_putf(&s->answer, "%s %s %s%s\r\n", s->tag, status, code, text);
	s->phase = SESSION_FLUSH;
}

void
session_ok(struct session *s, const char *text)
{
	s->bad = 0;
	if (s->expunge_issued)
		session_answer(s, "OK", "[EXPUNGEISSUED] ", "Some of the messages no longer exist");
	else
		session_answer(s, "OK", "", text);
}

void
session_bad(struct session *s, const char *text)
{
	s->bad++;
	session_answer(s, "BAD", "", text);
}

void
session_scan_failed(struct session *s, const struct imap_scan *scan)
{
	const char *why = scan->why ? scan->why : "Malformed command";

	if (scan->limit)
		session_answer(s, "NO", "[LIMIT] ", why);
	else
		session_bad(s, why);
}

/* The words of RFC 5530 for what the keeper said. */
static const struct {
	enum err_code code;
	const char *word;
	const char *text;
} failures[] = {
    {ERR_CODE_NOT_FOUND, "[NONEXISTENT] ", "No such mailbox"},
    {ERR_CODE_EXISTS, "[ALREADYEXISTS] ", "Mailbox exists already"},
    {ERR_CODE_OVER_QUOTA, "[OVERQUOTA] ", "Quota exceeded"},
    {ERR_CODE_NO_SPACE, "[UNAVAILABLE] ", "Out of storage"},
    {ERR_CODE_DENIED, "[NOPERM] ", "Permission denied"},
    {ERR_CODE_UNAVAILABLE, "[UNAVAILABLE] ", "Temporary failure"},
    {ERR_CODE_TIMEOUT, "[UNAVAILABLE] ", "Temporary failure"},
    {ERR_CODE_IN_USE, "[INUSE] ", "In use"},
    {ERR_CODE_BAD_NAME, "[CANNOT] ", "Not possible with that name"},
    {ERR_CODE_TOO_BIG, "[TOOBIG] ", "Message is too big"},
    {ERR_CODE_CORRUPT, "[CORRUPTION] ", "The mailbox is damaged"},
    {ERR_CODE_HAS_CHILDREN, "[HASCHILDREN] ", "Mailbox has inferiors"},
};

void
session_failed(struct session *s, const struct err *e)
{
	const char *word = e->class == ERR_LIMIT ? "[LIMIT] " : e->class == ERR_BUG ? "[SERVERBUG] " : "";
	const char *text = e->class == ERR_LIMIT ? "Limit reached" : "Command failed";

	for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
		if (failures[i].code == e->code) {
			word = failures[i].word;
			text = failures[i].text;
			break;
		}
	}
	session_answer(s, "NO", word, text);
}

/* The answer goes out, the next command may come. */
static void
finish(struct session *s)
{
	(void)buf_put_slice(&s->out, buf_slice(&s->answer));
	buf_reset(&s->answer);
	if (s->row && s->row->end)
		s->row->end(s);
	s->row = NULL;
	s->work = NULL;
	s->uid = false;
	s->expunge_issued = false;
	arena_reset(s->arena);
	imap_framer_next(&s->framer);
	s->phase = SESSION_READ;
	(void)session_push(s);
	if (s->bad >= SESSION_BAD_MAX)
		session_bye(s, "Too many errors");
}

static bool
may_tell_expunge(const struct session *s)
{
	return s->row == NULL || s->uid || !(s->row->flags & COMMAND_NO_EXPUNGE);
}

/* ---- asking ---- */

static void
got_reply(void *owner, void *reply, const struct err *e)
{
	struct session_request *r = owner;
	struct session *s = r->session;

	r->request = NULL;
	/* OK and NO would both be a guess; a client that connects again sees what is true. */
	if (e && e->code == ERR_CODE_UNCERTAIN)
		session_bye(s, "[UNAVAILABLE] It is not known whether the last command was done");
	else
		r->got(s, reply, e);
	session_step(s);
}

void
session_ask(struct session *s, unsigned slot, struct msg *m, session_reply_fn *got)
{
	struct session_request *r = &s->requests[slot];

	assert(slot < SESSION_REQUESTS_MAX && r->request == NULL);
	r->session = s;
	r->got = got;
	r->request = keeper_ask(s->worker->keeper, m, got_reply, r);
}

void
session_wait(struct session *s)
{
	s->phase = SESSION_WAIT;
}

void
session_run(struct session *s)
{
	s->phase = SESSION_RUN;
}

static void
got_table(void *owner, struct mailbox_list *list, const struct err *e)
{
	struct session *s = owner;

	if (list)
		session_run(s);
	else
		session_failed(s, e);
	session_step(s);
}

struct mailbox_list *
session_mailboxes(struct session *s)
{
	struct mailbox_list *l = mailbox_table_get(s->worker->table, got_table, s, &s->table_wait);

	if (l == NULL)
		session_wait(s);
	return l;
}

void *
session_work(struct session *s, size_t n)
{
	s->work = arena_alloc(s->arena, n);
	if (s->work == NULL)
		session_answer(s, "NO", "[LIMIT] ", "Command is too long");
	return s->work;
}

/* INBOX has no case, and what is below it is below the same INBOX (RFC 3501 5.1). */
static struct slice
put_inbox(struct slice wire, struct buf *name)
{
	const struct slice inbox = SLICE("INBOX");
	struct slice rest = slice_sub(wire, inbox.n, wire.n);

	if (!slice_eq_nocase(slice_sub(wire, 0, inbox.n), inbox) || (rest.n > 0 && rest.p[0] != '/'))
		return wire;
	buf_put_slice(name, inbox);
	return rest;
}

bool
session_name_read(const struct session *s, struct slice wire, struct buf *name)
{
	if (s->utf8 || !slice_is_ascii(wire))
		return utf8_valid(wire) && buf_put_slice(name, wire);
	return mutf7_decode(wire, name);
}

bool
session_mailbox_name(struct session *s, struct slice wire, struct slice *name_r)
{
	struct buf name;
	bool ok;

	buf_init(&name, STORE_NAME_BYTES_MAX);
	wire = put_inbox(wire, &name);
	ok = session_name_read(s, wire, &name) && arena_copy(s->arena, buf_slice(&name), name_r);
	buf_fini(&name);
	if (!ok)
		session_answer(s, "NO", "[CANNOT] ", "Mailbox name is malformed, or too long");
	return ok;
}

bool
session_new_name(struct session *s, struct slice wire, struct slice *name_r)
{
	if (!session_mailbox_name(s, wire, name_r))
		return false;
	if (text_is_net_unicode(*name_r))
		return true;
	session_answer(s, "NO", "[CANNOT] ", "Mailbox name has control characters, or is not in Unicode's normalization form C");
	return false;
}

void
session_deselect(struct session *s)
{
	fetch_surrogate_forget(s);
	box_detach(s);
	session_flush_end(s);
}

/* ---- reading commands ---- */

static void
keep_tag(struct session *s, struct slice tag)
{
	if (tag.n == 0 || !slice_cstr(tag, s->tag, sizeof s->tag))
		memcpy(s->tag, "*", 2);
}

static void
run_command(struct session *s, struct slice text)
{
	struct imap_scan scan = imap_scan_of(text, s->arena);
	unsigned state = s->selected ? SESSION_SELECTED : SESSION_AUTHENTICATED;
	struct imap_head head;
	bool ok = imap_head(&scan, &head);
	const struct command_row *row = ok ? command_find(head.name) : NULL;

	keep_tag(s, head.tag);
	s->uid = head.uid;
	if (!ok) {
		session_bad(s, scan.why);
	} else if (row == NULL || (head.uid && !(row->flags & COMMAND_UID))) {
		session_bad(s, "Unknown command");
	} else if (!(row->states & state)) {
		session_bad(s, state == SESSION_SELECTED ? "Not in this state" : "No mailbox is selected");
	} else {
		s->row = row;
		row->start(s, &scan);
	}
}

/* An answer to a command that is not whole, without changes told (none may come while a literal is awaited). */
void
session_refuse(struct session *s, const char *status_and_text)
{
	struct imap_scan scan = imap_scan_of(imap_framer_command(&s->framer), s->arena);
	struct slice tag;

	keep_tag(s, imap_tag(&scan, &tag) ? tag : slice_of(NULL, 0));
	buf_putf(&s->out, "%s %s\r\n", s->tag, status_and_text);
	s->bad++;
	arena_reset(s->arena);
	if (!imap_framer_refuse(&s->framer))
		session_bye(s, "[TOOBIG] Literal is too long");
}

static void
literal_announced(struct session *s)
{
	bool sync = s->framer.literal_sync;

	if (append_literal(s, imap_framer_command(&s->framer)))
		return;
	if (!imap_framer_accept(&s->framer))
		session_refuse(s, "NO [TOOBIG] Literal is too long");
	else if (sync)
		buf_put_str(&s->out, "+ OK\r\n");
}

void
session_idle(struct session *s)
{
	s->idling = true;
	s->phase = SESSION_READ;
	imap_framer_next(&s->framer);
	imap_framer_plain(&s->framer, true);
}

static void
line_of_idle(struct session *s)
{
	bool done = slice_eq_nocase(imap_framer_command(&s->framer), SLICE("DONE"));

	s->idling = false;
	imap_framer_plain(&s->framer, false);
	if (done)
		session_ok(s, "IDLE terminated");
	else
		session_bad(s, "Expected DONE");
}

static void
on_frame(struct session *s, enum imap_frame frame)
{
	struct imap_scan scan;
	struct slice tag;

	switch (frame) {
	case IMAP_FRAME_MORE:
	case IMAP_FRAME_SPOOL:
		break;
	case IMAP_FRAME_LITERAL:
		literal_announced(s);
		break;
	case IMAP_FRAME_COMMAND:
		if (s->idling)
			line_of_idle(s);
		else
			run_command(s, imap_framer_command(&s->framer));
		break;
	case IMAP_FRAME_ERROR:
		if (s->idling) {
			line_of_idle(s);
			break;
		}
		append_free(s);
		scan = imap_scan_of(imap_framer_command(&s->framer), s->arena);
		keep_tag(s, imap_tag(&scan, &tag) ? tag : slice_of(NULL, 0));
		session_bad(s, s->framer.why);
		break;
	case IMAP_FRAME_FATAL:
		session_bye(s, s->framer.why);
		break;
	}
}

/* Reads up to the next frame; false when there is no input. */
static bool
turn_read(struct session *s)
{
	struct slice in;
	size_t used;
	enum imap_frame frame;

	if (s->idling && session_dirty(s)) {
		(void)session_flush(s, true);
		return session_push(s);
	}
	if (!session_push(s))
		return false;
	in = stream_input(s->stream);
	if (in.n == 0)
		return false;
	s->heard_ms = clock_ms();
	frame = imap_framer_feed(&s->framer, in, &used);
	if (frame == IMAP_FRAME_SPOOL) /* it points into the input */
		append_feed(s, s->framer.spool);
	stream_consume(s->stream, used);
	on_frame(s, frame);
	return true;
}

/* One turn; false when the session waits for something from outside. */
static bool
turn(struct session *s)
{
	bool all;

	switch (s->phase) {
	case SESSION_READ:
		return turn_read(s);
	case SESSION_RUN:
		if (!session_push(s))
			return false;
		s->row->run(s);
		return s->phase != SESSION_RUN || !stream_full(s->stream);
	case SESSION_FLUSH:
		all = session_flush(s, may_tell_expunge(s));
		if (!session_push(s) && !all)
			return false;
		if (all)
			finish(s);
		return true;
	case SESSION_WAIT:
		(void)session_push(s);
		return false;
	case SESSION_ENDED:
		break;
	}
	return false;
}

void
session_step(struct session *s)
{
	unsigned turns = TURNS_PER_WAKE;

	if (s->stepping)
		return;
	s->stepping = true;
	while (turn(s)) {
		if (--turns == 0) {
			loop_timer_set(s->again, 0);
			break;
		}
	}
	s->stepping = false;
}

void
session_box_changed(struct session *s, bool came, bool went)
{
	s->new_due |= came;
	s->expunge_due |= went;
	if (s->idling)
		session_step(s);
}

/* ---- life ---- */

static void
on_ready(struct stream *st, void *arg)
{
	(void)st;
	session_step(arg);
}

static void
on_again(void *arg)
{
	session_step(arg);
}

/* RFC 3501 5.4, at least 30 minutes by the default; a command that runs, or a client that takes its time to read, is no silence. */
static void
on_silence(void *arg)
{
	struct session *s = arg;
	uint64_t silent = clock_ms() - s->heard_ms;

	if (s->phase == SESSION_READ && silent >= s->worker->idle_ms)
		session_bye(s, "Autologout, nothing was heard for too long");
	else
		loop_timer_set(s->autologout, silent < s->worker->idle_ms ? s->worker->idle_ms - silent : STALL_MS);
}

static void
on_end(struct stream *st, void *arg, enum stream_end why)
{
	struct session *s = arg;

	if (why == STREAM_TIMEOUT)
		log_event(LOG_INFO, slice_str(s->name), "imap-timeout", LOG_END);
	else if (why == STREAM_ERROR)
		log_event(LOG_INFO, slice_str(s->name), "imap-session-failed",
		    LOG_CSTR("error", stream_error(st)), LOG_END);
	session_free(s);
}

struct session *
session_new(struct worker *w, uint64_t number, struct slice name, int fd)
{
	struct session *s = MEM_NEW(struct session);

	s->worker = w;
	s->number = number;
	if (!slice_cstr(name, s->name, sizeof s->name))
		s->name[0] = '\0';
	s->next = w->sessions;
	s->link = &w->sessions;
	if (s->next)
		s->next->link = &s->next;
	w->sessions = s;
	w->sessions_n++;
	imap_framer_init(&s->framer,
	    (struct imap_framer_limits){SESSION_LINE_BYTES_MAX, SESSION_COMMAND_BYTES_MAX,
		SESSION_DROP_BYTES_MAX});
	s->arena = arena_new(SESSION_ARENA_BYTES_MAX);
	buf_init(&s->out, SESSION_OUT_BYTES_MAX);
	buf_init(&s->answer, SESSION_OUT_BYTES_MAX);
	s->again = loop_timer_new(w->loop, on_again, s);
	s->stream = stream_new(w->loop, fd, STREAM_OUT_HIGH, &events, s);
	stream_set_timeout(s->stream, w->idle_ms + STALL_MS);
	s->heard_ms = clock_ms();
	s->autologout = loop_timer_new(w->loop, on_silence, s);
	loop_timer_set(s->autologout, w->idle_ms);
	return s;
}

void
session_free(struct session *s)
{
	struct worker *w = s->worker;
	uint64_t number = s->number;

	cancel_command(s);
	session_deselect(s);
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	w->sessions_n--;
	loop_timer_free(&s->again);
	loop_timer_free(&s->autologout);
	stream_free(&s->stream);
	imap_framer_fini(&s->framer);
	arena_free(&s->arena);
	buf_fini(&s->out);
	buf_fini(&s->answer);
	free(s);
	w->hooks->session_ended(w->arg, number);
}

struct session *
session_find(struct worker *w, uint64_t number)
{
	struct session *s = w->sessions;

	while (s && s->number != number)
		s = s->next;
	return s;
}
