/*
 * Each kind of contradiction is put into a sound account, and named by the check; and nothing else is.
 */
#include "tests/unit/index_fixture.h"

#include "common/summary.h"
#include "store/check.h"
#include "store/file.h"
#include "store/index_private.h"

static void
setup(void)
{
	uint32_t uid;

	fixture_summary = slice_of(NULL, 0);
	make_account();
	for (unsigned i = 0; i < 40; i++)
		OK(fixture_append(ix, root, inbox, "a message\r\n", &uid, &e));
	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN, "key\n", 3, 9, &e));
	OK(fixture_expunge(ix, inbox, 20, 22, &e));
	OK(fixture_copy(ix, inbox, index_target(ix, STORE_TARGET_SENT), false, 1, 2, &e));
	OK(index_flush(ix, &e));
}

static void
note(void *arg, const struct check_finding *f)
{
	buf_putf(arg, "%.*s ", SLICE_ARG(f->code));
}

/* The codes found, each with a blank; work runs between the steps. */
static void
assert_found(const char *want, bool deep, void (*work)(void))
{
	struct buf b;
	struct check *c;
	int r;

	buf_init(&b, 1 << 20);
	c = check_begin(ix, deep, note, &b);
	while ((r = check_step(c, 0, &e)) > 0)
		if (work != NULL)
			work();
	OK(r);
	check_free(&c);
	buf_put_u8(&b, '\0');
	ck_assert_str_eq((char *)b.p, want);
	buf_fini(&b);
}

/* Replaces the record of a key; n == 0: deletes it. */
static void
put_record(const struct format_key *key, struct buf *value)
{
	OK(env_begin(ix->env, ix->account.serial, &e));
	OK(value != NULL ? env_put(ix->env, format_key_slice(key), buf_slice(value), slice_of(NULL, 0), &e)
			 : env_delete(ix->env, format_key_slice(key), &e));
	OK(env_commit(ix->env, &e));
}

static void
wrong_counts(struct buf *b)
{
	struct format_key key = format_key_u32(FORMAT_MAILBOX, inbox);
	struct format_mailbox m = *index_mailbox(ix, inbox);

	m.unseen++;
	format_mailbox_put(b, &m);
	put_record(&key, b);
}

static void
low_uidnext(struct buf *b)
{
	struct format_key key = format_key_u32(FORMAT_MAILBOX, inbox);
	struct format_mailbox m = *index_mailbox(ix, inbox);

	m.uidnext = 40;
	m.recent_uid = 1;
	format_mailbox_put(b, &m);
	put_record(&key, b);
}

static void
wrong_usage(struct buf *b)
{
	struct format_key key = format_key(FORMAT_ACCOUNT);
	struct format_account a = ix->account;

	a.bytes += 7;
	format_account_put(b, &a);
	put_record(&key, b);
}

static void
wrong_refs(struct buf *b)
{
	struct format_key key = format_key_u64(FORMAT_REFS, 0);
	struct format_refs refs;

	OK(env_get(ix->env, format_key_slice(&key), b, &e) == 1 ? 0 : -1);
	ck_assert(format_refs_get(format_key_slice(&key), buf_slice(b), &refs));
	refs.count[5]++;
	format_refs_put(b, format_key_slice(&key), &refs);
	put_record(&key, b);
}

static void
no_entry(struct buf *b)
{
	struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, inbox, 1);
	struct format_entries chunk;

	OK(env_get(ix->env, format_key_slice(&key), b, &e) == 1 ? 0 : -1);
	ck_assert(format_entries_get(format_key_slice(&key), buf_slice(b), &chunk));
	chunk.e[0] = chunk.e[--chunk.n];
	chunk.e[0].uid = 1;
	format_entries_put(b, format_key_slice(&key), &chunk);
	put_record(&key, b);
}

static void
no_keyword(struct buf *b)
{
	struct format_key key = format_key_u32(FORMAT_KEYWORDS, inbox);

	(void)b;
	put_record(&key, NULL);
}

static void
bad_checksum(struct buf *b)
{
	struct format_key key = format_key_u32_u32(FORMAT_DETAILS, inbox, 1);

	OK(env_get(ix->env, format_key_slice(&key), b, &e) == 1 ? 0 : -1);
	b->p[100] ^= 1;
	put_record(&key, b);
}

static void
strange_record(struct buf *b)
{
	struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, 99, 1);
	struct format_entries chunk = {.n = 1, .e = {{.uid = 1}}};

	format_entries_put(b, format_key_slice(&key), &chunk);
	put_record(&key, b);
}

static void
same_name(struct buf *b)
{
	uint32_t sent = index_target(ix, STORE_TARGET_SENT);
	struct format_key key = format_key_u32(FORMAT_MAILBOX, sent);
	struct format_mailbox m = *index_mailbox(ix, sent);

	m.name = SLICE("INBOX");
	format_mailbox_put(b, &m);
	put_record(&key, b);
}

/* The detail of UID 1 in the inbox has another object. */
static void
change_object(struct buf *b, void (*change)(struct format_detail *d))
{
	struct format_key key = format_key_u32_u32(FORMAT_DETAILS, inbox, 1);
	struct format_details chunk;

	OK(env_get(ix->env, format_key_slice(&key), b, &e) == 1 ? 0 : -1);
	ck_assert(format_details_get(format_key_slice(&key), buf_slice(b), &chunk));
	change(&chunk.d[0]);
	format_details_put(b, format_key_slice(&key), &chunk);
	put_record(&key, b);
}

static void
far_number(struct format_detail *d)
{
	memset(d->object_id, 0x11, 8);
}

static void
other_hash(struct format_detail *d)
{
	d->object_id[15] ^= 1;
}

static void
never_given(struct buf *b)
{
	change_object(b, far_number);
}

static void
one_number(struct buf *b)
{
	change_object(b, other_hash);
}

/* Behind the last chunks one more, with a message that was before. */
static void
out_of_order(struct buf *b)
{
	struct format_key key = format_key_u32_u32(FORMAT_DETAILS, inbox, 31);
	struct format_entries entries = {.n = 1, .e = {{.uid = 39}}};
	struct format_details details;

	OK(env_get(ix->env, format_key_slice(&key), b, &e) == 1 ? 0 : -1);
	ck_assert(format_details_get(format_key_slice(&key), buf_slice(b), &details));
	ck_assert_uint_eq(details.d[8].uid, 39);
	details.d[0] = details.d[8];
	details.n = 1;
	key = format_key_u32_u32(FORMAT_DETAILS, inbox, 38);
	format_details_put(b, format_key_slice(&key), &details);
	put_record(&key, b);
	key = format_key_u32_u32(FORMAT_ENTRIES, inbox, 38);
	format_entries_put(b, format_key_slice(&key), &entries);
	put_record(&key, b);
}

static const struct {
	void (*damage)(struct buf *b);
	const char *want;
} rows[] = {
    {NULL, ""},
    {wrong_counts, "counts "},
    {low_uidnext, "marks "},
    {wrong_usage, "usage "},
    {wrong_refs, "references "},
    {no_entry, "halves counts usage references "},
    {no_keyword, "keywords keywords keywords keywords keywords keywords keywords "},
    {strange_record, "mailbox-unknown "},
    {same_name, "names "},
    {never_given, "object-number references references "},
    {one_number, "object-missing object-number "},
    {out_of_order, "order counts usage references "},
};

START_TEST(test_contradictions)
{
	struct buf b;

	buf_init(&b, FORMAT_VALUE_BYTES_MAX);
	if (rows[_i].damage != NULL)
		rows[_i].damage(&b);
	assert_found(rows[_i].want, false, NULL);
	buf_fini(&b);
}
END_TEST

START_TEST(test_unreadable)
{
	struct buf b;

	buf_init(&b, FORMAT_VALUE_BYTES_MAX);
	bad_checksum(&b);
	struct buf found;
	struct check *c;
	int r;

	buf_init(&found, 1 << 20);
	c = check_begin(ix, false, note, &found);
	while ((r = check_step(c, 1000, &e)) > 0)
		;
	OK(r);
	check_free(&c);
	/* Once for the record, once for the chunk, and what it held is missed. */
	buf_put_u8(&found, '\0');
	ck_assert_ptr_nonnull(strstr((char *)found.p, "record-unreadable record-unreadable halves"));
	buf_fini(&found);
	buf_fini(&b);
}
END_TEST

/* No key of ours is as long as one may be: such a record, though its sum is right, is refused and nothing else happens. */
START_TEST(test_longest_key)
{
	struct format_key key = {.p = "TTTTTTTTTTTTTTTTTTTTTTTT", .n = FORMAT_KEY_BYTES_MAX};
	struct buf b, found;
	struct check *c;
	int r;

	buf_init(&b, FORMAT_VALUE_BYTES_MAX);
	buf_init(&found, 1 << 20);
	format_begin(&b, FORMAT_TOMBSTONES, 0);
	ck_assert(format_end(&b, format_key_slice(&key)));
	put_record(&key, &b);
	c = check_begin(ix, false, note, &found);
	while ((r = check_step(c, 1000, &e)) > 0)
		;
	ck_assert_int_lt(r, 0);
	ck_assert_int_eq(e.code, ERR_CODE_CORRUPT);
	check_free(&c);
	buf_fini(&found);
	buf_fini(&b);
}
END_TEST

static void
disturb(void)
{
	static uint64_t n;
	uint32_t uid;

	OK(fixture_append(ix, root, inbox, "another message\r\n", &uid, &e));
	OK(fixture_copy(ix, inbox, index_target(ix, STORE_TARGET_TRASH), true, uid, uid, &e));
	OK(fixture_expunge(ix, inbox, 30, 31, &e));
	if (++n % 5 == 0)
		/* All that was expunged goes for good, with its files. */
		while ((index_purge(ix, UINT64_MAX, UINT64_MAX, &e)) > 0)
			;
}

START_TEST(test_no_false_alarm)
{
	assert_found("", false, disturb);
	assert_found("", true, disturb);
}
END_TEST

START_TEST(test_summary)
{
	uint32_t uid;

	assert_found("", true, NULL);
	fixture_summary = SLICE("no summary");
	OK(fixture_append(ix, root, inbox, "a message\r\n", &uid, &e));
	assert_found("summary-unreadable ", true, NULL);
	assert_found("", false, NULL);
}
END_TEST

/* A sound summary of another message. */
START_TEST(test_summary_of_another)
{
	struct summary_builder *builder = summary_builder_new(0);
	struct buf b;
	uint32_t uid;

	buf_init(&b, SUMMARY_BYTES_MAX);
	summary_builder_feed(builder, SLICE("a message that is longer\r\n"));
	ck_assert(summary_builder_finish(builder, &b));
	summary_builder_free(&builder);
	fixture_summary = buf_slice(&b);
	OK(fixture_append(ix, root, inbox, "a message that is longer\r\n", &uid, &e));
	assert_found("", true, NULL);
	OK(fixture_append(ix, root, inbox, "a message\r\n", &uid, &e));
	assert_found("summary-wrong ", true, NULL);
	fixture_summary = slice_of(NULL, 0);
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_check");
	TCase *t = tcase_create("check");

	log_init("test", LOG_BUG);
	file_hook_db();
	tcase_add_checked_fixture(t, setup, remove_account);
	tcase_add_loop_test(t, test_contradictions, 0, sizeof rows / sizeof rows[0]);
	tcase_add_test(t, test_unreadable);
	tcase_add_test(t, test_longest_key);
	tcase_add_test(t, test_no_false_alarm);
	tcase_add_test(t, test_summary);
	tcase_add_test(t, test_summary_of_another);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
