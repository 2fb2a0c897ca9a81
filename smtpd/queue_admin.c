/*
 * The mailstead command's questions. "list": pages of JSON, one object a line (docs of the format: mailstead queue
 * list --json); arg is the last id of the page before. "show": the same of the message whose id is arg alone. The others change the
 * message whose id is arg, and tell what became of it:
 * "retry" (now; without an id: everything that waits; not what is to be sent later), "hold", "release" (what is held goes on; what is not,
 * and is to be sent later, is sent now), "delete" (nobody is told), "discard" (the sender is told that it failed).
 */
#include "common/date.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"

#include <jansson.h>
#include <stdlib.h>

#define PAGE_BYTES_MAX 60000

/* The place of the message's piece that is furthest. */
static const char *
state_of(const struct queue_message *m)
{
	static const char *const names[] = {
	    [QUEUE_WAITING] = "waiting", [QUEUE_READY] = "due", [QUEUE_OUT] = "active", [QUEUE_PARKED] = "held"};
	enum queue_place place = QUEUE_WAITING;

	if (m->held)
		return names[QUEUE_PARKED];
	if (m->release_ms > queue_now_ms())
		return "scheduled";
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

/* next_ms: when it is tried again. */
static json_t *
recipient_row(const struct queue_recipient *r, uint64_t next_ms)
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
	if (r->state == QUEUE_PENDING && next_ms > 0)
		put_date(row, "next", next_ms);
	return row;
}

/* The times of the item's recipients: as its record says, or as a piece of m that waits has it, whose destination may sleep meanwhile. */
static uint64_t *
times_of(const struct queue_message *m, const struct queue_item *item)
{
	uint64_t *times = mem_new_array(item->count + 1u, sizeof *times);

	for (unsigned i = 0; i < item->count; i++)
		times[i] = item->recipients[i].next_ms;
	for (const struct queue_piece *p = m->pieces; p; p = p->of_message)
		for (unsigned k = 0; k < p->count && p->place == QUEUE_WAITING; k++)
			times[p->recipients[k]] = p->when_ms;
	return times;
}

/* At most n of them, beginning with number `from`. */
static json_t *
recipients_of(const struct queue_message *m, const struct queue_item *item, unsigned from, unsigned n)
{
	json_t *list = json_array();
	uint64_t *times = times_of(m, item);

	for (unsigned i = from; i < item->count && i - from < n; i++)
		(void)json_array_append_new(list, recipient_row(&item->recipients[i], times[i]));
	free(times);
	return list;
}

/* *count_r: how many recipients it has in all. */
static json_t *
row_of(struct queue_message *m, unsigned from, unsigned n, unsigned *count_r)
{
	struct queue_change *c;
	json_t *row = json_object();

	*count_r = 0;
	(void)json_object_set_new(row, "id", json_string(m->id));
	(void)json_object_set_new(row, "state", json_string(state_of(m)));
	(void)json_object_set_new(row, "bytes", json_integer((json_int_t)m->bytes));
	(void)json_object_set_new(row, "attempts", json_integer(m->attempts));
	put_date(row, "added", m->added_ms);
	put_date(row, "next", next_of(m));
	if (m->release_ms > 0)
		put_date(row, "release", m->release_ms);
	if ((c = queue_change_begin(m)) != NULL) {
		(void)json_object_set_new(row, "session", text_of(c->item.session));
		(void)json_object_set_new(row, "sender", text_of(c->item.mail_from));
		(void)json_object_set_new(row, "forward_from", text_of(c->item.forward_from));
		(void)json_object_set_new(row, "requiretls", json_boolean((c->item.flags & QUEUE_REQUIRETLS) != 0));
		(void)json_object_set_new(row, "tls_optional", json_boolean((c->item.flags & QUEUE_TLS_OPTIONAL) != 0));
		(void)json_object_set_new(row, "priority", json_integer(c->item.priority));
		(void)json_object_set_new(row, "report", text_of(c->item.report_id));
		(void)json_object_set_new(row, "recipients", recipients_of(m, &c->item, from, n));
		*count_r = c->item.count;
		queue_change_drop(c);
	}
	return row;
}

/* Where a list goes on: a message, and the number of the recipient. */
struct place {
	struct queue_message *m; /* NULL: the end */
	unsigned from;
};

/* Appends one line with the next n recipients; false when the page is full. *count_r as in row_of(). */
static bool
put_row(struct buf *b, struct place at, unsigned n, unsigned *count_r)
{
	json_t *row = row_of(at.m, at.from, n, count_r);
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

/* One message on the page, or a part of one that is longer than a page: that is a page by itself. False: the page is full. */
static bool
put_message(struct buf *b, struct place *at)
{
	unsigned count;
	unsigned n = UINT16_MAX;

	while (!put_row(b, *at, n, &count)) {
		if (b->n > 0 || n == 1)
			return false;
		n = (n < count - at->from ? n : count - at->from + 1) / 2;
	}
	if (at->from + n < count) {
		at->from += n;
		return false;
	}
	*at = (struct place){.m = at->m->next};
	return true;
}

/* "" is the beginning, "ID" behind that message, "ID NUMBER" within it; when it has gone, what came before it. */
static struct place
place_of(struct slice text)
{
	struct slice number = text;
	struct slice id;
	struct place at = {.m = queue_items_first()};
	uint64_t from = 0;

	if (!slice_cut(&number, ' ', &id) || id.n == 0)
		return at;
	at.m = queue_items_find(id);
	if (at.m == NULL)
		at.m = queue_items_older(id);
	else if (number.n > 0 && slice_u64(number, UINT16_MAX, &from))
		at.from = (unsigned)from;
	else
		at.m = at.m->next;
	return at;
}

/* What fits from there on; one: of that message alone. */
static void
send_page(struct edge *e, const struct msg_QUEUE_ADMIN *q, struct place at, bool one)
{
	const struct queue_message *last = NULL;
	char text[64] = "";
	struct buf b;

	buf_init(&b, PAGE_BYTES_MAX);
	for (struct queue_message *m = at.m; m && put_message(&b, &at); m = at.m) {
		last = m;
		if (one)
			at.m = NULL;
	}
	if (at.m && at.from > 0)
		(void)snprintf(text, sizeof(text), "%s %u", at.m->id, at.from);
	else if (last)
		(void)snprintf(text, sizeof(text), "%s", last->id);
	IPC_TELL(e, QUEUE_ADMIN_REPLY, .id = q->id, .text = slice_str(text), .more = at.m != NULL && b.n > 0, .json = buf_slice(&b));
	buf_fini(&b);
}

static void
list(struct edge *e, const struct msg_QUEUE_ADMIN *q)
{
	send_page(e, q, place_of(q->arg), false);
}

/* "ID", or "ID NUMBER": from that recipient on. Nothing when it has gone. */
static void
show(struct edge *e, const struct msg_QUEUE_ADMIN *q)
{
	struct slice number = q->arg, id;
	struct place at = {.m = NULL};
	uint64_t from = 0;

	if (slice_cut(&number, ' ', &id))
		at.m = queue_items_find(id);
	if (number.n > 0 && slice_u64(number, UINT16_MAX, &from))
		at.from = (unsigned)from;
	send_page(e, q, at, true);
}

/* ---- one message ---- */

static void
answer(struct edge *e, uint64_t id, enum err_class class, const char *text)
{
	IPC_TELL(e, QUEUE_ADMIN_REPLY, .id = id, .class = class, .text = slice_str(text));
}

static void
hold(struct queue_item *item)
{
	item->flags |= QUEUE_HELD;
}

static void
release(struct queue_item *item)
{
	uint64_t now = queue_now_ms();

	if (!(item->flags & QUEUE_HELD) && item->release_ms > now)
		item->release_ms = now;
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

static void
change(struct edge *e, const struct msg_QUEUE_ADMIN *q, const struct verb *v)
{
	struct queue_message *m = queue_items_find(q->arg);
	struct queue_change *c;
	struct err err = {0};

	if (m == NULL) {
		answer(e, q->id, ERR_PERM, "no such message");
	} else if (v->not_out && queue_piece_any_out(m)) {
		answer(e, q->id, ERR_TEMP, "it is being delivered at this moment; hold it, and try again");
	} else if ((c = queue_change_begin(m)) == NULL) {
		answer(e, q->id, ERR_TEMP, "its record cannot be read");
	} else {
		bool later = c->item.release_ms > queue_now_ms();

		queue_trace(m, c->item.session, "queue-admin", LOG_CSTR("verb", v->name), LOG_END);
		v->fn(&c->item);
		bool done = queue_change_now(c, &err) == 0;
		/* Gone with this change, or it may have other times. */
		m = queue_items_find(q->arg);
		if (m != NULL && done && v->not_out)
			queue_items_stop(m);
		if (m != NULL)
			queue_items_reschedule(m);
		if (m != NULL && later && m->release_ms <= queue_now_ms())
			(void)queue_items_retry(m);
		answer(e, q->id, done ? ERR_NONE : ERR_TEMP, done ? v->done : err.client);
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
	if (slice_eq(q->verb, SLICE("show"))) {
		show(e, q);
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
