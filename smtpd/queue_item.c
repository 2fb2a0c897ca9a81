#include "smtpd/queue_item.h"

#include "common/cursor.h"
#include "smtpd/smtp_id.h"

/* The least octets that one entry takes, to bound what a count can make us allocate. */
#define RECIPIENT_BYTES_MIN (8 + 4 + 1 + 1 + 4 + 4)
#define RESULT_BYTES_MIN ((size_t)(4 + 1 + 1 + 4 + 4 + 4))

const char *
queue_state_name(enum queue_state s)
{
	static const char *const names[] = {
	    [QUEUE_PENDING] = "pending", [QUEUE_DONE] = "done", [QUEUE_FAILED] = "failed"};

	return (unsigned)s <= QUEUE_STATE_LAST && names[s] != NULL ? names[s] : "unknown";
}

/* What an item takes without its recipients, at most. */
#define HEAD_BYTES_MAX (1 + 8 + 4 + QUEUE_SESSION_BYTES_MAX + 2 * (4 + QUEUE_ADDRESS_BYTES_MAX) + 2 + \
	4 + SMTP_ENVID_CHARS_MAX + 4 + 4 + SMTP_QUEUE_ID_CHARS + 8 + 4 + 1 + 2)
/* What a recipient takes without address, orcpt, text and mta, at most. */
#define RECIPIENT_BYTES_FIXED (8 + 4 + 1 + 1 + 4 + 4 + 1 + 4 + 1 + 4 + QUEUE_STATUS_BYTES_MAX + 4 + 4 + 8)

bool
queue_item_fits(size_t recipients, size_t bytes)
{
	return HEAD_BYTES_MAX + recipients * (RECIPIENT_BYTES_FIXED + QUEUE_TEXT_BYTES_SURE) + bytes <= QUEUE_ITEM_BYTES_MAX;
}

/* The octets that text and mta of each recipient may have together. */
static size_t
share_of(const struct queue_item *i)
{
	size_t used = HEAD_BYTES_MAX;

	for (uint16_t k = 0; k < i->count; k++)
		used += RECIPIENT_BYTES_FIXED + i->recipients[k].address.n + i->recipients[k].orcpt.n;
	return used < QUEUE_ITEM_BYTES_MAX ? (QUEUE_ITEM_BYTES_MAX - used) / i->count : 0;
}

/* Of both together no more octets than share. */
static void
put_words(struct buf *b, struct slice mta, struct slice text, size_t share)
{
	mta = slice_sub(mta, 0, share / 2);
	put_slice(b, mta);
	put_slice(b, slice_sub(text, 0, share - mta.n));
}

static bool
put_recipient(struct buf *b, const struct queue_recipient *r, size_t share)
{
	struct slice mta = slice_sub(r->mta, 0, share / 2);
	struct slice text = slice_sub(r->text, 0, share - mta.n);

	put_u64(b, r->account);
	put_u32(b, r->sequence);
	put_u8(b, r->target);
	put_u8(b, (uint8_t)r->state);
	put_slice(b, r->address);
	put_slice(b, text);
	put_u8(b, r->notify);
	put_slice(b, r->orcpt);
	put_u8(b, r->flags);
	put_slice(b, r->status);
	put_slice(b, mta);
	put_u32(b, r->attempts);
	put_u64(b, r->next_ms);
	return r->address.n <= QUEUE_ADDRESS_BYTES_MAX && r->text.n <= QUEUE_TEXT_BYTES_MAX && r->orcpt.n <= SMTP_ORCPT_CHARS_MAX &&
	    r->status.n <= QUEUE_STATUS_BYTES_MAX && r->mta.n <= QUEUE_MTA_BYTES_MAX;
}

bool
queue_item_encode(const struct queue_item *i, struct buf *b)
{
	bool fits = i->count > 0 && i->session.n <= QUEUE_SESSION_BYTES_MAX &&
	    i->mail_from.n <= QUEUE_ADDRESS_BYTES_MAX && i->envid.n <= SMTP_ENVID_CHARS_MAX &&
	    i->forward_from.n <= QUEUE_ADDRESS_BYTES_MAX && i->report_id.n <= SMTP_QUEUE_ID_CHARS &&
	    i->priority >= SMTP_PRIORITY_MIN && i->priority <= SMTP_PRIORITY_MAX;
	size_t share = fits ? share_of(i) : 0;

	put_u8(b, QUEUE_ITEM_VERSION);
	put_u64(b, i->internal_date);
	put_slice(b, i->session);
	put_slice(b, i->mail_from);
	put_u8(b, i->flags);
	put_u8(b, (uint8_t)i->ret);
	put_slice(b, i->envid);
	put_u32(b, i->skip);
	put_slice(b, i->forward_from);
	put_slice(b, i->report_id);
	put_u64(b, i->release_ms);
	put_u32(b, i->hold_for);
	put_u8(b, (uint8_t)(i->priority - SMTP_PRIORITY_MIN));
	put_u16(b, i->count);
	for (uint16_t k = 0; k < i->count; k++)
		fits = put_recipient(b, &i->recipients[k], share) && fits;
	return fits && !b->failed && b->n <= QUEUE_ITEM_BYTES_MAX;
}

static enum queue_state
take_state(struct cursor *c)
{
	uint8_t s = cursor_u8(c);

	if (s < QUEUE_PENDING || s > QUEUE_STATE_LAST)
		c->bad = true;
	return c->bad ? QUEUE_PENDING : (enum queue_state)s;
}

/* Of a message that is to wait, and of its turn. */
static void
take_schedule(struct cursor *c, struct queue_item *item)
{
	uint8_t priority;

	item->release_ms = cursor_u64(c);
	item->hold_for = cursor_u32(c);
	priority = cursor_u8(c);
	c->bad |= item->release_ms > INT64_MAX || item->hold_for > SMTP_HOLD_FOR_MAX || priority > SMTP_PRIORITY_MAX - SMTP_PRIORITY_MIN;
	item->priority = c->bad ? 0 : (int8_t)(priority + SMTP_PRIORITY_MIN);
}

/* What version 1 did not have, and version 2, and version 3. */
static void
take_wishes(struct cursor *c, uint8_t version, struct queue_item *item)
{
	uint8_t ret;

	item->flags = cursor_u8(c);
	ret = cursor_u8(c);
	item->envid = cursor_slice(c, SMTP_ENVID_CHARS_MAX);
	c->bad |= item->flags > QUEUE_FLAGS_ALL || ret > SMTP_RET_LAST;
	item->ret = c->bad ? SMTP_RET_NONE : (enum smtp_ret)ret;
	if (version > 2) {
		item->skip = cursor_u32(c);
		item->forward_from = cursor_slice(c, QUEUE_ADDRESS_BYTES_MAX);
		item->report_id = cursor_slice(c, SMTP_QUEUE_ID_CHARS);
	}
	if (version > 3)
		take_schedule(c, item);
}

static void
take_recipient(struct cursor *c, uint8_t version, struct queue_recipient *r)
{
	*r = (struct queue_recipient){.account = cursor_u64(c), .sequence = cursor_u32(c), .target = cursor_u8(c), .state = take_state(c)};
	r->address = cursor_slice(c, QUEUE_ADDRESS_BYTES_MAX);
	r->text = cursor_slice(c, QUEUE_TEXT_BYTES_MAX);
	if (version > 1) {
		r->notify = cursor_u8(c);
		r->orcpt = cursor_slice(c, SMTP_ORCPT_CHARS_MAX);
	}
	if (version > 2) {
		r->flags = cursor_u8(c);
		r->status = cursor_slice(c, QUEUE_STATUS_BYTES_MAX);
		r->mta = cursor_slice(c, QUEUE_MTA_BYTES_MAX);
		r->attempts = cursor_u32(c);
		r->next_ms = cursor_u64(c);
	}
	c->bad |= r->notify > SMTP_NOTIFY_ALL || r->flags > QUEUE_RECIPIENT_FLAGS_ALL;
}

static bool
take_recipients(struct cursor *c, struct arena *a, uint8_t version, struct queue_item *item)
{
	item->count = cursor_u16(c);
	if (c->bad || item->count == 0 || item->count > cursor_left(c) / RECIPIENT_BYTES_MIN)
		return false;
	item->recipients = arena_array(a, item->count, sizeof(*item->recipients));
	if (item->recipients == NULL)
		return false;
	for (uint16_t k = 0; k < item->count && !c->bad; k++) {
		struct queue_recipient *r = &item->recipients[k];
		take_recipient(c, version, r);
		/* Ascending, so that none stands twice and one can be found by bisection. */
		if (k > 0 && r->sequence <= item->recipients[k - 1].sequence)
			return false;
	}
	return !c->bad;
}

bool
queue_item_decode(struct slice in, struct arena *a, struct queue_item *item_r)
{
	struct cursor c = cursor_of(in);
	uint8_t version = cursor_u8(&c);

	*item_r = (struct queue_item){.internal_date = cursor_u64(&c)};
	item_r->session = cursor_slice(&c, QUEUE_SESSION_BYTES_MAX);
	item_r->mail_from = cursor_slice(&c, QUEUE_ADDRESS_BYTES_MAX);
	if (version > 1)
		take_wishes(&c, version, item_r);
	if (c.bad || version == 0 || version > QUEUE_ITEM_VERSION || in.n > QUEUE_ITEM_BYTES_MAX)
		return false;
	return take_recipients(&c, a, version, item_r) && cursor_done(&c);
}

bool
queue_results_encode(const struct queue_results *r, struct buf *b)
{
	size_t share = r->count ? (QUEUE_ITEM_BYTES_MAX - 2) / r->count - RESULT_BYTES_MIN - QUEUE_STATUS_BYTES_MAX : 0;
	bool fits = r->count <= QUEUE_ITEM_BYTES_MAX / (RESULT_BYTES_MIN + QUEUE_STATUS_BYTES_MAX + 1);

	put_u16(b, r->count);
	for (uint16_t k = 0; k < r->count; k++) {
		const struct queue_result *v = &r->v[k];
		fits = fits && v->text.n <= QUEUE_TEXT_BYTES_MAX && v->mta.n <= QUEUE_MTA_BYTES_MAX &&
		    v->status.n <= QUEUE_STATUS_BYTES_MAX;
		put_u32(b, v->sequence);
		put_u8(b, (uint8_t)v->state);
		put_u8(b, v->flags);
		put_slice(b, v->status);
		put_words(b, v->mta, v->text, share);
	}
	return fits && !b->failed && b->n <= QUEUE_ITEM_BYTES_MAX;
}

bool
queue_results_decode(struct slice in, struct arena *a, struct queue_results *results_r)
{
	struct cursor c = cursor_of(in);

	*results_r = (struct queue_results){.count = cursor_u16(&c)};
	if (c.bad || results_r->count > cursor_left(&c) / RESULT_BYTES_MIN)
		return false;
	results_r->v = arena_array(a, results_r->count, sizeof(*results_r->v));
	if (results_r->v == NULL && results_r->count > 0)
		return false;
	for (uint16_t k = 0; k < results_r->count && !c.bad; k++) {
		struct queue_result *v = &results_r->v[k];
		*v = (struct queue_result){.sequence = cursor_u32(&c), .state = take_state(&c), .flags = cursor_u8(&c)};
		v->status = cursor_slice(&c, QUEUE_STATUS_BYTES_MAX);
		v->mta = cursor_slice(&c, QUEUE_MTA_BYTES_MAX);
		v->text = cursor_slice(&c, QUEUE_TEXT_BYTES_MAX);
		c.bad |= (v->flags & ~(QUEUE_UNSURE | QUEUE_DSN_PASSED)) != 0;
	}
	return cursor_done(&c);
}

/* The recipient with that sequence, or NULL; they stand in ascending order. */
static struct queue_recipient *
find_recipient(struct queue_item *item, uint32_t sequence)
{
	uint16_t low = 0;
	uint16_t high = item->count;

	while (low < high) {
		uint16_t middle = (uint16_t)(low + (high - low) / 2);
		if (item->recipients[middle].sequence == sequence)
			return &item->recipients[middle];
		if (item->recipients[middle].sequence < sequence)
			low = (uint16_t)(middle + 1);
		else
			high = middle;
	}
	return NULL;
}

unsigned
queue_item_apply(struct queue_item *item, const struct queue_results *results)
{
	unsigned pending = 0;

	for (uint16_t k = 0; k < results->count; k++) {
		struct queue_recipient *r = find_recipient(item, results->v[k].sequence);
		if (r == NULL || r->state != QUEUE_PENDING)
			continue;
		r->state = results->v[k].state;
		r->flags |= results->v[k].flags;
		r->status = results->v[k].status;
		r->mta = results->v[k].mta;
		r->text = results->v[k].text;
	}
	for (uint16_t k = 0; k < item->count; k++)
		pending += item->recipients[k].state == QUEUE_PENDING;
	return pending;
}
