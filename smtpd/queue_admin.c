/*
 * The mailstead command's questions. "list": pages of JSON, one object a line (docs of the format: mailstead queue
 * list --json); arg is the last id of the page before. The others change the message whose id is arg, and tell what became of it:
 * "retry" (now; without an id: everything that waits), "hold", "release", "delete" (nobody is told), "discard" (the sender is told that it
 * failed).
 */
#include "common/date.h"
#include "smtpd/queue.h"

#include <jansson.h>
#include <stdlib.h>

#define PAGE_BYTES_MAX 60000
#define ARENA_BYTES_MAX (1u << 20)

/* The place of the message's piece that is furthest. */
static const char *
state_of(const struct queue_message *m)
{
	static const char *const names[] = {
	    [QUEUE_WAITING] = "waiting", [QUEUE_READY] = "due", [QUEUE_OUT] = "active", [QUEUE_PARKED] = "held"};
	enum queue_place place = QUEUE_WAITING;

	if (m->held)
		return names[QUEUE_PARKED];
	for (const struct queue_piece *p = m->pieces; p; p = p->of_message)
		if (p->place != QUEUE_PARKED && p->place > place)
			place = p->place;
	return names[place];
}

/* When the next of its pieces is due. */
static uint64_t
next_of(const struct queue_message *m)
{
	uint64_t next = UINT64_MAX;

	for (const struct queue_piece *p = m->pieces; p; p = p->of_message)
		if (p->place == QUEUE_WAITING && p->when_ms < next)
			next = p->when_ms;
	return next;
}

static json_t *
text_of(struct slice s)
{
	json_t *t = json_stringn((const char *)s.p, s.n);

	/* Octets that are no UTF-8 cannot be JSON. */
	return t ? t : json_string("?");
}

static void
put_date(json_t *row, const char *key, uint64_t ms)
{
	char date[DATE_RFC3339_SIZE];

	if (ms == UINT64_MAX)
		return;
	date_rfc3339_print((int64_t)(ms / 1000), date);
	(void)json_object_set_new(row, key, json_string(date));
}

/* Of what the sender was told, or is being told. */
static json_t *
told_of(const struct queue_recipient *r)
{
	static const struct {
		uint8_t flag;
		const char *name;
	} kinds[] = {{QUEUE_REPORTED_DELAY, "delay"}, {QUEUE_REPORTED_FAILURE, "failure"}, {QUEUE_REPORTED_SUCCESS, "success"}};
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (r->flags & kinds[i].flag)
			(void)json_array_append_new(list, json_string(kinds[i].name));
	return list;
}

static json_t *
recipient_row(const struct queue_recipient *r)
{
	json_t *row = json_object();

	(void)json_object_set_new(row, "address", text_of(r->address));
	(void)json_object_set_new(row, "state", json_string(queue_state_name(r->state)));
	(void)json_object_set_new(row, "here", json_boolean(r->account != 0));
	(void)json_object_set_new(row, "attempts", json_integer(r->attempts));
	(void)json_object_set_new(row, "status", text_of(r->status));
	(void)json_object_set_new(row, "by", text_of(r->mta));
	(void)json_object_set_new(row, "text", text_of(r->text));
	(void)json_object_set_new(row, "forwarded", json_boolean((r->flags & QUEUE_FORWARDED) != 0));
	(void)json_object_set_new(row, "unsure", json_boolean((r->flags & QUEUE_UNSURE) != 0));
	(void)json_object_set_new(row, "told", told_of(r));
	if (r->state == QUEUE_PENDING && r->next_ms > 0)
		put_date(row, "next", r->next_ms);
	return row;
}

static json_t *
recipients_of(const struct queue_item *item)
{
	json_t *list = json_array();

	for (uint16_t i = 0; i < item->count; i++)
		(void)json_array_append_new(list, recipient_row(&item->recipients[i]));
	return list;
}

static json_t *
row_of(struct queue_message *m)
{
	struct queue_change c;
	json_t *row = json_object();

	(void)json_object_set_new(row, "id", json_string(m->id));
	(void)json_object_set_new(row, "state", json_string(state_of(m)));
	(void)json_object_set_new(row, "bytes", json_integer((json_int_t)m->bytes));
	(void)json_object_set_new(row, "attempts", json_integer(m->attempts));
	put_date(row, "added", m->added_ms);
	put_date(row, "next", next_of(m));
	if (queue_change_begin(&c, m)) {
		(void)json_object_set_new(row, "session", text_of(c.item.session));
		(void)json_object_set_new(row, "sender", text_of(c.item.mail_from));
		(void)json_object_set_new(row, "forward_from", text_of(c.item.forward_from));
		(void)json_object_set_new(row, "requiretls", json_boolean((c.item.flags & QUEUE_REQUIRETLS) != 0));
		(void)json_object_set_new(row, "report", text_of(c.item.report_id));
		(void)json_object_set_new(row, "recipients", recipients_of(&c.item));
		queue_change_drop(&c);
	}
	return row;
}

/* Appends one line for m; false when the page is full. */
static bool
put_row(struct buf *b, struct queue_message *m)
{
	json_t *row = row_of(m);
	char *text = json_dumps(row, JSON_COMPACT);
	bool fits = text && b->n + strlen(text) + 1 <= PAGE_BYTES_MAX;

	if (fits) {
		buf_put_str(b, text);
		buf_put_u8(b, '\n');
	}
	free(text);
	json_decref(row);
	return fits;
}

/* The first message behind the one with that id; from the beginning when it is empty, none when it has gone. */
static struct queue_message *
behind(struct slice id)
{
	struct queue_message *m;

	if (id.n == 0)
		return queue_items_first();
	m = queue_items_find(id);
	return m ? m->next : NULL;
}

static void
list(struct edge *e, const struct msg_QUEUE_ADMIN *q)
{
	struct queue_message *m = behind(q->arg);
	struct slice last = q->arg;
	struct buf b;

	buf_init(&b, PAGE_BYTES_MAX);
	/* A row that is longer than a page by itself (it cannot be: an item is smaller) would end the list. */
	for (; m && put_row(&b, m); m = m->next)
		last = slice_str(m->id);
	if (!IPC_SEND(e, QUEUE_ADMIN_REPLY, .id = q->id, .text = last, .more = m != NULL && b.n > 0, .json = buf_slice(&b)))
		log_event(LOG_WARN, NO_SESSION, "admin-answer-unsent", LOG_END);
	buf_fini(&b);
}

/* ---- one message ---- */

static void
answer(struct edge *e, uint64_t id, enum err_class class, const char *text)
{
	if (!IPC_SEND(e, QUEUE_ADMIN_REPLY, .id = id, .class = class, .text = slice_str(text)))
		log_event(LOG_WARN, NO_SESSION, "admin-answer-unsent", LOG_END);
}

static void
hold(struct queue_item *item)
{
	item->flags |= QUEUE_HELD;
}

static void
release(struct queue_item *item)
{
	item->flags &= (uint8_t)~QUEUE_HELD;
}

static void
give_up(struct queue_item *item)
{
	item->flags &= (uint8_t)~QUEUE_HELD;
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].state == QUEUE_PENDING) {
			item->recipients[i].state = QUEUE_FAILED;
			item->recipients[i].status = SLICE("5.7.1");
			item->recipients[i].mta = slice_of(NULL, 0);
			item->recipients[i].text = SLICE("The postmaster of this server has taken it out of the queue");
		}
}

/* As if it had never been: nobody is told. */
static void
forget(struct queue_item *item)
{
	give_up(item);
	queue_report_end(item);
	item->mail_from = slice_of(NULL, 0);
}

static const struct verb {
	const char *name;
	void (*fn)(struct queue_item *item);
	const char *done;
	bool not_out; /* not while a piece is being tried: nobody could say what became of it */
} verbs[] = {
    {"hold", hold, "held", false},
    {"release", release, "released", false},
    {"delete", forget, "deleted", true},
    {"discard", give_up, "given up; its sender is told", true},
};

static bool
any_out(const struct queue_message *m)
{
	for (const struct queue_piece *p = m->pieces; p; p = p->of_message)
		if (p->place == QUEUE_OUT)
			return true;
	return false;
}

static void
change(struct edge *e, const struct msg_QUEUE_ADMIN *q, const struct verb *v)
{
	struct queue_message *m = queue_items_find(q->arg);
	struct queue_change c;

	if (m == NULL) {
		answer(e, q->id, ERR_PERM, "no such message");
	} else if (v->not_out && any_out(m)) {
		answer(e, q->id, ERR_TEMP, "it is being delivered at this moment; hold it, and try again");
	} else if (!queue_change_begin(&c, m)) {
		answer(e, q->id, ERR_TEMP, "its record cannot be read");
	} else {
		queue_trace(m, c.item.session, "queue-admin", LOG_CSTR("verb", v->name), LOG_END);
		v->fn(&c.item);
		if (v->not_out)
			queue_items_stop(m);
		/* Gone with this change, or it may have other times. */
		bool done = queue_change_end(&c) == 0;
		m = queue_items_find(q->arg);
		if (m != NULL)
			queue_items_reschedule(m);
		answer(e, q->id, done ? ERR_NONE : ERR_TEMP, done ? v->done : c.error.client);
	}
	(void)queue_must_end();
}

static void
retry(struct edge *e, const struct msg_QUEUE_ADMIN *q)
{
	const struct queue_message *m = queue_items_find(q->arg);
	char text[64];

	if (q->arg.n > 0 && m == NULL) {
		answer(e, q->id, ERR_PERM, "no such message");
		return;
	}
	(void)snprintf(text, sizeof(text), "%u deliveries are tried now", queue_items_retry(m));
	answer(e, q->id, ERR_NONE, text);
}

static void
on_admin(struct edge *e, struct msg_QUEUE_ADMIN *q)
{
	if (slice_eq(q->verb, SLICE("list"))) {
		list(e, q);
		return;
	}
	if (slice_eq(q->verb, SLICE("retry"))) {
		retry(e, q);
		return;
	}
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (slice_eq(q->verb, slice_str(verbs[i].name))) {
			change(e, q, &verbs[i]);
			return;
		}
	answer(e, q->id, ERR_PERM, "no such verb");
}

const struct ipc_dispatch queue_from_admin = {.QUEUE_ADMIN = on_admin};
