/*
 * Pieces for this server's mailboxes, and reports to senders. deliver is told that something is due, and takes one after the other
 * with QUEUE_NEXT.
 */
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"

#include <unistd.h>

/* A message whose files cannot be opened waits so long. */
#define UNREADABLE_PAUSE_MS 60000
/* A piece that deliver has had so long without a word is given to it again: doing it twice does it once. */
#define OUT_MS_MAX (10u * 60 * 1000)
/* What deliver had when it ended is due soon, but not at once: if it died of this message, the next one should have its turn first. */
#define AGAIN_MS 1000

void
queue_deliver_up(void)
{
	struct edge *deliver = role_edge(ROLE_DELIVER, 0);

	/* When it cannot be told now it asks by itself as soon as its edge is up, or at the next tick. */
	if (queue_plan_next_here(queue_items_plan()))
		IPC_TELL(deliver, QUEUE_DUE, );
}

void
queue_deliver_down(void)
{
	for (const struct queue_message *m = queue_items_first(); m; m = m->next)
		for (struct queue_piece *p = m->pieces, *next; p; p = next) {
			next = p->of_message;
			if (p->place == QUEUE_OUT && queue_plan_name(p).n == 0)
				queue_piece_again(p, queue_now_ms() + AGAIN_MS);
		}
	queue_items_arm();
}

/* ---- QUEUE_NEXT ---- */

static bool
send_item(struct edge *e, uint64_t id, const struct queue_change *c, const struct queue_piece *p, int message, int summary)
{
	const struct queue_message *m = c->message;
	struct buf b;
	bool sent;

	buf_init(&b, QUEUE_ITEM_BYTES_MAX);
	sent = queue_item_encode(&c->item, &b) &&
	    IPC_SEND(e, QUEUE_ITEM, .id = id, .found = 1, .queue_id = slice_str(m->id),
		.report_id = p->report ? c->item.report_id : slice_of(NULL, 0), .item = buf_slice(&b), .bytes = m->bytes,
		.sha256 = slice_of(m->sha256, sizeof(m->sha256)), .message = message, .summary = summary);
	buf_fini(&b);
	return sent;
}

/* Gives p to deliver. False: its edge is full. */
static bool
give(struct edge *e, uint64_t id, struct queue_piece *p)
{
	struct queue_change *c = queue_change_begin(p->message);
	struct err err = {0};
	int message = -1;
	int summary = -1;
	bool sent = true;

	if (c == NULL) {
		queue_plan_wait(queue_items_plan(), p, queue_now_ms() + UNREADABLE_PAUSE_MS);
		return false;
	}
	if (queue_table_files(p->message, &message, &summary, &err) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "queue-files", LOG_CSTR("id", p->message->id), LOG_ERR(&err), LOG_END);
		queue_plan_wait(queue_items_plan(), p, queue_now_ms() + UNREADABLE_PAUSE_MS);
		sent = false;
	} else {
		sent = send_item(e, id, c, p, message, summary);
		if (sent)
			queue_piece_out(p, queue_now_ms() + OUT_MS_MAX);
	}
	queue_change_drop(c);
	if (message >= 0)
		(void)close(message);
	if (summary >= 0)
		(void)close(summary);
	return sent;
}

void
queue_on_next(struct edge *e, struct msg_QUEUE_NEXT *m)
{
	struct queue_piece *p;

	/* Each turn moves the piece away, unless the edge is full, and then it has no room for the answer below either. */
	while ((p = queue_plan_next_here(queue_items_plan())) != NULL) {
		if (give(e, m->id, p))
			return;
		if (p->place == QUEUE_READY)
			break;
	}
	IPC_TELL(e, QUEUE_ITEM, .id = m->id, .message = -1, .summary = -1);
	queue_items_arm();
}

/* ---- QUEUE_RESULT ---- */

/* The piece for mailboxes, or the one with that report. */
static struct queue_piece *
piece_out(const struct queue_message *m, struct slice report_id)
{
	struct queue_piece *p = m ? m->pieces : NULL;

	while (p != NULL && (p->place != QUEUE_OUT || queue_plan_name(p).n > 0 ||
	    !slice_eq(p->report ? slice_str(p->report->id) : slice_of(NULL, 0), report_id)))
		p = p->of_message;
	return p;
}

/* It has been tried as long as a message is. */
static bool
too_late(const struct queue_report *r)
{
	uint64_t began = smtp_queue_id_ms(slice_str(r->id));
	uint64_t now = queue_now_ms();

	return now > began && now - began > config_number(role_config(), OPT_QUEUE_LIFETIME);
}

/* The report was made, or cannot be for now, or never. */
static int
report_tried(struct queue_piece *p, enum err_class class, struct err *e)
{
	p->attempts++;
	if ((class == ERR_TEMP || class == ERR_LIMIT) && !too_late(p->report)) {
		queue_piece_again(p, queue_now_ms() + queue_pause_of(p, p->attempts));
		return 0;
	}
	if (class == ERR_TEMP || class == ERR_LIMIT)
		log_event(LOG_INFO, NO_SESSION, "report-undeliverable", LOG_CSTR("id", p->report->id), LOG_CSTR("of", p->message->id),
		    LOG_CSTR("why", "it could not be made within the queue's lifetime"), LOG_END);
	return queue_piece_reported(p, class == ERR_NONE ? "sent" : "given up", e);
}

static enum err_class
result(const struct msg_QUEUE_RESULT *r, struct err *e)
{
	struct queue_piece *p = piece_out(queue_items_find(r->queue_id), r->report_id);
	int done;

	/* That a report was made is known since it came here, when it goes to another server. */
	if (p == NULL && r->report_id.n > 0)
		return ERR_NONE;
	if (p == NULL) {
		err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such piece", "nothing of that message is out");
		return ERR_PERM;
	}
	if (p->report)
		done = report_tried(p, r->class <= ERR_BUG ? (enum err_class)r->class : ERR_TEMP, e);
	else
		done = queue_piece_tried(p, r->results, e);
	return done == 0 ? ERR_NONE : e->class;
}

void
queue_on_result(struct edge *edge, struct msg_QUEUE_RESULT *r)
{
	struct err e = {0};
	enum err_class class = result(r, &e);

	if (class != ERR_NONE)
		log_event(LOG_ERROR, NO_SESSION, "queue-result-failed", LOG_STR("id", r->queue_id), LOG_ERR(&e), LOG_END);
	if (queue_must_end())
		return;
	/* It may be durable later: a piece that is done twice is done once. */
	IPC_TELL(edge, QUEUE_RESULT_REPLY, .id = r->id, .class = class);
	queue_settle_soon();
}
