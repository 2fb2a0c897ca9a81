/*
 * Messages come and go here: appended at the end of a mailbox's chunks, taken
 * out of their middle. Everything else (APPEND, COPY, MOVE, EXPUNGE, deletion
 * and renaming of mailboxes) is made of these two and of references to objects.
 */
#include "store/index_private.h"

#include "common/mem.h"
#include "common/summary.h"
#include "store/object.h"

#include <assert.h>

void
message_list_fini(struct message_list *l)
{
	free(l->m);
	*l = (struct message_list){0};
}

static struct format_message *
list_add(struct message_list *l)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 64;
		l->m = mem_resize(l->m, l->cap, sizeof *l->m);
	}
	memset(&l->m[l->n], 0, sizeof *l->m);
	return &l->m[l->n++];
}

const struct uidset *
uidset_all(void)
{
	static struct uid_range range = {1, UINT32_MAX};
	static const struct uidset all = {.ranges = &range, .n = 1, .cap = 1};

	return &all;
}

/* The details that belong to the entries of l, in order; take: they leave their chunks. */
static int
list_details(struct index *ix, uint32_t mailbox, const struct uidset *set, bool take, struct message_list *l,
    struct err *e)
{
	struct walk w;
	size_t at = 0;
	int r = walk_open(&w, ix, FORMAT_DETAILS, mailbox, set, e) < 0 ? -1 : walk_first(&w, e);

	while (r == 1) {
		unsigned kept = 0;

		for (unsigned i = 0; i < w.details.n; i++) {
			if (at < l->n && l->m[at].entry.uid == w.details.d[i].uid) {
				l->m[at++].detail = w.details.d[i];
				if (take)
					continue;
			}
			w.details.d[kept++] = w.details.d[i];
		}
		bool changed = kept < w.details.n;

		w.details.n = kept;
		r = changed && walk_save(&w, e) < 0 ? -1 : walk_next(&w, e);
	}
	walk_close(&w);
	if (r == 0 && at != l->n)
		r = env_refuse(ix->env, "a message without details", e);
	return r < 0 ? index_failed(ix) : 0;
}

int
messages_collect(struct index *ix, uint32_t mailbox, const struct uidset *set, struct message_list *l, struct err *e)
{
	struct walk w;
	int r = walk_open(&w, ix, FORMAT_ENTRIES, mailbox, set, e) < 0 ? -1 : walk_first(&w, e);

	for (; r == 1; r = walk_next(&w, e))
		for (unsigned i = 0; i < w.entries.n; i++)
			if (walk_wants(&w, w.entries.e[i].uid))
				list_add(l)->entry = w.entries.e[i];
	walk_close(&w);
	return r < 0 ? index_failed(ix) : list_details(ix, mailbox, set, false, l, e);
}

/* ---- references to objects ---- */

struct refs {
	struct index *ix;
	struct format_key key;
	struct format_refs refs;
	bool open;
};

static int
refs_save(struct refs *r, struct err *e)
{
	if (!r->open)
		return 0;
	r->open = false;
	bool ok = format_refs_put(&r->ix->value, format_key_slice(&r->key), &r->refs);

	assert(ok);
	return index_put(r->ix, &r->key, &r->ix->value, e);
}

static int
refs_seek(struct refs *r, uint64_t object, struct err *e)
{
	struct format_key key = format_key_u64(FORMAT_REFS, object - object % FORMAT_REFS_MAX);

	if (r->open && slice_eq(format_key_slice(&key), format_key_slice(&r->key)))
		return 0;
	if (refs_save(r, e) < 0)
		return -1;
	r->key = key;
	int found = env_get(r->ix->env, format_key_slice(&key), &r->ix->value, e);

	if (found < 0)
		return index_failed(r->ix);
	if (found == 0)
		r->refs = (struct format_refs){{0}};
	else if (!format_refs_get(format_key_slice(&key), buf_slice(&r->ix->value), &r->refs))
		return env_refuse(r->ix->env, "references to objects", e);
	r->open = true;
	return 0;
}

/* Nobody refers to it any more: its file goes once that is durable (index_purge.c). */
static int
garbage_add(struct index *ix, const uint8_t *id, struct err *e)
{
	struct format_key key = format_key_u64(FORMAT_GARBAGE, object_number(id));

	format_begin(&ix->value, FORMAT_GARBAGE, 0);
	buf_put(&ix->value, id, STORE_OBJECT_ID_BYTES);
	bool ok = format_end(&ix->value, format_key_slice(&key));

	assert(ok);
	return index_put(ix, &key, &ix->value, e);
}

int
messages_refer(struct index *ix, const struct format_message *m, size_t n, int by, struct err *e)
{
	struct refs r = {.ix = ix};

	assert(by == 1 || by == -1);
	for (size_t i = 0; i < n; i++) {
		uint64_t object = object_number(m[i].detail.object_id);
		uint32_t *count;

		if (refs_seek(&r, object, e) < 0)
			return -1;
		count = &r.refs.count[object % FORMAT_REFS_MAX];
		if ((by < 0 && *count == 0) || (by > 0 && *count == UINT32_MAX))
			return env_refuse(ix->env, "a count of references", e);
		*count += (uint32_t)by;
		if (*count == 0 && garbage_add(ix, m[i].detail.object_id, e) < 0)
			return -1;
	}
	return refs_save(&r, e);
}

/* ---- putting in ---- */

static int
put_chunk(struct walk *w, bool exists, uint32_t first, struct err *e)
{
	struct format_key key = format_key_u32_u32(w->table, w->mailbox, first);
	struct buf *b = &w->ix->value;
	bool ok;

	if (exists)
		return walk_save(w, e);
	ok = w->table == FORMAT_ENTRIES ? format_entries_put(b, format_key_slice(&key), &w->entries)
					: format_details_put(b, format_key_slice(&key), &w->details);
	assert(ok);
	return env_put(w->ix->env, format_key_slice(&key), buf_slice(b), slice_of(NULL, 0), e);
}

/* Appends the one half of l that table holds: first into the last chunk, then into new ones. */
static int
put_half(struct index *ix, uint32_t mailbox, enum format_table table, const struct message_list *l, struct err *e)
{
	unsigned max = table == FORMAT_ENTRIES ? FORMAT_ENTRIES_MAX : FORMAT_DETAILS_MAX;
	struct walk w;
	unsigned *n = table == FORMAT_ENTRIES ? &w.entries.n : &w.details.n;
	int r = walk_open(&w, ix, table, mailbox, NULL, e) < 0 ? -1 : walk_tail(&w, e);
	bool exists = r == 1 && *n < max;

	if (!exists)
		*n = 0;
	for (size_t i = 0; r >= 0 && i < l->n;) {
		uint32_t first = l->m[i].entry.uid;

		for (; *n < max && i < l->n; i++, ++*n) {
			if (table == FORMAT_ENTRIES)
				w.entries.e[*n] = l->m[i].entry;
			else
				w.details.d[*n] = l->m[i].detail;
		}
		r = put_chunk(&w, exists, first, e);
		exists = false;
		*n = 0;
	}
	walk_close(&w);
	return r < 0 ? index_failed(ix) : 0;
}

static void
count_in(struct index *ix, struct index_mailbox *mb, const struct format_message *m)
{
	assert(mb->m.gone_at == 0);
	mb->m.messages++;
	mb->m.unseen += (m->entry.flags & STORE_FLAG_SEEN) == 0;
	mb->m.deleted += (m->entry.flags & STORE_FLAG_DELETED) != 0;
	mb->m.bytes += m->detail.size;
	ix->account.messages++;
	ix->account.bytes += m->detail.size;
}

/* False when the counts say that it cannot have been there. */
static bool
count_out(struct index *ix, struct index_mailbox *mb, const struct format_message *m)
{
	uint32_t unseen = (m->entry.flags & STORE_FLAG_SEEN) == 0;
	uint32_t deleted = (m->entry.flags & STORE_FLAG_DELETED) != 0;
	bool gone = mb->m.gone_at != 0;
	uint64_t *messages = gone ? &ix->account.retained_messages : &ix->account.messages;
	uint64_t *bytes = gone ? &ix->account.retained_bytes : &ix->account.bytes;

	if (mb->m.messages == 0 || mb->m.unseen < unseen || mb->m.deleted < deleted || mb->m.bytes < m->detail.size ||
	    *messages == 0 || *bytes < m->detail.size)
		return false;
	mb->m.messages--;
	mb->m.unseen -= unseen;
	mb->m.deleted -= deleted;
	mb->m.bytes -= m->detail.size;
	--*messages;
	*bytes -= m->detail.size;
	return true;
}

int
messages_add(struct index *ix, struct index_mailbox *mb, struct message_list *l, struct err *e)
{
	uint64_t modseq;
	struct buf *change;

	if (l->n == 0)
		return 0;
	if (l->n >= UINT32_MAX - mb->m.uidnext)
		return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "the mailbox has no UIDs left", NULL);
	modseq = index_modseq_next(ix);
	change = index_change_add(ix, INDEX_CHANGE_NEW, mb->m.number);
	for (size_t i = 0; i < l->n; i++) {
		struct format_message *m = &l->m[i];

		m->entry.uid = m->detail.uid = mb->m.uidnext++;
		m->entry.modseq = modseq;
		m->detail.save_date = (int64_t)ix->now;
		count_in(ix, mb, m);
		store_entries_put(change, &m->entry, 1);
	}
	mb->m.highestmodseq = modseq;
	mb->dirty = true;
	if (put_half(ix, mb->m.number, FORMAT_ENTRIES, l, e) < 0)
		return -1;
	return put_half(ix, mb->m.number, FORMAT_DETAILS, l, e);
}

/* ---- taking out ---- */

static int
take_entries(struct index *ix, uint32_t mailbox, const struct uidset *set, unsigned how, struct message_list *l,
    struct err *e)
{
	struct walk w;
	int r = walk_open(&w, ix, FORMAT_ENTRIES, mailbox, set, e) < 0 ? -1 : walk_first(&w, e);

	while (r == 1) {
		unsigned kept = 0;

		for (unsigned i = 0; i < w.entries.n; i++) {
			const struct store_entry *entry = &w.entries.e[i];
			bool spared = (how & MESSAGES_ONLY_DELETED) && !(entry->flags & STORE_FLAG_DELETED);

			if (walk_wants(&w, entry->uid) && !spared)
				list_add(l)->entry = *entry;
			else
				w.entries.e[kept++] = *entry;
		}
		bool changed = kept < w.entries.n;

		w.entries.n = kept;
		r = changed && walk_save(&w, e) < 0 ? -1 : walk_next(&w, e);
	}
	walk_close(&w);
	return r < 0 ? index_failed(ix) : 0;
}

static int
write_tombstones(struct index *ix, uint32_t mailbox, uint64_t modseq, const struct uidset *gone, struct err *e)
{
	uint32_t piece = 0;

	for (size_t i = 0; i < gone->n; i += FORMAT_TOMBSTONE_RANGES_MAX, piece++) {
		size_t n = gone->n - i < FORMAT_TOMBSTONE_RANGES_MAX ? gone->n - i : FORMAT_TOMBSTONE_RANGES_MAX;
		struct uidset part = {.ranges = gone->ranges + i, .n = n};
		struct format_key key = format_key_tombstones(mailbox, modseq, piece);

		format_begin(&ix->value, FORMAT_TOMBSTONES, (unsigned)n);
		uidset_put(&ix->value, &part);
		bool ok = format_end(&ix->value, format_key_slice(&key));

		assert(ok);
		if (env_put(ix->env, format_key_slice(&key), buf_slice(&ix->value), slice_of(NULL, 0), e) < 0)
			return index_failed(ix);
	}
	return 0;
}

static int
write_retained(struct index *ix, struct index_mailbox *mb, const struct message_list *l, struct err *e)
{
	struct format_expunged x = {.mailbox = mb->m.number};
	uint32_t piece = 0;

	for (size_t i = 0; i < l->n; i++)
		ix->account.retained_bytes += l->m[i].detail.size;
	ix->account.retained_messages += l->n;
	mb->m.retained += (uint32_t)l->n;
	mb->dirty = true;

	for (size_t i = 0; i < l->n; i += x.n, piece++) {
		/* No transaction retains from two mailboxes. */
		struct format_key key = format_key_expunged(ix->now, ix->account.serial, piece);

		x.n = l->n - i < FORMAT_EXPUNGED_MAX ? (unsigned)(l->n - i) : FORMAT_EXPUNGED_MAX;
		memcpy(x.m, &l->m[i], x.n * sizeof x.m[0]);
		bool ok = format_expunged_put(&ix->value, format_key_slice(&key), &x);

		assert(ok);
		if (env_put(ix->env, format_key_slice(&key), buf_slice(&ix->value), slice_of(NULL, 0), e) < 0)
			return index_failed(ix);
	}
	return 0;
}

static int
tell_removed(struct index *ix, struct index_mailbox *mb, const struct uidset *gone, struct err *e)
{
	uint64_t modseq = index_modseq_next(ix);

	mb->m.highestmodseq = modseq;
	uidset_put(index_change_add(ix, INDEX_CHANGE_EXPUNGE, mb->m.number), gone);
	return write_tombstones(ix, mb->m.number, modseq, gone, e);
}

int
messages_remove(struct index *ix, struct index_mailbox *mb, const struct uidset *set, unsigned how,
    struct message_list *l, struct err *e)
{
	struct uidset gone = {0};
	int failed = take_entries(ix, mb->m.number, set, how, l, e);
	bool fits = true;

	if (failed || l->n == 0)
		return failed;
	for (size_t i = 0; fits && i < l->n; i++)
		fits = uidset_add(&gone, l->m[i].entry.uid, l->m[i].entry.uid);
	if (!fits)
		failed = err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many messages at once", NULL);
	if (failed == 0)
		failed = list_details(ix, mb->m.number, &gone, true, l, e);
	for (size_t i = 0; failed == 0 && i < l->n; i++)
		if (!count_out(ix, mb, &l->m[i]))
			failed = env_refuse(ix->env, "the counts of a mailbox", e);
	mb->dirty = true;
	if (failed == 0)
		failed = tell_removed(ix, mb, &gone, e);
	if (failed == 0 && (how & MESSAGES_RETAIN))
		failed = write_retained(ix, mb, l, e);
	uidset_fini(&gone);
	return failed;
}

/* ---- the requests ---- */

int
index_append(struct index *ix, const struct index_append *a, uint32_t *uid_r, struct err *e)
{
	struct index_mailbox *mb = index_mailbox_open(ix, a->mailbox, e);
	uint64_t object = object_number(a->object_id);
	struct message_list l = {0};
	struct format_message *m;
	uint64_t keywords;
	int failed;

	if (mb == NULL || index_keyword_bits(mb, a->keywords, true, &keywords, e) < 0)
		return -1;
	if (!index_quota_fits(ix, a->limit, (struct quota){a->size, 1}))
		return err_set(e, ERR_LIMIT, ERR_CODE_OVER_QUOTA, "over quota", NULL);
	if (a->uid > STORE_IMPORT_MAX)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "a UID past the greatest");
	assert(object < ix->reserve_object && object >= ix->account.next_object);
	ix->account.next_object = object + 1;
	if (a->uid > mb->m.uidnext)
		mb->m.uidnext = a->uid;
	/* Where the UID comes from modseqs were counted too, from 1: ours are to be above all that a client may know. */
	if (a->uid != 0 && ix->account.modseq < ix->now)
		ix->account.modseq = ix->now;
	m = list_add(&l);
	m->entry.flags = a->flags & STORE_FLAGS_ALL;
	m->entry.keywords = keywords;
	m->detail.internal_date = a->internal_date;
	m->detail.zone_minutes = a->zone_minutes;
	m->detail.size = a->size;
	m->detail.ascii_headers = summary_headers_ascii(a->summary);
	memcpy(m->detail.object_id, a->object_id, sizeof m->detail.object_id);
	failed = messages_add(ix, mb, &l, e) < 0 || messages_refer(ix, m, 1, 1, e) < 0;
	if (!failed && a->summary.n > 0 && env_summary_put(ix->env, object, a->summary, e) < 0)
		failed = index_failed(ix);
	*uid_r = m->entry.uid;
	message_list_fini(&l);
	return failed ? -1 : 0;
}

int
messages_map_keywords(struct index_mailbox *source, struct index_mailbox *target, struct message_list *l, struct err *e)
{
	uint64_t map[STORE_KEYWORDS_MAX] = {0}, used = 0;

	for (size_t i = 0; i < l->n; i++)
		used |= l->m[i].entry.keywords;
	if (source == target || used == 0)
		return 0;
	for (unsigned bit = 0; bit < STORE_KEYWORDS_MAX; bit++)
		if ((used >> bit & 1) != 0 &&
		    index_keyword_bits(target, store_keyword_name(buf_slice(&source->keywords), bit), true, &map[bit], e) < 0)
			return -1;
	for (size_t i = 0; i < l->n; i++) {
		uint64_t bits = l->m[i].entry.keywords, mapped = 0;

		for (; bits != 0; bits &= bits - 1)
			mapped |= map[__builtin_ctzll(bits)];
		l->m[i].entry.keywords = mapped;
	}
	return 0;
}

static int
fits_quota(struct index *ix, const struct message_list *l, struct quota limit, struct err *e)
{
	struct quota more = {0, l->n};

	for (size_t i = 0; i < l->n; i++)
		more.bytes = quota_add_one(more.bytes, l->m[i].detail.size);
	return index_quota_check(ix, limit, more, e);
}

static int
note_uids(const struct message_list *l, struct uidset *set, struct err *e)
{
	for (size_t i = 0; i < l->n; i++)
		if (!uidset_add(set, l->m[i].entry.uid, l->m[i].entry.uid))
			return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many messages at once", NULL);
	return 0;
}

int
index_copy(struct index *ix, uint32_t mailbox, uint32_t target, bool move, const struct uidset *uids,
    struct quota limit, struct uidset *source_r, struct uidset *target_r, struct err *e)
{
	struct index_mailbox *from = index_mailbox_open(ix, mailbox, e);
	struct index_mailbox *to = from != NULL ? index_mailbox_open(ix, target, e) : NULL;
	struct message_list l = {0};
	int failed = -1;

	uidset_reset(source_r);
	uidset_reset(target_r);
	if (to == NULL)
		return -1;
	if (move)
		failed = messages_remove(ix, from, uids, 0, &l, e);
	else if ((failed = messages_collect(ix, mailbox, uids, &l, e)) == 0)
		failed = fits_quota(ix, &l, limit, e) < 0 || messages_refer(ix, l.m, l.n, 1, e) < 0;
	if (failed == 0)
		failed = note_uids(&l, source_r, e) < 0 || messages_map_keywords(from, to, &l, e) < 0 ||
		    messages_add(ix, to, &l, e) < 0 || note_uids(&l, target_r, e) < 0;
	message_list_fini(&l);
	return failed ? -1 : 0;
}

int
index_expunge(struct index *ix, uint32_t mailbox, bool only_deleted, const struct uidset *uids, uint64_t *modseq_r,
    struct err *e)
{
	struct index_mailbox *mb = index_mailbox_open(ix, mailbox, e);
	unsigned how = MESSAGES_RETAIN | (only_deleted ? (unsigned)MESSAGES_ONLY_DELETED : 0);
	struct message_list l = {0};
	int failed;

	if (mb == NULL)
		return -1;
	failed = messages_remove(ix, mb, uids, how, &l, e);
	*modseq_r = mb->m.highestmodseq;
	message_list_fini(&l);
	return failed;
}
