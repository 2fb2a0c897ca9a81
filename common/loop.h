/*
 * loop: the one event loop of a process, over libevent. Only common/loop.c
 * (and the resolver, for libunbound) knows libevent. Callbacks run one at a
 * time from loop_run(); none of these functions blocks but loop_run().
 */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_io;
struct loop_timer;

enum { LOOP_READ = 1, LOOP_WRITE = 2 };

typedef void loop_io_fn(void *arg, int events);
typedef void loop_timer_fn(void *arg);

struct loop *loop_new(void);
void loop_free(struct loop **l);
/* Runs until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* The struct event_base, for libunbound. */
void *loop_event_base(struct loop *l);

/* Watches fd (not owned). events: LOOP_READ | LOOP_WRITE, 0 for none at first. */
struct loop_io *loop_io_new(struct loop *l, int fd, int events, loop_io_fn *fn, void *arg);
void loop_io_set(struct loop_io *io, int events);
/* NULL is fine; safe inside its own callback. */
void loop_io_free(struct loop_io **io);

/* A one-shot timer, not armed until loop_timer_set(). */
struct loop_timer *loop_timer_new(struct loop *l, loop_timer_fn *fn, void *arg);
/* Arms it anew, ms milliseconds from now (0: in the next round, before waiting). */
void loop_timer_set(struct loop_timer *t, uint64_t ms);
void loop_timer_stop(struct loop_timer *t);
void loop_timer_free(struct loop_timer **t);

/* Monotonic milliseconds; wall clock microseconds since 1970; both read the clock at each call. */
uint64_t clock_ms(void);
uint64_t clock_wall_us(void);

#endif
