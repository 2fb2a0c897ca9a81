/*
 * queue_plan: which piece of the queue is tried when. A piece is what one message has for one destination; it waits for a time, then
 * stands in its destination's line, then is out. Each step takes logarithmic time in the number of pieces. Pure: the clock is the
 * caller's, and so are the pieces.
 *
 * In a line the earlier goes first; each step of priority (RFC 6710) counts as QUEUE_PRIORITY_MS of waiting. So what is urgent overtakes,
 * and whatever has waited so much longer is overtaken by nothing that comes any more. A destination that gets a piece with a priority over
 * 0 has the next turn, but not more than every second one, and as its window has it.
 *
 * Destinations take turns, so that a long line delays no other. As many pieces of a destination are out as its window has room for, which
 * begins small, grows with each piece that reached a server and shrinks when none could be reached. A destination without a
 * reachable server sleeps, longer each time; then one piece tries for all of them.
 *
 * A destination of which nobody knows whether it answers may take long to find out. Such ones have turns of their own, and a part of what
 * may be out: however many of them are dead, those that are known to answer have the rest.
 */
#ifndef SMTPD_QUEUE_PLAN_H
#define SMTPD_QUEUE_PLAN_H

#include "common/name_table.h"

#include <stdbool.h>

#define QUEUE_WINDOW_FIRST 1
#define QUEUE_PRIORITY_MS (10u * 60 * 1000)
/* Destinations that answered and have nothing now: so many are remembered, those that had something last. */
#define QUEUE_KNOWN_IDLE_MAX 2000
/* So many times in a row no server was reached, and the destination sleeps; at once when none ever was. */
#define QUEUE_FAILURES_AWAKE 3

enum queue_place {
	QUEUE_WAITING, /* until its time */
	QUEUE_READY,   /* in its destination's line */
	QUEUE_OUT,     /* being tried; until its time, when no word came of it */
	QUEUE_PARKED,  /* neither tried nor waiting */
};

struct queue_message;
struct queue_destination;
struct queue_report;

struct queue_piece {
	struct queue_message *message;
	struct queue_piece *of_message; /* the message's next piece */
	struct queue_piece *of_message_previous;
	struct queue_destination *to;
	struct queue_piece *line_next;
	struct queue_piece *line_previous;
	uint64_t when_ms;
	size_t heap_at;
	uint64_t id; /* while it is out */
	struct queue_report *report; /* not for a mailbox: the sender is to be told; else NULL */
	uint16_t *recipients; /* their places in the item, ascending; behind the piece */
	uint32_t attempts;
	uint16_t count;
	int8_t priority; /* the caller's, before it is added */
	enum queue_place place;
	bool end_sent; /* while it is out: it may have arrived */
};

struct queue_plan;

struct queue_plan *queue_plan_new(void);
/* All pieces have been removed. */
void queue_plan_free(struct queue_plan **plan);

/* A new piece, parked; all but its places in the plan is the caller's. name is copied: a domain in lower case, or the empty name, which
 * stands for this server: it has neither window nor turn. */
void queue_plan_add(struct queue_plan *plan, struct queue_piece *p, struct slice name);
/* Takes a piece out of the plan, wherever it is. */
void queue_plan_remove(struct queue_plan *plan, struct queue_piece *p);
struct slice queue_plan_name(const struct queue_piece *p);

/* Moves a piece, wherever it is. One that is to be ready for a destination that sleeps waits until that wakes up. */
void queue_plan_wait(struct queue_plan *plan, struct queue_piece *p, uint64_t when_ms);
void queue_plan_ready(struct queue_plan *plan, struct queue_piece *p, uint64_t now_ms);
void queue_plan_out(struct queue_plan *plan, struct queue_piece *p, uint64_t until_ms);
void queue_plan_park(struct queue_plan *plan, struct queue_piece *p);

/* When the next piece that waits or is out is due; UINT64_MAX: none. */
uint64_t queue_plan_next_ms(const struct queue_plan *plan);
/* The first piece whose time has come, or NULL. It stays where it is: the caller moves it. */
struct queue_piece *queue_plan_due(const struct queue_plan *plan, uint64_t now_ms);

/* The piece whose turn it is, of other servers' or of this one; NULL: none may go. It stays where it is. Of destinations that are not
 * known to answer at most unknown_max are out. */
struct queue_piece *queue_plan_next(struct queue_plan *plan, unsigned unknown_max);
/* Nothing is known of its destination yet. */
bool queue_plan_fresh(const struct queue_piece *p);
struct queue_piece *queue_plan_next_here(struct queue_plan *plan);

/* What a try of that piece's destination came to; it is out. window_max: the most pieces of one destination that are out. */
void queue_plan_reached(struct queue_plan *plan, struct queue_piece *p, unsigned window_max);
/*
 * Gives the number of failures in a row when the destination is to sleep, else 0. Then the caller says for how long with
 * queue_plan_sleep(). Those in its line are not tried; queue_plan_sleeper() gives them, of all that sleep, one after the other, for the
 * caller to move.
 */
unsigned queue_plan_unreachable(struct queue_plan *plan, struct queue_piece *p);
void queue_plan_sleep(struct queue_plan *plan, struct queue_piece *p, uint64_t until_ms);
struct queue_piece *queue_plan_sleeper(const struct queue_plan *plan);
/* Before then nothing of the destination of p is tried; 0: it does not sleep. */
uint64_t queue_plan_asleep_until_ms(const struct queue_piece *p);
/* The destination of p is tried again at once when p is ready. */
void queue_plan_wake(struct queue_plan *plan, struct queue_piece *p);

/* Pieces in that place, of all destinations but this server. */
unsigned queue_plan_count(const struct queue_plan *plan, enum queue_place place);

#endif
