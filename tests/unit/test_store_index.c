/*
 * The index of an account, without processes: every operation, what it leaves
 * behind, and what a new opening finds.
 */
#include "tests/unit/index_fixture.h"

#include "common/summary.h"
#include "store/file.h"
#include "store/mailbox_list.h"
#include "store/rebuild.h"
#include "store/record.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static void
reopen(void)
{
	index_close(&ix);
	open_index();
}

/* The table of mailboxes as "name(messages)" with marks. */
static void
assert_list(const char *want)
{
	struct store_mailbox m;
	struct buf b, text;

	buf_init(&b, STORE_LIST_BYTES_MAX);
	buf_init(&text, 1 << 16);
	OK(index_list(ix, &b, &e));
	struct cursor c = cursor_of(buf_slice(&b));

	while (store_mailbox_next(&c, &m))
		buf_putf(&text, "%.*s%s%s%u ", SLICE_ARG(m.name), m.selectable ? "=" : "!", m.subscribed ? "s" : "",
		    m.messages);
	ck_assert(cursor_done(&c));
	buf_put_u8(&text, '\0');
	ck_assert_str_eq((char *)text.p, want);
	buf_fini(&b);
	buf_fini(&text);
}

START_TEST(test_new_account)
{
	assert_list("Archive=s0 Drafts=s0 INBOX=s0 Junk=s0 Sent=s0 Trash=s0 ");
	ck_assert_uint_ne(index_target(ix, STORE_TARGET_JUNK), inbox);
	ck_assert_uint_eq(index_usage(ix).messages, 0);
	reopen();
	assert_list("Archive=s0 Drafts=s0 INBOX=s0 Junk=s0 Sent=s0 Trash=s0 ");
	OK(index_check(ix, &e));
}
END_TEST

START_TEST(test_append_and_fetch)
{
	struct uid_range range = {1, UINT32_MAX};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	int objects[STORE_OBJECTS_MAX];
	struct store_record r;
	struct buf records;
	char text[64];

	for (unsigned i = 1; i <= 100; i++) {
		snprintf(text, sizeof text, "message %u\r\n", i);
		ck_assert_uint_eq(append(inbox, text), i);
	}
	ck_assert_uint_eq(index_usage(ix).messages, 100);
	reopen();
	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	struct index_fetch f = {.mailbox = inbox, .want = STORE_WANT_DETAIL | STORE_WANT_SUMMARY | STORE_WANT_OBJECT,
	    .uids = &set, .records = &records, .objects = objects};

	OK(index_fetch(ix, &f, &e));
	ck_assert_uint_eq(f.count, STORE_OBJECTS_MAX);
	ck_assert_uint_eq(f.next_uid, STORE_OBJECTS_MAX + 1);
	struct cursor c = cursor_of(buf_slice(&records));

	for (unsigned i = 0; i < f.count; i++) {
		ck_assert(store_record_next(&c, &r));
		ck_assert_uint_eq(r.uid, i + 1);
		ck_assert_int_eq(r.internal_date, 1234567890);
		ck_assert_int_eq(r.zone_minutes, 60);
		ck_assert_int_eq(r.save_date, (int64_t)FIXTURE_NOW);
		ck_assert(slice_eq(r.summary, SLICE("summary")));
		int n = snprintf(text, sizeof text, "message %u\r\n", i + 1);
		char got[64];

		ck_assert_int_eq(pread(objects[i], got, sizeof got, 0), n);
		ck_assert_mem_eq(got, text, (size_t)n);
		ck_assert_int_eq(fcntl(objects[i], F_GETFL) & O_ACCMODE, O_RDONLY);
		close(objects[i]);
	}
	ck_assert(cursor_done(&c));
	range.first = f.next_uid;
	buf_reset(&records);
	f.want = STORE_WANT_DETAIL;
	OK(index_fetch(ix, &f, &e));
	ck_assert_uint_eq(f.count, 36);
	ck_assert_uint_eq(f.next_uid, 0);
	buf_fini(&records);
	OK(index_check(ix, &e));
}
END_TEST

/* The record of a message that is alone in its mailbox. */
static struct store_record
only_record(uint32_t mailbox)
{
	struct uid_range range = {1, UINT32_MAX};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct index_fetch f = {.mailbox = mailbox, .want = STORE_WANT_DETAIL, .uids = &set};
	struct store_record r;
	struct buf records;

	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	f.records = &records;
	OK(index_fetch(ix, &f, &e));
	ck_assert_uint_eq(f.count, 1);
	struct cursor c = cursor_of(buf_slice(&records));

	ck_assert(store_record_next(&c, &r));
	buf_fini(&records);
	return r;
}

static void
give_summary(uint32_t uid, const char *text, struct slice summary)
{
	uint8_t sha256[32];

	EVP_Digest(text, strlen(text), sha256, NULL, EVP_sha256(), NULL);
	OK(index_begin(ix, &e));
	OK(index_summary(ix, inbox, uid, sha256, summary, &e));
	OK(index_commit(ix, &e));
}

/* What the summary says of the headers stands in the index: from the append, by a summary made anew, and in a copy. */
START_TEST(test_ascii_headers)
{
	static const uint8_t no[92] = {SUMMARY_VERSION}, yes[92] = {SUMMARY_VERSION, 8};
	struct uid_range range = {1, 1};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1}, source = {0}, target = {0};
	uint32_t archive = index_target(ix, STORE_TARGET_JUNK);
	struct slice before = fixture_summary;

	ck_assert_uint_eq(append(inbox, "one"), 1);
	ck_assert(!only_record(inbox).ascii_headers);
	give_summary(1, "one", slice_of(no, sizeof no));
	ck_assert(!only_record(inbox).ascii_headers);
	give_summary(1, "one", slice_of(yes, sizeof yes));
	ck_assert(only_record(inbox).ascii_headers);
	OK(index_begin(ix, &e));
	OK(index_copy(ix, inbox, archive, true, &set, (struct quota){QUOTA_NONE, QUOTA_NONE}, &source, &target, &e));
	OK(index_commit(ix, &e));
	ck_assert(only_record(archive).ascii_headers);
	fixture_summary = slice_of(yes, sizeof yes);
	ck_assert_uint_eq(append(inbox, "two"), 2);
	fixture_summary = before;
	reopen();
	ck_assert(only_record(inbox).ascii_headers && only_record(archive).ascii_headers);
	OK(index_check(ix, &e));
	uidset_fini(&source);
	uidset_fini(&target);
}
END_TEST

START_TEST(test_flags)
{
	const struct format_mailbox *m;
	size_t n;

	for (int i = 0; i < 80; i++)
		append(inbox, "x");
	index_changes_reset(ix);
	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN, "Junk\n$Label1\n", 2, 3, &e));
	m = index_mailbox(ix, inbox);
	ck_assert_uint_eq(m->unseen, 78);
	ck_assert(slice_eq(index_keywords(ix, inbox), SLICE("Junk\n$Label1\n")));
	const struct index_change *change = index_changes(ix, &n);

	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(change->kind, INDEX_CHANGE_FLAGS);
	ck_assert_uint_eq(change->octets.n, 2 * STORE_ENTRY_BYTES);
	/* No change, no modseq, no event. */
	uint64_t modseq = index_modseq(ix);

	index_changes_reset(ix);
	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN, "jUNK\n", 2, 3, &e));
	index_changes(ix, &n);
	ck_assert_uint_eq(n, 0);
	ck_assert_uint_eq(index_modseq(ix), modseq);
	OK(fixture_flags(ix, inbox, STORE_FLAGS_REMOVE, STORE_FLAG_SEEN, "junk\nnone\n", 3, 3, &e));
	OK(fixture_flags(ix, inbox, STORE_FLAGS_REPLACE, STORE_FLAG_DELETED, "", 4, 4, &e));
	OK(fixture_expunge(ix, inbox, 5, UINT32_MAX, &e));
	reopen();
	assert_view(inbox, "1:0:0 2:1:3 3:0:2 4:8:0 ");
	ck_assert_uint_eq(index_mailbox(ix, inbox)->deleted, 1);
	OK(index_check(ix, &e));
}
END_TEST

START_TEST(test_unchangedsince)
{
	struct uid_range range = {1, 3};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1}, modified = {0};
	uint64_t modseq, before;

	append(inbox, "1");
	append(inbox, "2");
	before = index_modseq(ix);
	append(inbox, "3");
	struct index_flags f = {.mailbox = inbox, .mode = STORE_FLAGS_ADD, .flags = STORE_FLAG_FLAGGED,
	    .unchangedsince = before, .uids = &set};

	OK(index_begin(ix, &e));
	OK(index_flags(ix, &f, &modseq, &modified, &e));
	OK(index_commit(ix, &e));
	ck_assert_uint_eq(uidset_count(&modified), 1);
	ck_assert(uidset_contains(&modified, 3));
	ck_assert_uint_gt(modseq, before);
	assert_view(inbox, "1:4:0 2:4:0 3:0:0 ");
	uidset_fini(&modified);
}
END_TEST

START_TEST(test_keyword_limit)
{
	char name[32];

	append(inbox, "1");
	for (unsigned i = 0; i < STORE_KEYWORDS_MAX; i++) {
		snprintf(name, sizeof name, "k%u", i);
		OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, 0, name, 1, 1, &e));
	}
	ck_assert_int_eq(fixture_flags(ix, inbox, STORE_FLAGS_ADD, 0, "onemore", 1, 1, &e), -1);
	ck_assert_int_eq(e.class, ERR_LIMIT);
	ck_assert_int_eq(fixture_flags(ix, inbox, STORE_FLAGS_ADD, 0, "bad name", 1, 1, &e), -1);
	ck_assert_int_eq(e.class, ERR_PERM);
	reopen();
	assert_view(inbox, "1:0:ffffffffffffffff ");
}
END_TEST

START_TEST(test_copy_and_move)
{
	uint32_t junk = index_target(ix, STORE_TARGET_JUNK);

	for (int i = 0; i < 50; i++)
		append(inbox, "copied");
	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN, "a\nb\n", 2, 2, &e));
	OK(fixture_flags(ix, junk, STORE_FLAGS_ADD, 0, "", 1, 1, &e));
	OK(fixture_copy(ix, inbox, junk, false, 2, 3, &e));
	OK(fixture_copy(ix, inbox, junk, true, 4, 50, &e));
	assert_view(inbox, "1:0:0 2:1:3 3:0:0 ");
	ck_assert_uint_eq(index_mailbox(ix, junk)->messages, 49);
	ck_assert_uint_eq(index_usage(ix).messages, 52);
	ck_assert_uint_eq(index_usage(ix).bytes, 52 * 6);
	OK(index_check(ix, &e));
	/* Into itself. */
	OK(fixture_copy(ix, inbox, inbox, false, 1, 3, &e));
	OK(fixture_copy(ix, inbox, inbox, true, 1, 1, &e));
	assert_view(inbox, "2:1:3 3:0:0 51:0:0 52:1:3 53:0:0 54:0:0 ");
	/* A target that is not there leaves all as it was. */
	ck_assert_int_eq(fixture_copy(ix, inbox, 999, true, 1, UINT32_MAX, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_NOT_FOUND);
	reopen();
	assert_view(inbox, "2:1:3 3:0:0 51:0:0 52:1:3 53:0:0 54:0:0 ");
	OK(index_check(ix, &e));
}
END_TEST

START_TEST(test_expunge_and_purge)
{
	char path[128];
	struct stat st;
	int more;

	for (int i = 0; i < 40; i++)
		append(inbox, "to go");
	OK(fixture_copy(ix, inbox, index_target(ix, STORE_TARGET_JUNK), false, 1, 1, &e));
	OK(fixture_expunge(ix, inbox, 1, 39, &e));
	assert_view(inbox, "40:0:0 ");
	OK(index_flush(ix, &e));
	/* Not yet over: nothing goes. */
	OK(index_purge(ix, FIXTURE_NOW, UINT64_MAX, &e));
	OK(index_check(ix, &e));
	while ((more = index_purge(ix, FIXTURE_NOW + 1, UINT64_MAX, &e)) == 1)
		;
	OK(more);
	OK(index_check(ix, &e));
	/* The copied one's object stays, the second one's is gone. */
	snprintf(path, sizeof path, "%s/mail/00", root);
	OK(stat(path, &st));
	unsigned files = 0;
	DIR *dir = opendir(path);

	for (struct dirent *d; (d = readdir(dir)) != NULL;)
		files += d->d_name[0] != '.';
	closedir(dir);
	ck_assert_uint_eq(files, 2);
	/* UIDs are not given again. */
	OK(fixture_expunge(ix, inbox, 40, 40, &e));
	reopen();
	ck_assert_uint_eq(append(inbox, "next"), 41);
}
END_TEST

START_TEST(test_mailboxes)
{
	uint32_t number, first, second;

	number = fixture_mailbox(ix, MBOX_CREATE, "a/b/c", "", &e);
	ck_assert_uint_ne(number, 0);
	append(number, "in c");
	fixture_mailbox(ix, MBOX_CREATE, "a/b", "", &e);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
	fixture_mailbox(ix, MBOX_CREATE, "inbox", "", &e);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
	fixture_mailbox(ix, MBOX_DELETE, "InBox", "", &e);
	ck_assert_int_eq(e.code, ERR_CODE_BAD_NAME);
	fixture_mailbox(ix, MBOX_DELETE, "a", "", &e);
	ck_assert_int_eq(e.class, ERR_NONE);
	assert_list("Archive=s0 Drafts=s0 INBOX=s0 Junk=s0 Sent=s0 Trash=s0 a!0 a/b=0 a/b/c=1 ");
	fixture_mailbox(ix, MBOX_DELETE, "a", "", &e);
	ck_assert_int_eq(e.code, ERR_CODE_HAS_CHILDREN);
	fixture_mailbox(ix, MBOX_RENAME, "a/b", "z/y", &e);
	ck_assert_int_eq(e.class, ERR_NONE);
	assert_list("Archive=s0 Drafts=s0 INBOX=s0 Junk=s0 Sent=s0 Trash=s0 a!0 z=0 z/y=0 z/y/c=1 ");
	fixture_mailbox(ix, MBOX_RENAME, "z", "z/y/q", &e);
	ck_assert_int_eq(e.code, ERR_CODE_BAD_NAME);
	fixture_mailbox(ix, MBOX_RENAME, "z/y", "Junk", &e);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
	fixture_mailbox(ix, MBOX_SUBSCRIBE, "z/y/c", "", &e);
	fixture_mailbox(ix, MBOX_DELETE, "z/y/c", "", &e);
	ck_assert_int_eq(e.class, ERR_NONE);
	assert_list("Archive=s0 Drafts=s0 INBOX=s0 Junk=s0 Sent=s0 Trash=s0 a!0 z=0 z/y=0 z/y/c!s0 ");
	fixture_mailbox(ix, MBOX_UNSUBSCRIBE, "z/y/c", "", &e);
	/* Made again: a higher UIDVALIDITY. */
	first = index_mailbox(ix, fixture_mailbox(ix, MBOX_CREATE, "x", "", &e))->uidvalidity;
	fixture_mailbox(ix, MBOX_DELETE, "x", "", &e);
	second = index_mailbox(ix, fixture_mailbox(ix, MBOX_CREATE, "x", "", &e))->uidvalidity;
	ck_assert_uint_gt(second, first);
	reopen();
	assert_list("Archive=s0 Drafts=s0 INBOX=s0 Junk=s0 Sent=s0 Trash=s0 a!0 x=0 z=0 z/y=0 ");
	OK(index_check(ix, &e));
}
END_TEST

/* x had 6, is deleted; y with 5 takes the name: it needs a new value. */
START_TEST(test_uidvalidity_never_goes_back)
{
	uint32_t y = fixture_mailbox(ix, MBOX_CREATE, "y", "", &e);
	uint32_t x = fixture_mailbox(ix, MBOX_CREATE, "x", "", &e);
	uint32_t x_value = index_mailbox(ix, x)->uidvalidity;

	ck_assert_uint_lt(index_mailbox(ix, y)->uidvalidity, x_value);
	fixture_mailbox(ix, MBOX_DELETE, "x", "", &e);
	ck_assert_uint_eq(fixture_mailbox(ix, MBOX_RENAME, "y", "x", &e), y);
	ck_assert_uint_gt(index_mailbox(ix, y)->uidvalidity, x_value);
}
END_TEST

/* RFC 9051 6.3.4 to 6.3.6. */
START_TEST(test_rename_inbox)
{
	uint32_t old;

	append(inbox, "one");
	append(inbox, "two");
	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, 0, "kw\n", 2, 2, &e));
	fixture_mailbox(ix, MBOX_CREATE, "INBOX/child", "", &e);
	old = fixture_mailbox(ix, MBOX_RENAME, "inbox", "Old", &e);
	ck_assert_uint_ne(old, 0);
	assert_list("Archive=s0 Drafts=s0 INBOX=s0 INBOX/child=0 Junk=s0 Old=2 Sent=s0 Trash=s0 ");
	assert_view(old, "1:0:0 2:0:1 ");
	ck_assert_uint_eq(append(inbox, "three"), 3);
	OK(index_check(ix, &e));
}
END_TEST

START_TEST(test_names)
{
	static const struct {
		const char *name;
		bool ok;
	} rows[] = {
	    {"plain", true}, {"M\xc3\xbcll/\xe6\x97\xa5", true}, {"", false}, {"/a", false}, {"a/", false}, {"a//b", false},
	    {"a\x01" "b", false}, {"a\x7f", false}, {"\xc3(", false}, {"\xed\xa0\x80", false}, {"\xc2\x80", false},
	    {"\xf4\x90\x80\x80", false}, {"with space", true}, {"..", true},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		fixture_mailbox(ix, MBOX_CREATE, rows[i].name, "", &e);
		ck_assert_msg((e.class == ERR_NONE) == rows[i].ok, "%s: %s", rows[i].name, e.client);
	}
}
END_TEST

START_TEST(test_requests_are_remembered)
{
	uint8_t origin[STORE_ORIGIN_BYTES] = "origin of fifty";
	uint32_t uid, found;
	struct buf reply;

	buf_init(&reply, FORMAT_REPLY_BYTES_MAX);
	ck_assert_int_eq(index_request_find(ix, origin, 7, &reply, &e), 0);
	OK(fixture_append_request(ix, root, inbox, "once", origin, 7, &uid, &e));
	for (int again = 0; again < 2; again++) {
		ck_assert_int_eq(index_request_find(ix, origin, 7, &reply, &e), 1);
		memcpy(&found, reply.p, sizeof found);
		ck_assert_uint_eq(found, uid);
		ck_assert_int_eq(index_request_find(ix, origin, 8, &reply, &e), 0);
		reopen();
	}
	/* The ring goes round: the oldest are forgotten, the youngest not. */
	for (uint64_t i = 0; i < INDEX_RING_DELIVERY_SLOTS; i++) {
		OK(index_begin(ix, &e));
		OK(index_request_done(ix, INDEX_RING_DELIVERY, origin, 100 + i, SLICE("r"), &e));
		OK(index_commit(ix, &e));
	}
	ck_assert_int_eq(index_request_find(ix, origin, 7, &reply, &e), 0);
	ck_assert_int_eq(index_request_find(ix, origin, 100, &reply, &e), 1);
	reopen();
	ck_assert_int_eq(index_request_find(ix, origin, 7, &reply, &e), 0);
	ck_assert_int_eq(index_request_find(ix, origin, 99 + INDEX_RING_DELIVERY_SLOTS, &reply, &e), 1);
	buf_fini(&reply);
}
END_TEST

/* One append of that size with these limits: its answer's code. */
static unsigned
append_within(uint64_t size, struct quota limit)
{
	struct index_append a = {.mailbox = inbox, .size = size, .limit = limit};
	uint8_t sha256[32] = {0};
	uint32_t uid;
	int failed;

	OK(index_begin(ix, &e));
	object_id(index_object_reserve(ix), sha256, a.object_id);
	failed = index_append(ix, &a, &uid, &e);
	index_abort(ix);
	return failed ? e.code : ERR_CODE_NONE;
}

static unsigned
copy_within(struct quota limit, bool move)
{
	struct uidset set = {0}, source = {0}, target = {0};
	int failed;

	ck_assert(uidset_add(&set, 1, UINT32_MAX));
	OK(index_begin(ix, &e));
	failed = index_copy(ix, inbox, index_target(ix, STORE_TARGET_JUNK), move, &set, limit, &source, &target, &e);
	index_abort(ix);
	uidset_fini(&set);
	uidset_fini(&source);
	uidset_fini(&target);
	return failed ? e.code : ERR_CODE_NONE;
}

/* Octets and messages at n - 1, n and n + 1; what adds nothing is never over. */
START_TEST(test_quota)
{
	append(inbox, "0123456789012345678901234567890123456789012345678901");
	append(inbox, "01234567");
	ck_assert_uint_eq(index_usage(ix).bytes, 60);
	for (uint64_t size = 39; size <= 41; size++)
		ck_assert_uint_eq(append_within(size, (struct quota){100, QUOTA_NONE}), size <= 40 ? ERR_CODE_NONE : ERR_CODE_OVER_QUOTA);
	for (uint64_t messages = 2; messages <= 4; messages++)
		ck_assert_uint_eq(append_within(1, (struct quota){QUOTA_NONE, messages}), messages >= 3 ? ERR_CODE_NONE : ERR_CODE_OVER_QUOTA);
	ck_assert_uint_eq(copy_within((struct quota){119, QUOTA_NONE}, false), ERR_CODE_OVER_QUOTA);
	ck_assert_uint_eq(copy_within((struct quota){120, 4}, false), ERR_CODE_NONE);
	ck_assert_uint_eq(copy_within((struct quota){QUOTA_NONE, 3}, false), ERR_CODE_OVER_QUOTA);
	ck_assert_uint_eq(copy_within((struct quota){1, 1}, true), ERR_CODE_NONE);
	ck_assert(index_quota_fits(ix, (struct quota){QUOTA_NONE, QUOTA_NONE}, (struct quota){UINT64_MAX / 2, 1}));
	ck_assert(!index_quota_fits(ix, (struct quota){UINT64_MAX - 1, QUOTA_NONE}, (struct quota){UINT64_MAX, 1}));
	ck_assert(index_quota_fits(ix, (struct quota){1, 1}, (struct quota){0, 0}));
	assert_view(inbox, "1:0:0 2:0:0 ");
}
END_TEST

START_TEST(test_recent)
{
	struct store_mailbox m;
	struct buf b;

	append(inbox, "1");
	append(inbox, "2");
	OK(index_begin(ix, &e));
	OK(index_recent(ix, inbox, 2, &e));
	OK(index_commit(ix, &e));
	reopen();
	buf_init(&b, STORE_LIST_BYTES_MAX);
	OK(index_list(ix, &b, &e));
	struct cursor c = cursor_of(buf_slice(&b));

	while (store_mailbox_next(&c, &m))
		if (m.number == inbox)
			ck_assert_uint_eq(m.recent, 1);
	ck_assert_uint_eq(index_mailbox(ix, inbox)->recent_uid, 2);
	buf_fini(&b);
}
END_TEST

/* An aborted transaction leaves nothing in memory or on disk. */
START_TEST(test_abort)
{
	uint32_t uid;

	append(inbox, "kept");
	OK(index_begin(ix, &e));
	struct uidset source = {0}, target = {0};
	struct uid_range range = {1, 1};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};

	OK(index_copy(ix, inbox, index_target(ix, STORE_TARGET_JUNK), true, &set, (struct quota){QUOTA_NONE, QUOTA_NONE}, &source, &target, &e));
	index_abort(ix);
	assert_view(inbox, "1:0:0 ");
	uid = append(inbox, "next");
	ck_assert_uint_eq(uid, 2);
	reopen();
	assert_view(inbox, "1:0:0 2:0:0 ");
	OK(index_check(ix, &e));
	uidset_fini(&source);
	uidset_fini(&target);
}
END_TEST

/* A rebuild gives what there was, to the octet of every view. */
START_TEST(test_rebuild)
{
	struct buf before, after;
	uint32_t junk = index_target(ix, STORE_TARGET_JUNK);

	for (int i = 0; i < 120; i++)
		append(i % 3 ? inbox : junk, "rebuilt");
	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN, "k\n", 3, 50, &e));
	OK(fixture_expunge(ix, inbox, 10, 20, &e));
	OK(fixture_copy(ix, inbox, junk, true, 30, 60, &e));
	fixture_mailbox(ix, MBOX_CREATE, "new", "", &e);
	OK(index_flush(ix, &e));
	buf_init(&before, 1 << 20);
	buf_init(&after, 1 << 20);
	OK(index_view(ix, inbox, describe, &before, &e));
	OK(index_view(ix, junk, describe, &before, &e));
	OK(index_list(ix, &before, &e));
	uint64_t serial = index_serial(ix);

	index_close(&ix);
	rebuild_mark(root);
	open_index();
	ck_assert_uint_eq(index_serial(ix), serial);
	OK(index_view(ix, inbox, describe, &after, &e));
	OK(index_view(ix, junk, describe, &after, &e));
	OK(index_list(ix, &after, &e));
	ck_assert_uint_eq(before.n, after.n);
	ck_assert_mem_eq(before.p, after.p, before.n);
	OK(index_check(ix, &e));
	ck_assert(!rebuild_marked(root));
	/* The summaries came along. */
	struct uid_range range = {1, 1};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct store_record record;

	buf_reset(&after);
	struct index_fetch f = {.mailbox = inbox, .want = STORE_WANT_SUMMARY, .uids = &set, .records = &after};

	OK(index_fetch(ix, &f, &e));
	struct cursor c = cursor_of(buf_slice(&after));

	ck_assert(store_record_next(&c, &record));
	ck_assert(slice_eq(record.summary, SLICE("summary")));
	buf_fini(&before);
	buf_fini(&after);
}
END_TEST

/* ---- imports ---- */

static int
adopt(uint32_t mailbox, const char *name, uint32_t uidvalidity, uint32_t uidnext)
{
	uint32_t number, given;

	OK(index_begin(ix, &e));
	if (index_mailbox_adopt(ix, mailbox, slice_str(name), uidvalidity, uidnext, &number, &given, &e) < 0) {
		index_abort(ix);
		return -1;
	}
	ck_assert_uint_eq(index_mailbox(ix, number)->uidvalidity, given);
	return index_commit(ix, &e);
}

static uint32_t
append_at(uint32_t mailbox, uint32_t uid, const char *text)
{
	uint32_t got;

	fixture_uid = uid;
	got = append(mailbox, text);
	fixture_uid = 0;
	return got;
}

static uint32_t
make_stage(void)
{
	uint32_t number = fixture_mailbox(ix, MBOX_CREATE, "stage", "", &e);

	ck_assert_uint_ne(number, 0);
	return number;
}

static void
copy_file(const char *from, const char *to)
{
	char command[256];

	(void)snprintf(command, sizeof command, "cp %s/index/%s %s/index/%s", root, from, root, to);
	ck_assert_int_eq(fixture_shell(command), 0);
}

/* Whole pages of an earlier time, whose checksums are right: what came later is in the log, and its objects stay. */
START_TEST(test_old_pages)
{
	append(inbox, "one");
	reopen();
	copy_file("index.db", "saved");
	append(inbox, "two");
	append(inbox, "three");
	index_close(&ix);
	copy_file("saved", "index.db");
	open_index();
	ck_assert_uint_eq(index_usage(ix).messages, 3);
	OK(index_check(ix, &e));
}
END_TEST

START_TEST(test_import_takes_place)
{
	uint32_t stage = make_stage();
	uint64_t now = FIXTURE_NOW;
	size_t n;
	bool resync = false;

	ck_assert_uint_eq(append_at(stage, 5, "five"), 5);
	ck_assert_uint_eq(append_at(stage, 9, "nine"), 9);
	/* Not below what was given. */
	ck_assert_uint_eq(append_at(stage, 7, "late"), 10);
	ck_assert_uint_ge(index_modseq(ix), now);
	index_changes_reset(ix);
	OK(adopt(stage, "INBOX", 1234567890, 42));
	const struct index_change *c = index_changes(ix, &n);

	for (size_t i = 0; i < n; i++)
		resync = resync || (c[i].mailbox == stage && c[i].octets.failed);
	ck_assert(resync);
	for (unsigned again = 0; again < 2; again++) {
		ck_assert_uint_eq(index_target(ix, STORE_TARGET_INBOX), stage);
		ck_assert_uint_eq(index_mailbox(ix, stage)->uidvalidity, 1234567890);
		ck_assert_uint_eq(index_mailbox(ix, stage)->tombstone_floor, index_mailbox(ix, stage)->highestmodseq);
		assert_list("Archive=s0 Drafts=s0 INBOX=s3 Junk=s0 Sent=s0 Trash=s0 ");
		assert_view(stage, "5:0:0 9:0:0 10:0:0 ");
		OK(index_check(ix, &e));
		reopen();
	}
	ck_assert_uint_eq(append(stage, "new"), 42);
}
END_TEST

START_TEST(test_import_into_use)
{
	uint32_t stage = make_stage(), junk = index_target(ix, STORE_TARGET_JUNK);
	uint64_t old = index_mailbox(ix, inbox)->uidvalidity;

	append_at(stage, 5, "five");
	OK(fixture_flags(ix, stage, STORE_FLAGS_ADD, 1, "urgent\n", 1, 10, &e));
	append(inbox, "here already");
	ck_assert_int_eq(adopt(stage, "INBOX", 1234567890, 42), -1);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
	/* It had a message, which is gone. */
	append(junk, "x");
	OK(fixture_expunge(ix, junk, 1, 1, &e));
	ck_assert_int_eq(adopt(stage, "Junk", 1234567890, 42), -1);
	ck_assert_int_eq(adopt(stage, "stage", 1234567890, 42), -1);
	ck_assert_int_eq(adopt(inbox, "Sent", 1234567890, 42), -1);
	ck_assert_int_eq(adopt(stage, "none", 1234567890, 42), -1);
	ck_assert_int_eq(adopt(stage, "Sent", STORE_IMPORT_MAX + 1, 42), -1);
	ck_assert_int_eq(adopt(stage, "Sent", 1234567890, STORE_IMPORT_MAX + 1), -1);
	OK(adopt(stage, "INBOX", 0, 42));
	assert_view(inbox, "1:0:0 2:1:1 ");
	ck_assert(slice_eq(index_keywords(ix, inbox), SLICE("urgent\n")));
	ck_assert_uint_eq(index_mailbox(ix, inbox)->uidvalidity, old);
	assert_list("Archive=s0 Drafts=s0 INBOX=s2 Junk=s0 Sent=s0 Trash=s0 ");
	/* A name has lost a higher UIDVALIDITY: no lower one any more. */
	stage = make_stage();
	ck_assert_int_eq(adopt(stage, "Sent", 1234567890, 42), -1);
	OK(adopt(stage, "Sent", STORE_IMPORT_MAX, STORE_IMPORT_MAX));
	ck_assert_uint_eq(append_at(stage, STORE_IMPORT_MAX, "last"), STORE_IMPORT_MAX);
	fixture_uid = STORE_IMPORT_MAX + 1;
	ck_assert_int_eq(fixture_append(ix, root, stage, "past it", &(uint32_t){0}, &e), -1);
	fixture_uid = 0;
	OK(index_check(ix, &e));
	reopen();
	OK(index_check(ix, &e));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_index");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	const TTest *tests[] = {test_new_account, test_append_and_fetch, test_ascii_headers, test_flags, test_unchangedsince,
	    test_keyword_limit, test_copy_and_move, test_expunge_and_purge, test_mailboxes,
	    test_uidvalidity_never_goes_back, test_rename_inbox, test_names, test_requests_are_remembered, test_quota,
	    test_recent, test_abort, test_rebuild, test_old_pages, test_import_takes_place, test_import_into_use};

	file_hook_db();
	tcase_add_checked_fixture(t, make_account, remove_account);
	tcase_set_timeout(t, 60);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
