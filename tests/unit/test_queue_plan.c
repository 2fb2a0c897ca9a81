/* The plan of the queue: times, turns, windows, sleep. */
#include "smtpd/queue_plan.h"

#include <check.h>
#include <limits.h>
#include <stdlib.h>

#define MANY 2000

static struct queue_plan *plan;
static struct queue_piece p[MANY];

static void
set_up(void)
{
	memset(p, 0, sizeof p);
	plan = queue_plan_new();
}

/* Takes all out, so that nothing is left of a destination. */
static void
tear_down(void)
{
	for (unsigned i = 0; i < MANY; i++)
		if (p[i].to != NULL)
			queue_plan_remove(plan, &p[i]);
	ck_assert_uint_eq(queue_plan_next_ms(plan), UINT64_MAX);
	for (unsigned k = 0; k <= QUEUE_PARKED; k++)
		ck_assert_uint_eq(queue_plan_count(plan, (enum queue_place)k), 0);
	queue_plan_free(&plan);
}

static void
add(unsigned i, const char *name)
{
	queue_plan_add(plan, &p[i], slice_str(name));
	ck_assert_int_eq(p[i].place, QUEUE_PARKED);
}

static void
add_ready(unsigned i, const char *name)
{
	add(i, name);
	queue_plan_ready(plan, &p[i], 1);
}

/* The number of the piece that goes now, which is out then; -1: none. */
static int
go_of(unsigned unknown_max)
{
	struct queue_piece *next = queue_plan_next(plan, unknown_max);

	if (next == NULL)
		return -1;
	queue_plan_out(plan, next, 1000000);
	return (int)(next - p);
}

static int
go(void)
{
	return go_of(UINT_MAX);
}

/* It is done with at once. */
static int
go_and_end(void)
{
	int at = go();

	if (at >= 0)
		queue_plan_remove(plan, &p[at]);
	return at;
}

START_TEST(test_times)
{
	uint64_t last = 0;
	unsigned n = 0;

	srand(3);
	for (unsigned i = 0; i < MANY; i++) {
		add(i, i % 3 ? "a.example" : "b.example");
		queue_plan_wait(plan, &p[i], 10 + (unsigned)rand() % 500);
	}
	/* Some go elsewhere, some get another time. */
	for (unsigned i = 0; i < MANY; i += 7)
		queue_plan_wait(plan, &p[i], 10 + (unsigned)rand() % 500);
	for (unsigned i = 0; i < MANY; i += 5)
		queue_plan_park(plan, &p[i]);
	ck_assert_ptr_null(queue_plan_due(plan, 9));
	for (struct queue_piece *d; (d = queue_plan_due(plan, 600)) != NULL; n++) {
		ck_assert_uint_ge(d->when_ms, last);
		ck_assert_uint_eq(d->when_ms, queue_plan_next_ms(plan));
		last = d->when_ms;
		queue_plan_ready(plan, d, 600);
	}
	ck_assert_uint_eq(n, MANY - MANY / 5);
	ck_assert_uint_eq(queue_plan_count(plan, QUEUE_READY), n);
	ck_assert_uint_eq(queue_plan_count(plan, QUEUE_PARKED), MANY / 5);
}
END_TEST

/* A long line of one destination keeps no other from its turn. */
START_TEST(test_turns)
{
	for (unsigned i = 0; i < 100; i++)
		add_ready(i, "long.example");
	add_ready(100, "short.example");
	ck_assert_int_eq(go(), 0);
	ck_assert_int_eq(go(), 100);
	/* The window of a destination that nobody knows yet. */
	ck_assert_uint_eq(QUEUE_WINDOW_FIRST, 1);
	ck_assert_int_eq(go(), -1);
	queue_plan_reached(plan, &p[0], 20);
	ck_assert_int_eq(go(), 1);
	ck_assert_int_eq(go(), -1);
	queue_plan_remove(plan, &p[0]);
	ck_assert_int_eq(go(), 2);
}
END_TEST

static void
add_at(unsigned i, const char *name, int priority, uint64_t now_ms)
{
	p[i].priority = (int8_t)priority;
	add(i, name);
	queue_plan_ready(plan, &p[i], now_ms);
}

/* In one line what is urgent overtakes, and what is not waits no longer than its steps are worth (RFC 6710 5.1). */
START_TEST(test_priorities)
{
	static const struct {
		int priority;
		uint64_t since_ms;
	} rows[] = {{0, 1}, {0, 2}, {-1, 3}, {9, 4}, {1, 5}, {9, 6}, {0, 7}, {-9, 8}, {1, 2 + QUEUE_PRIORITY_MS}, {0, 3 + 9 * (uint64_t)QUEUE_PRIORITY_MS}};
	static const int order[] = {3, 5, 4, 0, 8, 1, 6, 2, 9, 7};

	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
		add_at(i, "a.example", rows[i].priority, rows[i].since_ms);
	for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
		ck_assert_int_eq(go(), order[i]);
		queue_plan_remove(plan, &p[order[i]]);
	}
	ck_assert_int_eq(go(), -1);
	/* Those for mailboxes here as well. */
	add_at(20, "", 0, 1);
	add_at(21, "", 1, 2);
	ck_assert_ptr_eq(queue_plan_next_here(plan), &p[21]);
}
END_TEST

/* What is urgent has the next turn, every second one at most, and the others keep their order. */
START_TEST(test_urgent_turns)
{
	add_ready(0, "a.example");
	add_ready(1, "b.example");
	add_ready(2, "c.example");
	add_ready(3, "d.example");
	add_at(4, "c.example", 1, 2);
	ck_assert_int_eq(go_and_end(), 4);
	add_at(5, "d.example", 1, 2);
	ck_assert_int_eq(go_and_end(), 0);
	add_at(6, "c.example", 1, 2);
	ck_assert_int_eq(go_and_end(), 6);
	ck_assert_int_eq(go_and_end(), 1);
	ck_assert_int_eq(go_and_end(), 5);
	ck_assert_int_eq(go_and_end(), 2);
	ck_assert_int_eq(go_and_end(), 3);
	/* One whose window is full has no turn. */
	add_at(7, "c.example", 0, 2);
	ck_assert_int_eq(go(), 7);
	add_at(8, "c.example", 9, 2);
	ck_assert_int_eq(go(), -1);
}
END_TEST

/* However many destinations may be dead, those that are known to answer have the rest. */
START_TEST(test_unknown)
{
	char name[32];

	for (unsigned i = 0; i < 10; i++) {
		(void)snprintf(name, sizeof name, "d%u.example", i);
		add_ready(i, name);
		ck_assert(queue_plan_fresh(&p[i]));
	}
	add_ready(10, "d1.example");
	add_ready(11, "d1.example");
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(go_of(3), (int)i);
	ck_assert_int_eq(go_of(3), -1);
	/* One answers: it has room of its own, and another takes its place; both in turn. */
	queue_plan_reached(plan, &p[1], 20);
	ck_assert(!queue_plan_fresh(&p[1]));
	ck_assert_int_eq(go_of(3), 3);
	ck_assert_int_eq(go_of(3), 10);
	ck_assert_int_eq(go_of(3), -1);
	queue_plan_remove(plan, &p[1]);
	ck_assert_int_eq(go_of(3), 11);
	/* It fails: not known any more, with all that is out. */
	ck_assert_uint_eq(queue_plan_unreachable(plan, &p[10]), 0);
	queue_plan_remove(plan, &p[0]);
	queue_plan_remove(plan, &p[2]);
	ck_assert_int_eq(go_of(3), -1);
	ck_assert_int_eq(go_of(4), 4);
	/* The other way round. */
	queue_plan_reached(plan, &p[11], 20);
	ck_assert_int_eq(go_of(3), 5);
	ck_assert_int_eq(go_of(3), -1);
}
END_TEST

/* Who answered is remembered when there is nothing for him. */
START_TEST(test_idle)
{
	char name[32];

	add_ready(0, "known.example");
	ck_assert_int_eq(go(), 0);
	queue_plan_reached(plan, &p[0], 20);
	queue_plan_reached(plan, &p[0], 20);
	queue_plan_remove(plan, &p[0]);
	add_ready(0, "known.example");
	ck_assert(!queue_plan_fresh(&p[0]));
	ck_assert_int_eq(go_of(0), 0);
	/* With a small window: that was long ago, maybe. */
	add_ready(1, "known.example");
	ck_assert_int_eq(go_of(0), -1);
	queue_plan_remove(plan, &p[0]);
	queue_plan_remove(plan, &p[1]);
	/* Not for ever: as many as that come after it. */
	for (unsigned i = 0; i < QUEUE_KNOWN_IDLE_MAX; i++) {
		add(0, "known.example");
		ck_assert_msg(!queue_plan_fresh(&p[0]), "%u", i);
		if (i == 0)
			queue_plan_remove(plan, &p[0]);
		else
			queue_plan_reached(plan, &p[0], 20), queue_plan_remove(plan, &p[0]);
		(void)snprintf(name, sizeof name, "d%u.example", i);
		add_ready(1, name);
		ck_assert_int_eq(go(), 1);
		queue_plan_reached(plan, &p[1], 20);
		queue_plan_remove(plan, &p[1]);
	}
	add(0, "d0.example");
	ck_assert(queue_plan_fresh(&p[0]));
	add(1, "d2.example");
	ck_assert(!queue_plan_fresh(&p[1]));
}
END_TEST

START_TEST(test_window)
{
	for (unsigned i = 0; i < 100; i++)
		add_ready(i, "a.example");
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(go(), (int)i);
		queue_plan_reached(plan, &p[i], 5);
	}
	/* It never passes what is allowed: five are out at the most. */
	queue_plan_reached(plan, &p[0], 5);
	ck_assert_int_eq(go(), -1);
	queue_plan_remove(plan, &p[0]);
	ck_assert_int_eq(go(), 5);
	ck_assert_int_eq(go(), -1);
}
END_TEST

/* One failure of a destination that answered before halves its window; the third in a row sends it to sleep. */
START_TEST(test_failures)
{
	for (unsigned i = 0; i < 20; i++)
		add_ready(i, "a.example");
	ck_assert_int_eq(go(), 0);
	queue_plan_reached(plan, &p[0], 20);
	queue_plan_reached(plan, &p[0], 20);
	ck_assert_uint_eq(queue_plan_unreachable(plan, &p[0]), 0);
	ck_assert_uint_eq(queue_plan_unreachable(plan, &p[0]), 0);
	ck_assert_uint_eq(queue_plan_unreachable(plan, &p[0]), QUEUE_FAILURES_AWAKE);
	queue_plan_reached(plan, &p[0], 20);
	ck_assert_uint_eq(queue_plan_unreachable(plan, &p[0]), 0);
}
END_TEST

/* That many go, and no more; then all of them are done. */
static void
window_is(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ck_assert_int_ge(go(), 0);
	ck_assert_int_eq(go(), -1);
	for (unsigned i = 0; i < MANY; i++)
		if (p[i].to != NULL && p[i].place == QUEUE_OUT)
			queue_plan_remove(plan, &p[i]);
}

START_TEST(test_window_halves)
{
	for (unsigned i = 0; i < 100; i++)
		add_ready(i, "a.example");
	window_is(1);
	for (unsigned i = 0; i < 8; i++)
		queue_plan_reached(plan, &p[99], 9);
	window_is(9);
	ck_assert_uint_eq(queue_plan_unreachable(plan, &p[99]), 0);
	window_is(4);
	ck_assert_uint_eq(queue_plan_unreachable(plan, &p[99]), 0);
	window_is(2);
	/* It grows again, one by one. */
	queue_plan_reached(plan, &p[99], 9);
	window_is(3);
	/* One at the least. */
	for (unsigned i = 0; i < 3; i++)
		(void)queue_plan_unreachable(plan, &p[99]);
	window_is(1);
}
END_TEST

START_TEST(test_sleep)
{
	for (unsigned i = 0; i < 5; i++)
		add_ready(i, "dead.example");
	add_ready(5, "live.example");
	ck_assert_int_eq(go(), 0);
	/* It never answered: the first failure tells. */
	ck_assert_uint_eq(queue_plan_unreachable(plan, &p[0]), 1);
	queue_plan_sleep(plan, &p[0], 500);
	queue_plan_wait(plan, &p[0], 700);
	/* Those in its line are not tried, whether they are moved or not. */
	ck_assert_ptr_eq(queue_plan_sleeper(plan), &p[1]);
	queue_plan_ready(plan, &p[1], 100);
	ck_assert_int_eq(p[1].place, QUEUE_WAITING);
	ck_assert_uint_eq(p[1].when_ms, 500);
	ck_assert_int_eq(go(), 5);
	ck_assert_int_eq(go(), -1);
	for (struct queue_piece *other; (other = queue_plan_sleeper(plan)) != NULL;)
		queue_plan_wait(plan, other, 500);
	/* What comes meanwhile waits as well. */
	add(6, "dead.example");
	queue_plan_ready(plan, &p[6], 100);
	ck_assert_int_eq(p[6].place, QUEUE_WAITING);
	ck_assert_uint_eq(p[6].when_ms, 500);
	/* Awake: one tries for all. */
	for (struct queue_piece *d; (d = queue_plan_due(plan, 500)) != NULL;)
		queue_plan_ready(plan, d, 500);
	int at = go();
	ck_assert_int_ge(at, 0);
	ck_assert_int_eq(go(), -1);
	queue_plan_reached(plan, &p[at], 20);
	ck_assert_int_ge(go(), 0);
	queue_plan_sleep(plan, &p[at], 9000);
	ck_assert_int_eq(go(), -1);
	ck_assert_ptr_nonnull(queue_plan_sleeper(plan));
	add(7, "dead.example");
	queue_plan_wake(plan, &p[7]);
	queue_plan_ready(plan, &p[7], 600);
	ck_assert_int_eq(p[7].place, QUEUE_READY);
	ck_assert_ptr_null(queue_plan_sleeper(plan));
}
END_TEST

/* This server's own mailboxes have a line, but neither turn nor window. */
START_TEST(test_here)
{
	ck_assert_ptr_null(queue_plan_next_here(plan));
	for (unsigned i = 0; i < 10; i++)
		add_ready(i, "");
	ck_assert_int_eq(go(), -1);
	for (unsigned i = 0; i < 10; i++) {
		struct queue_piece *next = queue_plan_next_here(plan);
		ck_assert_ptr_eq(next, &p[i]);
		queue_plan_out(plan, next, 50);
	}
	ck_assert_ptr_null(queue_plan_next_here(plan));
	ck_assert_uint_eq(queue_plan_count(plan, QUEUE_OUT), 0);
}
END_TEST

/* Any order of steps leaves heap, lines and counts in agreement. */
START_TEST(test_random)
{
	char name[32];

	srand(7);
	for (unsigned round = 0; round < 200000; round++) {
		struct queue_piece *q = &p[(unsigned)rand() % MANY];
		uint64_t when = (unsigned)rand() % 1000;
		if (q->to == NULL) {
			(void)snprintf(name, sizeof name, "%d.example", rand() % 50);
			q->priority = (int8_t)(rand() % 19 - 9);
			queue_plan_add(plan, q, slice_str(name));
			continue;
		}
		switch (rand() % 8) {
		case 0: queue_plan_wait(plan, q, when); break;
		case 1: queue_plan_ready(plan, q, when); break;
		case 2: queue_plan_park(plan, q); break;
		case 3: queue_plan_remove(plan, q); break;
		case 4: (void)go(); break;
		case 5: queue_plan_reached(plan, q, 8); break;
		case 6:
			if (queue_plan_unreachable(plan, q) > 0)
				queue_plan_sleep(plan, q, when);
			break;
		default:
			if ((q = queue_plan_due(plan, when)) != NULL || (q = queue_plan_sleeper(plan)) != NULL)
				queue_plan_ready(plan, q, when);
		}
	}
	unsigned count[QUEUE_PARKED + 1] = {0};
	for (unsigned i = 0; i < MANY; i++)
		if (p[i].to != NULL)
			count[p[i].place]++;
	for (unsigned k = 0; k <= QUEUE_PARKED; k++)
		ck_assert_uint_eq(queue_plan_count(plan, (enum queue_place)k), count[k]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("queue_plan");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, test_times);
	tcase_add_test(t, test_turns);
	tcase_add_test(t, test_priorities);
	tcase_add_test(t, test_urgent_turns);
	tcase_add_test(t, test_unknown);
	tcase_add_test(t, test_idle);
	tcase_add_test(t, test_window);
	tcase_add_test(t, test_failures);
	tcase_add_test(t, test_window_halves);
	tcase_add_test(t, test_sleep);
	tcase_add_test(t, test_here);
	tcase_add_test(t, test_random);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
