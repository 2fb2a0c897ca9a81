/*
 * The sealed file is mapped, not copied: a view of a million messages is there
 * after one pass over it, and what several processes have of it is there once.
 */
#include "store/view.h"

#include "common/mem.h"
#include "store/uidset.h"

#include <assert.h>

/* Room behind a mapped file: for an eighth more messages, and some. */
#define SPARE_BYTES_MIN 65536u

static void
free_entries(struct store_view *v)
{
	if (v->map.n > 0)
		memfd_unmap_private(&v->map);
	else
		free(v->entries);
	v->entries = NULL;
}

static void
room(struct store_view *v, size_t more)
{
	size_t need = size_add(v->count, more);
	struct store_entry *entries;

	if (need <= v->cap)
		return;
	v->cap = need + need / 8 + 16;
	entries = mem_resize(v->map.n > 0 ? NULL : v->entries, v->cap, sizeof *v->entries);
	if (v->map.n > 0) {
		memcpy(entries, v->entries, v->count * sizeof *entries);
		free_entries(v);
	}
	v->entries = entries;
}

static int
view_bad(struct store_view *v, struct err *e)
{
	store_view_close(v);
	return err_set(e, ERR_TEMP, ERR_CODE_MALFORMED, "internal error", "the view of a mailbox is not well-formed");
}

/* ---- changes ---- */

static bool
add_entries(struct store_view *v, struct slice entries)
{
	size_t n;
	uint32_t last = v->count ? v->entries[v->count - 1].uid : 0;

	if (!store_entries_check(entries, &n) || (n > 0 && store_entries_get(entries, 0).uid <= last))
		return false;
	room(v, n);
	if (n > 0)
		memcpy(v->entries + v->count, entries.p, entries.n);
	v->count += n;
	return v->count == 0 || v->entries[v->count - 1].uid < v->uidnext;
}

static bool
set_flags(struct store_view *v, struct slice entries)
{
	size_t n, at;

	if (!store_entries_check(entries, &n))
		return false;
	if (n == 0)
		return true;
	at = store_view_seek(v, store_entries_get(entries, 0).uid);
	for (size_t i = 0; i < n; i++) {
		struct store_entry entry = store_entries_get(entries, i);

		if (at < v->count && v->entries[at].uid != entry.uid)
			at = store_view_seek(v, entry.uid);
		if (at >= v->count || v->entries[at].uid != entry.uid)
			return false;
		v->entries[at++] = entry;
	}
	return true;
}

static bool
take_out(struct store_view *v, struct slice uids)
{
	struct uidset gone = {0};
	size_t out, range = 0;
	uint64_t expected;

	if (!uidset_get(uids, &gone)) {
		uidset_fini(&gone);
		return false;
	}
	expected = uidset_count(&gone);
	out = gone.n ? store_view_seek(v, gone.ranges[0].first) : v->count;
	for (size_t i = out; i < v->count; i++) {
		while (range < gone.n && gone.ranges[range].last < v->entries[i].uid)
			range++;
		if (range < gone.n && gone.ranges[range].first <= v->entries[i].uid)
			expected--;
		else
			v->entries[out++] = v->entries[i];
	}
	v->count = out;
	uidset_fini(&gone);
	return expected == 0;
}

/* ---- opening ---- */

static int
map_entries(struct store_view *v, int fd, size_t count, struct err *e)
{
	size_t bytes = size_mul(count, STORE_ENTRY_BYTES);
	uint32_t last = 0;

	if (count == 0)
		return 0;
	if (fd < 0 || memfd_map_private(fd, bytes, bytes / 8 + SPARE_BYTES_MIN, &v->map, e) < 0)
		return -1;
	v->entries = v->map.p;
	v->cap = v->map.n / STORE_ENTRY_BYTES;
	v->count = count;
	for (size_t i = 0; i < count; last = v->entries[i++].uid)
		if (v->entries[i].uid <= last)
			return -1;
	return last < v->uidnext ? 0 : -1;
}

static bool
apply_changes(struct store_view *v, struct slice changes)
{
	struct cursor c = cursor_of(changes);

	while (!c.bad && cursor_left(&c) > 0) {
		uint8_t kind = cursor_u8(&c);
		struct slice octets = cursor_slice(&c, STORE_CHANGES_BYTES_MAX);
		bool done = !c.bad &&
		    (kind == STORE_CHANGE_NEW	       ? add_entries(v, octets)
			    : kind == STORE_CHANGE_FLAGS   ? set_flags(v, octets)
			    : kind == STORE_CHANGE_EXPUNGE ? take_out(v, octets)
							   : false);

		if (!done)
			return false;
	}
	return !c.bad;
}

int
store_view_open(struct store_view *v, const struct msg_MBOX_OPEN_REPLY *m, struct err *e)
{
	struct memfd_map changes = {{NULL, 0}};
	bool ok;

	*v = (struct store_view){.mailbox = m->mailbox,
	    .uidvalidity = m->uidvalidity,
	    .uidnext = m->uidnext,
	    .recent_uid = m->recent_uid,
	    .highestmodseq = m->highestmodseq};
	buf_init(&v->keywords, STORE_KEYWORDS_BYTES_MAX);
	buf_put_slice(&v->keywords, m->keywords);
	if (v->keywords.failed || map_entries(v, m->view, m->count, e) < 0)
		return view_bad(v, e);
	if (m->changes < 0)
		return 0;
	ok = memfd_map(m->changes, MEMFD_ANY_SIZE, STORE_CHANGES_BYTES_MAX, &changes, e) == 0 &&
	    apply_changes(v, changes.octets);
	memfd_unmap(&changes);
	return ok ? 0 : view_bad(v, e);
}

void
store_view_close(struct store_view *v)
{
	free_entries(v);
	buf_fini(&v->keywords);
	v->count = v->cap = 0;
}

/* ---- events ---- */

static bool
take_header(struct store_view *v, uint64_t highestmodseq, struct slice keywords)
{
	v->highestmodseq = highestmodseq;
	buf_reset(&v->keywords);
	return buf_put_slice(&v->keywords, keywords);
}

bool
store_view_new(struct store_view *v, const struct msg_EVENT_NEW *m)
{
	assert(m->mailbox == v->mailbox);
	v->uidnext = m->uidnext;
	return take_header(v, m->highestmodseq, m->keywords) && add_entries(v, m->entries);
}

bool
store_view_flags(struct store_view *v, const struct msg_EVENT_FLAGS *m)
{
	assert(m->mailbox == v->mailbox);
	return take_header(v, m->highestmodseq, m->keywords) && set_flags(v, m->entries);
}

bool
store_view_expunge(struct store_view *v, const struct msg_EVENT_EXPUNGE *m)
{
	assert(m->mailbox == v->mailbox);
	v->highestmodseq = m->highestmodseq;
	return take_out(v, m->uids);
}

size_t
store_view_seek(const struct store_view *v, uint32_t uid)
{
	size_t low = 0, high = v->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (v->entries[mid].uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct store_entry *
store_view_find(const struct store_view *v, uint32_t uid)
{
	size_t i = store_view_seek(v, uid);

	return i < v->count && v->entries[i].uid == uid ? &v->entries[i] : NULL;
}
