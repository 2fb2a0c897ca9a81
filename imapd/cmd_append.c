/*
 * APPEND (RFC 3501 6.3.11) once its message has been read, with APPENDUID (RFC 4315 3) and UTF8 (RFC 6855 4). See append.c
 * for the reading.
 */
#include "imapd/cmd.h"

#include "common/loop.h"

#include <unistd.h>

struct append_work {
	struct imap_append append;
	struct slice name;
};

static void
appended(struct session *s, void *reply, const struct err *e)
{
	const struct msg_MSG_APPEND_REPLY *m = reply;
	char code[64];

	if (m) {
		snprintf(code, sizeof code, "[APPENDUID %u %u] ", m->uidvalidity, m->uid);
		s->bad = 0;
		session_answer(s, "OK", code, "APPEND completed");
	} else if (e->code == ERR_CODE_NOT_FOUND) {
		session_answer(s, "NO", "[TRYCREATE] ", "No such mailbox");
	} else {
		session_failed(s, e);
	}
}

void
cmd_append_start(struct session *s, struct imap_scan *args)
{
	struct append_work *w = session_work(s, sizeof *w);

	if (w == NULL)
		return;
	if (!imap_append_args(args, true, &w->append) || s->append == NULL)
		session_scan_failed(s, args);
	else if (session_mailbox_name(s, w->append.name, &w->name))
		session_run(s);
}

static void
ask(struct session *s, struct append_work *w, uint32_t mailbox)
{
	struct msg m = {.type = MSG_MSG_APPEND};
	struct append_message message;
	struct slice keywords;
	struct err e;

	if (!cmd_keyword_lines(s, &w->append.flags, &keywords))
		return;
	if (append_take(s, &message, &e) != 0) {
		session_failed(s, &e);
		return;
	}
	/* RFC 6855 4 */
	if (message.utf8_header && !s->utf8) {
		close(message.message);
		close(message.summary);
		session_answer(s, "NO", "[CANNOT] ", "A header with octets over 127 needs UTF8=ACCEPT");
		return;
	}
	if (!w->append.has_date)
		w->append.date.seconds = (int64_t)(clock_wall_us() / 1000000);
	m.u.MSG_APPEND.mailbox = mailbox;
	m.u.MSG_APPEND.flags = w->append.flags.basic;
	m.u.MSG_APPEND.keywords = keywords;
	m.u.MSG_APPEND.internal_date = (uint64_t)w->append.date.seconds;
	m.u.MSG_APPEND.zone_minutes = (uint16_t)w->append.date.zone_minutes;
	m.u.MSG_APPEND.bytes = message.octets;
	m.u.MSG_APPEND.sha256 = slice_of(message.sha256, sizeof message.sha256);
	m.u.MSG_APPEND.message = message.message;
	m.u.MSG_APPEND.summary = message.summary;
	session_wait(s);
	session_ask(s, 0, &m, appended);
	close(message.message);
	close(message.summary);
}

void
cmd_append_run(struct session *s)
{
	struct append_work *w = s->work;
	struct mailbox_list *l = session_mailboxes(s);
	const struct store_mailbox *m;

	if (l == NULL)
		return;
	m = mailbox_list_find(l, w->name);
	if (m == NULL || !m->selectable)
		session_answer(s, "NO", "[TRYCREATE] ", "No such mailbox");
	else
		ask(s, w, m->number);
}
