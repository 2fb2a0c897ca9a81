/*
 * Events: what a transaction changed, told to the peers that watch the mailbox, in the order of the transactions. An event that
 * does not fit one message is told in several, each of which makes the peer's view true as far as it goes: entries and
 * ranges come in ascending order. The last of them carries the mailbox's new marks, as all of them do.
 */
#include "store/kept.h"

#include "store/entry.h"

/* Whole entries, and whole ranges, in one event. */
#define EVENT_ENTRY_OCTETS (STORE_EVENT_ENTRIES_MAX * STORE_ENTRY_BYTES)
#define EVENT_RANGE_OCTETS (UIDSET_EVENT_BYTES_MAX / UIDSET_RANGE_BYTES * UIDSET_RANGE_BYTES)

static unsigned
watch_place(const struct keeper_peer *p, uint32_t mailbox)
{
	unsigned i = 0;

	while (i < p->watched_count && p->watched[i] != mailbox)
		i++;
	return i;
}

bool
keeper_watch(struct keeper_peer *p, uint32_t mailbox)
{
	if (watch_place(p, mailbox) < p->watched_count)
		return true;
	if (p->watched_count == KEEPER_WATCHED_MAX)
		return false;
	p->watched[p->watched_count++] = mailbox;
	return true;
}

void
keeper_unwatch(struct keeper_peer *p, uint32_t mailbox)
{
	unsigned i = watch_place(p, mailbox);

	if (i < p->watched_count)
		p->watched[i] = p->watched[--p->watched_count];
}

static void
say_piece(struct edge *e, const struct index_change *c, const struct format_mailbox *box, struct slice piece)
{
	struct slice keywords = index_keywords(keeper.index, c->mailbox);

	switch (c->kind) {
	case INDEX_CHANGE_NEW:
		KEEPER_SAY(e, EVENT_NEW, .mailbox = c->mailbox, .uidnext = box->uidnext, .highestmodseq = box->highestmodseq,
		    .keywords = keywords, .entries = piece);
		break;
	case INDEX_CHANGE_FLAGS:
		KEEPER_SAY(e, EVENT_FLAGS, .mailbox = c->mailbox, .highestmodseq = box->highestmodseq, .keywords = keywords,
		    .entries = piece);
		break;
	default:
		KEEPER_SAY(e, EVENT_EXPUNGE, .mailbox = c->mailbox, .highestmodseq = box->highestmodseq, .uids = piece);
		break;
	}
}

static void
say_change(struct edge *e, const struct index_change *c)
{
	const struct format_mailbox *box = index_mailbox(keeper.index, c->mailbox);
	size_t step = c->kind == INDEX_CHANGE_EXPUNGE ? EVENT_RANGE_OCTETS : EVENT_ENTRY_OCTETS;
	struct slice all = buf_slice(&c->octets);

	/* A mailbox that is gone is told by EVENT_MAILBOXES. */
	if (box == NULL)
		return;
	if (c->octets.failed) {
		KEEPER_SAY(e, EVENT_RESYNC, .mailbox = c->mailbox);
		return;
	}
	for (size_t at = 0; at < all.n; at += step)
		say_piece(e, c, box, slice_sub(all, at, at + step));
}

/* arg: the struct index_change. */
static void
tell_peer(struct edge *e, void *arg)
{
	const struct index_change *c = arg;
	enum role role = edge_peer(e)->role;

	if (role != ROLE_IMAP_WORKER && role != ROLE_POP3_WORKER)
		return;
	struct keeper_peer *p = keeper_peer(e);

	p->table_changed = true;
	if (c->kind == INDEX_CHANGE_TABLE) {
		if (c->mailbox) {
			keeper_unwatch(p, c->mailbox);
			KEEPER_SAY(e, EVENT_MAILBOXES, .deleted = c->mailbox);
		}
	} else if (watch_place(p, c->mailbox) < p->watched_count) {
		say_change(e, c);
	}
}

void
keeper_tell_changes(void)
{
	size_t n;
	const struct index_change *changes = index_changes(keeper.index, &n);

	for (size_t i = 0; i < n; i++) {
		struct index_change change = changes[i];

		role_edge_each(tell_peer, &change);
	}
}

static void
tell_table(struct edge *e, void *arg)
{
	enum role role = edge_peer(e)->role;

	(void)arg;
	if ((role != ROLE_IMAP_WORKER && role != ROLE_POP3_WORKER) || !keeper_peer(e)->table_changed)
		return;
	keeper_peer(e)->table_changed = false;
	KEEPER_SAY(e, EVENT_MAILBOXES, .deleted = 0);
}

void
keeper_tell_tables(void)
{
	role_edge_each(tell_table, NULL);
}

void
keeper_tell_resync(struct keeper_peer *p)
{
	p->lost_events = false;
	p->table_changed = true;
	for (unsigned i = 0; i < p->watched_count; i++)
		KEEPER_SAY(p->edge, EVENT_RESYNC, .mailbox = p->watched[i]);
	keeper_flush_soon();
}
