/* Timers and watches: order, re-arming, and freeing inside callbacks. */
#include "common/loop.h"

#include <check.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static struct loop_timer *timers[3];
static struct loop_io *ios[2];
static int fds[2];
static int fired;

static void
stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void
run_for(uint64_t ms)
{
	struct loop_timer *end = loop_timer_new(loop, stop, NULL);

	loop_timer_set(end, ms);
	loop_run(loop);
	loop_timer_free(&end);
}

static void
setup(void)
{
	loop = loop_new();
	fired = 0;
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static void
teardown(void)
{
	close(fds[0]);
	close(fds[1]);
	loop_free(&loop);
	ck_assert_ptr_null(loop);
}

static void
free_all_timers(void *arg)
{
	(void)arg;
	fired++;
	for (int i = 0; i < 3; i++)
		loop_timer_free(&timers[i]);
}

START_TEST(timers_freed_in_their_callback)
{
	for (int i = 0; i < 3; i++) {
		timers[i] = loop_timer_new(loop, free_all_timers, NULL);
		loop_timer_set(timers[i], 0);
	}
	run_for(20);
	ck_assert_int_eq(fired, 1);
}
END_TEST

static void
again(void *arg)
{
	(void)arg;
	if (++fired < 5)
		loop_timer_set(timers[0], 0);
}

START_TEST(timer_is_one_shot_and_rearms)
{
	timers[0] = loop_timer_new(loop, again, NULL);
	run_for(5);
	ck_assert_int_eq(fired, 0);
	loop_timer_set(timers[0], 0);
	run_for(30);
	ck_assert_int_eq(fired, 5);
	loop_timer_set(timers[0], 1);
	loop_timer_stop(timers[0]);
	run_for(10);
	ck_assert_int_eq(fired, 5);
	loop_timer_free(&timers[0]);
}
END_TEST

START_TEST(timer_waits_long_enough)
{
	uint64_t before = clock_ms();

	run_for(60);
	ck_assert_uint_ge(clock_ms() - before, 55);
	ck_assert_uint_lt(clock_ms() - before, 2000);
}
END_TEST

static void
free_both_ios(void *arg, int events)
{
	(void)arg;
	ck_assert(events & (LOOP_READ | LOOP_WRITE));
	fired++;
	loop_io_free(&ios[0]);
	loop_io_free(&ios[1]);
}

START_TEST(ios_freed_in_their_callback)
{
	ios[0] = loop_io_new(loop, fds[0], LOOP_WRITE, free_both_ios, NULL);
	ios[1] = loop_io_new(loop, fds[1], LOOP_WRITE, free_both_ios, NULL);
	run_for(20);
	ck_assert_int_eq(fired, 1);
}
END_TEST

static void
count_and_stop(void *arg, int events)
{
	(void)arg;
	fired = events;
	loop_stop(loop);
}

START_TEST(io_events_change)
{
	ios[0] = loop_io_new(loop, fds[0], 0, count_and_stop, NULL);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	run_for(10);
	ck_assert_int_eq(fired, 0);
	loop_io_set(ios[0], LOOP_READ);
	run_for(1000);
	ck_assert_int_eq(fired, LOOP_READ);
	loop_io_set(ios[0], LOOP_READ | LOOP_WRITE);
	run_for(1000);
	ck_assert_int_eq(fired, LOOP_READ | LOOP_WRITE);
	loop_io_free(&ios[0]);
}
END_TEST

START_TEST(stop_before_run_is_kept)
{
	loop_stop(loop);
	loop_run(loop);
	ck_assert_ptr_nonnull(loop_event_base(loop));
	ck_assert_uint_gt(clock_wall_us(), UINT64_C(1600000000000000));
}
END_TEST

START_TEST(sigpipe_is_ignored)
{
	close(fds[1]);
	ck_assert_int_eq(write(fds[0], "x", 1), -1);
	fds[1] = dup(fds[0]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("loop");
	TCase *c = tcase_create("loop");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, timers_freed_in_their_callback);
	tcase_add_test(c, timer_is_one_shot_and_rearms);
	tcase_add_test(c, timer_waits_long_enough);
	tcase_add_test(c, ios_freed_in_their_callback);
	tcase_add_test(c, io_events_change);
	tcase_add_test(c, stop_before_run_is_kept);
	tcase_add_test(c, sigpipe_is_ignored);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
