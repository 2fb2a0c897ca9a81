/*
 * The messages in memory: little of each, with one piece for each of its destinations. What they say in full stands in the index,
 * and is read when something is to be done. Nothing in memory is ahead of the disk but when a piece is tried.
 */
#include "common/config.h"
#include "common/dns_name.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "smtpd/queue_schedule.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define ITEM_ARENA_BYTES_MAX (1u << 20)
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
static struct loop_timer *settle_timer;

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

static void
list_add(struct queue_message *m)
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
	queue_table_free(&m);
}

struct queue_message *
queue_items_find(struct slice id)
{
	struct name_link *l = name_table_find(&by_id, id);

	return l ? (struct queue_message *)((uint8_t *)l - offsetof(struct queue_message, link)) : NULL;
}

static void
remember_gone(const struct queue_message *m)
{
	memcpy(gone[gone_count++ % GONE_MAX], m->id, SMTP_QUEUE_ID_CHARS);
}

static bool
has_gone(struct slice id)
{
	for (unsigned i = 0; i < gone_count && i < GONE_MAX; i++)
		if (slice_eq(slice_of(gone[i], SMTP_QUEUE_ID_CHARS), id))
			return true;
	return false;
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

static void
trace_failed(const struct queue_message *m, const struct queue_item *item)
{
	for (uint16_t i = 0; i < item->count; i++) {
		const struct queue_recipient *r = &item->recipients[i];
		if (r->state == QUEUE_FAILED)
			queue_trace(m, item->session, "undeliverable", LOG_STR("to", r->address), LOG_STR("status", r->status),
			    LOG_STR("by", r->mta), LOG_STR("text", r->text), LOG_END);
	}
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

bool
queue_of_piece(const struct queue_recipient *r, const struct queue_piece *p)
{
	struct buf b;
	bool same;

	buf_init(&b, QUEUE_ADDRESS_BYTES_MAX);
	same = !p->report && queue_destination(r, &b) && slice_eq(buf_slice(&b), queue_plan_name(p));
	buf_fini(&b);
	return same;
}

static struct queue_piece *
piece_new(struct queue_message *m, struct slice name)
{
	struct queue_piece *p = MEM_NEW(struct queue_piece);

	p->message = m;
	p->of_message = m->pieces;
	m->pieces = p;
	queue_plan_add(plan, p, name);
	return p;
}

static struct queue_piece *
piece_of(const struct queue_message *m, struct slice name)
{
	struct queue_piece *p = m->pieces;

	while (p != NULL && (p->report || !slice_eq(queue_plan_name(p), name)))
		p = p->of_message;
	return p;
}

void
queue_piece_end(struct queue_piece *p)
{
	struct queue_piece **at = &p->message->pieces;

	while (*at != p)
		at = &(*at)->of_message;
	*at = p->of_message;
	piece_free(&p);
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

static uint64_t
pause_max(const struct queue_piece *p)
{
	return queue_pause_ms(pause_base(p), UINT32_MAX, UINT32_MAX);
}

void
queue_piece_again(struct queue_piece *p, uint64_t when_ms)
{
	uint64_t now = queue_now_ms();
	uint64_t longest = pause_max(p);

	/* Further ahead nothing was ever put: the clock has been set back since. */
	if (when_ms > now + longest)
		when_ms = now + longest;
	if (p->message->held)
		queue_plan_park(plan, p);
	else if (when_ms <= now)
		queue_plan_ready(plan, p, now);
	else
		queue_plan_wait(plan, p, when_ms);
}

/* A piece for each destination that has something left to try. */
static void
make_pieces(struct queue_message *m, const struct queue_item *item)
{
	struct buf name;

	buf_init(&name, QUEUE_ADDRESS_BYTES_MAX);
	for (uint16_t i = 0; i < item->count; i++) {
		const struct queue_recipient *r = &item->recipients[i];
		if (r->state != QUEUE_PENDING || !queue_destination(r, &name))
			continue;
		struct queue_piece *p = piece_of(m, buf_slice(&name));
		if (p == NULL) {
			p = piece_new(m, buf_slice(&name));
			p->attempts = r->attempts;
			queue_piece_again(p, r->next_ms);
		}
	}
	buf_fini(&name);
}

/* The report that the item names is made by deliver. */
static void
make_report_piece(struct queue_message *m, struct slice id)
{
	struct queue_piece *p = piece_new(m, slice_of(NULL, 0));
	struct queue_report *r = MEM_NEW(struct queue_report);

	p->report = r;
	r->piece = p;
	memcpy(r->id, id.p, id.n < SMTP_QUEUE_ID_CHARS ? id.n : SMTP_QUEUE_ID_CHARS);
	name_table_add(&reports, &r->link, slice_str(r->id));
	queue_piece_again(p, queue_now_ms() + REPORT_PAUSE_MS);
}

/* ---- time ---- */

static bool
past(const struct queue_message *m, enum option o)
{
	uint64_t now = queue_now_ms();

	return now > m->added_ms && now - m->added_ms > config_number(role_config(), o);
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
	next = queue_plan_next_ms(plan);
	if (next > now + TICK_MS_MAX)
		next = now + TICK_MS_MAX;
	loop_timer_set(timer, next > now ? next - now : 0);
}

/* ---- a change ---- */

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

static void
forget_item(struct queue_message *m)
{
	free(m->item);
	m->item = NULL;
	m->item_bytes = 0;
}

bool
queue_change_begin(struct queue_change *c, struct queue_message *m)
{
	*c = (struct queue_change){.message = m, .arena = arena_new(ITEM_ARENA_BYTES_MAX)};
	if (queue_table_read(m, &c->error) == 0 && queue_item_decode(slice_of(m->item, m->item_bytes), c->arena, &c->item))
		return true;
	log_event(LOG_ERROR, NO_SESSION, "queue-item-damaged", LOG_CSTR("id", m->id), LOG_ERR(&c->error), LOG_END);
	queue_change_drop(c);
	return false;
}

void
queue_change_drop(struct queue_change *c)
{
	arena_free(&c->arena);
	forget_item(c->message);
}

static bool
any_in(const struct queue_item *item, enum queue_state s)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].state == s)
			return true;
	return false;
}

/* The sender is to be told, or need not be. True: a report begins with this change. */
static bool
begin_report(struct queue_message *m, struct queue_item *item, struct arena *a)
{
	/* While another report is under way the delay has to wait. */
	bool late = !m->delayed && item->report_id.n == 0 && past(m, OPT_QUEUE_DELAY_REPORT);
	char *id = arena_array(a, SMTP_QUEUE_ID_CHARS + 1, 1);

	if (late)
		m->delayed = true;
	if (id == NULL || queue_report_mark(item, late) == 0)
		return false;
	smtp_queue_id(queue_now_ms(), id);
	item->report_id = slice_str(id);
	return true;
}

/* Something is left to do. */
static bool
keeps(const struct queue_item *item)
{
	return any_in(item, QUEUE_PENDING) || item->report_id.n > 0;
}

int
queue_change_end(struct queue_change *c)
{
	struct queue_message *m = c->message;
	bool report = begin_report(m, &c->item, c->arena);
	bool keep = keeps(&c->item);
	char id[SMTP_QUEUE_ID_CHARS + 1] = "";
	int r = -1;

	m->held = (c->item.flags & QUEUE_HELD) != 0;
	if (report)
		memcpy(id, c->item.report_id.p, SMTP_QUEUE_ID_CHARS);
	if (!keep)
		r = queue_table_remove(m, &c->error);
	else if (set_item(m, &c->item))
		r = queue_table_update(m, &c->error);
	queue_change_drop(c);
	queue_items_settle_soon();
	if (r == 0 && report)
		make_report_piece(m, slice_str(id));
	if (r == 0 && !keep) {
		remember_gone(m);
		list_remove(m);
	}
	return r;
}

/* ---- what comes of a try ---- */

static struct queue_recipient *
recipient_of(struct queue_item *item, uint32_t sequence)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].sequence == sequence)
			return &item->recipients[i];
	return NULL;
}

/* Drops what is said of recipients that are not of that piece. */
static void
keep_own(struct queue_results *r, struct queue_item *item, const struct queue_piece *p)
{
	uint16_t n = 0;

	for (uint16_t i = 0; i < r->count; i++) {
		const struct queue_recipient *to = recipient_of(item, r->v[i].sequence);
		if (to != NULL && queue_of_piece(to, p))
			r->v[n++] = r->v[i];
	}
	r->count = n;
}

/* What was still tried has failed, in the words of the last try. */
static void
expire(struct queue_item *item, const struct queue_piece *p)
{
	for (uint16_t i = 0; i < item->count; i++) {
		struct queue_recipient *r = &item->recipients[i];
		if (r->state != QUEUE_PENDING || !queue_of_piece(r, p))
			continue;
		r->state = QUEUE_FAILED;
		if (r->text.n == 0)
			r->text = SLICE("Not deliverable within the queue's lifetime");
		if (r->status.n == 0)
			r->status = SLICE("4.4.7");
	}
}

/* The recipients of p that are pending still wait until then. False: there is none. */
static bool
put_off(struct queue_item *item, const struct queue_piece *p, uint64_t when_ms)
{
	bool any = false;

	for (uint16_t i = 0; i < item->count; i++) {
		struct queue_recipient *r = &item->recipients[i];
		if (r->state != QUEUE_PENDING || !queue_of_piece(r, p))
			continue;
		r->attempts = p->attempts;
		r->next_ms = when_ms;
		any = true;
	}
	return any;
}

int
queue_piece_tried(struct queue_piece *p, struct slice encoded, struct err *e)
{
	struct queue_message *m = p->message;
	struct queue_results results;
	struct queue_change c;
	uint64_t when;
	bool again;
	int r;

	if (!queue_change_begin(&c, m)) {
		queue_piece_again(p, queue_now_ms() + queue_pause_of(p, 1));
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the item of %s cannot be read", m->id);
	}
	if (!queue_results_decode(encoded, c.arena, &results)) {
		queue_change_drop(&c);
		queue_piece_again(p, queue_now_ms() + queue_pause_of(p, 1));
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "malformed", "results for %s", m->id);
	}
	keep_own(&results, &c.item, p);
	(void)queue_item_apply(&c.item, &results);
	p->attempts++;
	m->attempts++;
	if (past(m, OPT_QUEUE_LIFETIME))
		expire(&c.item, p);
	when = queue_now_ms() + queue_pause_of(p, p->attempts);
	again = put_off(&c.item, p, when);
	queue_trace(m, c.item.session, "queue-result", LOG_STR("destination", queue_plan_name(p)), LOG_NUM("attempts", p->attempts),
	    LOG_CSTR("then", again ? "again" : "done"), LOG_NUM("pause", again ? (when - queue_now_ms()) / 1000 : 0), LOG_END);
	if (!again)
		trace_failed(m, &c.item);
	if (again)
		queue_piece_again(p, when);
	else
		queue_piece_end(p);
	r = queue_change_end(&c);
	if (r < 0)
		*e = c.error;
	return r;
}

int
queue_piece_reported(struct queue_piece *p, const char *result, struct err *e)
{
	struct queue_message *m = p->message;
	struct queue_change c;

	if (!queue_change_begin(&c, m)) {
		queue_piece_again(p, queue_now_ms() + queue_pause_of(p, p->attempts));
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the item of %s cannot be read", m->id);
	}
	queue_trace(m, c.item.session, "report", LOG_STR("report", c.item.report_id), LOG_STR("to", c.item.mail_from),
	    LOG_CSTR("result", result), LOG_END);
	queue_report_end(&c.item);
	queue_piece_end(p);
	if (queue_change_end(&c) == 0)
		return 0;
	*e = c.error;
	return -1;
}

void
queue_piece_defer(struct queue_piece *p, uint64_t when_ms)
{
	struct queue_message *m = p->message;
	struct err e = {0};

	p->attempts++;
	if (!past(m, OPT_QUEUE_LIFETIME) && (m->delayed || !past(m, OPT_QUEUE_DELAY_REPORT))) {
		queue_piece_again(p, when_ms);
		return;
	}
	/* Its time is over, or it is time to tell: as if it had been tried, with no result but that. */
	static const uint8_t none[2];
	if (queue_piece_tried(p, slice_of(none, sizeof none), &e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "queue-defer-failed", LOG_ERR(&e), LOG_END);
}

/* ---- the clock ---- */

static void
on_tick(void *arg)
{
	uint64_t now = queue_now_ms();
	struct queue_piece *p;

	(void)arg;
	for (unsigned n = 0; n < DUE_AT_ONCE && (p = queue_plan_due(plan, now)) != NULL; n++) {
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
	unsigned n = 0;

	for (struct queue_piece *p = m->pieces; p; p = p->of_message)
		if (p->place == QUEUE_WAITING) {
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
			queue_plan_ready(plan, p, queue_now_ms());
	queue_deliver_up();
	queue_transport_pump();
}

/* ---- QUEUE_ADD ---- */

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
	fresh->attempts = 1; /* deliver's own, before it came here */
	fresh->added_ms = queue_now_ms();
	fresh->held = (item_r->flags & QUEUE_HELD) != 0;
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
		r->next_ms = r->attempts > 0 ? now + queue_pause_ms(config_number(role_config(), OPT_QUEUE_RETRY), 1, 0) : 0;
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
	struct arena *a = arena_new(ITEM_ARENA_BYTES_MAX);
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
		return has_gone(m->queue_id);
	if (known->bytes == m->bytes && is_from_nobody(m->item))
		return true;
	return known->bytes == m->bytes && slice_eq(m->sha256, slice_of(known->sha256, sizeof known->sha256));
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
	if (w->edge && !IPC_SEND(w->edge, QUEUE_ADDED, .id = w->id, .class = class, .code = code))
		log_event(LOG_WARN, NO_SESSION, "queue-answer-unsent", LOG_END);
}

/* When that message is a report, it is made: whatever deliver says of it, it is not to be made again. */
static void
report_came(const char *id)
{
	struct name_link *l = name_table_find(&reports, slice_str(id));
	struct err e = {0};

	if (l == NULL)
		return;
	struct queue_report *r = (struct queue_report *)((uint8_t *)l - offsetof(struct queue_report, link));
	if (queue_piece_reported(r->piece, "sent", &e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "queue-report", LOG_CSTR("id", id), LOG_ERR(&e), LOG_END);
}

/* It is there for good. */
static void
take(struct waiting *w)
{
	struct queue_message *m = w->fresh;

	w->fresh = NULL;
	forget_item(m);
	queue_trace(m, w->item.session, "queued", LOG_NUM("recipients", w->item.count), LOG_NUM("bytes", m->bytes), LOG_END);
	trace_failed(m, &w->item);
	list_add(m);
	make_pieces(m, &w->item);
	if (w->report)
		make_report_piece(m, w->item.report_id);
	report_came(m->id);
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
queue_items_settle(void)
{
	struct err e = {0};

	if (waiting_count > 0)
		add_waiting();
	else if (queue_table_flush(&e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "queue-flush", LOG_ERR(&e), LOG_END);
	if (queue_must_end())
		return;
	queue_transport_taken();
	queue_deliver_up();
	queue_transport_pump();
	queue_items_arm();
}

static void
on_settle(void *arg)
{
	(void)arg;
	queue_items_settle();
}

void
queue_items_settle_soon(void)
{
	/* Behind all that can be read now. */
	loop_timer_set(settle_timer, 0);
}

void
queue_items_edge_down(const struct edge *edge)
{
	for (unsigned i = 0; i < waiting_count; i++)
		if (waiting[i].edge == edge)
			waiting[i].edge = NULL;
}

/* False, with class and code, when it is answered at once. */
static bool
wait_for_others(struct edge *edge, struct msg_QUEUE_ADD *m, enum err_class *class_r, struct err *e)
{
	struct waiting w = {.edge = edge, .id = m->id, .arena = arena_new(ITEM_ARENA_BYTES_MAX), .text = m->message, .summary = m->summary};
	struct slice kept;

	*class_r = ERR_TEMP;
	if (by_id.count + waiting_count < QUEUE_ITEMS_MAX && arena_copy(w.arena, m->item, &kept)) {
		m->item = kept;
		w.fresh = new_message(m, w.arena, &w.item);
	}
	if (w.fresh == NULL) {
		err_set(e, ERR_LIMIT, ERR_CODE_NONE, "queue full", "%zu messages, or an item that is none", by_id.count);
	} else {
		first_times(&w.item);
		w.report = begin_report(w.fresh, &w.item, w.arena);
		if (!keeps(&w.item)) {
			/* Nothing to try, and nobody to be told. */
			trace_failed(w.fresh, &w.item);
			*class_r = ERR_NONE;
		} else if (set_item(w.fresh, &w.item)) {
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
		queue_items_settle();
	if (queue_table_failed())
		return;
	if (is_known(m) || !wait_for_others(edge, m, &class, &e)) {
		if (class != ERR_NONE)
			log_event(LOG_ERROR, NO_SESSION, "queue-add", LOG_STR("id", m->queue_id), LOG_ERR(&e), LOG_END);
		answer(&(struct waiting){.edge = edge, .id = m->id}, class, e.code);
	}
	queue_items_settle_soon();
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
	struct arena *a = arena_new(ITEM_ARENA_BYTES_MAX);
	struct queue_item item;

	if (queue_item_decode(slice_of(m->item, m->item_bytes), a, &item)) {
		old_times(m, &item);
		if (m->added_ms > queue_now_ms())
			m->added_ms = queue_now_ms();
		m->held = (item.flags & QUEUE_HELD) != 0;
		for (uint16_t i = 0; i < item.count; i++)
			m->delayed = m->delayed || (item.recipients[i].flags & QUEUE_REPORTED_DELAY) != 0;
		list_add(m);
		make_pieces(m, &item);
		if (item.report_id.n > 0)
			make_report_piece(m, item.report_id);
		forget_item(m);
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
		report_came(m->id);

	for (struct queue_message *m = all; m; m = next) {
		struct queue_change c;
		next = m->next;
		if (m->pieces == NULL && queue_change_begin(&c, m) && queue_change_end(&c) < 0)
			log_event(LOG_ERROR, NO_SESSION, "queue-settle", LOG_ERR(&c.error), LOG_END);
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
	if (timer == NULL) {
		timer = loop_timer_new(role_loop(), on_tick, NULL);
		settle_timer = loop_timer_new(role_loop(), on_settle, NULL);
	}
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
	while (waiting_count > 0)
		end_waiting(&waiting[--waiting_count]);
	while (all != NULL)
		list_remove(all);
	if (plan != NULL) {
		name_table_fini(&by_id);
		name_table_fini(&reports);
	}
	queue_plan_free(&plan);
}
