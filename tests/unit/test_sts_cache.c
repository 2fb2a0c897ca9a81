/* Policies on the disk. Each open is a process of its own, as in life. */
#include "smtpd/sts_cache.h"
#include "store/file.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW 2000000000u
#define POLICY "version: STSv1\nmode: enforce\nmx: mx.a.example\nmax_age: 1000\n"

static char dir[64];

static void
set_up(void)
{
	(void)snprintf(dir, sizeof dir, "/dev/shm/mailstead-sts-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static unsigned
file_count(void)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	for (struct dirent *f; (f = readdir(d)) != NULL;)
		n += f->d_name[0] != '.';
	closedir(d);
	return n;
}

static void
tear_down(void)
{
	struct err e;

	ck_assert_int_eq(file_remove_dir(dir, &e), 0);
}

static void
open_at(uint64_t now)
{
	struct err e = {0};

	ck_assert_msg(sts_cache_open(dir, now, &e) == 0, "%s", e.detail);
}

static void
write_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	(void)fputs(text, f);
	fclose(f);
}

START_TEST(test_kept)
{
	struct sts_entry *e;

	open_at(NOW);
	ck_assert_ptr_null(sts_cache_find(SLICE("a.example"), NOW));
	e = sts_cache_put(SLICE("a.example"), SLICE("id1"), NOW, SLICE(POLICY));
	ck_assert_ptr_nonnull(e);
	ck_assert_ptr_eq(sts_cache_find(SLICE("a.example"), NOW + 999), e);
	sts_cache_close();
	open_at(NOW + 500);
	e = sts_cache_find(SLICE("a.example"), NOW + 500);
	ck_assert_ptr_nonnull(e);
	ck_assert_str_eq(e->id, "id1");
	ck_assert(e->policy.mode == STS_ENFORCE && sts_policy_allows(&e->policy, SLICE("mx.a.example")));
	ck_assert_uint_eq(e->fetched, NOW);
	/* Another one takes its place. */
	(void)sts_cache_put(SLICE("a.example"), SLICE("id2"), NOW + 600, SLICE("version: STSv1\nmode: none\nmax_age: 9\n"));
	ck_assert_int_eq(sts_cache_find(SLICE("a.example"), NOW + 608)->policy.mode, STS_NONE);
	ck_assert_uint_eq(file_count(), 1);
	ck_assert_ptr_null(sts_cache_find(SLICE("a.example"), NOW + 609));
	ck_assert_uint_eq(file_count(), 0);
	sts_cache_close();
}
END_TEST

START_TEST(test_expired_is_not_read)
{
	open_at(NOW);
	(void)sts_cache_put(SLICE("a.example"), SLICE("id1"), NOW, SLICE(POLICY));
	sts_cache_close();
	open_at(NOW + 1000);
	ck_assert_ptr_null(sts_cache_find(SLICE("a.example"), NOW + 1000));
	ck_assert_uint_eq(file_count(), 0);
	sts_cache_close();
	/* Its clock says that it was fetched long after now. */
	open_at(NOW);
	(void)sts_cache_put(SLICE("a.example"), SLICE("id1"), NOW, SLICE(POLICY));
	ck_assert_ptr_null(sts_cache_find(SLICE("a.example"), NOW - 200000));
	sts_cache_close();
}
END_TEST

START_TEST(test_damaged)
{
	static const char *const texts[] = {"", "MSTS1", "MSTS1 id 2000000000 2000000900\n", "MSTS2 id 2000000000 2000000900\n" POLICY,
	    "MSTS1 id x 2000000900\n" POLICY, "MSTS1 id 2000000000\n" POLICY, "MSTS1 id 2000000000 3999999999\n" POLICY,
	    "MSTS1 abcdefghijklmnopqrstuvwxyz0123456 2000000000 2000000900\n" POLICY, "MSTS1 id 2000000000 2000000900\nhello\n"};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		write_file("a.example", texts[i]);
		write_file("new", POLICY);
		open_at(NOW);
		ck_assert_msg(sts_cache_find(SLICE("a.example"), NOW) == NULL, "%s", texts[i]);
		ck_assert_uint_eq(file_count(), 1); /* the one that was being written is written over */
		ck_assert_ptr_nonnull(sts_cache_put(SLICE("a.example"), SLICE("id"), NOW, SLICE(POLICY)));
		ck_assert_uint_eq(file_count(), 1);
		ck_assert_ptr_null(sts_cache_put(SLICE("b.example"), SLICE("id"), NOW, SLICE("no policy")));
		sts_cache_close();
	}
}
END_TEST

START_TEST(test_room)
{
	char name[32];

	open_at(NOW);
	for (unsigned i = 0; i <= STS_CACHE_POLICIES_MAX; i++) {
		(void)snprintf(name, sizeof name, "%u.example", i);
		ck_assert_ptr_nonnull(sts_cache_put(slice_str(name), SLICE("id"), i == 7 ? NOW - 1 : NOW, SLICE(POLICY)));
	}
	/* The one that ends first has made room. */
	ck_assert_uint_eq(file_count(), STS_CACHE_POLICIES_MAX);
	ck_assert_ptr_null(sts_cache_find(SLICE("7.example"), NOW));
	ck_assert_ptr_nonnull(sts_cache_find(SLICE("8.example"), NOW));
	sts_cache_close();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("sts_cache");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, test_kept);
	tcase_add_test(t, test_expired_is_not_read);
	tcase_add_test(t, test_damaged);
	tcase_add_test(t, test_room);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
