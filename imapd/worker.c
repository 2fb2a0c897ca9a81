#include "imapd/worker.h"

#include "imapd/session.h"

#include <assert.h>

static struct worker *current;

void
worker_set_current(struct worker *w)
{
	current = w;
}

static void
keeper_wanted(void *arg)
{
	struct worker *w = arg;

	w->hooks->connect(w->arg);
}

static void
keeper_up(void *arg)
{
	struct worker *w = arg;

	mailbox_table_stale(w->table);
	box_reopen_all(w);
}

static const struct keeper_link_events link_events = {.wanted = keeper_wanted, .up = keeper_up};

void
worker_init(struct worker *w, struct loop *l, const struct worker_hooks *hooks, void *arg)
{
	*w = (struct worker){.loop = l, .hooks = hooks, .arg = arg};
	w->keeper = keeper_link_new(l, &link_events, w);
	w->table = mailbox_table_new(w->keeper);
}

void
worker_fini(struct worker *w)
{
	while (w->sessions)
		session_free(w->sessions);
	box_drop_idle(w);
	assert(w->boxes == NULL);
	mailbox_table_free(&w->table);
	keeper_link_free(&w->keeper);
}

void
worker_keeper_up(struct worker *w, struct edge *e)
{
	keeper_link_up(w->keeper, e);
}

void
worker_keeper_down(struct worker *w, struct edge *e)
{
	box_drop_idle(w);
	keeper_link_down(w->keeper, e, w->boxes != NULL);
}

/* ---- the keeper's words ---- */

#define REPLY(NAME, text)                                                                          \
	static void on_##NAME(struct edge *e, struct msg_##NAME *m)                                \
	{                                                                                          \
		keeper_answered(e, m->id, m, m->class, m->code, (text));                           \
	}
REPLY(MBOX_LIST_REPLY, slice_of(NULL, 0))
REPLY(MBOX_OPEN_REPLY, slice_of(NULL, 0))
REPLY(MBOX_FENCE_REPLY, slice_of(NULL, 0))
REPLY(MSG_FETCH_REPLY, slice_of(NULL, 0))
REPLY(MBOX_CHANGE_REPLY, m->text)
REPLY(MSG_FLAGS_REPLY, m->text)
REPLY(MSG_APPEND_REPLY, m->text)
REPLY(MSG_COPY_REPLY, m->text)
REPLY(MSG_EXPUNGE_REPLY, m->text)
#undef REPLY

static void
on_new(struct edge *e, struct msg_EVENT_NEW *m)
{
	(void)e;
	box_event_new(current, m);
}

static void
on_flags(struct edge *e, struct msg_EVENT_FLAGS *m)
{
	(void)e;
	box_event_flags(current, m);
}

static void
on_expunge(struct edge *e, struct msg_EVENT_EXPUNGE *m)
{
	(void)e;
	box_event_expunge(current, m);
}

static void
on_mailboxes(struct edge *e, struct msg_EVENT_MAILBOXES *m)
{
	(void)e;
	mailbox_table_stale(current->table);
	if (m->deleted != 0)
		box_deleted(current, m->deleted);
}

static void
on_resync(struct edge *e, struct msg_EVENT_RESYNC *m)
{
	(void)e;
	box_resync(current, m->mailbox);
}

const struct ipc_dispatch worker_from_keeper = {
    .MBOX_LIST_REPLY = on_MBOX_LIST_REPLY,
    .MBOX_CHANGE_REPLY = on_MBOX_CHANGE_REPLY,
    .MBOX_OPEN_REPLY = on_MBOX_OPEN_REPLY,
    .MBOX_FENCE_REPLY = on_MBOX_FENCE_REPLY,
    .MSG_FLAGS_REPLY = on_MSG_FLAGS_REPLY,
    .MSG_APPEND_REPLY = on_MSG_APPEND_REPLY,
    .MSG_COPY_REPLY = on_MSG_COPY_REPLY,
    .MSG_EXPUNGE_REPLY = on_MSG_EXPUNGE_REPLY,
    .MSG_FETCH_REPLY = on_MSG_FETCH_REPLY,
    .EVENT_NEW = on_new,
    .EVENT_FLAGS = on_flags,
    .EVENT_EXPUNGE = on_expunge,
    .EVENT_MAILBOXES = on_mailboxes,
    .EVENT_RESYNC = on_resync,
};
