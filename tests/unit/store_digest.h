/*
 * What an account is, as text: for tests that compare it before and after.
 */
#ifndef TESTS_UNIT_STORE_DIGEST_H
#define TESTS_UNIT_STORE_DIGEST_H

#include "tests/unit/store_fixture.h"

#include "common/mem.h"
#include "store/record.h"

#define MAILBOXES_MAX 64
#define DIGEST_BYTES_MAX (1u << 20)

static inline bool
store_digest_entries(void *arg, const struct store_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_putf(arg, "%u:%x:%llx:%llu ", entries[i].uid, entries[i].flags, (unsigned long long)entries[i].keywords,
		    (unsigned long long)entries[i].modseq);
	return true;
}

static inline int
store_digest_records(struct index *ix, uint32_t mailbox, struct buf *b, struct err *e)
{
	struct buf records;
	static struct uid_range range = {1, UINT32_MAX};
	const struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct index_fetch f = {.mailbox = mailbox, .want = STORE_WANT_DETAIL, .uids = &set, .records = &records};
	struct store_record r;

	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	if (index_fetch(ix, &f, e) < 0)
		return -1;
	struct cursor c = cursor_of(buf_slice(&records));

	while (store_record_next(&c, &r))
		buf_putf(b, "%u=%llu/%02x%02x ", r.uid, (unsigned long long)r.size, r.object_id[7], r.object_id[8]);
	buf_fini(&records);
	return 0;
}

static inline int
store_digest_retained(struct index *ix, struct buf *b, struct err *e)
{
	struct buf records;
	struct index_retained_list list = {.before = UINT64_MAX, .records = &records};
	struct store_retained r;

	buf_putf(b, "retained %llu in %llu: ", (unsigned long long)index_retained(ix).bytes,
	    (unsigned long long)index_retained(ix).messages);
	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	do {
		buf_reset(&records);
		if (index_retained_list(ix, &list, e) < 0) {
			buf_fini(&records);
			return -1;
		}
		struct cursor c = cursor_of(buf_slice(&records));

		while (store_retained_next(&c, &r))
			buf_putf(b, "%u.%u(%.*s) %x %llu %u %.*s ", r.mailbox, r.uid, SLICE_ARG(r.name), r.flags,
			    (unsigned long long)r.bytes, r.messages, SLICE_ARG(r.keywords));
	} while (list.more);
	buf_fini(&records);
	return 0;
}

/* NULL and e when it cannot be read. */
static inline char *
store_digest(struct index *ix, struct err *e)
{
	struct buf b;
	int failed;

	buf_init(&b, DIGEST_BYTES_MAX);
	buf_putf(&b, "modseq %llu bytes %llu messages %llu\n", (unsigned long long)index_modseq(ix),
	    (unsigned long long)index_usage(ix).bytes, (unsigned long long)index_usage(ix).messages);
	for (uint32_t number = 1; number < MAILBOXES_MAX; number++) {
		const struct format_mailbox *m = index_mailbox(ix, number);

		if (m == NULL)
			continue;
		buf_putf(&b, "%u %.*s v%u n%u u%u d%u h%llu %.*s\n", number, SLICE_ARG(m->name), m->uidvalidity, m->uidnext,
		    m->unseen, m->deleted, (unsigned long long)m->highestmodseq, SLICE_ARG(index_keywords(ix, number)));
		failed = index_view(ix, number, store_digest_entries, &b, e) < 0 || store_digest_records(ix, number, &b, e) < 0;
		if (failed) {
			buf_fini(&b);
			return NULL;
		}
		buf_put_u8(&b, '\n');
	}
	char *text = store_digest_retained(ix, &b, e) < 0 ? NULL : mem_copy_str(b.p, b.n);

	buf_fini(&b);
	return text;
}

#endif
