/*
 * Pieces for other servers. transport says how many it takes at once, and tells what came of each. Which of them may have arrived without a
 * word of it is known by what it said before (TRANSPORT_DOT), and is recorded.
 */
#include "common/config.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"

#include <unistd.h>

#define UNREADABLE_PAUSE_MS 60000
/*
 * Past it transport has lost the piece, and it is given out again. A server may take five minutes for each of 100 recipients and three for
 * each block of the message (RFC 5321 4.5.3.2), and none of that may end in a second copy: 9 hours, and 25 MiB in blocks of 64 KiB 20 more.
 */
#define OUT_MS_MAX (48u * 60 * 60 * 1000)
#define AGAIN_MS 1000

static unsigned room; /* pieces that transport takes; 0: it has not said so yet */
static uint64_t last_id;

/* Results that are to be durable before transport is told so. */
#define TAKEN_MAX 1000
static uint64_t taken[TAKEN_MAX];
static unsigned taken_count;

/* ---- to transport ---- */

/* The item with the recipients of p that are pending alone. */
static bool
encode_piece(const struct queue_change *c, const struct queue_piece *p, struct buf *b)
{
	struct queue_item part = c->item;

	part.recipients = arena_array(c->arena, p->count, sizeof *part.recipients);
	part.count = 0;
	if (part.recipients == NULL)
		return false;
	for (unsigned k = 0; k < p->count; k++) {
		const struct queue_recipient *r = queue_piece_recipient(p, &c->item, k);
		if (r->state == QUEUE_PENDING)
			part.recipients[part.count++] = *r;
	}
	return queue_item_encode(&part, b);
}

static bool
send(struct edge *e, const struct queue_change *c, const struct queue_piece *p, int message)
{
	const struct queue_message *m = c->message;
	struct buf b;
	bool sent;

	buf_init(&b, QUEUE_ITEM_BYTES_MAX);
	sent = encode_piece(c, p, &b) &&
	    IPC_SEND(e, TRANSPORT_SEND, .id = last_id + 1, .session = c->item.session, .queue_id = slice_str(m->id),
		.destination = queue_piece_destination(p), .fresh = queue_plan_fresh(p), .item = buf_slice(&b), .bytes = m->bytes,
		.message = message);
	buf_fini(&b);
	return sent;
}

/* Gives p to transport. False: its edge is full. */
static bool
give(struct edge *e, struct queue_piece *p)
{
	struct queue_plan *plan = queue_items_plan();
	struct queue_change *c = queue_change_begin(p->message);
	struct err err = {0};
	int message = -1;
	bool sent = false;

	if (c == NULL) {
		queue_plan_wait(plan, p, queue_now_ms() + UNREADABLE_PAUSE_MS);
		return true;
	}
	if (queue_table_file(p->message, &message, &err) == 0) {
		sent = send(e, c, p, message);
		(void)close(message);
	} else {
		log_event(LOG_ERROR, NO_SESSION, "queue-files", LOG_CSTR("id", p->message->id), LOG_ERR(&err), LOG_END);
		queue_plan_wait(plan, p, queue_now_ms() + UNREADABLE_PAUSE_MS);
	}
	queue_change_drop(c);
	if (sent) {
		queue_piece_out(p, queue_now_ms() + OUT_MS_MAX);
		p->id = ++last_id;
	}
	return sent || message < 0;
}

void
queue_transport_pump(void)
{
	struct edge *e = role_edge(ROLE_TRANSPORT, 0);
	unsigned unknown_max = room > 1 ? room / 2 : room;
	struct queue_piece *p;

	while (e != NULL && queue_plan_count(queue_items_plan(), QUEUE_OUT) < room &&
	    (p = queue_plan_next(queue_items_plan(), unknown_max)) != NULL)
		if (!give(e, p))
			break; /* more when one comes back */
	queue_items_arm();
}

/* ---- from transport ---- */

static struct queue_piece *
piece_out(struct slice queue_id, uint64_t id)
{
	const struct queue_message *m = queue_items_find(queue_id);
	struct queue_piece *p = m ? m->pieces : NULL;

	/* Those that are out come first. */
	while (p != NULL && p->place == QUEUE_OUT && (p->id != id || queue_plan_name(p).n == 0))
		p = p->of_message;
	return p != NULL && p->place == QUEUE_OUT ? p : NULL;
}

static void
on_room(struct edge *e, struct msg_TRANSPORT_ROOM *m)
{
	(void)e;
	room = m->pieces;
	queue_transport_pump();
}

/* It has that piece from a queue before this one. */
static void
on_held(struct edge *e, struct msg_TRANSPORT_HELD *m)
{
	const struct queue_message *message = queue_items_find(m->queue_id);
	struct queue_piece *p = message ? message->pieces : NULL;

	(void)e;
	while (p != NULL && (p->report || !slice_eq(queue_piece_destination(p), m->destination)))
		p = p->of_message;
	if (p == NULL || m->destination.n == 0) {
		log_event(LOG_INFO, NO_SESSION, "transport-held-unknown", LOG_STR("id", m->queue_id), LOG_END);
		return;
	}
	/* Of several tries of one piece the last one counts. */
	if (p->place == QUEUE_OUT && p->id > m->id)
		return;
	queue_piece_out(p, queue_now_ms() + OUT_MS_MAX);
	p->id = m->id;
	p->end_sent = m->dot != 0;
	if (m->id > last_id)
		last_id = m->id;
}

static void
on_dot(struct edge *e, struct msg_TRANSPORT_DOT *m)
{
	struct queue_piece *p = piece_out(m->queue_id, m->id);

	(void)e;
	if (p != NULL)
		p->end_sent = true;
}

/* No server of its destination was reached: those in line need not find that out each by itself. */
static void
unreachable(struct queue_piece *p)
{
	struct queue_plan *plan = queue_items_plan();
	unsigned failures = queue_plan_unreachable(plan, p);
	uint64_t until;

	if (failures == 0)
		return;
	until = queue_now_ms() + queue_pause_of(p, failures);
	queue_plan_sleep(plan, p, until);
	log_event(LOG_INFO, NO_SESSION, "destination-asleep", LOG_STR("destination", queue_piece_destination(p)),
	    LOG_NUM("failures", failures), LOG_NUM("seconds", (until - queue_now_ms()) / 1000), LOG_END);
}

void
queue_transport_taken(void)
{
	struct edge *e = role_edge(ROLE_TRANSPORT, 0);

	unsigned told = 0;

	/* What does not go out now goes when the edge has drained. */
	while (e != NULL && told < taken_count && IPC_SEND(e, TRANSPORT_TAKEN, .id = taken[told]))
		told++;
	taken_count -= told;
	memmove(taken, taken + told, taken_count * sizeof *taken);
}

static void
on_result(struct edge *e, struct msg_TRANSPORT_RESULT *m)
{
	struct queue_piece *p = piece_out(m->queue_id, m->id);
	unsigned window_max = (unsigned)config_number(role_config(), OPT_QUEUE_DESTINATION_CONNECTIONS);
	struct err err = {0};

	(void)e;
	if (p == NULL) {
		log_event(LOG_INFO, NO_SESSION, "transport-result-unknown", LOG_STR("id", m->queue_id), LOG_END);
	} else if (m->reached == TRANSPORT_RETURNED) {
		queue_piece_again(p, queue_now_ms() + AGAIN_MS);
	} else {
		if (m->reached == TRANSPORT_UNREACHABLE)
			unreachable(p);
		else
			queue_plan_reached(queue_items_plan(), p, window_max);
		if (queue_piece_tried(p, m->results, &err) < 0)
			log_event(LOG_ERROR, NO_SESSION, "queue-result-failed", LOG_STR("id", m->queue_id), LOG_ERR(&err), LOG_END);
	}
	if (taken_count == TAKEN_MAX)
		queue_settle();
	/* Its edge has been full for long: transport says that one again to the next queue. */
	if (taken_count == TAKEN_MAX)
		log_event(LOG_WARN, NO_SESSION, "transport-taken-unsent", LOG_END);
	else
		taken[taken_count++] = m->id;
	queue_settle_soon();
}

/* ---- transport has ended ---- */

/* Its end was sent: another server may have it, and it is tried again all the same, so that nothing is lost (RFC 5321 4.2.5). */
static void
cut(struct queue_piece *p)
{
	struct queue_change *c = queue_change_begin(p->message);

	if (c == NULL)
		return;
	for (unsigned k = 0; k < p->count; k++)
		if (queue_piece_recipient(p, &c->item, k)->state == QUEUE_PENDING)
			queue_piece_recipient(p, &c->item, k)->flags |= QUEUE_UNSURE;
	queue_trace(c->message, c->item.session, "reply-lost", LOG_STR("destination", queue_piece_destination(p)),
	    LOG_CSTR("text", "The message was sent, its reply is not known; it is sent again"), LOG_END);
	queue_change_end(c);
}

void
queue_transport_down(void)
{
	room = 0;
	taken_count = 0;
	for (const struct queue_message *m = queue_items_first(); m; m = m->next)
		for (struct queue_piece *p = m->pieces, *next; p; p = next) {
			next = p->of_message;
			if (p->place != QUEUE_OUT || queue_plan_name(p).n == 0)
				continue;
			bool end_sent = p->end_sent;
			queue_piece_again(p, queue_now_ms() + AGAIN_MS);
			if (end_sent)
				cut(p);
		}
	queue_items_arm();
}

const struct ipc_dispatch queue_from_transport = {
    .TRANSPORT_ROOM = on_room,
    .TRANSPORT_HELD = on_held,
    .TRANSPORT_DOT = on_dot,
    .TRANSPORT_RESULT = on_result,
};
