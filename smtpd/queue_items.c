/*
 * The items in memory. What is due stands in a line; deliver is told once that there is something, and takes
 * one after the other with QUEUE_NEXT. An item is changed in memory only after the change is durable.
 */
#include "common/config.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "smtpd/queue_schedule.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define ITEM_ARENA_BYTES_MAX (1u << 20)
/* The timer never sleeps longer: the wall clock may be set. */
#define TICK_MS_MAX 60000
/* An item that deliver has had so long without a word is given to it again: doing it twice does it once. */
#define OUT_MS_MAX (10u * 60 * 1000)

static struct queue_message *all;
static unsigned count;
static struct queue_message *ready_first;
static struct queue_message *ready_last;
static struct loop_timer *timer;

static uint64_t
now_ms(void)
{
	return clock_wall_us() / 1000;
}

/* ---- the list and the line ---- */

static void
list_add(struct queue_message *m)
{
	m->next = all;
	m->previous = NULL;
	if (all)
		all->previous = m;
	all = m;
	count++;
}

static void
list_remove(struct queue_message *m)
{
	if (m->previous)
		m->previous->next = m->next;
	else
		all = m->next;
	if (m->next)
		m->next->previous = m->previous;
	count--;
	queue_table_free(&m);
}

static struct queue_message *
find(struct slice id)
{
	struct queue_message *m = all;

	while (m && !slice_eq(id, slice_str(m->id)))
		m = m->next;
	return m;
}

const struct queue_message *
queue_items_first(void)
{
	return all;
}

static void
make_ready(struct queue_message *m)
{
	m->place = QUEUE_READY;
	m->ready_next = NULL;
	if (ready_first == NULL)
		ready_first = ready_last = m;
	else
		ready_last = ready_last->ready_next = m;
}

static void
tell_deliver(void)
{
	struct edge *deliver = role_edge(ROLE_DELIVER, 0);

	/* When it cannot be told now it asks by itself as soon as its edge is up, or at the next tick. */
	if (ready_first && deliver && !IPC_SEND(deliver, QUEUE_DUE, ))
		log_event(LOG_DEBUG, NO_SESSION, "queue-due-unsent", LOG_END);
}

/* ---- failures ---- */

/* Nothing on disk can be trusted: the successor reads it anew. */
static bool
must_end(void)
{
	if (!queue_table_failed())
		return false;
	log_event(LOG_ERROR, NO_SESSION, "queue-lost", LOG_CSTR("why", "a write or sync of the queue failed"), LOG_END);
	role_exit(1);
	return true;
}

static void
trace(const struct queue_message *m, const struct queue_item *item, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, LOG_LINE_BYTES_MAX);
	buf_putf(&b, " id=%s", m->id);
	log_put_fields(&b, fields);
	role_trace(item->session, event, buf_slice(&b));
	buf_fini(&b);
}
#define TRACE(m, item, event, ...) trace((m), (item), (event), (const struct log_field[]){__VA_ARGS__})

static void
trace_failed(const struct queue_message *m, const struct queue_item *item)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].state == QUEUE_FAILED)
			TRACE(m, item, "undeliverable", LOG_STR("to", item->recipients[i].address),
			    LOG_STR("text", item->recipients[i].text), LOG_END);
}

/* ---- what an item's states mean for it ---- */

/* Puts the item into m anew encoded. False when it does not fit (it did when it was added). */
static bool
set_item(struct queue_message *m, const struct queue_item *item)
{
	struct buf b;

	buf_init(&b, QUEUE_ITEM_BYTES_MAX);
	if (!queue_item_encode(item, &b)) {
		buf_fini(&b);
		return false;
	}
	free(m->item);
	m->item = mem_new_array(b.n, 1);
	m->item_bytes = b.n;
	memcpy(m->item, b.p, b.n);
	buf_fini(&b);
	return true;
}

static uint32_t
random_u32(void)
{
	uint32_t r = 0;

	if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
		r = 0;
	return r;
}

static bool
any_in(const struct queue_item *item, enum queue_state s)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].state == s)
			return true;
	return false;
}

/* Where an item belongs by the states of its recipients; false: it is done with. */
static bool
keep_item(struct queue_message *m, const struct queue_item *item)
{
	if (any_in(item, QUEUE_PENDING)) {
		m->place = QUEUE_WAITING;
		m->next_ms = now_ms() +
		    queue_pause_ms(config_number(role_config(), OPT_QUEUE_RETRY), m->attempts, random_u32());
		return true;
	}
	/* A null reverse-path has nobody to be told (RFC 5321 6.1). What failed else is kept until its
	 * lifetime ends, for the report to the sender that a later version makes of it. */
	m->place = QUEUE_PARKED;
	m->next_ms = UINT64_MAX;
	return any_in(item, QUEUE_FAILED) && item->mail_from.n > 0;
}

static void
arm(void)
{
	uint64_t now = now_ms();
	uint64_t next = now + TICK_MS_MAX;

	for (const struct queue_message *m = all; m; m = m->next)
		if ((m->place == QUEUE_WAITING || m->place == QUEUE_OUT) && m->next_ms < next)
			next = m->next_ms;
	loop_timer_set(timer, next > now ? next - now : 0);
}

/* ---- time ---- */

static void
expire_recipients(struct queue_item *item)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].state == QUEUE_PENDING) {
			item->recipients[i].state = QUEUE_FAILED;
			item->recipients[i].text = SLICE("Not deliverable within the queue's lifetime");
		}
}

/*
 * The end of its time: what was still tried has failed, and stays listed as failed for as long again; then, and when
 * there is nobody to be told, it is removed.
 */
static void
expire(struct queue_message *m)
{
	struct arena *a = arena_new(ITEM_ARENA_BYTES_MAX);
	struct queue_item item;
	struct err e = {0};
	bool keep = false;
	int done;

	if (m->place != QUEUE_PARKED && queue_item_decode(slice_of(m->item, m->item_bytes), a, &item)) {
		expire_recipients(&item);
		trace_failed(m, &item);
		keep = keep_item(m, &item) && set_item(m, &item);
	}
	done = keep ? queue_table_update(m, &e) : queue_table_remove(m, &e);
	arena_free(&a);
	if (done < 0)
		(void)must_end();
	else if (!keep)
		list_remove(m);
}

/* Past its lifetime: pending ones after a last try, failed ones after another lifetime. */
static bool
is_old(const struct queue_message *m, uint64_t now)
{
	uint64_t lifetime = config_number(role_config(), OPT_QUEUE_LIFETIME);
	uint64_t age = now > m->added_ms ? now - m->added_ms : 0;

	if (m->place == QUEUE_PARKED)
		return age / 2 > lifetime;
	return m->place == QUEUE_WAITING && m->next_ms <= now && m->attempts > 1 && age > lifetime;
}

static void
on_tick(void *arg)
{
	uint64_t now = now_ms();
	struct queue_message *next;

	(void)arg;
	for (struct queue_message *m = all; m; m = next) {
		next = m->next;
		if (is_old(m, now))
			expire(m);
		else if ((m->place == QUEUE_WAITING || m->place == QUEUE_OUT) && m->next_ms <= now)
			make_ready(m);
	}
	tell_deliver();
	arm();
}

unsigned
queue_items_retry_all(void)
{
	unsigned n = 0;

	for (struct queue_message *m = all; m; m = m->next)
		if (m->place == QUEUE_WAITING) {
			make_ready(m);
			n++;
		}
	tell_deliver();
	return n;
}

/* ---- QUEUE_ADD ---- */

/* Decodes the item of a request; what deliver sends is checked like anything that comes over an edge. */
static struct queue_message *
new_message(const struct msg_QUEUE_ADD *m, struct arena *a, struct queue_item *item_r)
{
	struct queue_message *fresh;

	if (!smtp_queue_id_valid(m->queue_id) || m->sha256.n != 32 || m->message < 0 || m->summary < 0 ||
	    !queue_item_decode(m->item, a, item_r) || find(m->queue_id) != NULL)
		return NULL;
	fresh = MEM_NEW(struct queue_message);
	memcpy(fresh->id, m->queue_id.p, SMTP_QUEUE_ID_CHARS);
	memcpy(fresh->sha256, m->sha256.p, 32);
	fresh->bytes = m->bytes;
	fresh->attempts = 1; /* deliver's own, before it came here */
	fresh->added_ms = now_ms();
	return fresh;
}

/* The same as one that is here: deliver did not hear the answer, and asks again. */
static bool
is_known(const struct msg_QUEUE_ADD *m)
{
	const struct queue_message *known = find(m->queue_id);

	return known != NULL && known->bytes == m->bytes && slice_eq(m->sha256, slice_of(known->sha256, sizeof known->sha256));
}

static enum err_class
add(const struct msg_QUEUE_ADD *m, struct err *e)
{
	struct arena *a = arena_new(ITEM_ARENA_BYTES_MAX);
	struct queue_item item;
	struct queue_message *fresh = count < QUEUE_ITEMS_MAX ? new_message(m, a, &item) : NULL;
	enum err_class class = ERR_TEMP;

	if (fresh == NULL) {
		err_set(e, ERR_LIMIT, ERR_CODE_NONE, "queue full", "%u messages, or an item that is none", count);
	} else if (set_item(fresh, &item) && keep_item(fresh, &item) &&
	    queue_table_add(fresh, m->message, m->summary, e) == 0) {
		TRACE(fresh, &item, "queued", LOG_NUM("accounts", item.count), LOG_NUM("bytes", fresh->bytes), LOG_END);
		trace_failed(fresh, &item);
		list_add(fresh);
		fresh = NULL;
		class = ERR_NONE;
	} else if (fresh->place == QUEUE_PARKED && item.mail_from.n == 0) {
		/* Only failures, and nobody to be told of them: done with at once. */
		trace_failed(fresh, &item);
		class = ERR_NONE;
	}
	queue_table_free(&fresh);
	arena_free(&a);
	return class;
}

void
queue_on_add(struct edge *edge, struct msg_QUEUE_ADD *m)
{
	struct err e = {0};
	enum err_class class = is_known(m) ? ERR_NONE : add(m, &e);

	if (class != ERR_NONE)
		log_event(LOG_ERROR, NO_SESSION, "queue-add", LOG_STR("id", m->queue_id), LOG_ERR(&e), LOG_END);
	if (must_end())
		return;
	if (!IPC_SEND(edge, QUEUE_ADDED, .id = m->id, .class = class, .code = e.code))
		log_event(LOG_WARN, NO_SESSION, "queue-answer-unsent", LOG_END);
	arm();
}

/* ---- QUEUE_NEXT ---- */

static struct queue_message *
take_ready(void)
{
	struct queue_message *m = ready_first;

	if (m)
		ready_first = m->ready_next;
	return m;
}

/* The next item whose files can be opened. One whose files cannot waits for another time. */
static struct queue_message *
next_with_files(int *message_r, int *summary_r)
{
	struct queue_message *m;
	struct err e;

	while ((m = take_ready()) != NULL) {
		if (queue_table_files(m, message_r, summary_r, &e) == 0)
			return m;
		log_event(LOG_ERROR, NO_SESSION, "queue-files", LOG_CSTR("id", m->id), LOG_ERR(&e), LOG_END);
		m->place = QUEUE_WAITING;
		m->next_ms = now_ms() + TICK_MS_MAX;
	}
	return NULL;
}

void
queue_on_next(struct edge *e, struct msg_QUEUE_NEXT *m)
{
	int message = -1;
	int summary = -1;
	struct queue_message *item = next_with_files(&message, &summary);
	bool sent;

	if (item == NULL)
		sent = IPC_SEND(e, QUEUE_ITEM, .id = m->id, .message = -1, .summary = -1);
	else
		sent = IPC_SEND(e, QUEUE_ITEM, .id = m->id, .found = 1, .queue_id = slice_str(item->id),
		    .item = slice_of(item->item, item->item_bytes), .bytes = item->bytes,
		    .sha256 = slice_of(item->sha256, sizeof(item->sha256)), .message = message, .summary = summary);
	if (item && sent) {
		item->place = QUEUE_OUT;
		item->next_ms = now_ms() + OUT_MS_MAX;
	} else if (item) {
		make_ready(item);
	}
	if (message >= 0)
		(void)close(message);
	if (summary >= 0)
		(void)close(summary);
}

/* ---- QUEUE_RESULT ---- */

static enum err_class
apply(struct queue_message *m, const struct msg_QUEUE_RESULT *r, struct arena *a, struct err *e)
{
	struct queue_item item;
	struct queue_results results;
	bool keep;
	int done;

	if (!queue_item_decode(slice_of(m->item, m->item_bytes), a, &item) ||
	    !queue_results_decode(r->results, a, &results))
		return ERR_PERM;
	(void)queue_item_apply(&item, &results);
	m->attempts++;
	keep = keep_item(m, &item);
	TRACE(m, &item, "queue-result", LOG_NUM("attempts", m->attempts),
	    LOG_CSTR("then", !keep ? "done" : m->place == QUEUE_PARKED ? "failed" : "again"), LOG_END);
	if (!any_in(&item, QUEUE_PENDING))
		trace_failed(m, &item);
	/* The item's slices point into what set_item() replaces, so it is the last thing that uses them. */
	if (!set_item(m, &item))
		return ERR_BUG;
	done = keep ? queue_table_update(m, e) : queue_table_remove(m, e);
	if (done < 0)
		return ERR_TEMP;
	if (!keep)
		list_remove(m);
	return ERR_NONE;
}

void
queue_on_result(struct edge *edge, struct msg_QUEUE_RESULT *r)
{
	struct queue_message *m = find(r->queue_id);
	struct arena *a = arena_new(ITEM_ARENA_BYTES_MAX);
	struct err e = {0};
	enum err_class class = m && m->place == QUEUE_OUT ? apply(m, r, a, &e) : ERR_PERM;

	arena_free(&a);
	if (class != ERR_NONE)
		log_event(LOG_ERROR, NO_SESSION, "queue-result-failed", LOG_STR("id", r->queue_id), LOG_ERR(&e), LOG_END);
	if (must_end())
		return;
	if (!IPC_SEND(edge, QUEUE_RESULT_REPLY, .id = r->id, .class = class))
		log_event(LOG_WARN, NO_SESSION, "queue-answer-unsent", LOG_END);
	arm();
}

/* ---- deliver comes and goes ---- */

void
queue_deliver_down(void)
{
	/* Soon, but not at once: if it died of this message, the next one should have its turn first. */
	for (struct queue_message *m = all; m; m = m->next)
		if (m->place == QUEUE_OUT) {
			m->place = QUEUE_WAITING;
			m->next_ms = now_ms() + 1000;
		}
	arm();
}

void
queue_deliver_up(void)
{
	tell_deliver();
}

/* ---- start ---- */

static void
found(struct queue_message *m)
{
	struct arena *a = arena_new(ITEM_ARENA_BYTES_MAX);
	struct queue_item item;

	if (queue_item_decode(slice_of(m->item, m->item_bytes), a, &item)) {
		m->place = any_in(&item, QUEUE_PENDING) ? QUEUE_WAITING : QUEUE_PARKED;
		list_add(m);
	} else {
		log_event(LOG_ERROR, NO_SESSION, "queue-item-damaged", LOG_CSTR("id", m->id), LOG_END);
		queue_table_free(&m);
	}
	arena_free(&a);
}

int
queue_items_init(struct err *e)
{
	timer = loop_timer_new(role_loop(), on_tick, NULL);
	if (queue_table_open(role_state_dir(), found, e) < 0)
		return -1;
	arm();
	return 0;
}
