/*
 * CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 3501 6.3.3-6.3.7): one MBOX_CHANGE each; the keeper knows the rules of
 * names, superiors and INBOX.
 */
#include "imapd/cmd.h"

struct mailbox_work {
	struct slice name;
	struct slice new_name;
	const char *done;
};

static void
changed(struct session *s, void *reply, const struct err *e)
{
	struct mailbox_work *w = s->work;

	if (reply)
		session_ok(s, w->done);
	else
		session_failed(s, e);
}

static void
change(struct session *s, enum mbox_verb verb, uint32_t special_use)
{
	struct mailbox_work *w = s->work;
	struct msg m = {.type = MSG_MBOX_CHANGE};

	m.u.MBOX_CHANGE.verb = (uint8_t)verb;
	m.u.MBOX_CHANGE.name = w->name;
	m.u.MBOX_CHANGE.new_name = w->new_name;
	m.u.MBOX_CHANGE.special_use = special_use;
	session_wait(s);
	session_ask(s, 0, &m, changed);
}

/* "foo/" declares that names will be made below foo; the name is foo (RFC 3501 6.3.3). */
static struct slice
without_trailing_delimiter(struct slice wire)
{
	if (wire.n > 1 && wire.p[wire.n - 1] == '/')
		wire.n--;
	return wire;
}

void
cmd_create_start(struct session *s, struct imap_scan *args)
{
	struct mailbox_work *w = session_work(s, sizeof *w);
	struct imap_create create;

	if (w == NULL)
		return;
	w->done = "CREATE completed";
	if (!imap_create_args(args, &create))
		session_scan_failed(s, args);
	else if (create.special_use & (IMAP_USE_UNKNOWN | STORE_USE_ALL | STORE_USE_FLAGGED))
		session_answer(s, "NO", "[USEATTR] ", "That special use is not supported");
	else if (session_new_name(s, without_trailing_delimiter(create.name), &w->name))
		change(s, MBOX_CREATE, create.special_use);
}

void
cmd_delete_start(struct session *s, struct imap_scan *args)
{
	struct mailbox_work *w = session_work(s, sizeof *w);
	struct imap_mailbox mailbox;

	if (w == NULL)
		return;
	w->done = "DELETE completed";
	if (!imap_mailbox_args(args, &mailbox))
		session_scan_failed(s, args);
	else if (session_mailbox_name(s, mailbox.name, &w->name))
		session_run(s);
}

/* The session that deletes the mailbox it has selected leaves it first; others are told BYE. */
void
cmd_delete_run(struct session *s)
{
	struct mailbox_work *w = s->work;
	struct mailbox_list *l = session_mailboxes(s);
	const struct store_mailbox *m = l ? mailbox_list_find(l, w->name) : NULL;

	if (l == NULL)
		return;
	if (m && s->box && s->box->mailbox == m->number)
		session_deselect(s);
	change(s, MBOX_DELETE, 0);
}

void
cmd_rename_start(struct session *s, struct imap_scan *args)
{
	struct mailbox_work *w = session_work(s, sizeof *w);
	struct imap_rename rename;

	if (w == NULL)
		return;
	w->done = "RENAME completed";
	if (!imap_rename_args(args, &rename))
		session_scan_failed(s, args);
	else if (session_mailbox_name(s, rename.from, &w->name) &&
	    session_new_name(s, without_trailing_delimiter(rename.to), &w->new_name))
		change(s, MBOX_RENAME, 0);
}

static void
subscribe(struct session *s, struct imap_scan *args, enum mbox_verb verb, const char *done)
{
	struct mailbox_work *w = session_work(s, sizeof *w);
	struct imap_mailbox mailbox;

	if (w == NULL)
		return;
	w->done = done;
	if (!imap_mailbox_args(args, &mailbox))
		session_scan_failed(s, args);
	else if (session_mailbox_name(s, without_trailing_delimiter(mailbox.name), &w->name))
		change(s, verb, 0);
}

void
cmd_subscribe_start(struct session *s, struct imap_scan *args)
{
	subscribe(s, args, MBOX_SUBSCRIBE, "SUBSCRIBE completed");
}

void
cmd_unsubscribe_start(struct session *s, struct imap_scan *args)
{
	subscribe(s, args, MBOX_UNSUBSCRIBE, "UNSUBSCRIBE completed");
}
