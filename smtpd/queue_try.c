/*
 * What comes of a try: the states of the piece's recipients, and what is done with the piece.
 */
#include "common/config.h"
#include "common/date.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"

/* Whether that recipient is of p, whose recipients stand in ascending order as those of the item do. */
static bool
is_of(const struct queue_piece *p, const struct queue_item *item, uint32_t sequence)
{
	unsigned low = 0, high = p->count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		uint32_t found = queue_piece_recipient(p, item, middle)->sequence;

		if (found == sequence)
			return true;
		if (found < sequence)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* Drops what is said of recipients that are not of that piece. */
static void
keep_own(struct queue_results *r, const struct queue_item *item, const struct queue_piece *p)
{
	uint16_t n = 0;

	for (uint16_t i = 0; i < r->count; i++)
		if (is_of(p, item, r->v[i].sequence))
			r->v[n++] = r->v[i];
	r->count = n;
}

/* What was still tried has failed, in the words of the last try. */
static void
expire(const struct queue_item *item, const struct queue_piece *p)
{
	for (unsigned k = 0; k < p->count; k++) {
		struct queue_recipient *r = queue_piece_recipient(p, item, k);
		if (r->state != QUEUE_PENDING)
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
put_off(const struct queue_item *item, const struct queue_piece *p, uint64_t when_ms)
{
	bool any = false;

	for (unsigned k = 0; k < p->count; k++) {
		struct queue_recipient *r = queue_piece_recipient(p, item, k);
		if (r->state != QUEUE_PENDING)
			continue;
		r->attempts = p->attempts;
		r->next_ms = when_ms;
		any = true;
	}
	return any;
}

/* The item of p's message with what the results say; NULL, with p put off. */
static struct queue_change *
apply(struct queue_piece *p, struct slice encoded, struct err *e)
{
	struct queue_message *m = p->message;
	struct queue_change *c = queue_change_begin(m);
	struct queue_results results;
	struct slice kept;

	if (c == NULL) {
		err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the item of %s cannot be read", m->id);
	} else if (!arena_copy(c->arena, encoded, &kept) || !queue_results_decode(kept, c->arena, &results)) {
		err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "malformed", "results for %s", m->id);
		queue_change_drop(c);
		c = NULL;
	} else {
		keep_own(&results, &c->item, p);
		(void)queue_item_apply(&c->item, &results);
	}
	if (c == NULL)
		queue_piece_again(p, queue_now_ms() + queue_pause_of(p, 1));
	return c;
}

/* When p, which has been tried in vain, is tried again; *why_r: what says so, its own tries or its destination. */
static uint64_t
next_try(const struct queue_piece *p, const char **why_r)
{
	uint64_t when = queue_now_ms() + queue_pause_of(p, p->attempts);
	uint64_t asleep_until = queue_plan_asleep_until_ms(p);

	*why_r = asleep_until > when ? "asleep" : "attempts";
	return asleep_until > when ? asleep_until : when;
}

static void
trace_result(const struct queue_piece *p, struct slice session, uint64_t when_ms, const char *why)
{
	uint64_t now = queue_now_ms();
	char next[DATE_RFC3339_SIZE];

	date_rfc3339_print((int64_t)(when_ms / 1000), next);
	queue_trace(p->message, session, "queue-result", LOG_STR("destination", queue_piece_destination(p)),
	    LOG_NUM("attempts", p->attempts), LOG_CSTR("then", "again"),
	    LOG_NUM("pause", when_ms > now ? (when_ms - now) / 1000 : 0), LOG_CSTR("next", next), LOG_CSTR("why", why), LOG_END);
}

int
queue_piece_tried(struct queue_piece *p, struct slice encoded, struct err *e)
{
	struct queue_message *m = p->message;
	struct queue_change *c = apply(p, encoded, e);
	const char *why;
	uint64_t when;
	bool again;

	if (c == NULL)
		return -1;
	p->attempts++;
	m->attempts++;
	if (queue_past(m, OPT_QUEUE_LIFETIME))
		expire(&c->item, p);
	when = next_try(p, &why);
	again = put_off(&c->item, p, when);
	if (again)
		trace_result(p, c->item.session, when, why);
	else
		queue_trace(m, c->item.session, "queue-result", LOG_STR("destination", queue_piece_destination(p)),
		    LOG_NUM("attempts", p->attempts), LOG_CSTR("then", "done"), LOG_END);
	for (unsigned k = 0; k < p->count && !again; k++)
		queue_trace_failed(m, &c->item, queue_piece_recipient(p, &c->item, k));
	if (again)
		queue_piece_again(p, when);
	else
		queue_piece_end(p);
	queue_change_end(c);
	return 0;
}

int
queue_piece_reported(struct queue_piece *p, const char *result, struct err *e)
{
	struct queue_message *m = p->message;
	struct queue_change *c = queue_change_begin(m);

	if (c == NULL) {
		queue_piece_again(p, queue_now_ms() + queue_pause_of(p, p->attempts));
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the item of %s cannot be read", m->id);
	}
	queue_trace(m, c->item.session, "report", LOG_STR("report", c->item.report_id), LOG_STR("to", c->item.mail_from),
	    LOG_CSTR("result", result), LOG_END);
	queue_report_end(&c->item);
	queue_piece_end(p);
	queue_change_end(c);
	return 0;
}

void
queue_piece_defer(struct queue_piece *p, uint64_t when_ms)
{
	struct queue_message *m = p->message;
	struct err e = {0};

	p->attempts++;
	if (!queue_past(m, OPT_QUEUE_LIFETIME) && (m->delayed || !queue_past(m, OPT_QUEUE_DELAY_REPORT))) {
		queue_piece_again(p, when_ms);
		return;
	}
	/* Its time is over, or it is time to tell: as if it had been tried, with no result but that. */
	static const uint8_t none[2];
	if (queue_piece_tried(p, slice_of(none, sizeof none), &e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "queue-defer-failed", LOG_ERR(&e), LOG_END);
}

void
queue_report_came(const char *id)
{
	struct queue_piece *p = queue_items_report(slice_str(id));
	struct err e = {0};

	if (p != NULL && queue_piece_reported(p, "sent", &e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "queue-report", LOG_CSTR("id", id), LOG_ERR(&e), LOG_END);
}
