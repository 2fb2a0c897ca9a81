/*
 * Who watches what. An event that a slow peer does not take is replaced by one
 * EVENT_RESYNC for that mailbox, sent when there is room again; until then it
 * gets no more events of it, which could not be applied anyway.
 */
#include "store/keeper_private.h"

#include "common/mem.h"

#include <assert.h>
#include <unistd.h>

void
keeper_peer_up(struct edge *e)
{
	struct keeper_peer *p = MEM_NEW(struct keeper_peer);

	p->edge = e;
	p->next = the_keeper.peers;
	the_keeper.peers = p;
	edge_set_arg(e, p);
	/* It comes with a request. */
	the_keeper.last_request_ms = clock_ms();
}

struct keeper_peer *
keeper_peer_of(struct edge *e)
{
	struct keeper_peer *p = edge_arg(e);

	assert(p != NULL && p->edge == e);
	return p;
}

void
keeper_peer_down(struct edge *e)
{
	struct keeper *k = &the_keeper;
	struct keeper_peer **link = &k->peers;

	while (*link != NULL && (*link)->edge != e)
		link = &(*link)->next;
	if (*link == NULL)
		return;
	keeper_job_stop(e);
	struct keeper_peer *p = *link;

	*link = p->next;
	edge_set_arg(e, NULL);
	free(p->watched);
	free(p->resync);
	free(p);
	keeper_later_peer_down(e);
	for (size_t i = 0; i < k->outbox_count; i++)
		if (k->outbox[i].edge == e)
			k->outbox[i].edge = NULL;
	for (size_t i = 0; i < k->pending_count; i++)
		if (k->pending[i].edge == e)
			k->pending[i].edge = NULL;
}

/* ---- small sets of numbers ---- */

static size_t
find(const uint32_t *list, size_t n, uint32_t number)
{
	size_t i = 0;

	while (i < n && list[i] != number)
		i++;
	return i;
}

static void
add(uint32_t **list, size_t *n, size_t *cap, uint32_t number)
{
	if (find(*list, *n, number) < *n)
		return;
	if (*n == *cap) {
		*cap = *cap ? *cap * 2 : 4;
		*list = mem_resize(*list, *cap, sizeof **list);
	}
	(*list)[(*n)++] = number;
}

static void
drop(uint32_t *list, size_t *n, uint32_t number)
{
	size_t at = find(list, *n, number);

	if (at < *n)
		list[at] = list[--*n];
}

void
keeper_watch(struct edge *e, uint32_t mailbox)
{
	struct keeper_peer *p = keeper_peer_of(e);

	add(&p->watched, &p->watched_count, &p->watched_cap, mailbox);
	/* The view that is being handed over is what the resync would have asked for. */
	drop(p->resync, &p->resync_count, mailbox);
}

void
keeper_unwatch(struct edge *e, uint32_t mailbox)
{
	struct keeper_peer *p = keeper_peer_of(e);

	drop(p->watched, &p->watched_count, mailbox);
	drop(p->resync, &p->resync_count, mailbox);
}

void
keeper_owe_resync(struct edge *e, uint32_t mailbox)
{
	struct keeper_peer *p = keeper_peer_of(e);

	if (mailbox == 0)
		p->table_lost = true;
	else if (find(p->watched, p->watched_count, mailbox) < p->watched_count)
		add(&p->resync, &p->resync_count, &p->resync_cap, mailbox);
}

void
keeper_peer_drained(struct edge *e)
{
	struct keeper_peer *p = edge_arg(e);

	if (p == NULL)
		return;
	while (p->resync_count > 0 && IPC_SEND(e, EVENT_RESYNC, .mailbox = p->resync[p->resync_count - 1]))
		p->resync_count--;
	if (p->table_lost && IPC_SEND(e, EVENT_MAILBOXES, .deleted = 0))
		p->table_lost = false;
}

/* ---- telling ---- */

static void
entries_event(struct msg *m, const struct index_change *change, struct slice entries)
{
	const struct format_mailbox *mb = index_mailbox(the_keeper.ix, change->mailbox);
	struct slice keywords = index_keywords(the_keeper.ix, change->mailbox);

	if (change->kind == INDEX_CHANGE_NEW) {
		*m = (struct msg){.type = MSG_EVENT_NEW,
		    .u.EVENT_NEW = {.mailbox = change->mailbox, .highestmodseq = mb->highestmodseq, .keywords = keywords,
			.entries = entries}};
		/* Of a part: one past its last, so that each event leaves a true view. */
		m->u.EVENT_NEW.uidnext = mb->uidnext;
	} else {
		*m = (struct msg){.type = MSG_EVENT_FLAGS,
		    .u.EVENT_FLAGS = {.mailbox = change->mailbox, .highestmodseq = mb->highestmodseq,
			.keywords = keywords, .entries = entries}};
	}
}

static void
make_event(struct msg *m, const struct index_change *change, struct slice part)
{
	const struct format_mailbox *mb = index_mailbox(the_keeper.ix, change->mailbox);

	if (change->kind == INDEX_CHANGE_EXPUNGE)
		*m = (struct msg){.type = MSG_EVENT_EXPUNGE,
		    .u.EVENT_EXPUNGE = {.mailbox = change->mailbox, .highestmodseq = mb->highestmodseq, .uids = part}};
	else
		entries_event(m, change, part);
}

/* One change to one watcher, in as many events as it takes. */
static void
tell_change(struct keeper_peer *p, const struct index_change *change)
{
	struct slice rest = buf_slice(&change->octets);
	size_t most = change->kind == INDEX_CHANGE_EXPUNGE ? UIDSET_EVENT_BYTES_MAX
							   : STORE_EVENT_ENTRIES_MAX * STORE_ENTRY_BYTES;
	struct msg m;

	if (find(p->watched, p->watched_count, change->mailbox) == p->watched_count ||
	    find(p->resync, p->resync_count, change->mailbox) < p->resync_count ||
	    index_mailbox(the_keeper.ix, change->mailbox) == NULL)
		return;
	if (change->octets.failed || rest.n > IPC_QUEUE_BYTES_MAX) {
		m = (struct msg){.type = MSG_EVENT_RESYNC, .u.EVENT_RESYNC = {.mailbox = change->mailbox}};
		keeper_send_event(p->edge, &m, change->mailbox);
		return;
	}
	while (rest.n > 0) {
		struct slice part = slice_sub(rest, 0, most);

		make_event(&m, change, part);
		keeper_send_event(p->edge, &m, change->mailbox);
		rest = slice_sub(rest, part.n, rest.n);
	}
}

void
keeper_table_given(struct edge *e)
{
	keeper_peer_of(e)->table_told = false;
}

/* Counts are part of the table, so any change makes it old; one event is enough until it is asked for. */
static void
tell_table(struct keeper_peer *p, uint32_t gone)
{
	struct msg m = {.type = MSG_EVENT_MAILBOXES, .u.EVENT_MAILBOXES = {.deleted = gone}};

	enum role role = edge_peer(p->edge)->role;

	if (role == ROLE_DELIVER || role == ROLE_ADMIN || (gone == 0 && p->table_told))
		return;
	p->table_told = true;
	keeper_send_event(p->edge, &m, 0);
	if (gone != 0)
		keeper_unwatch(p->edge, gone);
}

void
keeper_tell(void)
{
	struct keeper *k = &the_keeper;
	size_t n;
	const struct index_change *changes = index_changes(k->ix, &n);

	for (size_t i = 0; i < n; i++) {
		keeper_view_changed(&changes[i]);
		for (struct keeper_peer *p = k->peers; p != NULL; p = p->next) {
			if (changes[i].kind != INDEX_CHANGE_TABLE)
				tell_change(p, &changes[i]);
			tell_table(p, changes[i].kind == INDEX_CHANGE_TABLE ? changes[i].mailbox : 0);
		}
	}
	index_changes_reset(k->ix);
}
