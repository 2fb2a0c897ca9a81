/* STATUS (RFC 3501 6.3.10): the table of mailboxes has all that it asks for. */
#include "imapd/cmd.h"
#include "imapd/imap_print.h"

struct status_work {
	struct imap_status status;
	struct slice name;
};

void
cmd_put_status(struct session *s, const struct store_mailbox *m, uint32_t items)
{
	const struct {
		uint32_t bit;
		const char *name;
		uint32_t value;
	} rows[] = {
	    {IMAP_STATUS_MESSAGES, "MESSAGES", m->messages},
	    {IMAP_STATUS_RECENT, "RECENT", m->recent},
	    {IMAP_STATUS_UIDNEXT, "UIDNEXT", m->uidnext},
	    {IMAP_STATUS_UIDVALIDITY, "UIDVALIDITY", m->uidvalidity},
	    {IMAP_STATUS_UNSEEN, "UNSEEN", m->unseen},
	};
	const char *space = "";

	buf_put_str(&s->out, "* STATUS ");
	imap_put_mailbox(&s->out, m->name, s->utf8);
	buf_put_str(&s->out, " (");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (!(items & rows[i].bit))
			continue;
		buf_putf(&s->out, "%s%s %u", space, rows[i].name, rows[i].value);
		space = " ";
	}
	buf_put_str(&s->out, ")\r\n");
}

void
cmd_status_start(struct session *s, struct imap_scan *args)
{
	struct status_work *w = session_work(s, sizeof *w);

	if (w == NULL)
		return;
	if (!imap_status_args(args, &w->status))
		session_scan_failed(s, args);
	else if (session_mailbox_name(s, w->status.name, &w->name))
		session_run(s);
}

void
cmd_status_run(struct session *s)
{
	struct status_work *w = s->work;
	struct mailbox_list *l = session_mailboxes(s);
	const struct store_mailbox *m;

	if (l == NULL)
		return;
	m = mailbox_list_find(l, w->name);
	if (m == NULL || !m->selectable) {
		session_answer(s, "NO", "[NONEXISTENT] ", "No such mailbox");
		return;
	}
	cmd_put_status(s, m, w->status.items);
	session_ok(s, "STATUS completed");
}
