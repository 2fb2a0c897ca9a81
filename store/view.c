/*
 * The sealed file is copied, not mapped: the view changes with every event, and
 * one copy of 24 octets a message is cheaper than faults on a private mapping.
 */
#include "store/view.h"

#include "common/mem.h"
#include "common/memfd.h"
#include "store/uidset.h"

#include <assert.h>

static void
room(struct store_view *v, size_t more)
{
	size_t need = size_add(v->count, more);

	if (need <= v->cap)
		return;
	v->cap = need + need / 8 + 16;
	v->entries = mem_resize(v->entries, v->cap, sizeof *v->entries);
}

static int
view_bad(struct store_view *v, struct err *e)
{
	store_view_close(v);
	return err_set(e, ERR_TEMP, ERR_CODE_MALFORMED, "internal error", "the view of a mailbox is not well-formed");
}

int
store_view_open(struct store_view *v, const struct msg_MBOX_OPEN_REPLY *m, struct err *e)
{
	uint64_t bytes = (uint64_t)m->count * STORE_ENTRY_BYTES;
	uint32_t last = 0;

	*v = (struct store_view){.mailbox = m->mailbox,
	    .uidvalidity = m->uidvalidity,
	    .uidnext = m->uidnext,
	    .recent_uid = m->recent_uid,
	    .highestmodseq = m->highestmodseq};
	buf_init(&v->keywords, STORE_KEYWORDS_BYTES_MAX);
	buf_put_slice(&v->keywords, m->keywords);
	if (m->count > 0) {
		if (m->view < 0 || memfd_size(m->view, e) != (int64_t)bytes)
			return view_bad(v, e);
		room(v, m->count);
		if (memfd_read(m->view, 0, v->entries, (size_t)bytes, e) != (int64_t)bytes)
			return view_bad(v, e);
	}
	v->count = m->count;
	for (size_t i = 0; i < v->count; last = v->entries[i++].uid)
		if (v->entries[i].uid <= last)
			return view_bad(v, e);
	return v->keywords.failed || last >= v->uidnext ? view_bad(v, e) : 0;
}

void
store_view_close(struct store_view *v)
{
	MEM_FREE(&v->entries);
	buf_fini(&v->keywords);
	v->count = v->cap = 0;
}

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
	size_t n;
	uint32_t last = v->count ? v->entries[v->count - 1].uid : 0;

	assert(m->mailbox == v->mailbox);
	if (!store_entries_check(m->entries, &n) || !take_header(v, m->highestmodseq, m->keywords))
		return false;
	if (n > 0 && store_entries_get(m->entries, 0).uid <= last)
		return false;
	room(v, n);
	for (size_t i = 0; i < n; i++)
		v->entries[v->count++] = store_entries_get(m->entries, i);
	v->uidnext = m->uidnext;
	return v->count == 0 || v->entries[v->count - 1].uid < v->uidnext;
}

bool
store_view_flags(struct store_view *v, const struct msg_EVENT_FLAGS *m)
{
	size_t n, at;

	assert(m->mailbox == v->mailbox);
	if (!store_entries_check(m->entries, &n) || !take_header(v, m->highestmodseq, m->keywords))
		return false;
	if (n == 0)
		return true;
	at = store_view_seek(v, store_entries_get(m->entries, 0).uid);
	for (size_t i = 0; i < n; i++) {
		struct store_entry entry = store_entries_get(m->entries, i);

		if (at < v->count && v->entries[at].uid != entry.uid)
			at = store_view_seek(v, entry.uid);
		if (at >= v->count || v->entries[at].uid != entry.uid)
			return false;
		v->entries[at++] = entry;
	}
	return true;
}

bool
store_view_expunge(struct store_view *v, const struct msg_EVENT_EXPUNGE *m)
{
	struct uidset gone = {0};
	size_t out, range = 0;
	uint64_t expected;

	assert(m->mailbox == v->mailbox);
	if (!uidset_get(m->uids, &gone)) {
		uidset_fini(&gone);
		return false;
	}
	v->highestmodseq = m->highestmodseq;
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
