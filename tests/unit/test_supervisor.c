/*
 * The supervisor's tables against those of the messages and roles, and the pauses between restarts.
 * Whole trees are tests/instance's.
 */
#include "admin/supervisor_private.h"

#include "common/sandbox.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Joined by the store, by the command's sockets, or by the supervisor's own control edges. */
static bool
joined_elsewhere(enum role a, enum role b)
{
	uint32_t both = ROLE_BIT(a) | ROLE_BIT(b);
	uint32_t spawned = ROLE_BIT(ROLE_KEEPER) | ROLE_BIT(ROLE_IMAP_WORKER) |
			   ROLE_BIT(ROLE_POP3_WORKER);

	return (both & (ROLE_BIT(ROLE_SUPERVISOR) | ROLE_BIT(ROLE_ADMIN))) || (both & spawned);
}

/* Every message has an edge to travel on. */
START_TEST(every_message_has_an_edge)
{
	enum msg_type type = (enum msg_type)_i;
	unsigned ways = 0;

	for (unsigned from = 0; from < ROLE_COUNT; from++)
		for (unsigned to = 0; to < ROLE_COUNT; to++)
			if (from != to && msg_allowed(type, from, to))
				ways += joined_elsewhere(from, to) ||
					supervisor_edge_wanted(from, to);
	ck_assert_msg(ways > 0, "%s has no edge", msg_info(type)->name);
}
END_TEST

/* Every edge of the table is there for some message. */
START_TEST(every_edge_has_a_message)
{
	for (const struct edge_row *r = supervisor_edge_table(); r->asks != r->answers; r++) {
		unsigned messages = 0;

		for (unsigned m = 1; m < MSG_TYPE_COUNT; m++)
			messages += msg_allowed(m, r->asks, r->answers);
		ck_assert_msg(messages > 0, "%s -> %s", role_info(r->asks)->name,
		    role_info(r->answers)->name);
		ck_assert(supervisor_edge_wanted(r->asks, r->answers));
		ck_assert(supervisor_edge_wanted(r->answers, r->asks));
	}
}
END_TEST

/* Requests form no cycle: the arrows sort. */
START_TEST(requests_form_no_cycle)
{
	unsigned level[ROLE_COUNT] = {0};
	bool changed = true;

	for (unsigned round = 0; changed; round++) {
		ck_assert_msg(round <= ROLE_COUNT, "the edges form a cycle");
		changed = false;
		for (const struct edge_row *r = supervisor_edge_table(); r->asks != r->answers;
		     r++) {
			if (level[r->asks] <= level[r->answers]) {
				level[r->asks] = level[r->answers] + 1;
				changed = true;
			}
		}
	}
}
END_TEST

START_TEST(everybody_reaches_the_recorder)
{
	for (unsigned r = 0; r < ROLE_COUNT; r++)
		ck_assert(r == ROLE_RECORDER || supervisor_edge_wanted(r, ROLE_RECORDER));
	/* And a front reaches no keeper and no resolver of its own making. */
	ck_assert(!supervisor_edge_wanted(ROLE_IMAP_FRONT, ROLE_DIRECTORY));
	ck_assert(!supervisor_edge_wanted(ROLE_SMTP_FRONT, ROLE_VERIFIER));
	ck_assert(!supervisor_edge_wanted(ROLE_SMTP_FRONT, ROLE_KEEPER));
	ck_assert(!supervisor_edge_wanted(ROLE_IMAP_FRONT, ROLE_IMAP_FRONT));
}
END_TEST

START_TEST(restarts_pause_longer_and_longer)
{
	static const uint64_t pauses[] = {0, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000};
	struct child c = {.started_ms = 1000};

	/* Never ready: each end counts. */
	for (unsigned i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
		c.quick_ends = i;
		ck_assert_uint_eq(child_restart_pause(&c, 5000), pauses[i]);
	}
	/* Ready for long enough: at once again. */
	c.ready_ms = 1100;
	ck_assert_uint_eq(child_restart_pause(&c, 1100 + STABLE_MS), 0);
	ck_assert_uint_eq(child_restart_pause(&c, 1100 + STABLE_MS - 1), 30000);
}
END_TEST

/* ---- the directories ---- */

static char top[40];
static char synced[1000];
static bool disk_fails;

/* Stands in for the C library's. */
int
fsync(int fd)
{
	char link[40], path[200] = "";
	size_t n = strlen(top), have = strlen(synced);

	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ck_assert_int_gt(readlink(link, path, sizeof path - 1), 0);
	ck_assert_int_eq(strncmp(path, top, n), 0);
	(void)snprintf(synced + have, sizeof synced - have, "%s;", path + n);
	if (disk_fails)
		errno = EIO;
	return disk_fails ? -1 : 0;
}

/* The directory that a role's own is in is synced before the role has it; one that could not be made durable is not there. */
START_TEST(directories_are_durable)
{
	struct supervisor s = {.config = config_new(), .lock_fd = -1};
	char path[80];
	struct err e;

	memcpy(top, "/tmp/test_supervisor.XXXXXX", sizeof "/tmp/test_supervisor.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	(void)snprintf(path, sizeof path, "%s/state/", top);
	ck_assert_int_eq(config_set(s.config, OPT_STATE_DIR, slice_str(path), &e), 0);
	(void)snprintf(path, sizeof path, "%s/run", top);
	ck_assert_int_eq(config_set(s.config, OPT_RUN_DIR, slice_str(path), &e), 0);
	disk_fails = true;
	ck_assert_int_eq(supervisor_make_state(&s, &e), -1);
	close(s.lock_fd);
	disk_fails = false;
	synced[0] = '\0';
	ck_assert_int_eq(supervisor_make_state(&s, &e), 0);
	/* What an earlier run made is not believed to be durable. */
	close(s.lock_fd);
	synced[0] = '\0';
	ck_assert_int_eq(supervisor_make_state(&s, &e), 0);
	ck_assert_str_eq(synced, ";/state;/state/accounts;");
	close(s.lock_fd);
	(void)snprintf(path, sizeof path, "%s/state/accounts/7", top);
	disk_fails = true;
	ck_assert_int_eq(supervisor_make_account(&s, 7, &e), -1);
	ck_assert_int_eq(access(path, F_OK), -1);
	disk_fails = false;
	synced[0] = '\0';
	ck_assert_int_eq(supervisor_make_account(&s, 7, &e), 0);
	ck_assert_int_eq(supervisor_make_account(&s, 7, &e), 0);
	ck_assert_str_eq(synced, "/state/accounts;");
	ck_assert_int_eq(access(path, F_OK), 0);
	config_free(&s.config);
	(void)snprintf(path, sizeof path, "%s", top);
	char *argv[] = {(char *)(uintptr_t) "rm", (char *)(uintptr_t) "-rf", path, NULL};
	if (fork() == 0)
		execv("/bin/rm", argv);
	(void)wait(NULL);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("supervisor");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, every_message_has_an_edge, 1, MSG_TYPE_COUNT);
	tcase_add_test(t, every_edge_has_a_message);
	tcase_add_test(t, requests_form_no_cycle);
	tcase_add_test(t, everybody_reaches_the_recorder);
	tcase_add_test(t, restarts_pause_longer_and_longer);
	tcase_add_test(t, directories_are_durable);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
