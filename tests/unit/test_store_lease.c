/*
 * The store's leases: found by exactly the process and connection that they were opened for, ended with their connection, their front,
 * their account, or when nobody used them. The store's edges are played.
 */
#include "common/loop.h"
#include "common/role.h"
#include "store/parent.h"

#include <check.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static struct edge *fronts[ROLE_COUNT];

/* The role's edges, played. */
struct edge *
role_edge(enum role peer, uint32_t instance)
{
	return instance == 0 ? fronts[peer] : NULL;
}

static void
on_down(struct edge *e, void *arg)
{
	(void)e;
	(void)arg;
}

static void
setup(void)
{
	static const struct edge_events events = {.on_down = on_down};
	static const enum role roles[] = {ROLE_IMAP_FRONT, ROLE_POP3_FRONT, ROLE_SUBMISSION, ROLE_SMTP_FRONT};
	static const struct ipc_dispatch nothing;

	loop = loop_new();
	for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
		int pair[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
		close(pair[1]);
		fronts[roles[i]] = edge_new(loop, pair[0], ROLE_STORE, (struct edge_peer){roles[i], 0, 7}, &nothing, &events, NULL);
	}
}

static int
open_lease(enum role role, uint64_t generation, uint64_t conn, uint64_t account)
{
	struct edge_peer front = {role, 0, generation};
	struct err e;

	return parent_lease_open(&front, conn, account, SLICE("alice@demo.test"), &e);
}

static struct parent_lease *
find(enum role role, uint64_t generation, uint64_t conn)
{
	return parent_lease_find(&(struct edge_peer){role, 0, generation}, conn);
}

START_TEST(only_its_holder_finds_it)
{
	ck_assert_int_eq(open_lease(ROLE_IMAP_FRONT, 7, 1, 5), 0);
	ck_assert_ptr_nonnull(find(ROLE_IMAP_FRONT, 7, 1));
	ck_assert_uint_eq(find(ROLE_IMAP_FRONT, 7, 1)->account, 5);
	ck_assert_ptr_null(find(ROLE_POP3_FRONT, 7, 1));
	ck_assert_ptr_null(find(ROLE_IMAP_FRONT, 8, 1));
	ck_assert_ptr_null(find(ROLE_IMAP_FRONT, 7, 2));
	/* A second one for the connection, a front that has gone, one that has none. */
	ck_assert_int_lt(open_lease(ROLE_IMAP_FRONT, 7, 1, 6), 0);
	ck_assert_int_lt(open_lease(ROLE_IMAP_FRONT, 6, 9, 5), 0);
	ck_assert_int_lt(open_lease(ROLE_SMTP_FRONT, 7, 9, 5), 0);
	ck_assert_uint_eq(parent_lease_count(), 1);
}
END_TEST

START_TEST(they_end)
{
	for (uint64_t conn = 1; conn <= 4; conn++) {
		ck_assert_int_eq(open_lease(ROLE_IMAP_FRONT, 7, conn, conn % 2), 0);
		ck_assert_int_eq(open_lease(ROLE_POP3_FRONT, 7, conn, 1), 0);
	}
	parent_lease_close(&(struct edge_peer){ROLE_IMAP_FRONT, 0, 7}, 4);
	parent_lease_close(&(struct edge_peer){ROLE_IMAP_FRONT, 0, 7}, 99);
	ck_assert_uint_eq(parent_lease_count(), 7);
	parent_lease_front_down(&(struct edge_peer){ROLE_POP3_FRONT, 0, 7});
	ck_assert_uint_eq(parent_lease_count(), 3);
	parent_lease_revoke(1);
	ck_assert_uint_eq(parent_lease_count(), 1);
	ck_assert_ptr_nonnull(find(ROLE_IMAP_FRONT, 7, 2));
}
END_TEST

START_TEST(unused_ones_end)
{
	ck_assert_int_eq(open_lease(ROLE_IMAP_FRONT, 7, 1, 5), 0);
	ck_assert_int_eq(open_lease(ROLE_IMAP_FRONT, 7, 2, 5), 0);
	ck_assert_int_eq(open_lease(ROLE_SUBMISSION, 7, 3, 5), 0);
	find(ROLE_IMAP_FRONT, 7, 2)->session_no = 1;
	parent_lease_sweep(clock_ms() + PARENT_LEASE_UNUSED_MS - 1000);
	ck_assert_uint_eq(parent_lease_count(), 3);
	parent_lease_sweep(clock_ms() + PARENT_LEASE_UNUSED_MS + 1);
	ck_assert_ptr_null(find(ROLE_IMAP_FRONT, 7, 1));
	ck_assert_ptr_nonnull(find(ROLE_IMAP_FRONT, 7, 2));
	ck_assert_ptr_nonnull(find(ROLE_SUBMISSION, 7, 3));
}
END_TEST

START_TEST(there_is_a_limit)
{
	for (uint64_t conn = 0; conn < PARENT_LEASES_MAX; conn++)
		ck_assert_int_eq(open_lease(ROLE_IMAP_FRONT, 7, conn, 5), 0);
	ck_assert_int_lt(open_lease(ROLE_IMAP_FRONT, 7, PARENT_LEASES_MAX, 5), 0);
	parent_lease_close(&(struct edge_peer){ROLE_IMAP_FRONT, 0, 7}, 0);
	ck_assert_int_eq(open_lease(ROLE_IMAP_FRONT, 7, PARENT_LEASES_MAX, 5), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_lease");
	TCase *t = tcase_create("all");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, only_its_holder_finds_it);
	tcase_add_test(t, they_end);
	tcase_add_test(t, unused_ones_end);
	tcase_add_test(t, there_is_a_limit);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
