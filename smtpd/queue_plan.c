#include "smtpd/queue_plan.h"

#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>

#define NOWHERE SIZE_MAX
#define HEAP_FIRST 256

/* Pieces of one priority that are ready, in the order in which they became so. */
struct queue_line {
	struct queue_piece *first;
	struct queue_piece *last;
	int8_t priority;
};

struct queue_destination {
	struct name_link link;
	/* in the ring of those whose turn may come, or of those that sleep with a line; NULL: in none */
	struct queue_destination **ring;
	struct queue_destination *next;
	struct queue_destination *previous;
	struct queue_line *lines; /* one for each priority that there was, the highest first */
	unsigned line_count;
	unsigned ready; /* pieces in them */
	unsigned pieces;
	unsigned out;
	unsigned window;
	unsigned failures;
	bool answered; /* a server was reached since the destination is known */
	bool here;
	bool asleep;
	uint64_t asleep_until_ms;
	uint8_t name[];
};

struct queue_plan {
	struct name_table destinations;
	/* Of each ring one; NULL: it is empty. */
	struct queue_destination *turn;
	struct queue_destination *sleeper;
	struct queue_destination *urgent; /* has the turn out of its order */
	bool urgent_had;		  /* the last turn was such a one */
	struct queue_piece **heap;
	size_t heap_count;
	size_t heap_cap;
	unsigned count[QUEUE_PARKED + 1];
};

struct queue_plan *
queue_plan_new(void)
{
	struct queue_plan *plan = MEM_NEW(struct queue_plan);

	name_table_init(&plan->destinations);
	plan->heap_cap = HEAP_FIRST;
	plan->heap = mem_new_array(plan->heap_cap, sizeof(struct queue_piece *));
	return plan;
}

void
queue_plan_free(struct queue_plan **plan)
{
	if (*plan == NULL)
		return;
	name_table_fini(&(*plan)->destinations);
	free((*plan)->heap);
	MEM_FREE(plan);
}

/* ---- the heap: what is due first is on top ---- */

static void
heap_set(struct queue_plan *plan, size_t at, struct queue_piece *p)
{
	plan->heap[at] = p;
	p->heap_at = at;
}

static void
heap_up(struct queue_plan *plan, size_t at)
{
	struct queue_piece *p = plan->heap[at];

	while (at > 0 && plan->heap[(at - 1) / 2]->when_ms > p->when_ms) {
		heap_set(plan, at, plan->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(plan, at, p);
}

static void
heap_down(struct queue_plan *plan, size_t at)
{
	struct queue_piece *p = plan->heap[at];

	for (;;) {
		size_t child = 2 * at + 1;
		if (child >= plan->heap_count)
			break;
		if (child + 1 < plan->heap_count && plan->heap[child + 1]->when_ms < plan->heap[child]->when_ms)
			child++;
		if (plan->heap[child]->when_ms >= p->when_ms)
			break;
		heap_set(plan, at, plan->heap[child]);
		at = child;
	}
	heap_set(plan, at, p);
}

static void
heap_add(struct queue_plan *plan, struct queue_piece *p)
{
	if (plan->heap_count == plan->heap_cap) {
		plan->heap_cap *= 2;
		plan->heap = mem_resize(plan->heap, plan->heap_cap, sizeof(struct queue_piece *));
	}
	heap_set(plan, plan->heap_count++, p);
	heap_up(plan, p->heap_at);
}

static void
heap_remove(struct queue_plan *plan, struct queue_piece *p)
{
	size_t at = p->heap_at;
	struct queue_piece *last = plan->heap[--plan->heap_count];

	p->heap_at = NOWHERE;
	if (last == p)
		return;
	heap_set(plan, at, last);
	heap_up(plan, at);
	heap_down(plan, last->heap_at);
}

/* ---- the ring ---- */

/* Where it belongs now. */
static struct queue_destination **
ring_of(struct queue_plan *plan, const struct queue_destination *d)
{
	if (d->here || d->ready == 0)
		return NULL;
	if (d->asleep)
		return &plan->sleeper;
	return d->out < d->window ? &plan->turn : NULL;
}

static void
ring_leave(struct queue_plan *plan, struct queue_destination *d)
{
	if (*d->ring == d)
		*d->ring = d->next == d ? NULL : d->next;
	if (plan->urgent == d)
		plan->urgent = NULL;
	d->next->previous = d->previous;
	d->previous->next = d->next;
	d->next = d->previous = NULL;
	d->ring = NULL;
}

/* At the end of the ring. */
static void
ring_enter(struct queue_destination **ring, struct queue_destination *d)
{
	d->ring = ring;
	if (*ring == NULL) {
		*ring = d->next = d->previous = d;
		return;
	}
	d->next = *ring;
	d->previous = (*ring)->previous;
	d->previous->next = d;
	d->next->previous = d;
}

static void
ring_settle(struct queue_plan *plan, struct queue_destination *d)
{
	struct queue_destination **ring = ring_of(plan, d);

	if (d->ring == ring)
		return;
	if (d->ring != NULL)
		ring_leave(plan, d);
	if (ring != NULL)
		ring_enter(ring, d);
}

/* Its destination is next, unless one was so just now; the others keep their order. */
static void
ring_hurry(struct queue_plan *plan, struct queue_destination *d)
{
	if (plan->urgent != NULL || plan->urgent_had || d->ring != &plan->turn)
		return;
	if (plan->turn != d) {
		ring_leave(plan, d);
		ring_enter(&plan->turn, d);
		plan->turn = d;
	}
	plan->urgent = d;
}

/* ---- the line ---- */

static struct queue_line *
line_of(struct queue_destination *d, int8_t priority)
{
	unsigned at = 0;

	while (at < d->line_count && d->lines[at].priority > priority)
		at++;
	if (at < d->line_count && d->lines[at].priority == priority)
		return &d->lines[at];
	d->lines = mem_resize(d->lines, d->line_count + 1, sizeof *d->lines);
	memmove(d->lines + at + 1, d->lines + at, (d->line_count - at) * sizeof *d->lines);
	d->line_count++;
	d->lines[at] = (struct queue_line){.priority = priority};
	return &d->lines[at];
}

static void
line_add(struct queue_piece *p)
{
	struct queue_line *l = line_of(p->to, p->priority);

	p->line_next = NULL;
	p->line_previous = l->last;
	if (l->last != NULL)
		l->last->line_next = p;
	else
		l->first = p;
	l->last = p;
	p->to->ready++;
}

static void
line_remove(struct queue_piece *p)
{
	struct queue_line *l = line_of(p->to, p->priority);

	if (p->line_previous != NULL)
		p->line_previous->line_next = p->line_next;
	else
		l->first = p->line_next;
	if (p->line_next != NULL)
		p->line_next->line_previous = p->line_previous;
	else
		l->last = p->line_previous;
	p->line_next = p->line_previous = NULL;
	p->to->ready--;
}

/* When it would have become ready, had it no priority. */
static int64_t
since(const struct queue_piece *p)
{
	return (int64_t)p->when_ms - (int64_t)p->priority * QUEUE_PRIORITY_MS;
}

/* The next piece of all lines, or NULL. */
static struct queue_piece *
line_first(const struct queue_destination *d)
{
	struct queue_piece *best = NULL;

	for (unsigned i = 0; i < d->line_count; i++) {
		struct queue_piece *p = d->lines[i].first;

		if (p != NULL && (best == NULL || since(p) < since(best)))
			best = p;
	}
	return best;
}

/* ---- places ---- */

static void
leave(struct queue_plan *plan, struct queue_piece *p)
{
	if (p->heap_at != NOWHERE)
		heap_remove(plan, p);
	if (p->place == QUEUE_READY)
		line_remove(p);
	if (p->place == QUEUE_OUT)
		p->to->out--;
	if (!p->to->here)
		plan->count[p->place]--;
}

static void
enter(struct queue_plan *plan, struct queue_piece *p, enum queue_place place, uint64_t when_ms)
{
	p->place = place;
	p->when_ms = when_ms;
	if (place == QUEUE_WAITING || place == QUEUE_OUT)
		heap_add(plan, p);
	if (place == QUEUE_READY)
		line_add(p);
	if (place == QUEUE_OUT)
		p->to->out++;
	if (!p->to->here)
		plan->count[place]++;
	ring_settle(plan, p->to);
	if (place == QUEUE_READY && p->priority > 0)
		ring_hurry(plan, p->to);
}

static void
move(struct queue_plan *plan, struct queue_piece *p, enum queue_place place, uint64_t when_ms)
{
	leave(plan, p);
	enter(plan, p, place, when_ms);
}

static struct queue_destination *
destination_of(struct queue_plan *plan, struct slice name)
{
	struct name_link *l = name_table_find(&plan->destinations, name);
	struct queue_destination *d;

	if (l != NULL)
		return (struct queue_destination *)((uint8_t *)l - offsetof(struct queue_destination, link));
	d = mem_new_array(1, sizeof *d + name.n);
	*d = (struct queue_destination){.window = QUEUE_WINDOW_FIRST, .here = name.n == 0};
	if (name.n > 0)
		memcpy(d->name, name.p, name.n);
	name_table_add(&plan->destinations, &d->link, slice_of(d->name, name.n));
	return d;
}

void
queue_plan_add(struct queue_plan *plan, struct queue_piece *p, struct slice name)
{
	p->to = destination_of(plan, name);
	p->to->pieces++;
	p->heap_at = NOWHERE;
	enter(plan, p, QUEUE_PARKED, 0);
}

void
queue_plan_remove(struct queue_plan *plan, struct queue_piece *p)
{
	struct queue_destination *d = p->to;

	leave(plan, p);
	d->pieces--;
	ring_settle(plan, d);
	if (d->pieces == 0) {
		name_table_remove(&plan->destinations, &d->link);
		free(d->lines);
		free(d);
	}
	p->to = NULL;
}

struct slice
queue_plan_name(const struct queue_piece *p)
{
	return p->to->link.name;
}

void
queue_plan_wait(struct queue_plan *plan, struct queue_piece *p, uint64_t when_ms)
{
	move(plan, p, QUEUE_WAITING, when_ms);
}

void
queue_plan_ready(struct queue_plan *plan, struct queue_piece *p, uint64_t now_ms)
{
	if (now_ms < p->to->asleep_until_ms) {
		move(plan, p, QUEUE_WAITING, p->to->asleep_until_ms);
	} else {
		p->to->asleep = false;
		move(plan, p, QUEUE_READY, now_ms);
	}
}

void
queue_plan_out(struct queue_plan *plan, struct queue_piece *p, uint64_t until_ms)
{
	p->end_sent = false;
	move(plan, p, QUEUE_OUT, until_ms);
}

void
queue_plan_park(struct queue_plan *plan, struct queue_piece *p)
{
	move(plan, p, QUEUE_PARKED, 0);
}

uint64_t
queue_plan_next_ms(const struct queue_plan *plan)
{
	return plan->heap_count > 0 ? plan->heap[0]->when_ms : UINT64_MAX;
}

struct queue_piece *
queue_plan_due(const struct queue_plan *plan, uint64_t now_ms)
{
	return plan->heap_count > 0 && plan->heap[0]->when_ms <= now_ms ? plan->heap[0] : NULL;
}

struct queue_piece *
queue_plan_next(struct queue_plan *plan)
{
	if (plan->turn == NULL)
		return NULL;
	struct queue_piece *p = line_first(plan->turn);

	plan->urgent_had = plan->urgent != NULL;
	plan->urgent = NULL;
	plan->turn = plan->turn->next;
	return p;
}

struct queue_piece *
queue_plan_next_here(struct queue_plan *plan)
{
	struct name_link *l = name_table_find(&plan->destinations, slice_of(NULL, 0));

	return l ? line_first(destination_of(plan, slice_of(NULL, 0))) : NULL;
}

/* ---- what destinations are like ---- */

void
queue_plan_reached(struct queue_plan *plan, struct queue_piece *p, unsigned window_max)
{
	struct queue_destination *d = p->to;

	d->answered = true;
	d->failures = 0;
	d->asleep = false;
	d->asleep_until_ms = 0;
	if (d->window < window_max)
		d->window++;
	ring_settle(plan, d);
}

unsigned
queue_plan_unreachable(struct queue_plan *plan, struct queue_piece *p)
{
	struct queue_destination *d = p->to;

	d->failures++;
	if (d->window > 1)
		d->window /= 2;
	ring_settle(plan, d);
	return d->answered && d->failures < QUEUE_FAILURES_AWAKE ? 0 : d->failures;
}

void
queue_plan_sleep(struct queue_plan *plan, struct queue_piece *p, uint64_t until_ms)
{
	p->to->asleep = true;
	p->to->asleep_until_ms = until_ms;
	p->to->window = 1;
	ring_settle(plan, p->to);
}

struct queue_piece *
queue_plan_sleeper(const struct queue_plan *plan)
{
	return plan->sleeper != NULL ? line_first(plan->sleeper) : NULL;
}

void
queue_plan_wake(struct queue_plan *plan, struct queue_piece *p)
{
	p->to->asleep = false;
	p->to->asleep_until_ms = 0;
	ring_settle(plan, p->to);
}

unsigned
queue_plan_count(const struct queue_plan *plan, enum queue_place place)
{
	return plan->count[place];
}
