/* STORE (RFC 3501 6.4.6): one MSG_FLAGS for all messages, whatever their number. */
#include "imapd/cmd.h"

#include <unistd.h>

struct store_work {
	struct imap_store store;
	struct targets targets;
};

static void
stored(struct session *s, void *reply, const struct err *e)
{
	struct msg_MSG_FLAGS_REPLY *m = reply;
	struct store_work *w = s->work;
	struct uidset uids = {0};

	if (m == NULL) {
		session_failed(s, e);
		return;
	}
	if (w->store.silent)
		session_forget_own(s, m->modseq);
	else if (session_target_uids(s, &w->targets, &uids))
		session_tell_flags(s, &uids);
	uidset_fini(&uids);
	session_ok(s, s->uid ? "UID STORE completed" : "STORE completed");
}

/* "name" LF for each; too long for the field: false. */
bool
cmd_keyword_lines(struct session *s, const struct imap_flags *flags, struct slice *lines_r)
{
	struct buf b;
	bool ok;

	buf_init(&b, 8192);
	for (size_t i = 0; i < flags->keywords_n; i++) {
		if (flags->keywords[i].n > STORE_KEYWORD_BYTES_MAX)
			b.failed = true;
		buf_put_slice(&b, flags->keywords[i]);
		buf_put_u8(&b, '\n');
	}
	ok = !b.failed && arena_copy(s->arena, buf_slice(&b), lines_r);
	buf_fini(&b);
	if (!ok)
		session_answer(s, "NO", "[LIMIT] ", "Keywords are too long");
	return ok;
}

int
cmd_uids_field(struct session *s, struct targets *t, struct cmd_uids *u)
{
	struct uidset set = {0};
	struct err e;
	int rc = -1;

	*u = (struct cmd_uids){.fd = -1};
	buf_init(&u->buf, UIDSET_FIELD_BYTES_MAX);
	if (!session_target_uids(s, t, &set)) {
		session_answer(s, "NO", "[LIMIT] ", "Message set has too many ranges");
	} else {
		rc = uidset_send(&set, &u->buf, &u->field, &u->fd, &e);
		if (rc != 0)
			session_failed(s, &e);
	}
	uidset_fini(&set);
	if (rc != 0)
		cmd_uids_free(u);
	return rc;
}

void
cmd_uids_free(struct cmd_uids *u)
{
	buf_fini(&u->buf);
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
}

static enum store_flags_mode
mode_of(enum imap_store_mode mode)
{
	switch (mode) {
	case IMAP_STORE_ADD:
		return STORE_FLAGS_ADD;
	case IMAP_STORE_REMOVE:
		return STORE_FLAGS_REMOVE;
	case IMAP_STORE_REPLACE:
		break;
	}
	return STORE_FLAGS_REPLACE;
}

static void
ask(struct session *s, struct store_work *w)
{
	struct msg m = {.type = MSG_MSG_FLAGS};
	struct slice keywords;
	struct cmd_uids uids;

	if (!cmd_keyword_lines(s, &w->store.flags, &keywords) || cmd_uids_field(s, &w->targets, &uids) != 0)
		return;
	m.u.MSG_FLAGS.mailbox = s->box->mailbox;
	m.u.MSG_FLAGS.mode = (uint8_t)mode_of(w->store.mode);
	m.u.MSG_FLAGS.flags = w->store.flags.basic;
	m.u.MSG_FLAGS.keywords = keywords;
	m.u.MSG_FLAGS.unchangedsince = UINT64_MAX;
	m.u.MSG_FLAGS.uids = uids.field;
	m.u.MSG_FLAGS.uids_fd = uids.fd;
	session_wait(s);
	session_ask(s, 0, &m, stored);
	cmd_uids_free(&uids);
}

void
cmd_store_start(struct session *s, struct imap_scan *args)
{
	struct store_work *w = session_work(s, sizeof *w);

	if (w == NULL)
		return;
	if (!imap_store_args(args, &w->store))
		session_scan_failed(s, args);
	else if (w->store.flags.recent || w->store.flags.unknown)
		session_answer(s, "NO", "[CANNOT] ", "That system flag cannot be stored");
	else if (s->readonly)
		session_answer(s, "NO", "", "Mailbox is read-only");
	else if (!session_targets(s, &w->store.set, s->uid, &w->targets))
		return;
	else if (w->targets.n == 0)
		session_ok(s, "No such messages");
	else
		ask(s, w);
}
