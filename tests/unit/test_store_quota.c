/*
 * A domain's room: the store's parent over real edges to keepers that are played. They append, expunge, are killed and leave
 * at random; whatever happens, what the accounts use together never passes the limit, and nobody is told
 * "over quota" while there is room.
 */
#include "common/config.h"
#include "common/cursor.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"
#include "store/parent_quota.h"

#include <check.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCOUNTS 24u
#define DOMAIN 5u
#define OTHER_DOMAIN 6u

/* An account's disk, and its keeper while there is one. */
struct account {
	struct quota used;
	struct quota ceiling, limit;
	struct edge *keeper;
	bool known, shared;
	bool waits;	 /* a message of that size */
	uint64_t size;
	struct quota asked_for;
	uint64_t want_id;
	bool no_room;	 /* there was a moment since it asked in which it did not fit */
	bool freed;	 /* somebody expunged meanwhile: what came first is open */
	bool broken;	 /* a keeper that is started ends at once */
	bool refuse_start;
	bool mute;	 /* does not answer */
	bool stays;	 /* does not leave when it may */
	uint64_t greedy; /* takes a message of that size as soon as there is no limit */
	unsigned grants, refusals, failures, starts, asked;
};

static struct account accounts[ACCOUNTS + 1];
static struct loop *loop;
static struct config *config;
static struct edge *directory, *at_directory;
static struct quota domain_limit = {QUOTA_NONE, QUOTA_NONE};
static unsigned taken;
static uint64_t seed = 88172645463325252u;

static uint64_t
rnd(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

/* ---- the world's state ---- */

static struct quota
sum(void)
{
	struct quota s = {0, 0};

	for (unsigned i = 1; i <= ACCOUNTS; i++)
		s = quota_add(s, accounts[i].used);
	return s;
}

static void
used_changed(void)
{
	struct quota now = sum();

	for (unsigned i = 1; i <= ACCOUNTS; i++)
		if (accounts[i].waits && !quota_fits(domain_limit, now, (struct quota){accounts[i].size, 1}))
			accounts[i].no_room = true;
}

static struct account *
account_of(struct edge *e)
{
	return edge_arg(e);
}

static void
put_in(struct account *a)
{
	a->used = quota_add(a->used, (struct quota){a->size, 1});
	a->waits = false;
	used_changed();
	if (!IPC_SEND(a->keeper, KEEPER_USAGE, .bytes = a->used.bytes, .messages = a->used.messages))
		ck_abort();
}

static void
want(struct account *a)
{
	struct quota total = quota_add(a->used, (struct quota){a->size, 1});

	a->asked_for = total;
	if (!IPC_SEND(a->keeper, KEEPER_WANT, .id = ++a->want_id, .bytes = total.bytes, .messages = total.messages))
		ck_abort();
}

/* ---- keepers, played ---- */

static void
on_limits(struct edge *e, struct msg_KEEPER_LIMITS *m)
{
	struct account *a = account_of(e);

	a->known = true;
	a->limit = (struct quota){m->bytes, m->messages};
	a->shared = m->shared;
	if (!a->shared && a->greedy > 0) {
		a->size = a->greedy;
		a->greedy = 0;
		put_in(a);
	}
	if (a->mute || !a->shared)
		return;
	a->asked++;
	a->ceiling = a->used;
	ck_assert(IPC_SEND(e, KEEPER_CEILING, .bytes = a->used.bytes, .messages = a->used.messages));
	if (a->waits)
		want(a);
}

static void
on_grant(struct edge *e, struct msg_KEEPER_GRANT *m)
{
	struct account *a = account_of(e);

	if (m->class == ERR_NONE) {
		a->ceiling = (struct quota){m->bytes, m->messages};
		a->grants++;
		if (a->waits && (!a->shared || quota_fits(a->ceiling, a->used, (struct quota){a->size, 1})))
			put_in(a);
		else if (a->waits && m->id == a->want_id)
			want(a);
		return;
	}
	if (!a->waits || m->id != a->want_id)
		return;
	if (quota_above(a->asked_for, quota_add(a->used, (struct quota){a->size, 1})).bytes > 0) {
		want(a);
		return;
	}
	a->waits = false;
	a->refusals += m->class == ERR_LIMIT;
	a->failures += m->class == ERR_TEMP;
	ck_assert_msg(m->class != ERR_LIMIT || a->no_room || a->freed, "refused with room");
}

static void
gone(struct account *a)
{
	edge_free(&a->keeper);
	a->known = a->waits = false;
}

static void
on_leave(struct edge *e, struct msg_PROCESS_LEAVE *m)
{
	struct account *a = account_of(e);

	(void)m;
	if (a->stays)
		return;
	ck_assert(IPC_SEND(e, KEEPER_CEILING, .last = 1, .bytes = a->used.bytes, .messages = a->used.messages));
	gone(a);
}

static void
on_fake_down(struct edge *e, void *arg)
{
	(void)arg;
	gone(account_of(e));
}

uint64_t
role_spawn(enum role role, uint64_t id, int fd)
{
	static const struct ipc_dispatch d = {.KEEPER_LIMITS = on_limits, .KEEPER_GRANT = on_grant, .PROCESS_LEAVE = on_leave};
	static const struct edge_events events = {.on_down = on_fake_down};
	static uint64_t generation;
	struct account *a = &accounts[id];

	ck_assert(role == ROLE_KEEPER && id <= ACCOUNTS);
	a->starts++;
	if (a->refuse_start)
		return 0;
	if (a->broken)
		return ++generation;
	ck_assert_ptr_null(a->keeper);
	a->ceiling = (struct quota){0, 0};
	a->keeper = edge_new(loop, fcntl(fd, F_DUPFD_CLOEXEC, 0), ROLE_KEEPER, (struct edge_peer){.role = ROLE_STORE}, &d, &events, a);
	edge_set_arg(a->keeper, a);
	ck_assert(IPC_SEND(a->keeper, KEEPER_USAGE, .bytes = a->used.bytes, .messages = a->used.messages));
	return ++generation;
}

/* ---- the parent's world ---- */

static void
on_parent_down(struct edge *e, void *arg)
{
	(void)arg;
	parent_edge_down(e);
	edge_free(&e);
}

struct edge *
role_edge_add(int fd, struct edge_peer peer)
{
	static const struct edge_events events = {.on_down = on_parent_down};

	return edge_new(loop, fd, ROLE_STORE, peer, &parent_from_keeper, &events, NULL);
}

struct edge *
role_edge(enum role peer, uint32_t instance)
{
	(void)peer;
	(void)instance;
	return NULL;
}

const struct config *
role_config(void)
{
	return config;
}

static void
on_taken(struct edge *e, struct msg_QUOTA_TAKEN *m)
{
	(void)e;
	(void)m;
	taken++;
}

static void
stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

/* Until nothing is on its way. */
static void
run_for(unsigned ms)
{
	struct loop_timer *t = loop_timer_new(loop, stop, NULL);

	loop_timer_set(t, ms);
	loop_run(loop);
	loop_timer_free(&t);
}

static void
tell(unsigned part, uint64_t account, uint64_t domain, struct quota limit)
{
	struct buf b;

	buf_init(&b, QUOTA_ROW_BYTES);
	if (domain != 0) {
		put_u64(&b, account);
		put_u64(&b, domain);
		put_u64(&b, limit.bytes);
		put_u64(&b, limit.messages);
	}
	ck_assert(IPC_SEND(at_directory, QUOTA_ROWS, .id = 1, .part = (uint8_t)part, .rows = buf_slice(&b)));
	buf_fini(&b);
}

static void
tell_domain(struct quota limit)
{
	domain_limit = limit;
	used_changed();
	tell(QUOTA_CHANGE, 0, DOMAIN, limit);
	for (unsigned before = taken; taken == before;)
		run_for(1);
	run_for(3);
}

static void
tell_everything(struct quota limit)
{
	domain_limit = limit;
	tell(QUOTA_FIRST, 0, DOMAIN, limit);
	tell(QUOTA_NEXT, 0, OTHER_DOMAIN, (struct quota){QUOTA_NONE, QUOTA_NONE});
	for (unsigned i = 1; i <= ACCOUNTS; i++)
		tell(QUOTA_NEXT, i, DOMAIN, (struct quota){QUOTA_DEFAULT, QUOTA_DEFAULT});
	tell(QUOTA_LAST, 0, 0, limit);
}

static void
setup(void)
{
	static const struct ipc_dispatch d = {.QUOTA_TAKEN = on_taken};
	static const struct edge_events events = {.on_down = on_parent_down};
	int pair[2];

	log_init("test", LOG_BUG);
	loop = loop_new();
	config = config_new();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	directory = edge_new(loop, pair[0], ROLE_STORE, (struct edge_peer){ROLE_DIRECTORY, 0, 1}, &parent_from_directory, &events, NULL);
	at_directory = edge_new(loop, pair[1], ROLE_DIRECTORY, (struct edge_peer){.role = ROLE_STORE}, &d, &events, NULL);
}

static void
keeper_start(unsigned i)
{
	struct err e;

	if (accounts[i].keeper == NULL)
		ck_assert_ptr_nonnull(parent_process(parent_account(i), ROLE_KEEPER, &e));
}

/* A message arrives; what it leads to is seen later. */
static void
append(unsigned i, uint64_t size)
{
	struct account *a = &accounts[i];

	if (a->keeper == NULL || a->waits || !a->known)
		return;
	a->size = size;
	a->no_room = a->freed = false;
	if (!a->shared || quota_fits(a->ceiling, a->used, (struct quota){size, 1})) {
		put_in(a);
		return;
	}
	a->waits = true;
	used_changed();
	want(a);
}

static void
expunge(unsigned i, struct quota q)
{
	struct account *a = &accounts[i];

	if (a->keeper == NULL)
		return;
	a->used = quota_above(a->used, q);
	for (unsigned n = 1; n <= ACCOUNTS; n++)
		accounts[n].freed = accounts[n].waits;
	ck_assert(IPC_SEND(a->keeper, KEEPER_USAGE, .bytes = a->used.bytes, .messages = a->used.messages));
}

static void
assert_within(void)
{
	struct quota s = sum();

	ck_assert_msg(quota_within(s, domain_limit), "%llu octets and %llu messages are used", (unsigned long long)s.bytes,
	    (unsigned long long)s.messages);
}

/* ---- tests ---- */

/* Exactly up to the limit, each of the two, whoever comes. */
START_TEST(at_the_edge)
{
	tell_everything((struct quota){1000, 8});
	for (unsigned i = 1; i <= 3; i++)
		keeper_start(i);
	run_for(50);
	ck_assert_uint_eq(taken, ACCOUNTS + 3);
	for (unsigned i = 1; i <= 3; i++) {
		append(i, 300);
		run_for(20);
	}
	ck_assert_uint_eq(sum().bytes, 900);
	append(1, 101);
	run_for(20);
	ck_assert(accounts[1].refusals == 1 && accounts[1].failures == 0);
	append(2, 100);
	run_for(20);
	ck_assert_uint_eq(sum().bytes, 1000);
	append(3, 1);
	run_for(20);
	ck_assert_uint_eq(accounts[3].refusals, 1);
	expunge(1, (struct quota){300, 1});
	for (unsigned n = 0; n < 6; n++) {
		append(1 + n % 3, 1);
		run_for(20);
	}
	/* Three were left; five fit. */
	ck_assert_uint_eq(sum().messages, 8);
	ck_assert_uint_eq(accounts[1].refusals + accounts[2].refusals + accounts[3].refusals, 3);
	/* Every account was asked, and the keepers that were started for that have gone. */
	ck_assert_uint_ge(accounts[ACCOUNTS].starts, 1);
	ck_assert_ptr_null(accounts[ACCOUNTS].keeper);
	assert_within();
}
END_TEST

/* A domain with a limit is measured before anybody asks, so many accounts at once and no more, and only once. */
START_TEST(it_is_measured)
{
	unsigned most = 0, alive = 0;

	tell_everything((struct quota){1000, 8});
	for (unsigned turns = 0; turns < 400 && accounts[1].starts == 0; turns++)
		run_for(0);
	for (unsigned turns = 0; turns < 400; turns++) {
		run_for(0);
		alive = 0;
		for (unsigned i = 1; i <= ACCOUNTS; i++)
			alive += accounts[i].keeper != NULL;
		most = alive > most ? alive : most;
	}
	ck_assert_uint_eq(alive, 0);
	ck_assert(most >= 1 && most <= PARENT_SURVEY_MAX);
	tell_domain((struct quota){QUOTA_NONE, QUOTA_NONE});
	tell_domain((struct quota){500, QUOTA_NONE});
	run_for(50);
	for (unsigned i = 1; i <= ACCOUNTS; i++)
		ck_assert_uint_eq(accounts[i].starts, 1);
}
END_TEST

/* Before everything was told, nothing is granted, and nothing refused. */
START_TEST(nothing_before_all_is_known)
{
	accounts[9].used = (struct quota){900, 1};
	keeper_start(1);
	run_for(20);
	ck_assert(!accounts[1].known);
	tell(QUOTA_FIRST, 0, DOMAIN, (struct quota){1000, QUOTA_NONE});
	domain_limit = (struct quota){1000, QUOTA_NONE};
	tell(QUOTA_NEXT, 1, DOMAIN, (struct quota){QUOTA_DEFAULT, 7});
	run_for(20);
	ck_assert(accounts[1].known && accounts[1].limit.bytes == QUOTA_NONE && accounts[1].limit.messages == 7);
	append(1, 200);
	run_for(20);
	ck_assert(accounts[1].waits);
	tell(QUOTA_NEXT, 9, DOMAIN, (struct quota){QUOTA_DEFAULT, QUOTA_DEFAULT});
	run_for(20);
	ck_assert(accounts[1].waits && accounts[9].starts == 0);
	tell(QUOTA_LAST, 0, 0, domain_limit);
	run_for(50);
	ck_assert(!accounts[1].waits && accounts[1].refusals == 1 && accounts[9].starts == 1);
	append(1, 100);
	run_for(20);
	ck_assert_uint_eq(sum().bytes, 1000);
}
END_TEST

/* What one account was given and does not use, another gets; from a keeper that was killed too. */
START_TEST(ceilings_come_down)
{
	tell_everything((struct quota){1000, QUOTA_NONE});
	for (unsigned i = 1; i <= ACCOUNTS; i++)
		keeper_start(i);
	run_for(50);
	append(1, 100);
	run_for(20);
	append(2, 100);
	run_for(20);
	ck_assert(accounts[1].ceiling.bytes > 100 && accounts[2].ceiling.bytes > 100);
	edge_free(&accounts[2].keeper);
	accounts[2].known = false;
	unsigned starts = accounts[2].starts;

	append(3, 800);
	run_for(50);
	ck_assert_uint_eq(sum().bytes, 1000);
	ck_assert_uint_eq(accounts[2].starts, starts + 1);
	assert_within();
}
END_TEST

/* An account that cannot be opened because the disk is full is not said to be damaged, and not left alone for so long. */
START_TEST(no_room_is_not_damage)
{
	struct parent_account *a = parent_account(7);
	struct parent_process *p;
	struct err e;

	accounts[7].broken = true;
	for (unsigned i = 1; i <= PARENT_FAILURES_MAX; i++) {
		ck_assert_ptr_nonnull(parent_process(a, ROLE_KEEPER, &e));
		run_for(20);
		ck_assert_uint_eq(a->failures, i);
	}
	ck_assert_ptr_null(parent_process(a, ROLE_KEEPER, &e));
	ck_assert_int_eq(e.code, ERR_CODE_CORRUPT);
	/* How it ended is told after its edge, or before. */
	parent_process_exit(a->failed_id, ROLE_EXIT_NO_SPACE);
	ck_assert_ptr_null(parent_process(a, ROLE_KEEPER, &e));
	ck_assert(e.code == ERR_CODE_NO_SPACE && e.class == ERR_TEMP);
	ck_assert_uint_le(a->aside_until_ms, clock_ms() + PARENT_ASIDE_FULL_MS);
	a->aside_until_ms = 0;
	p = parent_process(a, ROLE_KEEPER, &e);
	ck_assert_ptr_nonnull(p);
	parent_process_exit(p->generation, ROLE_EXIT_NO_SPACE);
	run_for(20);
	ck_assert_uint_eq(a->failures, PARENT_FAILURES_MAX + 1);
	ck_assert_ptr_null(parent_process(a, ROLE_KEEPER, &e));
	ck_assert_int_eq(e.code, ERR_CODE_NO_SPACE);
	/* The next one ends for another reason. */
	a->aside_until_ms = 0;
	ck_assert_ptr_nonnull(parent_process(a, ROLE_KEEPER, &e));
	run_for(20);
	ck_assert_ptr_null(parent_process(a, ROLE_KEEPER, &e));
	ck_assert_int_eq(e.code, ERR_CODE_CORRUPT);
}
END_TEST

/* Who cannot be asked makes the answer a temporary one, unless there is room all the same. */
START_TEST(what_is_not_known_is_not_over_quota)
{
	accounts[7].used = (struct quota){10, 1};
	accounts[7].broken = true;
	tell_everything((struct quota){1000, QUOTA_NONE});
	keeper_start(1);
	run_for(20);
	append(1, 100);
	run_for(100);
	ck_assert(accounts[1].failures == 1 && accounts[1].refusals == 0 && !accounts[1].waits);
	/* It comes up again: known from then on, though it is mute when it is asked for more. */
	accounts[7].broken = false;
	for (unsigned n = 0; n < 2; n++)
		parent_account(7)->failures = 0;
	append(1, 100);
	run_for(50);
	ck_assert_uint_eq(accounts[1].used.bytes, 100);
	keeper_start(7);
	run_for(20);
	append(7, 10);
	run_for(20);
	accounts[7].mute = true;
	append(1, 20);
	run_for(20);
	ck_assert_uint_eq(accounts[1].used.bytes, 120);
	append(1, 900);
	run_for(50);
	ck_assert(accounts[1].waits);
	/* It ends, and its successor says what it uses. */
	accounts[7].mute = false;
	edge_free(&accounts[7].keeper);
	run_for(50);
	ck_assert(!accounts[1].waits && accounts[1].refusals == 1);
	append(1, 860);
	run_for(50);
	ck_assert_uint_eq(sum().bytes, 1000);
}
END_TEST

/* A limit below what is used takes nothing and lets nothing in; without one all is free, at once. */
START_TEST(limits_change)
{
	tell_everything((struct quota){1000, QUOTA_NONE});
	for (unsigned i = 1; i <= 3; i++)
		keeper_start(i);
	run_for(50);
	append(1, 500);
	run_for(20);
	ck_assert_uint_gt(accounts[1].ceiling.bytes, 501);
	tell_domain((struct quota){400, QUOTA_NONE});
	append(1, 1);
	run_for(50);
	ck_assert(accounts[1].refusals == 1 && sum().bytes == 500);
	tell_domain((struct quota){QUOTA_NONE, QUOTA_NONE});
	append(1, 5000);
	append(2, 5000);
	run_for(20);
	ck_assert_uint_eq(sum().bytes, 10500);
	/* Again one: what was used without it counts. Accounts without a keeper are asked again only when they had one meanwhile. */
	tell_domain((struct quota){10600, QUOTA_NONE});
	append(2, 101);
	run_for(50);
	ck_assert_uint_eq(accounts[2].refusals, 1);
	append(3, 100);
	run_for(50);
	ck_assert_uint_eq(sum().bytes, 10600);
	/* One that waits when the limit goes has its way. */
	accounts[1].mute = true;
	append(2, 100);
	expunge(1, (struct quota){50, 1});
	run_for(50);
	ck_assert(accounts[2].waits || accounts[2].refusals == 2);
	tell_domain((struct quota){QUOTA_NONE, QUOTA_NONE});
	run_for(20);
	ck_assert(!accounts[2].waits);
}
END_TEST

/* A limit that goes and comes back while a keeper answers for the one before: what it took in between counts. */
START_TEST(only_the_last_answer_counts)
{
	tell_everything((struct quota){1000, QUOTA_NONE});
	keeper_start(1);
	keeper_start(2);
	run_for(50);
	append(2, 1);
	run_for(100);
	ck_assert_uint_eq(sum().bytes, 1);
	accounts[1].greedy = 700;
	tell(QUOTA_CHANGE, 0, DOMAIN, (struct quota){2000, QUOTA_NONE});
	tell(QUOTA_CHANGE, 0, DOMAIN, (struct quota){QUOTA_NONE, QUOTA_NONE});
	tell(QUOTA_CHANGE, 0, DOMAIN, domain_limit);
	append(2, 900);
	run_for(100);
	ck_assert_uint_eq(accounts[1].used.bytes, 700);
	ck_assert_uint_eq(accounts[2].refusals, 1);
	assert_within();
}
END_TEST

/* A domain that is told no more has no limit; an account that was deleted takes no room. */
START_TEST(domains_and_accounts_go)
{
	accounts[4].used = (struct quota){600, 1};
	tell_everything((struct quota){1000, QUOTA_NONE});
	keeper_start(1);
	run_for(50);
	append(1, 500);
	run_for(50);
	ck_assert_uint_eq(accounts[1].refusals, 1);
	accounts[4].used = (struct quota){0, 0};
	parent_quota_account_gone(parent_account(4));
	append(1, 500);
	run_for(50);
	ck_assert_uint_eq(accounts[1].used.bytes, 500);
	tell(QUOTA_FIRST, 0, OTHER_DOMAIN, (struct quota){QUOTA_NONE, QUOTA_NONE});
	tell(QUOTA_LAST, 0, 0, domain_limit);
	run_for(20);
	ck_assert(!accounts[1].shared);
}
END_TEST

/* Everybody at once, with kills and leaves, for a while; the limit moves up only. */
START_TEST(at_random)
{
	unsigned grants = 0, refusals = 0, failures = 0;

	seed += (uint64_t)_i * 7919;
	for (unsigned i = 1; i <= ACCOUNTS; i++)
		accounts[i].used = (struct quota){rnd(2000), rnd(3)};
	tell_everything((struct quota){60000, 150});
	for (unsigned n = 0; n < 6000; n++) {
		unsigned i = 1 + (unsigned)rnd(ACCOUNTS);
		struct account *a = &accounts[i];

		switch (rnd(16)) {
		case 0:
			if (a->keeper != NULL) {
				edge_free(&a->keeper);
				a->known = a->waits = false;
			}
			break;
		case 1:
			if (a->keeper != NULL && !a->waits && parent_account(i)->keeper != NULL)
				parent_process_leave(parent_account(i)->keeper);
			break;
		case 2:
		case 3:
			expunge(i, (struct quota){rnd(3000), rnd(6)});
			break;
		case 4:
			run_for(0);
			break;
		case 5:
			if (rnd(50) == 0)
				tell_domain((struct quota){domain_limit.bytes + 2000, domain_limit.messages + 5});
			break;
		default:
			/* The predecessor's end is seen first, as the supervisor sees to it. */
			if (a->keeper == NULL && parent_account(i)->keepers == 0)
				keeper_start(i);
			append(i, 1 + rnd(2000));
		}
		if (n % 4 == 0)
			run_for(0);
		assert_within();
	}
	run_for(300);
	assert_within();
	for (unsigned i = 1; i <= ACCOUNTS; i++) {
		grants += accounts[i].grants;
		refusals += accounts[i].refusals;
		failures += accounts[i].failures;
		ck_assert_msg(!accounts[i].waits, "account %u got no answer", i);
	}
	ck_assert_msg(grants > 100 && refusals > 100 && failures == 0, "%u grants, %u refusals, %u failures", grants, refusals, failures);
	/* What is left fits, whoever asks. */
	struct quota room = quota_above(domain_limit, sum());

	if (room.messages > 0 && room.bytes > 0) {
		keeper_start(3);
		run_for(20);
		append(3, room.bytes);
		run_for(100);
		ck_assert_uint_eq(sum().bytes, domain_limit.bytes);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_quota");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, at_the_edge);
	tcase_add_test(t, it_is_measured);
	tcase_add_test(t, nothing_before_all_is_known);
	tcase_add_test(t, ceilings_come_down);
	tcase_add_test(t, what_is_not_known_is_not_over_quota);
	tcase_add_test(t, no_room_is_not_damage);
	tcase_add_test(t, limits_change);
	tcase_add_test(t, only_the_last_answer_counts);
	tcase_add_test(t, domains_and_accounts_go);
	tcase_add_loop_test(t, at_random, 0, 4);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
