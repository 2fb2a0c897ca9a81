/*
 * The client side: sets of UIDs, views that follow events, records and tables.
 */
#include "common/memfd.h"
#include "store/mailbox_list.h"
#include "store/record.h"
#include "store/uidset.h"
#include "store/view.h"
#include "tests/unit/each.h"

#include <stdio.h>
#include <unistd.h>

static struct err e;

/* A set as "1-3 5 " text; empty for the empty set. */
static const char *
text_of(const struct uidset *set)
{
	static char text[512];
	size_t n = 0;

	text[0] = '\0';
	for (size_t i = 0; i < set->n; i++) {
		const struct uid_range *r = &set->ranges[i];

		n += (size_t)snprintf(text + n, sizeof text - n, r->first == r->last ? "%u " : "%u-%u ", r->first, r->last);
	}
	return text;
}

START_TEST(test_uidset_add)
{
	static const struct {
		uint32_t pairs[12];
		const char *want;
	} rows[] = {
	    {{0}, ""},
	    {{1, 3, 5, 5}, "1-3 5 "},
	    {{1, 3, 4, 5}, "1-5 "},
	    {{5, 5, 1, 3}, "1-3 5 "},
	    {{9, 7, 8, 20, 1, 1}, "1 7-20 "},
	    {{1, 10, 3, 4}, "1-10 "},
	    {{10, 12, 1, 20, 15, 30}, "1-30 "},
	    {{UINT32_MAX, UINT32_MAX, 1, 1}, "1 4294967295 "},
	    {{5, UINT32_MAX, 2, 4}, "2-4294967295 "},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct uidset set = {0};

		for (unsigned k = 0; k < 12 && rows[i].pairs[k] != 0; k += 2)
			ck_assert(uidset_add(&set, rows[i].pairs[k], rows[i].pairs[k + 1]));
		uidset_sort(&set);
		ck_assert_str_eq(text_of(&set), rows[i].want);
		uidset_fini(&set);
	}
}
END_TEST

START_TEST(test_uidset_members)
{
	struct uidset set = {0};
	uint32_t uid = 0, want[] = {2, 3, 7, 9, 10, 11};
	size_t at = 0, n = 0;

	ck_assert(uidset_add(&set, 2, 3) && uidset_add(&set, 7, 7) && uidset_add(&set, 9, 11));
	while (uidset_next(&set, &at, &uid))
		ck_assert_uint_eq(uid, want[n++]);
	ck_assert_uint_eq(n, 6);
	ck_assert_uint_eq(uidset_count(&set), 6);
	for (uint32_t u = 0; u < 14; u++) {
		bool in = false;

		for (size_t i = 0; i < 6; i++)
			in = in || want[i] == u;
		ck_assert_int_eq(uidset_contains(&set, u), in);
	}
	uidset_fini(&set);
}
END_TEST

START_TEST(test_uidset_refuses)
{
	static const struct {
		const char *octets;
		size_t n;
	} rows[] = {
	    {"\0\0\0\0\0\0\0\1", 8},			   /* UID 0 */
	    {"\0\0\0\2\0\0\0\1", 8},			   /* backwards */
	    {"\0\0\0\1\0\0\0\2\0\0\0\2\0\0\0\3", 16},	   /* overlap */
	    {"\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\3", 16},	   /* touching */
	    {"\0\0\0\5\0\0\0\6\0\0\0\1\0\0\0\1", 16},	   /* unordered */
	    {"\0\0\0\1\0\0\0", 7},			   /* cut */
	    {"\0\0\0\1\xff\xff\xff\xff\0\0\0\1\0\0\0\1", 16}, /* nothing can follow */
	};
	struct uidset set = {0};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		ck_assert_msg(!uidset_get(slice_of(rows[i].octets, rows[i].n), &set), "row %zu", i);
	ck_assert(uidset_get(slice_of("", 0), &set));
	uidset_fini(&set);
}
END_TEST

/* Inside the message up to its maximum, beside it above, and back. */
START_TEST(test_uidset_transport)
{
	static const size_t sizes[] = {0, 1, UIDSET_FIELD_BYTES_MAX / UIDSET_RANGE_BYTES,
	    UIDSET_FIELD_BYTES_MAX / UIDSET_RANGE_BYTES + 1, UIDSET_RANGES_MAX};

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct uidset set = {0}, back = {0};
		struct slice field;
		struct buf b;
		int fd;

		buf_init(&b, (size_t)UIDSET_RANGES_MAX * UIDSET_RANGE_BYTES);
		for (uint32_t k = 0; k < sizes[i]; k++)
			each_assert(uidset_add(&set, 2 * k + 1, 2 * k + 1));
		if (sizes[i] == UIDSET_RANGES_MAX)
			ck_assert(!uidset_add(&set, UINT32_MAX, UINT32_MAX));
		ck_assert_int_eq(uidset_send(&set, &b, &field, &fd, &e), 0);
		ck_assert_int_eq(fd >= 0, sizes[i] > UIDSET_FIELD_BYTES_MAX / UIDSET_RANGE_BYTES);
		ck_assert_int_eq(uidset_receive(field, fd, &back, &e), 0);
		ck_assert(uidset_equal(&set, &back));
		if (fd >= 0)
			close(fd);
		uidset_fini(&set);
		uidset_fini(&back);
		buf_fini(&b);
	}
}
END_TEST

/* ---- views ---- */

static void
open_view(struct store_view *v, uint32_t n)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	for (uint32_t i = 1; i <= n; i++) {
		struct store_entry entry = {.uid = i, .modseq = i};

		store_entries_put(&b, &entry, 1);
	}
	struct msg_MBOX_OPEN_REPLY m = {.mailbox = 3, .uidvalidity = 7, .uidnext = n + 1, .count = n,
	    .keywords = SLICE("a\n"), .changes = -1, .view = memfd_of(buf_slice(&b), &e)};

	ck_assert_int_eq(store_view_open(v, &m, &e), 0);
	close(m.view);
	buf_fini(&b);
}

START_TEST(test_view_follows)
{
	struct store_entry more[2] = {{.uid = 6, .modseq = 20}, {.uid = 9, .modseq = 20}};
	struct store_entry changed[2] = {{.uid = 2, .flags = 1, .modseq = 21}, {.uid = 9, .flags = 4, .modseq = 21}};
	struct store_view v;

	open_view(&v, 5);
	ck_assert(store_view_new(&v, &(struct msg_EVENT_NEW){.mailbox = 3, .uidnext = 10, .highestmodseq = 20,
				     .keywords = SLICE("a\nb\n"), .entries = slice_of(more, sizeof more)}));
	ck_assert_uint_eq(v.count, 7);
	ck_assert_int_eq(store_keyword_find(buf_slice(&v.keywords), SLICE("B")), 1);
	ck_assert(store_view_flags(&v, &(struct msg_EVENT_FLAGS){.mailbox = 3, .highestmodseq = 21,
				       .entries = slice_of(changed, sizeof changed)}));
	ck_assert_uint_eq(store_view_find(&v, 2)->flags, 1);
	ck_assert_uint_eq(store_view_find(&v, 9)->flags, 4);
	ck_assert(store_view_expunge(&v, &(struct msg_EVENT_EXPUNGE){.mailbox = 3, .highestmodseq = 22,
					 .uids = slice_of("\0\0\0\2\0\0\0\3\0\0\0\11\0\0\0\11", 16)}));
	ck_assert_uint_eq(v.count, 4);
	ck_assert_ptr_null(store_view_find(&v, 2));
	ck_assert_ptr_nonnull(store_view_find(&v, 6));
	ck_assert_uint_eq(v.highestmodseq, 22);
	store_view_close(&v);
}
END_TEST

/* What does not fit means that the view is no longer true. */
START_TEST(test_view_refuses)
{
	struct store_entry again = {.uid = 5, .modseq = 20}, unknown = {.uid = 77, .modseq = 20};
	struct store_view v;

	open_view(&v, 5);
	ck_assert(!store_view_new(&v, &(struct msg_EVENT_NEW){.mailbox = 3, .uidnext = 10, .entries = slice_of(&again, 24)}));
	ck_assert(!store_view_flags(&v, &(struct msg_EVENT_FLAGS){.mailbox = 3, .entries = slice_of(&unknown, 24)}));
	ck_assert(!store_view_flags(&v, &(struct msg_EVENT_FLAGS){.mailbox = 3, .entries = slice_of(&unknown, 23)}));
	ck_assert(!store_view_expunge(&v, &(struct msg_EVENT_EXPUNGE){.mailbox = 3, .uids = slice_of("\0\0\0\6\0\0\0\6", 8)}));
	store_view_close(&v);
	struct msg_MBOX_OPEN_REPLY m = {.count = 2, .uidnext = 3, .changes = -1, .view = memfd_of(SLICE("short"), &e)};

	ck_assert_int_eq(store_view_open(&v, &m, &e), -1);
	close(m.view);
}
END_TEST

static void
put_change(struct buf *b, unsigned kind, struct slice octets)
{
	put_u8(b, (uint8_t)kind);
	put_slice(b, octets);
}

/* Opens a view of UIDs 1..2000 with these changes; the outcome. The view is closed when that failed. */
static int
open_changed(struct store_view *v, struct slice changes)
{
	static struct store_entry entries[2000];

	for (uint32_t i = 0; i < 2000; i++)
		entries[i] = (struct store_entry){.uid = i + 1, .modseq = 1};
	struct msg_MBOX_OPEN_REPLY m = {.mailbox = 3, .uidnext = 3000, .count = 2000,
	    .view = memfd_of(slice_of(entries, sizeof entries), &e), .changes = memfd_of(changes, &e)};
	int r = store_view_open(v, &m, &e);

	close(m.view);
	close(m.changes);
	return r;
}

/* Changes are applied in order; room behind the file is used, then left. */
START_TEST(test_view_with_changes)
{
	static struct store_entry more[900], flagged = {.uid = 2001, .flags = STORE_FLAG_FLAGGED, .modseq = 3};
	struct store_view v;
	struct buf b;

	for (uint32_t i = 0; i < 900; i++)
		more[i] = (struct store_entry){.uid = 2001 + i, .modseq = 2};
	buf_init(&b, 1 << 20);
	put_change(&b, STORE_CHANGE_NEW, slice_of(more, sizeof more));
	put_change(&b, STORE_CHANGE_FLAGS, slice_of(&flagged, sizeof flagged));
	put_change(&b, STORE_CHANGE_EXPUNGE, slice_of("\0\0\0\1\0\0\7\320", 8));
	ck_assert_int_eq(open_changed(&v, buf_slice(&b)), 0);
	ck_assert_uint_eq(v.count, 900);
	ck_assert_uint_eq(v.entries[0].uid, 2001);
	ck_assert_uint_eq(v.entries[0].flags, STORE_FLAG_FLAGGED);
	ck_assert_uint_eq(v.entries[899].uid, 2900);
	/* Beyond what was mapped. */
	for (uint32_t uid = 3000; uid < 40000; uid += 900) {
		for (uint32_t i = 0; i < 900; i++)
			more[i].uid = uid + i;
		ck_assert(store_view_new(&v, &(struct msg_EVENT_NEW){.mailbox = 3, .uidnext = uid + 900,
					     .entries = slice_of(more, sizeof more)}));
	}
	ck_assert_uint_eq(v.map.n, 0);
	ck_assert_uint_eq(store_view_find(&v, 2001)->flags, STORE_FLAG_FLAGGED);
	store_view_close(&v);
	buf_fini(&b);
}
END_TEST

START_TEST(test_view_refuses_changes)
{
	struct store_entry late = {.uid = 3000}, again = {.uid = 2000}, unknown = {.uid = 2500};
	const struct {
		unsigned kind;
		struct slice octets;
	} rows[] = {{0, SLICE("")}, {4, SLICE("")}, {STORE_CHANGE_NEW, slice_of(&late, 24)}, {STORE_CHANGE_NEW, slice_of(&again, 24)},
	    {STORE_CHANGE_NEW, slice_of(&unknown, 23)}, {STORE_CHANGE_FLAGS, slice_of(&unknown, 24)},
	    {STORE_CHANGE_EXPUNGE, slice_of("\0\0\7\320\0\0\7\321", 8)}, {STORE_CHANGE_EXPUNGE, SLICE("x")}};
	struct store_view v;
	struct buf b;

	buf_init(&b, 1 << 20);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		buf_reset(&b);
		put_change(&b, rows[i].kind, rows[i].octets);
		ck_assert_msg(open_changed(&v, buf_slice(&b)) == -1, "row %zu", i);
	}
	ck_assert_int_eq(open_changed(&v, SLICE("\1\0\0\0\30cut")), -1);
	ck_assert_int_eq(open_changed(&v, SLICE("\1\0\0")), -1);
	ck_assert_int_eq(open_changed(&v, SLICE("\1\0\0\0\0")), 0);
	store_view_close(&v);
	buf_fini(&b);
}
END_TEST

START_TEST(test_record_round_trip)
{
	struct store_record r = {.uid = 5, .flags = 3, .keywords = 1ull << 63, .modseq = 9, .internal_date = -5, .zone_minutes = -330,
	    .save_date = 7, .size = 1ull << 40, .thread = 11, .ascii_headers = true, .summary = SLICE("text")}, back;
	struct store_mailbox m = {.number = 4, .special_use = STORE_USE_JUNK, .subscribed = true, .selectable = true, .uidvalidity = 8,
	    .uidnext = 9, .messages = 3, .unseen = 2, .deleted = 1, .recent = 1, .recent_uid = 5, .highestmodseq = 99, .bytes = 1234,
	    .name = SLICE("Junk")}, again;
	struct buf b;

	memset(r.object_id, 0xab, sizeof r.object_id);
	buf_init(&b, 4096);
	ck_assert(store_record_put(&b, &r) && store_record_put(&b, &r));
	struct cursor c = cursor_of(buf_slice(&b));

	ck_assert(store_record_next(&c, &back) && store_record_next(&c, &back));
	ck_assert(!store_record_next(&c, &back) && cursor_done(&c));
	back.summary = r.summary = slice_of(NULL, 0);
	ck_assert_int_eq(back.zone_minutes, -330);
	ck_assert(back.ascii_headers);
	ck_assert_int_eq(back.internal_date, -5);
	ck_assert_mem_eq(back.object_id, r.object_id, sizeof r.object_id);
	for (size_t n = 0; n < b.n; n++) {
		c = cursor_of(slice_sub(buf_slice(&b), 0, n));
		while (store_record_next(&c, &back))
			;
		ck_assert(c.bad == (n % (b.n / 2) != 0));
	}
	buf_reset(&b);
	ck_assert(store_mailbox_put(&b, &m));
	c = cursor_of(buf_slice(&b));
	ck_assert(store_mailbox_next(&c, &again) && cursor_done(&c));
	ck_assert(again.number == 4 && again.special_use == STORE_USE_JUNK && again.subscribed && again.selectable);
	ck_assert(again.unseen == 2 && again.deleted == 1 && again.bytes == 1234 && slice_eq(again.name, SLICE("Junk")));
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_client");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	const TTest *tests[] = {test_uidset_add, test_uidset_members, test_uidset_refuses, test_uidset_transport,
	    test_view_follows, test_view_refuses, test_view_with_changes, test_view_refuses_changes,
	    test_record_round_trip};

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
