/*
 * \Recent (RFC 3501 2.3.2): the keeper keeps one mark per mailbox, the first UID that no session has claimed. This
 * worker is the only one that speaks IMAP for the account, so it moves the mark itself: a read-write session claims all
 * from the mark on and MBOX_RECENT tells the keeper; EXAMINE shows the same messages without claiming them.
 *
 * After the keeper was lost the view is opened anew and compared with the old one: what vanished is an expunge, what
 * differs a change of flags, what is new is new. Another UIDVALIDITY means that nothing said so far is true any more:
 * the sessions end with BYE.
 */
#include "imapd/box.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "imapd/fetch_batch.h"
#include "imapd/session.h"
#include "imapd/worker.h"

#include <assert.h>

static struct box *
box_find(struct worker *w, uint32_t mailbox)
{
	struct box *b = w->boxes;

	while (b && b->mailbox != mailbox)
		b = b->next;
	return b;
}

static void
box_link(struct box *b)
{
	struct worker *w = b->worker;

	b->next = w->boxes;
	b->link = &w->boxes;
	if (b->next)
		b->next->link = &b->next;
	w->boxes = b;
}

static void
box_unlink(struct box *b)
{
	*b->link = b->next;
	if (b->next)
		b->next->link = b->link;
}

static void
box_free(struct box *b)
{
	struct edge *e = keeper_link_edge(b->worker->keeper);

	IPC_TELL(e, MBOX_CLOSE, .mailbox = b->mailbox);
	keeper_forget(&b->request);
	box_unlink(b);
	store_view_close(&b->view);
	free(b);
}

/* Tells each session something; any of them may detach meanwhile. */
static void
each_session(struct box *b, void (*tell)(struct session *, void *), void *arg)
{
	struct session *next;

	for (struct session *s = b->sessions; s; s = next) {
		next = s->box_next;
		tell(s, arg);
	}
}

static void
tell_opened(struct session *s, void *arg)
{
	session_box_opened(s, arg);
}

static void
tell_waiting(struct session *s, void *arg)
{
	if (!session_is_selected(s))
		session_box_opened(s, arg);
}

static void
tell_bye(struct session *s, void *arg)
{
	session_bye(s, arg);
}

/* ---- opening ---- */

static void
tell_flags(struct box *b, const struct store_entry *e)
{
	for (struct session *s = b->sessions; s; s = s->box_next)
		session_box_flags(s, e);
}

static void
tell_changed(struct session *s, void *arg)
{
	const char *what = arg;

	session_box_changed(s, what[0] == '+', what[1] == '-');
}
#define CAME "+ "
#define WENT " -"
#define FLAGS_ONLY "  "

/* Who came while the view was opened anew has not been told of any. */
static void
tell_reopened(struct session *s, void *arg)
{
	if (session_is_selected(s))
		session_box_changed(s, true, true);
	tell_waiting(s, arg);
}

/* The new view's entries that the old one has too, but different. */
static void
compare(struct box *b, const struct store_view *old)
{
	size_t k = 0;

	for (size_t i = 0; i < b->view.count; i++) {
		const struct store_entry *e = &b->view.entries[i];

		while (k < old->count && old->entries[k].uid < e->uid)
			k++;
		if (k < old->count && old->entries[k].uid == e->uid && old->entries[k].modseq != e->modseq)
			tell_flags(b, e);
	}
}

/* A first opening, or one after the sessions were told of an older view. */
static void
opened(struct box *b, const struct msg_MBOX_OPEN_REPLY *m)
{
	struct store_view old = b->view;
	bool first = b->state == BOX_OPENING;
	struct err e;

	if (store_view_open(&b->view, m, &e) != 0) {
		log_event(LOG_ERROR, NO_SESSION, "view-refused", LOG_ERR(&e), LOG_END);
		store_view_close(&old);
		each_session(b, tell_bye, (void *)"[UNAVAILABLE] Temporary failure");
		return;
	}
	b->state = BOX_OPEN;
	if (first) {
		b->recent_uid = m->recent_uid;
		each_session(b, tell_opened, NULL);
	} else if (old.uidvalidity != b->view.uidvalidity) {
		each_session(b, tell_bye, (void *)"UIDVALIDITY of the mailbox has changed");
	} else {
		compare(b, &old);
		each_session(b, tell_reopened, NULL);
	}
	store_view_close(&old);
}

static void
on_open(void *owner, void *reply, const struct err *e)
{
	struct box *b = owner;

	b->request = NULL;
	if (reply)
		opened(b, reply);
	else if (b->state == BOX_OPENING)
		each_session(b, tell_opened, (void *)(uintptr_t)e);
	else
		each_session(b, tell_bye, (void *)(e->code == ERR_CODE_NOT_FOUND
						    ? "The mailbox was deleted"
						    : "[UNAVAILABLE] Temporary failure"));
}

static void
ask_open(struct box *b)
{
	struct msg m = {.type = MSG_MBOX_OPEN};

	m.u.MBOX_OPEN.mailbox = b->mailbox;
	keeper_forget(&b->request);
	b->request = keeper_ask(b->worker->keeper, &m, on_open, b);
}

static void
reopen(struct box *b)
{
	if (b->sessions == NULL) {
		box_free(b);
		return;
	}
	if (b->state == BOX_OPEN)
		b->state = BOX_REOPENING;
	ask_open(b);
}

static void
on_fence(void *owner, void *reply, const struct err *e)
{
	struct box *b = owner;

	(void)reply;
	b->request = NULL;
	each_session(b, tell_waiting, (void *)(uintptr_t)e);
}

/* What happened before the SELECT may still be on its way from the keeper. */
static void
ask_fence(struct box *b)
{
	struct msg m = {.type = MSG_MBOX_FENCE};

	b->request = keeper_ask(b->worker->keeper, &m, on_fence, b);
}

static struct box *
box_new(struct worker *w, uint32_t mailbox)
{
	struct box *b = MEM_NEW(struct box);

	b->worker = w;
	b->mailbox = mailbox;
	box_link(b);
	ask_open(b);
	return b;
}

void
box_attach(struct worker *w, struct session *s, uint32_t mailbox, uint32_t uidvalidity)
{
	struct box *b = box_find(w, mailbox);
	bool idle = b != NULL && b->sessions == NULL;

	assert(s->box == NULL);
	if (b == NULL)
		b = box_new(w, mailbox);
	s->box = b;
	s->box_next = b->sessions;
	b->sessions = s;
	if (b->state != BOX_OPEN)
		return;
	b->view.uidvalidity = uidvalidity;
	if (idle)
		ask_fence(b);
	else if (b->request == NULL)
		session_box_opened(s, NULL);
}

/* In the order in which they were left. */
static void
trim_idle(struct worker *w, unsigned boxes_max, uint64_t messages_max)
{
	struct box *next;
	uint64_t messages = 0;
	unsigned boxes = 0;

	for (struct box *b = w->boxes; b; b = next) {
		next = b->next;
		if (b->sessions != NULL)
			continue;
		messages += b->view.count;
		if (++boxes > boxes_max || messages > messages_max)
			box_free(b);
	}
}

void
box_drop_idle(struct worker *w)
{
	trim_idle(w, 0, 0);
}

/* The last session has left. */
static void
box_rest(struct box *b)
{
	struct worker *w = b->worker;

	if (b->state != BOX_OPEN || b->deleted) {
		box_free(b);
		return;
	}
	keeper_forget(&b->request);
	box_unlink(b);
	box_link(b);
	trim_idle(w, BOX_IDLE_MAX, BOX_IDLE_MESSAGES_MAX);
}

void
box_detach(struct session *s)
{
	struct box *b = s->box;

	if (b == NULL)
		return;
	s->box = NULL;
	for (struct session **at = &b->sessions; *at; at = &(*at)->box_next) {
		if (*at == s) {
			*at = s->box_next;
			break;
		}
	}
	s->box_next = NULL;
	if (b->sessions == NULL)
		box_rest(b);
}

void
box_claim_recent(struct box *b, struct session *s)
{
	struct edge *e = keeper_link_edge(b->worker->keeper);
	uint32_t next = b->view.uidnext;

	if (next <= b->recent_uid || next <= 1)
		return;
	session_box_recent(s, b->recent_uid, next - 1);
	if (s->readonly)
		return;
	b->recent_uid = next;
	mailbox_table_stale(b->worker->table); /* STATUS (RECENT) */
	IPC_TELL(e, MBOX_RECENT, .mailbox = b->mailbox, .uid = next);
}

void
box_give_summary(struct box *b, uint32_t uid, const uint8_t sha256[STORE_SHA256_BYTES], struct slice encoded)
{
	struct edge *e = keeper_link_edge(b->worker->keeper);
	struct err err;
	int fd = e != NULL ? memfd_of(encoded, &err) : -1;

	/* Not given is not lost: the next one who wants it makes it again. */
	if (fd < 0 || !IPC_SEND(e, MSG_SUMMARY, .mailbox = b->mailbox, .uid = uid,
			  .sha256 = slice_of(sha256, STORE_SHA256_BYTES), .summary = fd))
		log_event(LOG_DEBUG, NO_SESSION, "summary-not-given", LOG_END);
	fetch_fd_close(&fd);
}

/* ---- events ---- */

/* Gives what is new to the first read-write session, or shows it to all when there is none. */
static void
share_recent(struct box *b)
{
	struct session *writer = b->sessions;

	while (writer && (writer->readonly || !session_is_selected(writer)))
		writer = writer->box_next;
	if (writer) {
		box_claim_recent(b, writer);
		return;
	}
	for (struct session *s = b->sessions; s; s = s->box_next)
		if (session_is_selected(s))
			box_claim_recent(b, s);
}

void
box_event_new(struct worker *w, const struct msg_EVENT_NEW *m)
{
	struct box *b = box_find(w, m->mailbox);

	if (b == NULL || b->state != BOX_OPEN)
		return;
	if (!store_view_new(&b->view, m)) {
		reopen(b);
		return;
	}
	share_recent(b);
	each_session(b, tell_changed, (void *)CAME);
}

void
box_event_flags(struct worker *w, const struct msg_EVENT_FLAGS *m)
{
	struct box *b = box_find(w, m->mailbox);
	size_t n;

	if (b == NULL || b->state != BOX_OPEN)
		return;
	if (!store_view_flags(&b->view, m) || !store_entries_check(m->entries, &n)) {
		reopen(b);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		struct store_entry e = store_entries_get(m->entries, i);

		tell_flags(b, &e);
	}
	each_session(b, tell_changed, (void *)FLAGS_ONLY);
}

void
box_event_expunge(struct worker *w, const struct msg_EVENT_EXPUNGE *m)
{
	struct box *b = box_find(w, m->mailbox);

	if (b == NULL || b->state != BOX_OPEN)
		return;
	if (!store_view_expunge(&b->view, m)) {
		reopen(b);
		return;
	}
	each_session(b, tell_changed, (void *)WENT);
}

void
box_resync(struct worker *w, uint32_t mailbox)
{
	struct box *b = box_find(w, mailbox);

	if (b)
		reopen(b);
}

void
box_deleted(struct worker *w, uint32_t mailbox)
{
	struct box *b = box_find(w, mailbox);

	if (b == NULL)
		return;
	b->deleted = true;
	if (b->sessions == NULL)
		box_free(b);
	else
		each_session(b, tell_bye, (void *)"The mailbox was deleted");
}

void
box_reopen_all(struct worker *w)
{
	box_drop_idle(w);
	for (struct box *b = w->boxes; b; b = b->next)
		reopen(b);
}
