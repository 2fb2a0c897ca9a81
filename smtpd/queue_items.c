/*
 * The messages in memory: little of each, with one piece for each of its destinations. What they say in full stands in the index,
 * and is read when something is to be done. Nothing in memory is ahead of the disk but when a piece is tried.
 */
#include "common/config.h"
#include "common/date.h"
#include "common/dns_name.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"
#include "smtpd/queue_schedule.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

/* More than the recipients of an item and their destinations take. */
#define PENDING_BYTES_MAX (4u << 20)
/* The timer never sleeps longer: the wall clock may be set. */
#define TICK_MS_MAX 60000
/* Results that come soon after each other are told the sender together. */
#define REPORT_PAUSE_MS 1000
/* Pieces that are looked at before others have their turn. */
#define DUE_AT_ONCE 1000
/* Messages done with of which it is remembered that they were here: more than come while deliver waits for an answer. */
#define GONE_MAX 4096

static struct queue_message *all;
static struct name_table by_id;
static struct name_table reports; /* that are to be made */
static char gone[GONE_MAX][SMTP_QUEUE_ID_CHARS];
static unsigned gone_count; /* of all time */
static struct queue_plan *plan;
static struct loop_timer *timer;

uint64_t
queue_now_ms(void)
{
	return clock_wall_us() / 1000;
}

struct queue_plan *
queue_items_plan(void)
{
	return plan;
}

/* ---- the list ---- */

void
queue_items_new(struct queue_message *m)
{
	m->next = all;
	m->previous = NULL;
	if (all)
		all->previous = m;
	all = m;
	name_table_add(&by_id, &m->link, slice_str(m->id));
}

static void
piece_free(struct queue_piece **p)
{
	if ((*p)->report != NULL) {
		name_table_remove(&reports, &(*p)->report->link);
		free((*p)->report);
	}
	queue_plan_remove(plan, *p);
	MEM_FREE(p);
}

static void
list_remove(struct queue_message *m)
{
	while (m->pieces != NULL) {
		struct queue_piece *p = m->pieces;
		m->pieces = p->of_message;
		piece_free(&p);
	}
	if (m->previous)
		m->previous->next = m->next;
	else
		all = m->next;
	if (m->next)
		m->next->previous = m->previous;
	name_table_remove(&by_id, &m->link);
	queue_change_forget(m);
	queue_table_free(&m);
}

struct queue_message *
queue_items_find(struct slice id)
{
	struct name_link *l = name_table_find(&by_id, id);

	return l ? (struct queue_message *)((uint8_t *)l - offsetof(struct queue_message, link)) : NULL;
}

void
queue_items_done(struct queue_message *m)
{
	memcpy(gone[gone_count++ % GONE_MAX], m->id, SMTP_QUEUE_ID_CHARS);
	list_remove(m);
}

bool
queue_items_has_gone(struct slice id)
{
	for (unsigned i = 0; i < gone_count && i < GONE_MAX; i++)
		if (slice_eq(slice_of(gone[i], SMTP_QUEUE_ID_CHARS), id))
			return true;
	return false;
}

size_t
queue_items_count(void)
{
	return by_id.count;
}

struct queue_piece *
queue_items_report(struct slice id)
{
	struct name_link *l = name_table_find(&reports, id);

	return l ? ((struct queue_report *)((uint8_t *)l - offsetof(struct queue_report, link)))->piece : NULL;
}

struct queue_message *
queue_items_older(struct slice id)
{
	struct queue_message *m = all;

	/* The newest comes first, and ids sort by time. */
	while (m != NULL && memcmp(m->id, id.p, id.n < SMTP_QUEUE_ID_CHARS ? id.n : SMTP_QUEUE_ID_CHARS) >= 0)
		m = m->next;
	return m;
}

struct queue_message *
queue_items_first(void)
{
	return all;
}

/* ---- failures ---- */

/* Nothing on disk can be trusted: the successor reads it anew. */
bool
queue_must_end(void)
{
	if (!queue_table_failed())
		return false;
	log_event(LOG_ERROR, NO_SESSION, "queue-lost", LOG_CSTR("why", "a write or sync of the queue failed"), LOG_END);
	role_exit(1);
	return true;
}

void
queue_trace_fields(const struct queue_message *m, struct slice session, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, LOG_LINE_BYTES_MAX);
	buf_putf(&b, " id=%s", m->id);
	log_put_fields(&b, fields);
	role_trace(session, event, buf_slice(&b));
	buf_fini(&b);
}

void
queue_trace_failed(const struct queue_message *m, const struct queue_item *item, const struct queue_recipient *r)
{
	if (r->state != QUEUE_FAILED)
		return;
	queue_trace(m, item->session, "undeliverable", LOG_STR("to", r->address), LOG_STR("status", r->status), LOG_STR("by", r->mta),
	    LOG_STR("text", r->text), LOG_END);
	if (item->mail_from.n == 0 || (r->notify != 0 && !(r->notify & SMTP_NOTIFY_FAILURE)))
		log_event(LOG_INFO, item->session, "undeliverable", LOG_CSTR("id", m->id), LOG_STR("to", r->address),
		    LOG_STR("status", r->status), LOG_STR("by", r->mta), LOG_STR("text", r->text), LOG_END);
}

/* ---- pieces ---- */

bool
queue_destination(const struct queue_recipient *r, struct buf *out)
{
	struct slice domain = r->address;
	size_t at;

	buf_reset(out);
	if (r->account != 0)
		return true;
	while ((at = slice_index(domain, '@')) < domain.n)
		domain = slice_sub(domain, at + 1, domain.n);
	if (domain.n == r->address.n)
		return false;
	if (domain.n > 0 && domain.p[0] == '[') {
		buf_put_slice(out, domain);
		return !out->failed;
	}
	return dns_name_to_ascii(domain, out);
}

struct queue_recipient *
queue_piece_recipient(const struct queue_piece *p, const struct queue_item *item, unsigned k)
{
	assert(k < p->count && p->recipients[k] < item->count);
	return &item->recipients[p->recipients[k]];
}

static void
link_first(struct queue_piece *p)
{
	struct queue_message *m = p->message;

	p->of_message_previous = NULL;
	p->of_message = m->pieces;
	if (m->pieces != NULL)
		m->pieces->of_message_previous = p;
	else
		m->last_piece = p;
	m->pieces = p;
}

static void
link_last(struct queue_piece *p)
{
	struct queue_message *m = p->message;

	p->of_message = NULL;
	p->of_message_previous = m->last_piece;
	if (m->last_piece != NULL)
		m->last_piece->of_message = p;
	else
		m->pieces = p;
	m->last_piece = p;
}

static void
unlink_piece(struct queue_piece *p)
{
	if (p->of_message_previous != NULL)
		p->of_message_previous->of_message = p->of_message;
	else
		p->message->pieces = p->of_message;
	if (p->of_message != NULL)
		p->of_message->of_message_previous = p->of_message_previous;
	else
		p->message->last_piece = p->of_message_previous;
}

/* Room for count recipients is behind it. */
static struct queue_piece *
piece_new(struct queue_message *m, struct slice name, unsigned count)
{
	struct queue_piece *p = mem_new_array(1, sizeof *p + count * sizeof *p->recipients);

	*p = (struct queue_piece){.message = m, .recipients = (uint16_t *)(p + 1), .priority = m->priority};
	link_last(p);
	queue_plan_add(plan, p, name);
	return p;
}

void
queue_piece_end(struct queue_piece *p)
{
	unlink_piece(p);
	piece_free(&p);
}

void
queue_piece_out(struct queue_piece *p, uint64_t until_ms)
{
	/* Those that are out are found at once. */
	unlink_piece(p);
	link_first(p);
	queue_plan_out(plan, p, until_ms);
}

bool
queue_piece_any_out(const struct queue_message *m)
{
	return m->pieces != NULL && m->pieces->place == QUEUE_OUT;
}

static uint64_t
pause_base(const struct queue_piece *p)
{
	bool here = queue_plan_name(p).n == 0;

	return config_number(role_config(), here ? OPT_QUEUE_RETRY : OPT_QUEUE_REMOTE_RETRY);
}

uint64_t
queue_pause_of(const struct queue_piece *p, uint32_t attempts)
{
	uint32_t r = 0;

	if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
		r = 0;
	return queue_pause_ms(pause_base(p), attempts, r);
}

/*
 * p waits because its destination sleeps; it comes here once for each such sleep. For the time line alone: a dead destination may have
 * a long line.
 */
static void
record_asleep(const struct queue_piece *p)
{
	char next[DATE_RFC3339_SIZE];
	struct buf b;

	date_rfc3339_print((int64_t)(p->when_ms / 1000), next);
	const struct log_field fields[] = {LOG_CSTR("id", p->message->id), LOG_STR("destination", queue_piece_destination(p)),
	    LOG_CSTR("next", next), LOG_CSTR("why", "asleep"), LOG_END};

	buf_init(&b, LOG_LINE_BYTES_MAX);
	log_put_fields(&b, fields);
	role_record(NO_SESSION, "queue-asleep", buf_slice(&b));
	buf_fini(&b);
}

static uint64_t
pause_max(const struct queue_piece *p)
{
	return queue_pause_ms(pause_base(p), UINT32_MAX, UINT32_MAX);
}

void
queue_piece_again(struct queue_piece *p, uint64_t when_ms)
{
	uint64_t now = queue_now_ms();
	uint64_t latest = now + pause_max(p);

	if (p->place == QUEUE_OUT) {
		unlink_piece(p);
		link_last(p);
	}
	if (p->message->release_ms > latest)
		latest = p->message->release_ms;
	/* Further ahead nothing was ever put: the clock has been set back since. */
	if (when_ms > latest)
		when_ms = latest;
	if (p->message->held) {
		queue_plan_park(plan, p);
	} else if (when_ms > now) {
		queue_plan_wait(plan, p, when_ms);
	} else {
		queue_plan_ready(plan, p, now);
		if (p->place == QUEUE_WAITING)
			record_asleep(p);
	}
}

#define TLS_OPTIONAL_MARK '-'

/* A recipient with something left to try. */
struct pending {
	struct slice destination;
	uint16_t recipient;
};

static int
by_destination(const void *a, const void *b)
{
	const struct pending *left = a, *right = b;
	size_t n = left->destination.n < right->destination.n ? left->destination.n : right->destination.n;
	int order = n > 0 ? memcmp(left->destination.p, right->destination.p, n) : 0;

	if (order == 0)
		order = (left->destination.n > right->destination.n) - (left->destination.n < right->destination.n);
	return order != 0 ? order : left->recipient - right->recipient;
}

/*
 * The plan's name for where r goes. What nothing that a domain says of TLS may hold back has a line of its own: it does not wait because
 * others must (RFC 8689 4.2.2). No domain begins with the mark. False when r's address leads nowhere.
 */
static bool
plan_name(const struct queue_item *item, const struct queue_recipient *r, struct buf *destination, struct buf *name)
{
	if (!queue_destination(r, destination))
		return false;
	buf_reset(name);
	if ((item->flags & QUEUE_TLS_OPTIONAL) && destination->n > 0)
		buf_put_u8(name, TLS_OPTIONAL_MARK);
	return buf_put_slice(name, buf_slice(destination));
}

struct slice
queue_piece_destination(const struct queue_piece *p)
{
	struct slice name = queue_plan_name(p);

	return slice_sub(name, name.n > 0 && name.p[0] == TLS_OPTIONAL_MARK, name.n);
}

/* Those of item, by the plan's names of their destinations, in a. */
static unsigned
pending_of(const struct queue_item *item, struct arena *a, struct pending **list_r)
{
	struct pending *list = arena_array(a, item->count, sizeof *list);
	struct buf name, destination;
	unsigned n = 0;

	assert(list != NULL);
	buf_init(&name, QUEUE_ADDRESS_BYTES_MAX);
	buf_init(&destination, QUEUE_ADDRESS_BYTES_MAX);
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].state == QUEUE_PENDING && plan_name(item, &item->recipients[i], &destination, &name)) {
			list[n].recipient = i;
			if (!arena_copy(a, buf_slice(&name), &list[n++].destination))
				assert(false);
		}
	buf_fini(&name);
	buf_fini(&destination);
	qsort(list, n, sizeof *list, by_destination);
	*list_r = list;
	return n;
}

void
queue_pieces_make(struct queue_message *m, const struct queue_item *item)
{
	struct arena *a = arena_new(PENDING_BYTES_MAX);
	struct pending *list;
	unsigned n = pending_of(item, a, &list);

	for (unsigned i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && slice_eq(list[end].destination, list[i].destination);)
			end++;
		const struct queue_recipient *first = &item->recipients[list[i].recipient];
		struct queue_piece *p = piece_new(m, list[i].destination, end - i);

		for (unsigned k = i; k < end; k++)
			p->recipients[p->count++] = list[k].recipient;
		p->attempts = first->attempts;
		queue_piece_again(p, first->next_ms);
	}
	arena_free(&a);
}

void
queue_piece_for_report(struct queue_message *m, struct slice id)
{
	struct queue_piece *p = piece_new(m, slice_of(NULL, 0), 0);
	struct queue_report *r = MEM_NEW(struct queue_report);

	p->report = r;
	r->piece = p;
	memcpy(r->id, id.p, id.n < SMTP_QUEUE_ID_CHARS ? id.n : SMTP_QUEUE_ID_CHARS);
	name_table_add(&reports, &r->link, slice_str(r->id));
	queue_piece_again(p, queue_now_ms() + REPORT_PAUSE_MS);
}

/* ---- time ---- */

bool
queue_past(const struct queue_message *m, enum option o)
{
	uint64_t now = queue_now_ms();
	uint64_t from = m->release_ms > m->added_ms ? m->release_ms : m->added_ms;

	return now > from && now - from > config_number(role_config(), o);
}

/* The clock was set back: times that it had before are none any more. */
static void
clock_set_back(uint64_t now)
{
	log_event(LOG_WARN, NO_SESSION, "queue-clock-set-back", LOG_END);
	for (struct queue_message *m = all; m; m = m->next) {
		if (m->added_ms > now)
			m->added_ms = now;
		for (struct queue_piece *p = m->pieces; p; p = p->of_message) {
			queue_plan_wake(plan, p);
			if (p->place == QUEUE_WAITING)
				queue_piece_again(p, p->when_ms);
		}
	}
}

void
queue_items_arm(void)
{
	static uint64_t last;
	uint64_t now = queue_now_ms();
	uint64_t next;

	if (now + TICK_MS_MAX < last)
		clock_set_back(now);
	last = now;
	next = queue_plan_sleeper(plan) != NULL ? now : queue_plan_next_ms(plan);
	if (next > now + TICK_MS_MAX)
		next = now + TICK_MS_MAX;
	loop_timer_set(timer, next > now ? next - now : 0);
}

/* ---- the clock ---- */

static void
on_tick(void *arg)
{
	uint64_t now = queue_now_ms();
	struct queue_piece *p;

	(void)arg;
	for (unsigned n = 0; n < DUE_AT_ONCE; n++) {
		p = queue_plan_due(plan, now);
		if (p == NULL)
			p = queue_plan_sleeper(plan);
		if (p == NULL)
			break;
		if (p->place == QUEUE_OUT)
			log_event(LOG_WARN, NO_SESSION, "queue-piece-overdue", LOG_CSTR("id", p->message->id), LOG_END);
		queue_piece_again(p, now);
		/* Its destination sleeps. */
		if (p->place == QUEUE_WAITING)
			queue_piece_defer(p, p->when_ms);
	}
	queue_deliver_up();
	queue_transport_pump();
	queue_items_arm();
}

static unsigned
retry(const struct queue_message *m)
{
	bool early = m->release_ms > queue_now_ms();
	unsigned n = 0;

	for (struct queue_piece *p = m->pieces; p; p = p->of_message)
		if (p->place == QUEUE_WAITING && (!early || p->report)) {
			queue_plan_wake(plan, p);
			queue_plan_ready(plan, p, queue_now_ms());
			n++;
		}
	return n;
}

unsigned
queue_items_retry(const struct queue_message *m)
{
	unsigned n = 0;

	for (const struct queue_message *at = m ? m : all; at; at = m ? NULL : at->next)
		n += retry(at);
	queue_deliver_up();
	queue_transport_pump();
	return n;
}

void
queue_items_stop(struct queue_message *m)
{
	struct queue_piece *next;

	for (struct queue_piece *p = m->pieces; p; p = next) {
		next = p->of_message;
		if (!p->report)
			queue_piece_end(p);
	}
}

void
queue_items_reschedule(struct queue_message *m)
{
	for (struct queue_piece *p = m->pieces; p; p = p->of_message)
		if (p->place != QUEUE_OUT && m->held)
			queue_plan_park(plan, p);
		else if (p->place == QUEUE_PARKED)
			queue_piece_again(p, p->report ? 0 : m->release_ms);
	queue_deliver_up();
	queue_transport_pump();
}

/* ---- start ---- */

/* What an older server has left has its time in the record alone. */
static void
old_times(const struct queue_message *m, struct queue_item *item)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].next_ms == 0 && item->recipients[i].attempts == 0)
			item->recipients[i].next_ms = m->next_ms;
}

static void
found(struct queue_message *m)
{
	struct arena *a = arena_new(QUEUE_ITEM_ARENA_BYTES_MAX);
	struct queue_item item;

	if (queue_item_decode(slice_of(m->item, m->item_bytes), a, &item)) {
		old_times(m, &item);
		if (m->added_ms > queue_now_ms())
			m->added_ms = queue_now_ms();
		m->held = (item.flags & QUEUE_HELD) != 0;
		m->release_ms = item.release_ms;
		m->priority = item.priority;
		for (uint16_t i = 0; i < item.count; i++)
			m->delayed = m->delayed || (item.recipients[i].flags & QUEUE_REPORTED_DELAY) != 0;
		queue_items_new(m);
		queue_pieces_make(m, &item);
		if (item.report_id.n > 0)
			queue_piece_for_report(m, item.report_id);
		queue_item_forget(m);
	} else {
		log_event(LOG_ERROR, NO_SESSION, "queue-item-damaged", LOG_CSTR("id", m->id), LOG_END);
		queue_table_free(&m);
	}
	arena_free(&a);
}

/*
 * What failed before and was never reported: a message without anything left to try is settled now. A report that is here was made, though
 * the process ended before that was noted.
 */
static void
settle_idle(void)
{
	struct queue_message *next;

	for (struct queue_message *m = all; m; m = m->next)
		queue_report_came(m->id);

	for (struct queue_message *m = all; m; m = next) {
		struct queue_change *c;
		next = m->next;
		if (m->pieces == NULL && (c = queue_change_begin(m)) != NULL)
			queue_change_end(c);
	}
}

/* What the kernel calls the time since it was started. Empty: it does not say. */
static struct slice
boot_id(char text[QUEUE_BOOT_BYTES_MAX])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, QUEUE_BOOT_BYTES_MAX) : -1;

	if (fd >= 0)
		(void)close(fd);
	return slice_of(text, n > 0 ? (size_t)n : 0);
}

int
queue_items_init(struct err *e)
{
	char text[QUEUE_BOOT_BYTES_MAX];

	name_table_init(&by_id);
	name_table_init(&reports);
	plan = queue_plan_new();
	if (timer == NULL)
		timer = loop_timer_new(role_loop(), on_tick, NULL);
	if (queue_table_open(role_state_dir(), boot_id(text), found, e) < 0)
		return -1;
	settle_idle();
	if (queue_table_flush(e) < 0)
		return -1;
	queue_items_arm();
	return 0;
}

void
queue_items_fini(void)
{
	queue_add_fini();
	while (all != NULL)
		list_remove(all);
	if (plan != NULL) {
		name_table_fini(&by_id);
		name_table_fini(&reports);
	}
	queue_plan_free(&plan);
}
