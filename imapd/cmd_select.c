/*
 * SELECT and EXAMINE (RFC 3501 6.3.1, 6.3.2): first what was selected is left, so that a failure leaves nothing selected;
 * then name to number, then the view, shared when another session has it.
 */
#include "imapd/cmd.h"

#include <assert.h>

struct select_work {
	struct slice name;
	bool readonly;
};

static void
start(struct session *s, struct imap_scan *args, bool readonly)
{
	struct select_work *w = session_work(s, sizeof *w);
	struct imap_mailbox mailbox;

	if (w == NULL)
		return;
	if (!imap_mailbox_args(args, &mailbox)) {
		session_scan_failed(s, args);
		return;
	}
	session_deselect(s);
	if (!session_mailbox_name(s, mailbox.name, &w->name))
		return;
	w->readonly = readonly;
	session_run(s);
}

void
cmd_select_start(struct session *s, struct imap_scan *args)
{
	start(s, args, false);
}

void
cmd_examine_start(struct session *s, struct imap_scan *args)
{
	start(s, args, true);
}

void
cmd_select_run(struct session *s)
{
	struct select_work *w = s->work;
	struct mailbox_list *l = session_mailboxes(s);
	const struct store_mailbox *m;

	if (l == NULL)
		return;
	m = mailbox_list_find(l, w->name);
	if (m == NULL || !m->selectable) {
		session_answer(s, "NO", "[NONEXISTENT] ", "No such mailbox");
		return;
	}
	s->readonly = w->readonly;
	session_wait(s);
	box_attach(s->worker, s, m->number, m->uidvalidity);
}

/* * OK [UNSEEN n]: the first message without \Seen. */
static void
put_unseen(struct session *s)
{
	const struct store_view *v = &s->box->view;

	for (size_t i = 0; i < v->count && i < s->exists; i++) {
		if (!(v->entries[i].flags & STORE_FLAG_SEEN)) {
			buf_putf(&s->out, "* OK [UNSEEN %zu] First unseen\r\n", i + 1);
			return;
		}
	}
}

/* Called by the box, from within box_attach() or later. */
void
session_box_opened(struct session *s, const struct err *e)
{
	assert(s->work != NULL && s->row != NULL);
	if (e) {
		session_deselect(s);
		session_failed(s, e);
		session_step(s);
		return;
	}
	session_flush_start(s);
	box_claim_recent(s->box, s);
	session_put_flag_names(s);
	buf_putf(&s->out, "* %zu EXISTS\r\n* %zu RECENT\r\n", s->exists, session_recent_count(s));
	put_unseen(s);
	buf_putf(&s->out, "* OK [UIDVALIDITY %u] UIDs valid\r\n* OK [UIDNEXT %u] Predicted next UID\r\n",
	    s->box->view.uidvalidity, s->box->view.uidnext);
	s->bad = 0;
	session_answer(s, "OK", s->readonly ? "[READ-ONLY] " : "[READ-WRITE] ",
	    s->readonly ? "EXAMINE completed" : "SELECT completed");
	session_step(s);
}
