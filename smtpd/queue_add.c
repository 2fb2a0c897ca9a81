/*
 * What comes in, and what becomes durable together: new messages wait until the loop has read all that can be read now, results too.
 * Then one wait for the disk is for all of them, and who said them is told.
 */
#include "common/config.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"
#include "smtpd/queue_schedule.h"

#include <stdlib.h>
#include <unistd.h>

/* After this time it is tried again to write what could not be written. */
#define WRITE_AGAIN_MS 1000

static struct loop_timer *settle_timer;

/* deliver tries what is for mailboxes here before it comes, but not what it hands over at once, since some of it leaves or is for later. */
static uint32_t
tried_by_deliver(const struct queue_item *item)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].attempts > 0)
			return 1;
	return 0;
}

/* Decodes the item of a request; what deliver sends is checked like anything that comes over an edge. */
static struct queue_message *
new_message(const struct msg_QUEUE_ADD *m, struct arena *a, struct queue_item *item_r)
{
	struct queue_message *fresh;

	if (!smtp_queue_id_valid(m->queue_id) || m->sha256.n != 32 || m->message < 0 || m->summary < 0 ||
	    !queue_item_decode(m->item, a, item_r) || item_r->skip > m->bytes || queue_items_find(m->queue_id) != NULL)
		return NULL;
	fresh = MEM_NEW(struct queue_message);
	memcpy(fresh->id, m->queue_id.p, SMTP_QUEUE_ID_CHARS);
	memcpy(fresh->sha256, m->sha256.p, 32);
	fresh->bytes = m->bytes;
	fresh->attempts = tried_by_deliver(item_r);
	fresh->added_ms = queue_now_ms();
	fresh->held = (item_r->flags & QUEUE_HELD) != 0;
	fresh->release_ms = item_r->release_ms;
	fresh->priority = item_r->priority;
	return fresh;
}

/* What deliver has tried waits a pause; an address that leads nowhere has failed. */
static void
first_times(struct queue_item *item)
{
	uint64_t now = queue_now_ms();
	struct buf name;

	buf_init(&name, QUEUE_ADDRESS_BYTES_MAX);
	for (uint16_t i = 0; i < item->count; i++) {
		struct queue_recipient *r = &item->recipients[i];
		r->next_ms = r->attempts > 0 ? now + queue_pause_ms(config_number(role_config(), OPT_QUEUE_RETRY), 1, 0) : item->release_ms;
		if (r->state == QUEUE_PENDING && !queue_destination(r, &name)) {
			r->state = QUEUE_FAILED;
			r->status = SLICE("5.1.2");
			r->text = SLICE("This is no domain of the Internet's mail");
		}
	}
	buf_fini(&name);
}

static bool
is_from_nobody(struct slice item)
{
	struct arena *a = arena_new(QUEUE_ITEM_ARENA_BYTES_MAX);
	struct queue_item i;
	bool nobody = queue_item_decode(item, a, &i) && i.mail_from.n == 0;

	arena_free(&a);
	return nobody;
}

/*
 * The same as one that is here, or was: deliver did not hear the answer, and asks again. A report that is made once more has the same id
 * and length, but its signatures have another time.
 */
static bool
is_known(const struct msg_QUEUE_ADD *m)
{
	const struct queue_message *known = queue_items_find(m->queue_id);

	if (known == NULL)
		return queue_items_has_gone(m->queue_id);
	if (known->bytes == m->bytes && is_from_nobody(m->item))
		return true;
	return known->bytes == m->bytes && slice_eq(m->sha256, slice_of(known->sha256, sizeof known->sha256));
}

static void
trace_failed(const struct queue_message *m, const struct queue_item *item)
{
	for (uint16_t i = 0; i < item->count; i++)
		queue_trace_failed(m, item, &item->recipients[i]);
}

/* A request that waits for those that come with it. */
struct waiting {
	struct edge *edge; /* NULL: it has gone */
	uint64_t id;
	struct queue_message *fresh;
	struct arena *arena;
	struct queue_item item;
	bool report;
	int text;
	int summary;
};

static struct waiting waiting[QUEUE_ADDS_MAX];
static unsigned waiting_count;

static void
answer(const struct waiting *w, enum err_class class, enum err_code code)
{
	IPC_TELL(w->edge, QUEUE_ADDED, .id = w->id, .class = class, .code = code);
}

/* It is there for good. */
static void
take(struct waiting *w)
{
	struct queue_message *m = w->fresh;

	w->fresh = NULL;
	queue_item_forget(m);
	queue_trace(m, w->item.session, "queued", LOG_NUM("recipients", w->item.count), LOG_NUM("bytes", m->bytes),
	    LOG_NUM("priority", m->priority), LOG_END);
	trace_failed(m, &w->item);
	queue_items_new(m);
	queue_pieces_make(m, &w->item);
	if (w->report)
		queue_piece_for_report(m, w->item.report_id);
	queue_report_came(m->id);
}

static void
end_waiting(struct waiting *w)
{
	(void)close(w->text);
	(void)close(w->summary);
	queue_table_free(&w->fresh);
	arena_free(&w->arena);
}

/* All that wait become durable together. */
static void
add_waiting(void)
{
	struct queue_add adds[QUEUE_ADDS_MAX];
	unsigned n = waiting_count;

	waiting_count = 0;
	for (unsigned i = 0; i < n; i++)
		adds[i] = (struct queue_add){.message = waiting[i].fresh, .text = waiting[i].text, .summary = waiting[i].summary};
	queue_table_add(adds, n);
	if (queue_must_end())
		return;
	for (unsigned i = 0; i < n; i++) {
		struct waiting *w = &waiting[i];
		if (adds[i].result < 0)
			log_event(LOG_ERROR, NO_SESSION, "queue-add", LOG_CSTR("id", w->fresh->id), LOG_ERR(&adds[i].error), LOG_END);
		else
			take(w);
		answer(w, adds[i].result < 0 ? ERR_TEMP : ERR_NONE, adds[i].error.code);
		end_waiting(w);
	}
}

void
queue_settle(void)
{
	struct err e = {0};
	bool written = queue_changes_write();

	if (waiting_count > 0)
		add_waiting();
	else if (queue_table_flush(&e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "queue-flush", LOG_ERR(&e), LOG_END);
	if (queue_must_end())
		return;
	if (written)
		queue_transport_taken();
	else
		loop_timer_set(settle_timer, WRITE_AGAIN_MS);
	queue_deliver_up();
	queue_transport_pump();
	queue_items_arm();
}

static void
on_settle(void *arg)
{
	(void)arg;
	queue_settle();
}

void
queue_settle_soon(void)
{
	if (settle_timer == NULL)
		settle_timer = loop_timer_new(role_loop(), on_settle, NULL);
	/* Behind all that can be read now. */
	loop_timer_set(settle_timer, 0);
}

void
queue_add_edge_down(const struct edge *edge)
{
	for (unsigned i = 0; i < waiting_count; i++)
		if (waiting[i].edge == edge)
			waiting[i].edge = NULL;
}

/* False, with class and code, when it is answered at once. */
static bool
wait_for_others(struct edge *edge, struct msg_QUEUE_ADD *m, enum err_class *class_r, struct err *e)
{
	struct waiting w = {
	    .edge = edge, .id = m->id, .arena = arena_new(QUEUE_ITEM_ARENA_BYTES_MAX), .text = m->message, .summary = m->summary};
	struct slice kept;

	*class_r = ERR_TEMP;
	if (queue_items_count() + waiting_count < QUEUE_ITEMS_MAX && arena_copy(w.arena, m->item, &kept)) {
		m->item = kept;
		w.fresh = new_message(m, w.arena, &w.item);
	}
	if (w.fresh == NULL) {
		err_set(e, ERR_LIMIT, ERR_CODE_NONE, "queue full", "%zu messages, or an item that is none", queue_items_count());
	} else {
		first_times(&w.item);
		w.report = queue_report_begin(w.fresh, &w.item, w.arena);
		if (!queue_item_keeps(&w.item)) {
			/* Nothing to try, and nobody to be told. */
			trace_failed(w.fresh, &w.item);
			*class_r = ERR_NONE;
		} else if (queue_item_set(w.fresh, &w.item)) {
			waiting[waiting_count++] = w;
			m->message = m->summary = -1;
			return true;
		}
	}
	queue_table_free(&w.fresh);
	arena_free(&w.arena);
	return false;
}

static bool
waits(struct slice queue_id)
{
	for (unsigned i = 0; i < waiting_count; i++)
		if (slice_eq(queue_id, slice_str(waiting[i].fresh->id)))
			return true;
	return false;
}

void
queue_on_add(struct edge *edge, struct msg_QUEUE_ADD *m)
{
	struct err e = {0};
	enum err_class class = ERR_NONE;

	if (waiting_count == QUEUE_ADDS_MAX || waits(m->queue_id))
		queue_settle();
	if (queue_table_failed())
		return;
	if (is_known(m) || !wait_for_others(edge, m, &class, &e)) {
		if (class != ERR_NONE)
			log_event(LOG_ERROR, NO_SESSION, "queue-add", LOG_STR("id", m->queue_id), LOG_ERR(&e), LOG_END);
		answer(&(struct waiting){.edge = edge, .id = m->id}, class, e.code);
	}
	queue_settle_soon();
}

void
queue_add_fini(void)
{
	while (waiting_count > 0)
		end_waiting(&waiting[--waiting_count]);
}
