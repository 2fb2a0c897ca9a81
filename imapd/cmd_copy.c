/*
 * COPY and MOVE (RFC 3501 6.4.7, RFC 6851), COPYUID (RFC 4315 3): one request each, all or nothing.
 */
#include "imapd/cmd.h"
#include "imapd/imap_print.h"

struct copy_work {
	struct imap_copy copy;
	struct targets targets;
	struct slice name;
	bool move;
};

/* "[COPYUID validity source target] ", or nothing when the sets did not fit the reply. */
static void
copyuid(const struct msg_MSG_COPY_REPLY *m, struct buf *code)
{
	struct uidset source = {0};
	struct uidset target = {0};

	if (uidset_get(m->source_uids, &source) && uidset_get(m->target_uids, &target) && source.n > 0 &&
	    target.n > 0) {
		buf_putf(code, "[COPYUID %u ", m->uidvalidity);
		imap_put_uidset(code, &source);
		buf_put_u8(code, ' ');
		imap_put_uidset(code, &target);
		buf_put_str(code, "] ");
	}
	uidset_fini(&source);
	uidset_fini(&target);
}

#define CODE_BYTES_MAX (512u * 1024)

/* MOVE tells COPYUID before the EXPUNGEs, untagged (RFC 6851 4.3). */
static void
copied(struct session *s, void *reply, const struct err *e)
{
	struct copy_work *w = s->work;
	struct buf code;

	if (reply == NULL && e->code == ERR_CODE_NOT_FOUND) {
		session_answer(s, "NO", "[TRYCREATE] ", "No such mailbox");
		return;
	}
	if (reply == NULL) {
		session_failed(s, e);
		return;
	}
	buf_init(&code, CODE_BYTES_MAX);
	copyuid(reply, &code);
	if (w->move && code.n > 0) {
		buf_put_str(&s->out, "* OK ");
		buf_put_slice(&s->out, buf_slice(&code));
		buf_put_str(&s->out, "Moved\r\n");
		buf_reset(&code);
	}
	s->bad = 0;
	buf_put_u8(&code, 0);
	session_answer(s, "OK", (const char *)code.p, w->move ? "MOVE completed" : "COPY completed");
	buf_fini(&code);
}

static void
start(struct session *s, struct imap_scan *args, bool move)
{
	struct copy_work *w = session_work(s, sizeof *w);

	if (w == NULL)
		return;
	w->move = move;
	if (!imap_copy_args(args, &w->copy))
		session_scan_failed(s, args);
	else if (move && s->readonly)
		session_answer(s, "NO", "", "Mailbox is read-only");
	else if (session_mailbox_name(s, w->copy.name, &w->name) &&
	    session_targets(s, &w->copy.set, s->uid, &w->targets))
		session_run(s);
}

void
cmd_copy_start(struct session *s, struct imap_scan *args)
{
	start(s, args, false);
}

void
cmd_move_start(struct session *s, struct imap_scan *args)
{
	start(s, args, true);
}

static void
ask(struct session *s, struct copy_work *w, uint32_t target)
{
	struct msg m = {.type = MSG_MSG_COPY};
	struct cmd_uids uids;

	if (cmd_uids_field(s, &w->targets, &uids) != 0)
		return;
	m.u.MSG_COPY.mailbox = s->box->mailbox;
	m.u.MSG_COPY.target_mailbox = target;
	m.u.MSG_COPY.move = w->move;
	m.u.MSG_COPY.uids = uids.field;
	m.u.MSG_COPY.uids_fd = uids.fd;
	session_wait(s);
	session_ask(s, 0, &m, copied);
	cmd_uids_free(&uids);
}

void
cmd_copy_run(struct session *s)
{
	struct copy_work *w = s->work;
	struct mailbox_list *l = session_mailboxes(s);
	const struct store_mailbox *m;

	if (l == NULL)
		return;
	m = mailbox_list_find(l, w->name);
	if (m == NULL || !m->selectable)
		session_answer(s, "NO", "[TRYCREATE] ", "No such mailbox");
	else if (w->targets.n == 0)
		session_ok(s, "No such messages");
	else
		ask(s, w, m->number);
}
