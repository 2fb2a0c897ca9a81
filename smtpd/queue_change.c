/*
 * An item that is open: read, changed, written. When another piece of the same message is out, a change stays open until the loop has read
 * what else there is: what comes of several pieces together changes the record once. So the work for a message is not the square of the
 * number of its destinations. What could not be written stays open too, and is written when the disk takes it; transport keeps until then
 * what it said.
 */
#include "common/config.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"

#include <assert.h>
#include <stdlib.h>

/* Changes that are open at once. When one more cannot be written the process ends, and the next one learns what they said. */
#define KEPT_MAX 64

static struct queue_change *kept[KEPT_MAX];
static unsigned kept_count;
static bool given_up; /* one had no place: the process is ending, and nothing counts as written any more */

/* ---- opening ---- */

static void
change_free(struct queue_change **c)
{
	arena_free(&(*c)->arena);
	free((*c)->octets);
	MEM_FREE(c);
}

struct queue_change *
queue_change_begin(struct queue_message *m)
{
	struct queue_change *c;
	struct err e = {0};

	if (m->change != NULL)
		return m->change;
	c = MEM_NEW(struct queue_change);
	c->message = m;
	c->arena = arena_new(QUEUE_ITEM_ARENA_BYTES_MAX);
	if (queue_table_read(m, &e) == 0) {
		struct slice octets = slice_of(m->item, m->item_bytes);

		c->octets = m->item;
		m->item = NULL;
		if (queue_item_decode(octets, c->arena, &c->item))
			return c;
	}
	log_event(LOG_ERROR, NO_SESSION, "queue-item-damaged", LOG_CSTR("id", m->id), LOG_ERR(&e), LOG_END);
	change_free(&c);
	return NULL;
}

void
queue_change_drop(struct queue_change *c)
{
	if (!c->changed)
		change_free(&c);
}

/* It is not written yet. At the limit it is no more, like all that this process knows. */
static void
keep_change(struct queue_change *c)
{
	if (c->message->change != NULL)
		return;
	if (kept_count == KEPT_MAX) {
		log_event(LOG_ERROR, NO_SESSION, "queue-lost", LOG_CSTR("why", "records of the queue cannot be written"), LOG_END);
		given_up = true;
		change_free(&c);
		role_exit(1);
		return;
	}
	c->message->change = c;
	kept[kept_count++] = c;
}

/* It is written, or given up. */
static void
close_change(struct queue_change *c)
{
	for (unsigned i = 0; i < kept_count; i++)
		if (kept[i] == c) {
			kept[i] = kept[--kept_count];
			break;
		}
	c->message->change = NULL;
	change_free(&c);
}

void
queue_change_forget(struct queue_message *m)
{
	if (m->change != NULL)
		close_change(m->change);
}

/* ---- writing ---- */

bool
queue_item_set(struct queue_message *m, const struct queue_item *item)
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

void
queue_item_forget(struct queue_message *m)
{
	free(m->item);
	m->item = NULL;
	m->item_bytes = 0;
}

static bool
any_in(const struct queue_item *item, enum queue_state s)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (item->recipients[i].state == s)
			return true;
	return false;
}

bool
queue_report_begin(struct queue_message *m, struct queue_item *item, struct arena *a)
{
	/* While another report is under way the delay has to wait. */
	bool late = !m->delayed && item->report_id.n == 0 && queue_past(m, OPT_QUEUE_DELAY_REPORT);
	char *id = arena_array(a, SMTP_QUEUE_ID_CHARS + 1, 1);

	if (late)
		m->delayed = true;
	if (id == NULL || queue_report_mark(item, late) == 0)
		return false;
	smtp_queue_id(queue_now_ms(), id);
	item->report_id = slice_str(id);
	return true;
}

bool
queue_item_keeps(const struct queue_item *item)
{
	return any_in(item, QUEUE_PENDING) || item->report_id.n > 0;
}

/* The record says what c says, or has gone with the message when nothing is left to do. c is no more, unless this fails. */
static int
write_change(struct queue_change *c, struct err *e)
{
	struct queue_message *m = c->message;
	char id[SMTP_QUEUE_ID_CHARS + 1] = "";
	bool keep;
	int r = -1;

	c->report = queue_report_begin(m, &c->item, c->arena) || c->report;
	keep = queue_item_keeps(&c->item);
	if (c->report)
		memcpy(id, c->item.report_id.p, SMTP_QUEUE_ID_CHARS);
	if (!keep)
		r = queue_table_remove(m, e);
	else if (queue_item_set(m, &c->item))
		r = queue_table_update(m, e);
	else
		err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big", "the item of %s does not fit its record", m->id);
	queue_item_forget(m);
	if (r < 0)
		return r;
	m->held = (c->item.flags & QUEUE_HELD) != 0;
	m->release_ms = c->item.release_ms;
	close_change(c);
	if (id[0] != '\0')
		queue_piece_for_report(m, slice_str(id));
	if (!keep)
		queue_items_done(m);
	return 0;
}

static void
unwritten(const struct queue_change *c, const struct err *e)
{
	log_event(LOG_ERROR, NO_SESSION, "queue-unwritten", LOG_CSTR("id", c->message->id), LOG_ERR(e), LOG_END);
}

void
queue_change_end(struct queue_change *c)
{
	struct err e = {0};

	c->changed = true;
	queue_settle_soon();
	if (queue_piece_any_out(c->message) && kept_count < KEPT_MAX) {
		keep_change(c);
	} else if (write_change(c, &e) < 0) {
		unwritten(c, &e);
		keep_change(c);
	}
}

int
queue_change_now(struct queue_change *c, struct err *e)
{
	bool others = c->changed;

	c->changed = true;
	queue_settle_soon();
	if (write_change(c, e) == 0)
		return 0;
	c->changed = others;
	queue_change_drop(c);
	return -1;
}

bool
queue_changes_write(void)
{
	struct err e = {0};
	unsigned failed = 0;

	while (kept_count > failed && !queue_table_failed()) {
		struct queue_change *c = kept[failed];

		if (write_change(c, &e) < 0) {
			unwritten(c, &e);
			failed++;
		}
	}
	return kept_count == 0 && !given_up;
}
