/*
 * Flag changes touch only the row of entries. A message whose flags stay as
 * they are gets no new modseq and makes no event (RFC 7162 3.1.3).
 */
#include "store/index_private.h"

struct flagging {
	const struct index_flags *f;
	struct index_mailbox *mb;
	uint64_t keywords;
	uint64_t modseq; /* of this change, once something changed */
	struct buf *change;
	struct uidset *modified;
};

static struct store_entry
changed_entry(const struct flagging *g, struct store_entry entry)
{
	uint32_t flags = g->f->flags & STORE_FLAGS_ALL;

	switch (g->f->mode) {
	case STORE_FLAGS_ADD:
		entry.flags |= flags;
		entry.keywords |= g->keywords;
		break;
	case STORE_FLAGS_REMOVE:
		entry.flags &= ~flags;
		entry.keywords &= ~g->keywords;
		break;
	default:
		entry.flags = flags;
		entry.keywords = g->keywords;
	}
	return entry;
}

static void
count_change(struct format_mailbox *m, uint32_t before, uint32_t after)
{
	uint32_t gained = after & ~before, lost = before & ~after;

	m->unseen += (lost & STORE_FLAG_SEEN) != 0;
	m->unseen -= (gained & STORE_FLAG_SEEN) != 0;
	m->deleted += (gained & STORE_FLAG_DELETED) != 0;
	m->deleted -= (lost & STORE_FLAG_DELETED) != 0;
}

static int
flag_chunk(struct index *ix, struct flagging *g, struct walk *w, struct err *e)
{
	bool dirty = false;

	for (unsigned i = 0; i < w->entries.n; i++) {
		struct store_entry *entry = &w->entries.e[i];
		struct store_entry after;

		if (!walk_wants(w, entry->uid))
			continue;
		if (entry->modseq > g->f->unchangedsince) {
			if (!uidset_add(g->modified, entry->uid, entry->uid))
				return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many messages at once", NULL);
			continue;
		}
		after = changed_entry(g, *entry);
		if (after.flags == entry->flags && after.keywords == entry->keywords)
			continue;
		if (g->change == NULL) {
			g->modseq = index_modseq_next(ix);
			g->change = index_change_add(ix, INDEX_CHANGE_FLAGS, g->mb->m.number);
		}
		after.modseq = g->modseq;
		count_change(&g->mb->m, entry->flags, after.flags);
		*entry = after;
		store_entries_put(g->change, entry, 1);
		dirty = true;
	}
	return dirty ? walk_save(w, e) : 0;
}

int
index_flags(struct index *ix, const struct index_flags *f, uint64_t *modseq_r, struct uidset *modified_r,
    struct err *e)
{
	struct flagging g = {.f = f, .mb = index_mailbox_open(ix, f->mailbox, e), .modified = modified_r};
	struct walk w;
	int r;

	uidset_reset(modified_r);
	*modseq_r = 0;
	if (g.mb == NULL)
		return -1;
	if (f->mode < STORE_FLAGS_ADD || f->mode > STORE_FLAGS_REPLACE)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "flags mode %u", f->mode);
	if (index_keyword_bits(g.mb, f->keywords, f->mode != STORE_FLAGS_REMOVE, &g.keywords, e) < 0)
		return -1;
	r = walk_open(&w, ix, FORMAT_ENTRIES, f->mailbox, f->uids, e) < 0 ? -1 : walk_first(&w, e);
	while (r == 1)
		r = flag_chunk(ix, &g, &w, e) < 0 ? -1 : walk_next(&w, e);
	walk_close(&w);
	if (r < 0)
		return index_failed(ix);
	if (g.change != NULL) {
		g.mb->m.highestmodseq = g.modseq;
		g.mb->dirty = true;
	}
	*modseq_r = g.modseq;
	return 0;
}
