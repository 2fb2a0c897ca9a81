/* EXPUNGE, UID EXPUNGE (RFC 4315 2.1) and CLOSE (RFC 3501 6.4.2, 6.4.3). */
#include "imapd/cmd.h"

static void
expunged(struct session *s, void *reply, const struct err *e)
{
	if (reply)
		session_ok(s, "EXPUNGE completed");
	else
		session_failed(s, e);
}

/* CLOSE tells nothing of what it removed, and leaves the mailbox even when removing failed. */
static void
closed(struct session *s, void *reply, const struct err *e)
{
	session_deselect(s);
	if (reply)
		session_ok(s, "CLOSE completed");
	else
		session_failed(s, e);
}

static void
ask(struct session *s, const struct cmd_uids *uids, session_reply_fn *got)
{
	struct msg m = {.type = MSG_MSG_EXPUNGE};

	m.u.MSG_EXPUNGE.mailbox = s->box->mailbox;
	m.u.MSG_EXPUNGE.only_deleted = 1;
	m.u.MSG_EXPUNGE.uids = uids->field;
	m.u.MSG_EXPUNGE.uids_fd = uids->fd;
	session_wait(s);
	session_ask(s, 0, &m, got);
}

/* All that the view has: also what the client was not told of yet. */
static void
ask_all(struct session *s, session_reply_fn *got)
{
	struct uidset all = {0};
	struct cmd_uids uids = {.fd = -1};
	struct err e;

	buf_init(&uids.buf, UIDSET_FIELD_BYTES_MAX);
	if (uidset_add(&all, 1, UINT32_MAX) && uidset_send(&all, &uids.buf, &uids.field, &uids.fd, &e) == 0)
		ask(s, &uids, got);
	else
		session_failed(s, &e);
	uidset_fini(&all);
	cmd_uids_free(&uids);
}

static void
uid_expunge(struct session *s, struct imap_scan *args)
{
	struct imap_expunge expunge;
	struct targets targets;
	struct cmd_uids uids;

	if (!imap_uid_expunge_args(args, &expunge)) {
		session_scan_failed(s, args);
	} else if (s->readonly) {
		session_answer(s, "NO", "", "Mailbox is read-only");
	} else if (!session_targets(s, &expunge.set, true, &targets)) {
		return;
	} else if (targets.n == 0) {
		session_ok(s, "No such messages");
	} else if (cmd_uids_field(s, &targets, &uids) == 0) {
		s->expunge_issued = false; /* they are gone as was wanted */
		ask(s, &uids, expunged);
		cmd_uids_free(&uids);
	}
}

void
cmd_expunge_start(struct session *s, struct imap_scan *args)
{
	if (s->uid)
		uid_expunge(s, args);
	else if (!imap_no_args(args))
		session_scan_failed(s, args);
	else if (s->readonly)
		session_answer(s, "NO", "", "Mailbox is read-only");
	else
		ask_all(s, expunged);
}

void
cmd_close_start(struct session *s, struct imap_scan *args)
{
	if (!imap_no_args(args)) {
		session_scan_failed(s, args);
	} else if (s->readonly) {
		session_deselect(s);
		session_ok(s, "CLOSE completed");
	} else {
		ask_all(s, closed);
	}
}
