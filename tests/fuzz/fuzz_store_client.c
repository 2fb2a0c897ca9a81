/*
 * What a worker takes from a keeper: sets of UIDs, entries, records, the table
 * of mailboxes, events on a view; and what the command takes: the list of what is retained. What decodes encodes to the same octets.
 */
#include "store/mailbox_list.h"
#include "store/record.h"
#include "store/retained.h"
#include "store/uidset.h"
#include "store/view.h"

#include <assert.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
sets(struct slice in)
{
	struct uidset set = {0};
	struct buf b;

	buf_init(&b, (size_t)UIDSET_RANGES_MAX * UIDSET_RANGE_BYTES);
	if (uidset_get(in, &set))
		assert(uidset_put(&b, &set) && slice_eq(buf_slice(&b), in));
	uidset_reset(&set);
	for (struct cursor c = cursor_of(in); cursor_left(&c) >= 8;) {
		uint32_t first = cursor_u32(&c), last = cursor_u32(&c);
		bool added = uidset_add(&set, first, last);

		assert(added);
	}
	uidset_sort(&set);
	for (size_t i = 1; i < set.n; i++)
		assert(set.ranges[i].first > set.ranges[i - 1].last && set.ranges[i].first - set.ranges[i - 1].last > 1);
	uidset_fini(&set);
	buf_fini(&b);
}

static void
views(struct slice in)
{
	struct store_view v = {.mailbox = 1, .uidnext = UINT32_MAX};
	struct slice half = slice_sub(in, 0, in.n / 2), rest = slice_sub(in, in.n / 2, in.n);
	bool ok = true;

	buf_init(&v.keywords, STORE_KEYWORDS_BYTES_MAX);
	ok = ok && store_view_new(&v, &(struct msg_EVENT_NEW){.mailbox = 1, .uidnext = UINT32_MAX, .entries = half});
	ok = ok && store_view_flags(&v, &(struct msg_EVENT_FLAGS){.mailbox = 1, .entries = rest});
	ok = ok && store_view_expunge(&v, &(struct msg_EVENT_EXPUNGE){.mailbox = 1, .uids = rest});
	for (size_t i = 1; ok && i < v.count; i++)
		assert(v.entries[i].uid > v.entries[i - 1].uid);
	store_view_close(&v);
}

/* The files of MBOX_OPEN_REPLY: half of the input is entries, half is changes. */
static void
opened(struct slice in)
{
	size_t entries = in.n / 2 / STORE_ENTRY_BYTES;
	struct slice half = slice_sub(in, 0, entries * STORE_ENTRY_BYTES), rest = slice_sub(in, half.n, in.n);
	struct msg_MBOX_OPEN_REPLY m = {.mailbox = 1, .uidnext = UINT32_MAX, .count = (uint32_t)entries};
	struct store_view v;
	struct err e;

	m.view = memfd_of(half, &e);
	m.changes = memfd_of(rest, &e);
	if (store_view_open(&v, &m, &e) == 0) {
		for (size_t i = 1; i < v.count; i++)
			assert(v.entries[i].uid > v.entries[i - 1].uid);
		store_view_close(&v);
	}
	close(m.view);
	close(m.changes);
}

static void
retained(struct slice in)
{
	struct store_retained r;
	struct cursor c = cursor_of(in);
	const uint8_t *at = c.p;
	struct buf b;

	buf_init(&b, 2 * in.n + 64);
	while (store_retained_next(&c, &r)) {
		buf_reset(&b);
		bool put = store_retained_put(&b, &r);

		assert(put && slice_eq(buf_slice(&b), slice_of(at, (size_t)(c.p - at))));
		at = c.p;
	}
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	struct store_record record;
	struct store_mailbox mailbox;
	struct cursor c;

	if (n > 65536)
		return 0;
	sets(in);
	views(in);
	opened(in);
	retained(in);
	for (c = cursor_of(in); store_record_next(&c, &record);)
		;
	for (c = cursor_of(in); store_mailbox_next(&c, &mailbox);)
		;
	return 0;
}
