/*
 * What was expunged or deleted: how long it stays, what comes back and where to,
 * what goes for good, and that it is bounded.
 */
#include "tests/unit/index_fixture.h"

#include "store/file.h"
#include "store/index_private.h"
#include "store/rebuild.h"
#include "store/record.h"

#include <dirent.h>

static uint32_t count, uidvalidity;
static struct quota usage;

#define REFUSED(x, wanted)                                                                         \
	do {                                                                                       \
		ck_assert_int_eq((x), -1);                                                         \
		ck_assert_int_eq(e.code, (wanted));                                                \
	} while (0)

static void
teardown(void)
{
	OK(index_check(ix, &e));
	remove_account();
}

static void
reopen(void)
{
	index_close(&ix);
	open_index();
	OK(index_check(ix, &e));
}

/* The index made anew from base copy and log. */
static void
rebuild(void)
{
	index_close(&ix);
	rebuild_mark(root);
	open_index();
	OK(index_check(ix, &e));
}

static uint32_t
mailbox(unsigned verb, const char *name, const char *new_name)
{
	uint32_t number = fixture_mailbox(ix, verb, name, new_name, &e);

	ck_assert_msg(e.class == ERR_NONE, "%s: %s", name, e.client);
	return number;
}

static uint32_t
numbered(const char *name)
{
	for (uint32_t n = 1; n < ix->account.next_mailbox; n++)
		if (index_mailbox(ix, n) != NULL && slice_eq(index_mailbox(ix, n)->name, slice_str(name)))
			return n;
	return 0;
}

static void
put_retained(struct buf *b, const struct store_retained *r)
{
	buf_putf(b, "%u.%u", r->mailbox, r->uid);
	if (r->uid == 0)
		buf_putf(b, "=%.*s(%u) ", SLICE_ARG(r->name), r->messages);
	else
		buf_putf(b, ":%x ", r->flags);
}

/* The whole list as "mailbox.uid:flags " and "mailbox.0=name(messages) ", in batches of so many octets. */
static void
assert_batches(struct index_retained_list list, size_t batch, const char *want)
{
	struct buf text, records;
	struct store_retained r;
	unsigned batches = 0;

	buf_init(&text, 1 << 20);
	buf_init(&records, batch);
	list.records = &records;
	do {
		buf_reset(&records);
		OK(index_retained_list(ix, &list, &e));
		struct cursor c = cursor_of(buf_slice(&records));

		while (store_retained_next(&c, &r))
			put_retained(&text, &r);
		ck_assert(cursor_done(&c));
		ck_assert_uint_lt(batches++, 1000);
	} while (list.more);
	buf_put_u8(&text, '\0');
	ck_assert_str_eq((char *)text.p, want);
	buf_fini(&records);
	buf_fini(&text);
}

static void
assert_retained(const char *want)
{
	struct index_retained_list all = {.before = UINT64_MAX, .want = STORE_WANT_SUMMARY};

	assert_batches(all, STORE_RECORDS_BYTES_MAX, want);
	assert_batches(all, 100, want);
}

static void
purge(uint64_t before, uint64_t bytes_max)
{
	int r;

	while ((r = index_purge(ix, before, bytes_max, &e)) == 1)
		;
	OK(r);
	OK(index_check(ix, &e));
}

static unsigned
files(void)
{
	char path[128];
	unsigned n = 0;

	for (unsigned shard = 0; shard < OBJECT_SHARDS; shard++) {
		snprintf(path, sizeof path, "%s/mail/%02x", root, shard);
		DIR *dir = opendir(path);

		for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;)
			n += d->d_name[0] != '.';
		if (dir != NULL)
			closedir(dir);
	}
	return n;
}

/* ---- single messages ---- */

START_TEST(test_comes_back)
{
	size_t changes;

	for (int i = 0; i < 30; i++)
		append(inbox, "a message");
	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN | STORE_FLAG_DELETED, "k1\nk2\n", 3, 25, &e));
	OK(fixture_expunge(ix, inbox, 2, 26, &e));
	ck_assert_uint_eq(index_usage(ix).messages, 5);
	ck_assert_uint_eq(index_retained(ix).messages, 25);
	ck_assert_uint_eq(index_retained(ix).bytes, 25 * 9);
	index_changes_reset(ix);
	/* From the middle of one record and from another; twice the same; one that never was. */
	OK(fixture_undelete(ix, inbox, 9, 13, &count, &e));
	ck_assert_uint_eq(count, 5);
	ck_assert_int_eq(index_changes(ix, &changes)->kind, INDEX_CHANGE_NEW);
	ck_assert_uint_eq(changes, 1);
	OK(fixture_undelete(ix, inbox, 12, 14, &count, &e));
	ck_assert_uint_eq(count, 1);
	OK(fixture_undelete(ix, inbox, 26, 200, &count, &e));
	ck_assert_uint_eq(count, 1);
	OK(fixture_undelete(ix, 999, 1, 5, &count, &e));
	ck_assert_uint_eq(count, 0);
	assert_view(inbox, "1:0:0 27:0:0 28:0:0 29:0:0 30:0:0 31:1:3 32:1:3 33:1:3 34:1:3 35:1:3 36:1:3 37:0:0 ");
	rebuild();
	assert_view(inbox, "1:0:0 27:0:0 28:0:0 29:0:0 30:0:0 31:1:3 32:1:3 33:1:3 34:1:3 35:1:3 36:1:3 37:0:0 ");
	ck_assert_uint_eq(index_retained(ix).messages, 18);
	OK(fixture_undelete(ix, inbox, 1, 60, &count, &e));
	ck_assert_uint_eq(count, 18);
	ck_assert_uint_eq(index_retained(ix).messages, 0);
	assert_retained("");
	ck_assert_uint_eq(index_usage(ix).messages, 30);
	/* Their files are still there and belong to them. */
	purge(UINT64_MAX, 0);
	ck_assert_uint_eq(files(), 30);
}
END_TEST

START_TEST(test_keeps_its_dates)
{
	struct uid_range range = {1, UINT32_MAX};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct buf records;
	struct index_fetch f = {.mailbox = inbox, .want = STORE_WANT_DETAIL | STORE_WANT_SUMMARY, .uids = &set,
	    .records = &records};
	struct store_record r;

	append(inbox, "dated");
	OK(fixture_expunge(ix, inbox, 1, 1, &e));
	index_set_now(ix, FIXTURE_NOW + 77);
	OK(fixture_undelete(ix, inbox, 1, 1, &count, &e));
	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	OK(index_fetch(ix, &f, &e));
	struct cursor c = cursor_of(buf_slice(&records));

	ck_assert(store_record_next(&c, &r));
	ck_assert_uint_eq(r.uid, 2);
	ck_assert_int_eq(r.internal_date, 1234567890);
	ck_assert_int_eq(r.zone_minutes, 60);
	ck_assert_int_eq(r.save_date, FIXTURE_NOW + 77);
	ck_assert(slice_eq(r.summary, SLICE("summary")));
	ck_assert(r.modseq == index_modseq(ix));
	buf_fini(&records);
}
END_TEST

START_TEST(test_follows_a_renamed_mailbox)
{
	uint32_t work = mailbox(MBOX_CREATE, "Work", "");

	append(work, "x");
	OK(fixture_expunge(ix, work, 1, 1, &e));
	mailbox(MBOX_RENAME, "Work", "Play");
	mailbox(MBOX_CREATE, "Work", "");
	OK(fixture_undelete(ix, work, 1, 1, &count, &e));
	assert_view(numbered("Play"), "2:0:0 ");
	assert_view(numbered("Work"), "");
}
END_TEST

/* MOVE leaves nothing behind; COPY shares the object. */
START_TEST(test_move_and_copy)
{
	uint32_t trash = index_target(ix, STORE_TARGET_TRASH);

	append(inbox, "one");
	append(inbox, "two");
	OK(fixture_copy(ix, inbox, trash, true, 1, 1, &e));
	ck_assert_uint_eq(index_retained(ix).messages, 0);
	OK(fixture_copy(ix, inbox, trash, false, 2, 2, &e));
	OK(fixture_expunge(ix, trash, 1, 2, &e));
	ck_assert_uint_eq(index_retained(ix).messages, 2);
	OK(index_check(ix, &e));
	purge(UINT64_MAX, UINT64_MAX);
	ck_assert_uint_eq(files(), 1);
	assert_view(inbox, "2:0:0 ");
}
END_TEST

static int
undelete_within(uint64_t bytes, uint64_t messages)
{
	struct store_retained_id ids[] = {{inbox, 2}, {inbox, 1}};
	int failed;

	OK(index_begin(ix, &e));
	failed = index_undelete(ix, ids, 2, (struct quota){bytes, messages}, &count, &e);
	if (failed)
		index_abort(ix);
	else
		OK(index_commit(ix, &e));
	return failed;
}

START_TEST(test_quota)
{
	append(inbox, "four");
	append(inbox, "five5");
	append(inbox, "x");
	OK(fixture_expunge(ix, inbox, 1, 2, &e));
	REFUSED(undelete_within(9, QUOTA_NONE), ERR_CODE_OVER_QUOTA);
	REFUSED(undelete_within(QUOTA_NONE, 2), ERR_CODE_OVER_QUOTA);
	ck_assert_uint_eq(index_retained(ix).messages, 2);
	OK(index_check(ix, &e));
	OK(undelete_within(10, 3));
	assert_view(inbox, "3:0:0 4:0:0 5:0:0 ");
}
END_TEST

/* ---- deleted mailboxes ---- */

START_TEST(test_mailbox_comes_back)
{
	uint32_t work = mailbox(MBOX_CREATE, "Work/Deep", ""), old;
	size_t n;

	mailbox(MBOX_SUBSCRIBE, "Work/Deep", "");
	for (int i = 0; i < 50; i++)
		append(work, "a message");
	OK(fixture_flags(ix, work, STORE_FLAGS_ADD, STORE_FLAG_SEEN | STORE_FLAG_DELETED, "k\n", 2, 2, &e));
	OK(fixture_expunge(ix, work, 4, 50, &e));
	old = index_mailbox(ix, work)->uidvalidity;
	mailbox(MBOX_DELETE, "Work/Deep", "");
	mailbox(MBOX_DELETE, "Work", "");
	ck_assert_uint_eq(index_usage(ix).messages, 0);
	ck_assert_uint_eq(index_usage(ix).bytes, 0);
	ck_assert_uint_eq(index_retained(ix).messages, 50);
	reopen();
	index_changes_reset(ix);
	OK(fixture_undelete_mailbox(ix, work, "", &uidvalidity, &e));
	ck_assert_int_eq(index_changes(ix, &n)->kind, INDEX_CHANGE_TABLE);
	assert_view(work, "1:0:0 2:9:1 3:0:0 ");
	ck_assert_uint_eq(numbered("Work/Deep"), work);
	ck_assert_uint_ne(numbered("Work"), 0);
	ck_assert(index_mailbox(ix, work)->subscribed);
	/* "Work" went after it: its UIDVALIDITY, which was higher or lower, decides. */
	ck_assert_uint_ge(uidvalidity, old);
	ck_assert_uint_eq(index_retained(ix).messages, 47);
	rebuild();
	assert_view(work, "1:0:0 2:9:1 3:0:0 ");
	OK(fixture_undelete(ix, work, 50, 50, &count, &e));
	assert_view(work, "1:0:0 2:9:1 3:0:0 51:0:0 ");
	REFUSED(fixture_undelete_mailbox(ix, work, "", &uidvalidity, &e), ERR_CODE_NOT_FOUND);
	REFUSED(fixture_undelete_mailbox(ix, 999, "", &uidvalidity, &e), ERR_CODE_NOT_FOUND);
}
END_TEST

/* Nothing happened meanwhile: what clients know of it stays true. Something did: it may not. */
START_TEST(test_uidvalidity)
{
	uint32_t first = mailbox(MBOX_CREATE, "m", ""), second, v1, v2;

	append(first, "x");
	v1 = index_mailbox(ix, first)->uidvalidity;
	mailbox(MBOX_DELETE, "m", "");
	OK(fixture_undelete_mailbox(ix, first, "", &uidvalidity, &e));
	ck_assert_uint_eq(uidvalidity, v1);
	mailbox(MBOX_DELETE, "m", "");
	second = mailbox(MBOX_CREATE, "m", "");
	v2 = index_mailbox(ix, second)->uidvalidity;
	ck_assert_uint_gt(v2, v1);
	REFUSED(fixture_undelete_mailbox(ix, first, "", &uidvalidity, &e), ERR_CODE_EXISTS);
	mailbox(MBOX_DELETE, "m", "");
	OK(fixture_undelete_mailbox(ix, first, "m", &uidvalidity, &e));
	ck_assert_uint_gt(uidvalidity, v2);
	OK(fixture_undelete_mailbox(ix, second, "elsewhere/m", &uidvalidity, &e));
	ck_assert_uint_ne(numbered("elsewhere"), 0);
	assert_view(numbered("elsewhere/m"), "");
	assert_view(numbered("m"), "1:0:0 ");
	REFUSED(fixture_undelete_mailbox(ix, first, "n", &uidvalidity, &e), ERR_CODE_NOT_FOUND);
}
END_TEST

START_TEST(test_special_use)
{
	uint32_t junk = index_target(ix, STORE_TARGET_JUNK), archive = index_target(ix, STORE_TARGET_ARCHIVE), n, v;

	mailbox(MBOX_DELETE, "Junk", "");
	mailbox(MBOX_DELETE, "Archive", "");
	OK(index_begin(ix, &e));
	OK(index_mailbox_change(ix, MBOX_CREATE, SLICE("Spam"), SLICE(""), STORE_USE_JUNK, &n, &v, &e));
	OK(index_commit(ix, &e));
	OK(fixture_undelete_mailbox(ix, junk, "", &uidvalidity, &e));
	OK(fixture_undelete_mailbox(ix, archive, "", &uidvalidity, &e));
	ck_assert_uint_eq(index_target(ix, STORE_TARGET_JUNK), n);
	ck_assert_uint_eq(index_target(ix, STORE_TARGET_ARCHIVE), archive);
	ck_assert(index_mailbox(ix, junk)->subscribed);
}
END_TEST

/* Messages of a deleted mailbox, those in it and those expunged before; keywords have other bits in the new one. */
START_TEST(test_messages_of_a_deleted_mailbox)
{
	uint32_t work = mailbox(MBOX_CREATE, "Work", ""), anew;

	for (int i = 0; i < 6; i++)
		append(work, "a message");
	OK(fixture_flags(ix, work, STORE_FLAGS_ADD, STORE_FLAG_FLAGGED, "red\nblue\n", 1, 2, &e));
	OK(fixture_flags(ix, work, STORE_FLAGS_ADD, 0, "blue\n", 3, 3, &e));
	OK(fixture_expunge(ix, work, 1, 1, &e));
	mailbox(MBOX_DELETE, "Work", "");
	assert_retained("7.1:4 7.0=Work(5) 7.2:4 7.3:0 7.4:0 7.5:0 7.6:0 ");
	OK(fixture_undelete(ix, work, 1, 1, &count, &e));
	anew = numbered("Work");
	ck_assert_uint_ne(anew, work);
	assert_view(anew, "1:4:3 ");
	OK(fixture_flags(ix, anew, STORE_FLAGS_ADD, 0, "third\n", 1, 1, &e));
	OK(fixture_undelete(ix, work, 3, 4, &count, &e));
	assert_view(anew, "1:4:7 2:0:2 3:0:0 ");
	assert_retained("7.0=Work(3) 7.2:4 7.5:0 7.6:0 ");
	/* Made anew by hand, with the keywords the other way round. */
	mailbox(MBOX_DELETE, "Work", "");
	anew = mailbox(MBOX_CREATE, "Work", "");
	append(anew, "y");
	OK(fixture_flags(ix, anew, STORE_FLAGS_ADD, 0, "BLUE\nred\n", 1, 1, &e));
	OK(fixture_undelete(ix, work, 2, 2, &count, &e));
	assert_view(anew, "1:0:3 2:4:3 ");
	OK(fixture_flags(ix, anew, STORE_FLAGS_REMOVE, 0, "red\n", 1, 1, &e));
	assert_view(anew, "1:0:1 2:4:3 ");
	/* What is left of the first comes back beside it; what went from it is told apart, its clients may know it. */
	OK(fixture_undelete_mailbox(ix, work, "Work 2", &uidvalidity, &e));
	assert_view(work, "5:0:0 6:0:0 ");
	reopen();
	assert_view(work, "5:0:0 6:0:0 ");
}
END_TEST

/* ---- the list ---- */

START_TEST(test_list_is_chosen_from)
{
	uint32_t a = mailbox(MBOX_CREATE, "a", ""), b = mailbox(MBOX_CREATE, "b", "");
	struct index_retained_list list = {.before = UINT64_MAX};

	for (int i = 0; i < 3; i++) {
		append(a, "x");
		append(b, "x");
	}
	OK(fixture_expunge(ix, a, 1, 1, &e));
	index_set_now(ix, FIXTURE_NOW + 10);
	OK(fixture_expunge(ix, b, 1, 1, &e));
	OK(fixture_expunge(ix, a, 2, 2, &e));
	index_set_now(ix, FIXTURE_NOW + 20);
	mailbox(MBOX_DELETE, "a", "");
	assert_retained("7.1:0 8.1:0 7.2:0 7.0=a(1) 7.3:0 ");
	list.mailbox = SLICE("a");
	assert_batches(list, 1 << 20, "7.1:0 7.2:0 7.0=a(1) 7.3:0 ");
	list.since = FIXTURE_NOW + 10;
	assert_batches(list, 1 << 20, "7.2:0 7.0=a(1) 7.3:0 ");
	list.before = FIXTURE_NOW + 20;
	assert_batches(list, 1 << 20, "7.2:0 ");
	list.mailbox = SLICE("");
	assert_batches(list, 1 << 20, "8.1:0 7.2:0 ");
	memset(list.place, 0xff, sizeof list.place);
	struct buf records;

	buf_init(&records, 1000);
	list.records = &records;
	REFUSED(index_retained_list(ix, &list, &e), ERR_CODE_MALFORMED);
	buf_fini(&records);
}
END_TEST

/* ---- the end ---- */

START_TEST(test_end_of_a_mailbox)
{
	uint32_t work = mailbox(MBOX_CREATE, "Work", "");

	for (int i = 0; i < 900; i++)
		append(work, "a message");
	OK(fixture_flags(ix, work, STORE_FLAGS_ADD, 0, "k\n", 1, 3, &e));
	for (uint32_t uid = 1; uid <= 200; uid += 2)
		OK(fixture_expunge(ix, work, uid, uid, &e));
	index_set_now(ix, FIXTURE_NOW + 100);
	OK(fixture_expunge(ix, work, 2, 2, &e));
	OK(fixture_copy(ix, work, inbox, false, 4, 4, &e));
	/* The clock went back, as clocks do: the mailbox is over before a message of it. */
	index_close(&ix);
	open_index();
	mailbox(MBOX_DELETE, "Work", "");
	OK(index_flush(ix, &e));
	purge(FIXTURE_NOW + 1, UINT64_MAX);
	assert_retained("7.2:0 7.0=Work(0) ");
	OK(fixture_undelete(ix, work, 2, 2, &count, &e));
	assert_view(numbered("Work"), "1:0:1 ");
	purge(FIXTURE_NOW + 1, UINT64_MAX);
	assert_retained("");
	ck_assert(index_mailbox_get(ix, work) == NULL);
	ck_assert_uint_eq(files(), 2);
	reopen();
	assert_view(inbox, "1:0:0 ");
	assert_view(numbered("Work"), "1:0:1 ");
}
END_TEST

/* Past the limit the oldest go, wherever they are, and no more than must. */
START_TEST(test_bytes_are_bounded)
{
	const uint64_t one = INDEX_RETAINED_MESSAGE_BYTES + 9;
	uint32_t work = mailbox(MBOX_CREATE, "Work", "");

	for (int i = 0; i < 40; i++) {
		append(inbox, "a message");
		append(work, "a message");
	}
	OK(fixture_expunge(ix, inbox, 1, 10, &e));
	index_set_now(ix, FIXTURE_NOW + 10);
	mailbox(MBOX_DELETE, "Work", "");
	index_set_now(ix, FIXTURE_NOW + 20);
	OK(fixture_expunge(ix, inbox, 11, 40, &e));
	ck_assert_uint_eq(index_retained_cost(ix), 80 * one);
	ck_assert(!index_retained_over(ix, 80 * one, 0));
	ck_assert(index_retained_over(ix, 80 * one - 1, 0));
	purge(0, 80 * one);
	ck_assert_uint_eq(index_retained(ix).messages, 80);
	/* A record of ten is what goes at least. */
	purge(0, 80 * one - 1);
	ck_assert_uint_eq(index_retained(ix).messages, 70);
	assert_view(inbox, "");
	purge(0, 70 * one - 1);
	ck_assert(index_retained_cost(ix) <= 70 * one);
	ck_assert_uint_eq(index_mailbox_get(ix, work)->m.messages + 30, index_retained(ix).messages);
	purge(0, 15 * one);
	ck_assert_uint_eq(index_retained(ix).messages, 10);
	ck_assert(index_mailbox_get(ix, work) == NULL);
	purge(0, 0);
	ck_assert_uint_eq(index_retained(ix).messages, 0);
	ck_assert_uint_eq(files(), 0);
}
END_TEST

/* n mailboxes that were created and deleted, each a second later, in one transaction for speed. */
static uint32_t
deleted_mailboxes(unsigned n)
{
	uint32_t first = ix->account.next_mailbox;

	OK(index_begin(ix, &e));
	while (n-- > 0) {
		index_set_now(ix, ix->now + 1);
		index_mailbox_new(ix, SLICE("again"))->m.gone_at = ix->now;
	}
	OK(index_commit(ix, &e));
	return first;
}

START_TEST(test_deleted_mailboxes_are_bounded)
{
	uint32_t first = deleted_mailboxes(STORE_DELETED_MAILBOXES_MAX);

	ck_assert(!index_retained_over(ix, UINT64_MAX, 0));
	mailbox(MBOX_DELETE, "Junk", "");
	ck_assert(index_retained_over(ix, UINT64_MAX, 0));
	OK(index_flush(ix, &e));
	purge(0, UINT64_MAX);
	ck_assert(!index_retained_over(ix, UINT64_MAX, 0));
	ck_assert(index_mailbox_get(ix, first) == NULL);
	ck_assert(index_mailbox_get(ix, first + 1) != NULL);
	/* Without anybody who purges there is an end too, and the account still opens. */
	(void)deleted_mailboxes((unsigned)(INDEX_MAILBOXES_MAX - ix->mailbox_count - 1));
	mailbox(MBOX_CREATE, "fits", "");
	(void)fixture_mailbox(ix, MBOX_CREATE, "onemore", "", &e);
	ck_assert_int_eq(e.class, ERR_LIMIT);
	mailbox(MBOX_DELETE, "Sent", "");
	reopen();
}
END_TEST

START_TEST(test_forget)
{
	uint32_t work = mailbox(MBOX_CREATE, "Work", "");
	bool done;

	for (int i = 0; i < 20; i++) {
		append(inbox, "a message");
		append(work, "another one");
	}
	OK(fixture_copy(ix, work, inbox, false, 2, 2, &e));
	OK(fixture_expunge(ix, inbox, 1, 20, &e));
	mailbox(MBOX_DELETE, "Work", "");
	OK(fixture_forget(ix, inbox, 5, 200, &usage, &e));
	ck_assert_uint_eq(usage.messages, 16);
	ck_assert_uint_eq(usage.bytes, 16 * 9);
	OK(fixture_forget(ix, work, 1, 19, &usage, &e));
	ck_assert_uint_eq(usage.messages, 19);
	OK(index_flush(ix, &e));
	while (index_purge_files(ix, &e) == 1)
		;
	ck_assert_uint_eq(files(), 4 + 1 + 1);
	assert_retained("1.1:0 1.2:0 1.3:0 1.4:0 7.0=Work(1) 7.20:0 ");
	OK(index_begin(ix, &e));
	OK(index_forget_mailbox(ix, work, &done, &e));
	OK(index_commit(ix, &e));
	ck_assert(done && index_mailbox_get(ix, work) != NULL);
	OK(fixture_forget(ix, work, 20, 20, &usage, &e));
	OK(index_begin(ix, &e));
	OK(index_forget_mailbox(ix, work, &done, &e));
	OK(index_commit(ix, &e));
	ck_assert(done && index_mailbox_get(ix, work) == NULL);
	/* INBOX is no deleted mailbox. */
	OK(index_begin(ix, &e));
	OK(index_forget_mailbox(ix, inbox, &done, &e));
	OK(index_commit(ix, &e));
	rebuild();
	assert_retained("1.1:0 1.2:0 1.3:0 1.4:0 ");
	assert_view(inbox, "21:0:0 ");
}
END_TEST

/* Deleting and undeleting a mailbox costs the same whatever it holds; and its messages one by one still come back. */
START_TEST(test_large_mailbox)
{
	uint32_t big = mailbox(MBOX_CREATE, "big", ""), n = 1;
	static struct store_retained_id ids[STORE_RETAINED_IDS_MAX];

	append(big, "a message");
	for (; n < STORE_RETAINED_IDS_MAX; n *= 2)
		OK(fixture_copy(ix, big, big, false, 1, UINT32_MAX, &e));
	uint64_t serial = index_serial(ix);

	mailbox(MBOX_DELETE, "big", "");
	OK(fixture_undelete_mailbox(ix, big, "", &uidvalidity, &e));
	ck_assert_uint_eq(index_serial(ix), serial + 2);
	ck_assert_uint_eq(index_mailbox(ix, big)->messages, n);
	OK(fixture_expunge(ix, big, 1, UINT32_MAX, &e));
	for (uint32_t i = 0; i < STORE_RETAINED_IDS_MAX; i++)
		ids[i] = (struct store_retained_id){big, n - i};
	OK(index_begin(ix, &e));
	OK(index_undelete(ix, ids, STORE_RETAINED_IDS_MAX, (struct quota){QUOTA_NONE, QUOTA_NONE}, &count, &e));
	OK(index_commit(ix, &e));
	OK(index_flush(ix, &e));
	ck_assert_uint_eq(count, STORE_RETAINED_IDS_MAX);
	ck_assert_uint_eq(index_mailbox(ix, big)->messages, STORE_RETAINED_IDS_MAX);
	mailbox(MBOX_DELETE, "big", "");
	purge(UINT64_MAX, UINT64_MAX);
	ck_assert_uint_eq(files(), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_retention");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	const TTest *tests[] = {test_comes_back, test_keeps_its_dates, test_follows_a_renamed_mailbox, test_move_and_copy,
	    test_quota, test_mailbox_comes_back, test_uidvalidity, test_special_use, test_messages_of_a_deleted_mailbox,
	    test_list_is_chosen_from, test_end_of_a_mailbox, test_bytes_are_bounded, test_deleted_mailboxes_are_bounded,
	    test_forget, test_large_mailbox};

	file_hook_db();
	tcase_add_checked_fixture(t, make_account, teardown);
	tcase_set_timeout(t, 120);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
