/*
 * What is asked about mailboxes: the table, changes of it, views. A POP3 worker
 * gets INBOX and nothing else.
 */
#include "store/keeper_retain.h"

#include "common/memfd.h"

#include <assert.h>

bool
keeper_allowed(const struct edge *e, uint32_t mailbox)
{
	return edge_peer(e)->role != ROLE_POP3_WORKER || mailbox == index_target(the_keeper.ix, STORE_TARGET_INBOX);
}

void
keeper_on_list(struct edge *e, struct msg_MBOX_LIST *m)
{
	struct msg reply = {.type = MSG_MBOX_LIST_REPLY, .u.MBOX_LIST_REPLY = {.id = m->id, .table = -1}};
	struct msg_MBOX_LIST_REPLY *r = &reply.u.MBOX_LIST_REPLY;
	struct err err;
	struct buf b;

	if (!keeper_begin_request(e))
		return;
	keeper_table_given(e);
	buf_init(&b, STORE_LIST_BYTES_MAX);
	if (index_list(the_keeper.ix, &b, &err) == 0)
		r->table = memfd_of(buf_slice(&b), &err);
	r->bytes = b.n;
	if (r->table < 0) {
		r->class = err.class;
		r->code = err.code;
		r->bytes = 0;
	}
	buf_fini(&b);
	keeper_send(e, &reply);
}

void
keeper_on_change(struct edge *e, struct msg_MBOX_CHANGE *m)
{
	struct msg reply = {.type = MSG_MBOX_CHANGE_REPLY, .u.MBOX_CHANGE_REPLY = {.id = m->id}};
	struct msg_MBOX_CHANGE_REPLY *r = &reply.u.MBOX_CHANGE_REPLY;
	struct err err = {0};
	int failed;

	if (!(m->verb == MBOX_DELETE ? keeper_retain_begin : keeper_mutation_begin)(e, m->origin, m->sequence, &reply))
		return;
	failed = index_mailbox_change(the_keeper.ix, m->verb, m->name, m->new_name, m->special_use, &r->mailbox,
	    &r->uidvalidity, &err);
	keeper_mutation_end(e, m->origin, m->sequence, failed, &err, &reply);
}

void
keeper_on_adopt(struct edge *e, struct msg_MBOX_ADOPT *m)
{
	struct msg reply = {.type = MSG_MBOX_CHANGE_REPLY, .u.MBOX_CHANGE_REPLY = {.id = m->id}};
	struct msg_MBOX_CHANGE_REPLY *r = &reply.u.MBOX_CHANGE_REPLY;
	struct err err = {0};
	int failed;

	if (!keeper_mutation_begin(e, m->origin, m->sequence, &reply))
		return;
	failed = index_mailbox_adopt(the_keeper.ix, m->mailbox, m->name, m->uidvalidity, m->uidnext, &r->mailbox, &r->uidvalidity,
	    &err);
	keeper_mutation_end(e, m->origin, m->sequence, failed, &err, &reply);
}

/* ---- views ---- */

/* Moves the \Recent mark; nothing to answer for, so a failure only leaves it where it was. */
static bool
move_recent(uint32_t mailbox, uint32_t uid)
{
	if (index_begin(the_keeper.ix, NULL) < 0)
		return false;
	return keeper_commit(index_recent(the_keeper.ix, mailbox, uid, NULL));
}

static int
open_view(struct edge *e, const struct msg_MBOX_OPEN *m, struct msg_MBOX_OPEN_REPLY *r, struct err *err)
{
	const struct format_mailbox *mb = index_mailbox(the_keeper.ix, m->mailbox);

	if (mb == NULL)
		return err_set(err, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", NULL);
	if (!keeper_allowed(e, m->mailbox))
		return err_set(err, ERR_PERM, ERR_CODE_DENIED, "not allowed", NULL);
	if (keeper_view_give(m->mailbox, r, err) < 0)
		return -1;
	r->mailbox = m->mailbox;
	r->uidvalidity = mb->uidvalidity;
	r->uidnext = mb->uidnext;
	r->highestmodseq = mb->highestmodseq;
	r->recent_uid = keeper_later_recent(m->mailbox);
	if (r->recent_uid < mb->recent_uid)
		r->recent_uid = mb->recent_uid;
	if (m->claim_recent && edge_peer(e)->role == ROLE_IMAP_WORKER && r->recent_uid < mb->uidnext)
		keeper_later_claim(e, m->mailbox, mb->uidnext);
	r->keywords = index_keywords(the_keeper.ix, m->mailbox);
	return 0;
}

void
keeper_on_open(struct edge *e, struct msg_MBOX_OPEN *m)
{
	struct msg reply = {.type = MSG_MBOX_OPEN_REPLY, .u.MBOX_OPEN_REPLY = {.id = m->id, .view = -1, .changes = -1}};
	struct msg_MBOX_OPEN_REPLY *r = &reply.u.MBOX_OPEN_REPLY;
	struct err err;

	if (!keeper_begin_request(e))
		return;
	if (open_view(e, m, r, &err) == 0) {
		if (edge_peer(e)->role != ROLE_ADMIN)
			keeper_watch(e, m->mailbox);
	} else {
		r->class = err.class;
		r->code = err.code;
	}
	keeper_send(e, &reply);
}

void
keeper_on_fence(struct edge *e, struct msg_MBOX_FENCE *m)
{
	const struct msg reply = {.type = MSG_MBOX_FENCE_REPLY, .u.MBOX_FENCE_REPLY = {.id = m->id}};

	if (keeper_begin_request(e))
		keeper_send(e, &reply);
}

void
keeper_on_close(struct edge *e, struct msg_MBOX_CLOSE *m)
{
	if (keeper_begin_request(e))
		keeper_unwatch(e, m->mailbox);
}

void
keeper_on_recent(struct edge *e, struct msg_MBOX_RECENT *m)
{
	if (keeper_begin_request(e))
		(void)move_recent(m->mailbox, m->uid);
}
