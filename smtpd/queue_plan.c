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

/* Destinations that take turns. */
struct queue_ring {
	struct queue_destination *turn; /* NULL: it is empty */
	struct queue_destination *urgent; /* has the turn out of its order */
	bool urgent_had;		  /* the last turn was such a one */
};

struct queue_destination {
	struct name_link link;
	struct queue_ring *ring; /* NULL: it is in none */
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
	struct queue_ring known;   /* whose turn may come, and whose servers answer */
	struct queue_ring unknown; /* the others whose turn may come */
	struct queue_ring asleep;  /* with a line */
	struct queue_ring idle;	   /* known, and without a piece */
	unsigned idle_count;
	unsigned unknown_out; /* pieces that are out to destinations that are not known */
	bool unknown_had;     /* the last turn */
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

/* ---- the rings ---- */

/* A server of it was reached, the last time that one was tried. */
static bool
is_known(const struct queue_destination *d)
{
	return d->answered && d->failures == 0;
}

/* Where it belongs now. */
static struct queue_ring *
ring_of(struct queue_plan *plan, const struct queue_destination *d)
{
	if (d->here)
		return NULL;
	if (d->pieces == 0 && is_known(d))
		return &plan->idle;
	if (d->ready == 0)
		return NULL;
	if (d->asleep)
		return &plan->asleep;
	return d->out >= d->window ? NULL : is_known(d) ? &plan->known : &plan->unknown;
}

static void
ring_leave(struct queue_plan *plan, struct queue_destination *d)
{
	struct queue_ring *ring = d->ring;

	if (ring->turn == d)
		ring->turn = d->next == d ? NULL : d->next;
	if (ring->urgent == d)
		ring->urgent = NULL;
	d->next->previous = d->previous;
	d->previous->next = d->next;
	d->next = d->previous = NULL;
	d->ring = NULL;
	plan->idle_count -= ring == &plan->idle;
}

/* At the end of the ring. */
static void
ring_enter(struct queue_plan *plan, struct queue_ring *ring, struct queue_destination *d)
{
	d->ring = ring;
	plan->idle_count += ring == &plan->idle;
	if (ring->turn == NULL) {
		ring->turn = d->next = d->previous = d;
		return;
	}
	d->next = ring->turn;
	d->previous = ring->turn->previous;
	d->previous->next = d;
	d->next->previous = d;
}

static void
ring_settle(struct queue_plan *plan, struct queue_destination *d)
{
	struct queue_ring *ring = ring_of(plan, d);

	if (d->ring == ring)
		return;
	if (d->ring != NULL)
		ring_leave(plan, d);
	if (ring != NULL)
		ring_enter(plan, ring, d);
}

/* Its destination is next, unless one was so just now; the others keep their order. */
static void
ring_hurry(struct queue_plan *plan, struct queue_destination *d)
{
	struct queue_ring *ring = d->ring;

	if ((ring != &plan->known && ring != &plan->unknown) || ring->urgent != NULL || ring->urgent_had)
		return;
	if (ring->turn != d) {
		ring_leave(plan, d);
		ring_enter(plan, ring, d);
		ring->turn = d;
	}
	ring->urgent = d;
}

static struct queue_piece *
ring_next(struct queue_ring *ring)
{
	struct queue_piece *p = line_first(ring->turn);

	ring->urgent_had = ring->urgent != NULL;
	ring->urgent = NULL;
	ring->turn = ring->turn->next;
	return p;
}

/* What is known of a destination, which may be that nobody answers there. */
static void
learn(struct queue_plan *plan, struct queue_destination *d, bool answered, unsigned failures)
{
	if (!is_known(d))
		plan->unknown_out -= d->out;
	d->answered = answered;
	d->failures = failures;
	if (!is_known(d))
		plan->unknown_out += d->out;
	ring_settle(plan, d);
}

static void
count_out(struct queue_plan *plan, struct queue_destination *d, bool out)
{
	d->out = out ? d->out + 1 : d->out - 1;
	if (!d->here && !is_known(d))
		plan->unknown_out = out ? plan->unknown_out + 1 : plan->unknown_out - 1;
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
		count_out(plan, p->to, false);
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
		count_out(plan, p->to, true);
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

static void
forget(struct queue_plan *plan, struct queue_destination *d)
{
	if (d->ring != NULL)
		ring_leave(plan, d);
	name_table_remove(&plan->destinations, &d->link);
	free(d->lines);
	free(d);
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
	if (d->ring == &plan->idle) {
		d->window = QUEUE_WINDOW_FIRST;
		if (plan->idle_count > QUEUE_KNOWN_IDLE_MAX)
			forget(plan, plan->idle.turn);
	} else if (d->pieces == 0) {
		forget(plan, d);
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
queue_plan_next(struct queue_plan *plan, unsigned unknown_max)
{
	bool may = plan->unknown.turn != NULL && plan->unknown_out < unknown_max;

	/* Both have something: each second turn. */
	plan->unknown_had = may && (plan->known.turn == NULL || !plan->unknown_had);
	if (plan->unknown_had)
		return ring_next(&plan->unknown);
	return plan->known.turn != NULL ? ring_next(&plan->known) : NULL;
}

bool
queue_plan_fresh(const struct queue_piece *p)
{
	return !p->to->answered && p->to->failures == 0;
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

	d->asleep = false;
	d->asleep_until_ms = 0;
	if (d->window < window_max)
		d->window++;
	learn(plan, d, true, 0);
}

unsigned
queue_plan_unreachable(struct queue_plan *plan, struct queue_piece *p)
{
	struct queue_destination *d = p->to;

	if (d->window > 1)
		d->window /= 2;
	learn(plan, d, d->answered, d->failures + 1);
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
	return plan->asleep.turn != NULL ? line_first(plan->asleep.turn) : NULL;
}

uint64_t
queue_plan_asleep_until_ms(const struct queue_piece *p)
{
	return p->to->asleep_until_ms;
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

void
queue_plan_free(struct queue_plan **plan)
{
	if (*plan == NULL)
		return;
	while ((*plan)->idle.turn != NULL)
		forget(*plan, (*plan)->idle.turn);
	name_table_fini(&(*plan)->destinations);
	free((*plan)->heap);
	MEM_FREE(plan);
}
