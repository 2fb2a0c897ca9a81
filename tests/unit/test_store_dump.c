/*
 * The snapshot, the dump and its way back.
 */
#include "tests/unit/index_fixture.h"

#include "store/dump.h"
#include "store/file.h"
#include "store/index_private.h"
#include "store/load.h"
#include "store/snapshot.h"

#include <fcntl.h>

/* Messages, flags, keywords, tombstones, copies, deleted and renamed mailboxes, subscriptions. */
static void
populate(void)
{
	char text[64];

	for (unsigned i = 1; i <= 130; i++) {
		snprintf(text, sizeof text, "message %u\r\n", i);
		append(inbox, text);
	}
	uint32_t work = fixture_mailbox(ix, MBOX_CREATE, "Arbeit/Zweig \xc3\xa4", "", &e);
	uint32_t gone = fixture_mailbox(ix, MBOX_CREATE, "Weg", "", &e);

	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN | STORE_FLAG_FLAGGED, "$Forwarded\nJunk,x\n", 10, 40, &e));
	OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_DELETED, "other\n", 50, 60, &e));
	OK(fixture_copy(ix, inbox, work, false, 20, 30, &e));
	OK(fixture_copy(ix, inbox, gone, false, 25, 26, &e));
	OK(fixture_copy(ix, inbox, work, true, 100, 110, &e));
	OK(fixture_expunge(ix, inbox, 5, 7, &e));
	for (uint32_t uid = 52; uid < 60; uid += 2)
		OK(fixture_expunge(ix, inbox, uid, uid, &e));
	fixture_mailbox(ix, MBOX_SUBSCRIBE, "Arbeit/Zweig \xc3\xa4", "", &e);
	fixture_mailbox(ix, MBOX_SUBSCRIBE, "nur ein Name", "", &e);
	fixture_mailbox(ix, MBOX_DELETE, "Weg", "", &e);
	fixture_mailbox(ix, MBOX_DELETE, "Arbeit", "", &e);
	OK(index_flush(ix, &e));
}

/* The whole dump, written in steps of that many octets; work, when not NULL, runs between the steps. */
static char *
dump_with(size_t step, void (*work)(void))
{
	int fd = memfd_new(&e), r;
	struct dump *d = dump_begin(ix, fd);
	struct buf b;

	while ((r = dump_step(d, step, &e)) > 0)
		if (work != NULL)
			work();
	OK(r);
	dump_free(&d);
	buf_init(&b, 64 << 20);
	OK(memfd_read_all(fd, &b, &e));
	buf_put_u8(&b, '\0');
	close(fd);
	return (char *)b.p;
}

static int
parse(const char *text, size_t n, struct image *im)
{
	struct dump_reader *r = dump_reader_new(im, false);
	int failed = dump_reader_feed(r, slice_of(text, n), &e) < 0 || dump_reader_end(r, &e) < 0;

	dump_reader_free(&r);
	return failed ? -1 : 0;
}

/* Closes the account, loads the dump into an empty one with the same messages, and opens that. */
static void
load_into_new(const char *text)
{
	char command[256], fresh[64];
	struct image im;

	index_close(&ix);
	OK(parse(text, strlen(text), &im));
	fixture_dir(fresh);
	snprintf(command, sizeof command, "cp -r %s/mail %s/", root, fresh);
	ck_assert_int_eq(fixture_shell(command), 0);
	OK(load_image(fresh, &im, FIXTURE_NOW, &e));
	image_fini(&im);
	(void)tree_remove(root);
	memcpy(root, fresh, sizeof root);
	open_index();
}

START_TEST(test_round_trip)
{
	char *text, *again;

	populate();
	text = dump_with(1 << 20, NULL);
	again = dump_with(1, NULL);
	ck_assert_str_eq(text, again);
	free(again);
	load_into_new(text);
	OK(index_check(ix, &e));
	again = dump_with(300, NULL);
	ck_assert_str_eq(text, again);
	free(text);
	free(again);
	/* And it is an account like any other. */
	append(inbox, "another");
	OK(fixture_expunge(ix, inbox, 1, 4, &e));
	OK(index_check(ix, &e));
}
END_TEST

/* A change of every kind, in front of the reader and behind it. */
static void
disturb(void)
{
	static unsigned n;
	char name[32];

	n++;
	append(inbox, "meanwhile");
	OK(fixture_flags(ix, inbox, STORE_FLAGS_REPLACE, STORE_FLAG_ANSWERED, "late\n", 1, UINT32_MAX, &e));
	OK(fixture_expunge(ix, inbox, n, n, &e));
	snprintf(name, sizeof name, "box %u", n);
	ck_assert_uint_ne(fixture_mailbox(ix, MBOX_CREATE, name, "", &e), 0);
	if (n == 3) {
		OK(fixture_copy(ix, inbox, index_target(ix, STORE_TARGET_TRASH), true, 60, 99, &e));
		fixture_mailbox(ix, MBOX_DELETE, "Arbeit/Zweig \xc3\xa4", "", &e);
		OK(index_purge(ix, UINT64_MAX, UINT64_MAX, &e) < 0);
	}
}

START_TEST(test_dump_is_of_one_state)
{
	char *before, *during;

	populate();
	before = dump_with(1 << 20, NULL);
	during = dump_with(700, disturb);
	ck_assert_str_eq(before, during);
	free(before);
	free(during);
	OK(index_check(ix, &e));
}
END_TEST

/* What passes the snapshot's memory loses it; one octet less does not. */
START_TEST(test_snapshot_limit)
{
	struct snapshot_cursor c = {.open = false};
	struct format_key first = format_key(FORMAT_ACCOUNT);
	size_t low = 0, high = 1 << 20;

	append(inbox, "x");
	OK(index_flush(ix, &e));
	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;
		struct snapshot *s = snapshot_begin(ix->env);

		snapshot_limit(s, mid);
		OK(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN, "", 1, 1, &e));
		OK(fixture_flags(ix, inbox, STORE_FLAGS_REMOVE, STORE_FLAG_SEEN, "", 1, 1, &e));
		int r = snapshot_seek(s, &c, format_key_slice(&first), &e);

		if (r < 0)
			ck_assert_int_eq(e.code, ERR_CODE_IN_USE);
		if (r < 0)
			low = mid;
		else
			high = mid;
		snapshot_close(&c);
		snapshot_end(&s);
	}
	/* The account, the mailbox and the chunk of entries were put aside. */
	ck_assert_uint_gt(high, 200);
	ck_assert_uint_lt(high, 2000);
}
END_TEST

/* Every cut and every changed octet is refused. */
START_TEST(test_damaged_dump)
{
	char *text;
	size_t n;
	struct image im;

	for (int i = 0; i < 3; i++)
		append(inbox, "x");
	OK(fixture_expunge(ix, inbox, 2, 2, &e));
	text = dump_with(1 << 20, NULL);
	n = strlen(text);
	OK(parse(text, n, &im));
	image_fini(&im);
	for (size_t cut = 0; cut < n; cut++) {
		ck_assert_int_eq(parse(text, cut, &im), -1);
		image_fini(&im);
	}
	for (size_t at = 0; at < n; at++)
		for (unsigned bit = 0; bit < 8; bit += 3) {
			text[at] = (char)(text[at] ^ (1 << bit));
			ck_assert_int_eq(parse(text, n, &im), -1);
			image_fini(&im);
			text[at] = (char)(text[at] ^ (1 << bit));
		}
	free(text);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_dump");
	TCase *t = tcase_create("dump");

	log_init("test", LOG_BUG);
	file_hook_db();
	tcase_add_checked_fixture(t, make_account, remove_account);
	tcase_add_test(t, test_round_trip);
	tcase_add_test(t, test_dump_is_of_one_state);
	tcase_add_test(t, test_snapshot_limit);
	tcase_add_test(t, test_damaged_dump);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
