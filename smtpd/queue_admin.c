/*
 * The mailstead command's questions. "list": pages of JSON, one object a line (docs of the format: mailstead queue
 * list --json); arg is the last id of the page before. "retry": everything that waits is tried now.
 */
#include "common/date.h"
#include "smtpd/queue.h"

#include <jansson.h>
#include <stdlib.h>

#define PAGE_BYTES_MAX 60000
#define ARENA_BYTES_MAX (1u << 20)

static const char *
place_name(enum queue_place p)
{
	static const char *const names[] = {
	    [QUEUE_WAITING] = "waiting", [QUEUE_READY] = "due", [QUEUE_OUT] = "active", [QUEUE_PARKED] = "failed"};

	return names[p];
}

static json_t *
text_of(struct slice s)
{
	json_t *t = json_stringn((const char *)s.p, s.n);

	/* Octets that are no UTF-8 cannot be JSON. */
	return t ? t : json_string("?");
}

static json_t *
recipients_of(const struct queue_item *item)
{
	json_t *list = json_array();

	for (uint16_t i = 0; i < item->count; i++) {
		const struct queue_recipient *r = &item->recipients[i];
		(void)json_array_append_new(list, json_pack("{s:o,s:s,s:o}", "address", text_of(r->address), "state",
						      queue_state_name(r->state), "text", text_of(r->text)));
	}
	return list;
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

static json_t *
row_of(const struct queue_message *m)
{
	struct arena *a = arena_new(ARENA_BYTES_MAX);
	struct queue_item item;
	json_t *row = json_object();

	(void)json_object_set_new(row, "id", json_string(m->id));
	(void)json_object_set_new(row, "state", json_string(place_name(m->place)));
	(void)json_object_set_new(row, "bytes", json_integer((json_int_t)m->bytes));
	(void)json_object_set_new(row, "attempts", json_integer(m->attempts));
	put_date(row, "added", m->added_ms);
	put_date(row, "next", m->next_ms);
	if (queue_item_decode(slice_of(m->item, m->item_bytes), a, &item)) {
		(void)json_object_set_new(row, "session", text_of(item.session));
		(void)json_object_set_new(row, "sender", text_of(item.mail_from));
		(void)json_object_set_new(row, "requiretls", json_boolean((item.flags & QUEUE_REQUIRETLS) != 0));
		(void)json_object_set_new(row, "recipients", recipients_of(&item));
	}
	arena_free(&a);
	return row;
}

/* Appends one line for m; false when the page is full. */
static bool
put_row(struct buf *b, const struct queue_message *m)
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

/* The first message behind the one with that id; from the beginning when it is empty or has gone. */
static const struct queue_message *
behind(struct slice id)
{
	for (const struct queue_message *m = queue_items_first(); m; m = m->next)
		if (slice_eq(id, slice_str(m->id)))
			return m->next;
	return id.n == 0 ? queue_items_first() : NULL;
}

static void
list(struct edge *e, const struct msg_QUEUE_ADMIN *q)
{
	const struct queue_message *m = behind(q->arg);
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

static void
retry(struct edge *e, const struct msg_QUEUE_ADMIN *q)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%u messages are tried now", queue_items_retry_all());
	if (!IPC_SEND(e, QUEUE_ADMIN_REPLY, .id = q->id, .text = slice_str(text)))
		log_event(LOG_WARN, NO_SESSION, "admin-answer-unsent", LOG_END);
}

static void
on_admin(struct edge *e, struct msg_QUEUE_ADMIN *q)
{
	if (slice_eq(q->verb, SLICE("list")))
		list(e, q);
	else if (slice_eq(q->verb, SLICE("retry")))
		retry(e, q);
	else if (!IPC_SEND(e, QUEUE_ADMIN_REPLY, .id = q->id, .class = ERR_PERM, .text = SLICE("no such verb")))
		log_event(LOG_WARN, NO_SESSION, "admin-answer-unsent", LOG_END);
}

const struct ipc_dispatch queue_from_admin = {.QUEUE_ADMIN = on_admin};
