/*
 * libevent underneath. What matters here:
 *  - An io or timer may be freed in any callback, its own included: a wrapper touches nothing of
 *    its object after it called out, and libevent keeps nothing of a deleted event.
 *  - NO_CACHE_TIME: a timer counts from the moment it is set, not from the start of the round.
 *  - IGNORE_ENV: the environment does not choose the back end.
 *  - SIGPIPE is ignored for the whole process: OpenSSL writes to sockets with write(2), which has
 *    no MSG_NOSIGNAL.
 */
#include "common/loop.h"

#include "common/mem.h"

#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct loop {
	struct event_base *base;
	bool stopped;
};

struct loop_io {
	struct event event;
	loop_io_fn *fn;
	void *arg;
	struct loop *loop;
	int fd;
	int events;
};

struct loop_timer {
	struct event event;
	loop_timer_fn *fn;
	void *arg;
};

struct loop *
loop_new(void)
{
	struct event_config *config = event_config_new();
	struct loop *l = MEM_NEW(struct loop);

	if (config == NULL)
		abort();
	if (event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME |
					      EVENT_BASE_FLAG_IGNORE_ENV |
					      EVENT_BASE_FLAG_NOLOCK) != 0)
		abort();
	l->base = event_base_new_with_config(config);
	event_config_free(config);
	if (l->base == NULL)
		abort();
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		abort();
	return l;
}

void
loop_free(struct loop **l)
{
	if (*l == NULL)
		return;
	event_base_free((*l)->base);
	MEM_FREE(l);
}

void
loop_run(struct loop *l)
{
	if (!l->stopped)
		(void)event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
	l->stopped = false;
}

void
loop_stop(struct loop *l)
{
	l->stopped = true;
	(void)event_base_loopbreak(l->base);
}

void *
loop_event_base(struct loop *l)
{
	return l->base;
}

static void
io_fired(evutil_socket_t fd, short what, void *arg)
{
	struct loop_io *io = arg;
	int events = 0;

	(void)fd;
	if (what & EV_READ)
		events |= LOOP_READ;
	if (what & EV_WRITE)
		events |= LOOP_WRITE;
	io->fn(io->arg, events);
}

/* (Re)registers the io for its events. */
static void
io_register(struct loop_io *io)
{
	short what = EV_PERSIST;

	if (io->events & LOOP_READ)
		what |= EV_READ;
	if (io->events & LOOP_WRITE)
		what |= EV_WRITE;
	if (event_assign(&io->event, io->loop->base, io->fd, what, io_fired, io) != 0)
		abort();
	if (io->events && event_add(&io->event, NULL) != 0)
		abort();
}

struct loop_io *
loop_io_new(struct loop *l, int fd, int events, loop_io_fn *fn, void *arg)
{
	struct loop_io *io = MEM_NEW(struct loop_io);

	assert(fd >= 0 && fn != NULL);
	io->loop = l;
	io->fd = fd;
	io->events = events;
	io->fn = fn;
	io->arg = arg;
	io_register(io);
	return io;
}

void
loop_io_set(struct loop_io *io, int events)
{
	assert((events & ~(LOOP_READ | LOOP_WRITE)) == 0);
	if (events == io->events)
		return;
	(void)event_del(&io->event);
	io->events = events;
	io_register(io);
}

void
loop_io_free(struct loop_io **io)
{
	if (*io == NULL)
		return;
	(void)event_del(&(*io)->event);
	MEM_FREE(io);
}

static void
timer_fired(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;

	(void)fd;
	(void)what;
	t->fn(t->arg);
}

struct loop_timer *
loop_timer_new(struct loop *l, loop_timer_fn *fn, void *arg)
{
	struct loop_timer *t = MEM_NEW(struct loop_timer);

	assert(fn != NULL);
	t->fn = fn;
	t->arg = arg;
	if (event_assign(&t->event, l->base, -1, 0, timer_fired, t) != 0)
		abort();
	return t;
}

void
loop_timer_set(struct loop_timer *t, uint64_t ms)
{
	/* Longer than any setting; keeps the arithmetic of libevent within its range. */
	const uint64_t ms_max = UINT64_C(400) * 24 * 3600 * 1000;

	if (ms > ms_max)
		ms = ms_max;
	const struct timeval wait = {
	    .tv_sec = (time_t)(ms / 1000),
	    .tv_usec = (suseconds_t)(ms % 1000 * 1000),
	};

	if (event_add(&t->event, &wait) != 0)
		abort();
}

void
loop_timer_stop(struct loop_timer *t)
{
	(void)event_del(&t->event);
}

void
loop_timer_free(struct loop_timer **t)
{
	if (*t == NULL)
		return;
	(void)event_del(&(*t)->event);
	MEM_FREE(t);
}

static struct timespec
read_clock(clockid_t id)
{
	struct timespec now;

	if (clock_gettime(id, &now) != 0)
		abort();
	return now;
}

uint64_t
clock_ms(void)
{
	struct timespec now = read_clock(CLOCK_MONOTONIC);

	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t
clock_wall_us(void)
{
	struct timespec now = read_clock(CLOCK_REALTIME);

	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}
