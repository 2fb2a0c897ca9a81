#include "smtpd/dsn_item.h"

#include <assert.h>

/* Without NOTIFY it is what RFC 3461 4.1 has for that. */
static bool
wants(const struct queue_recipient *r, unsigned notify)
{
	unsigned wish = r->notify != 0 ? r->notify : SMTP_NOTIFY_DEFAULT;

	return (wish & notify) != 0;
}

/* An address of ours: those behind it are not the sender's to know. */
static bool
is_ours(const struct queue_recipient *r)
{
	return r->account != 0 || (r->flags & QUEUE_FORWARDED) != 0;
}

/* Another mailbox behind the same address. */
static bool
is_fellow(const struct queue_recipient *r, const struct queue_recipient *other)
{
	bool sent_on = (r->flags & other->flags & QUEUE_FORWARDED) != 0 && r->orcpt.n > 0;

	return r != other && is_ours(r) && is_ours(other) &&
	    (slice_eq(r->address, other->address) || (sent_on && slice_eq(r->orcpt, other->orcpt)));
}

static bool
has_fellow(const struct queue_item *item, const struct queue_recipient *r)
{
	for (uint16_t i = 0; i < item->count; i++)
		if (is_fellow(r, &item->recipients[i]))
			return true;
	return false;
}

/* Somebody else's success stands for his, too: it was told, or comes before him now. */
static bool
fellow_tells(const struct queue_item *item, uint16_t i)
{
	for (uint16_t k = 0; k < item->count; k++) {
		const struct queue_recipient *other = &item->recipients[k];
		if (is_fellow(&item->recipients[i], other) &&
		    ((other->flags & QUEUE_REPORTED_SUCCESS) || (k < i && other->state == QUEUE_DONE && wants(other, SMTP_NOTIFY_SUCCESS))))
			return true;
	}
	return false;
}

static enum dsn_action
success(const struct queue_item *item, const struct queue_recipient *r)
{
	if (has_fellow(item, r))
		return DSN_EXPANDED;
	return r->account != 0 ? DSN_DELIVERED : DSN_RELAYED;
}

enum dsn_action
dsn_due(const struct queue_item *item, uint16_t i, bool late)
{
	const struct queue_recipient *r = &item->recipients[i];

	assert(i < item->count);
	if (item->mail_from.n == 0)
		return DSN_NONE;
	if (r->state == QUEUE_FAILED)
		return wants(r, SMTP_NOTIFY_FAILURE) && !(r->flags & QUEUE_REPORTED_FAILURE) ? DSN_FAILED : DSN_NONE;
	if (r->state == QUEUE_PENDING)
		return late && wants(r, SMTP_NOTIFY_DELAY) && !(r->flags & QUEUE_REPORTED_DELAY) ? DSN_DELAYED : DSN_NONE;
	if (!wants(r, SMTP_NOTIFY_SUCCESS) || (r->flags & (QUEUE_REPORTED_SUCCESS | QUEUE_DSN_PASSED)) || fellow_tells(item, i))
		return DSN_NONE;
	return success(item, r);
}

uint8_t
dsn_told_flag(enum dsn_action a)
{
	static const uint8_t flags[] = {
	    [DSN_NONE] = 0,
	    [DSN_FAILED] = QUEUE_REPORTED_FAILURE,
	    [DSN_DELAYED] = QUEUE_REPORTED_DELAY,
	    [DSN_DELIVERED] = QUEUE_REPORTED_SUCCESS,
	    [DSN_RELAYED] = QUEUE_REPORTED_SUCCESS,
	    [DSN_EXPANDED] = QUEUE_REPORTED_SUCCESS,
	};

	assert((unsigned)a <= DSN_ACTION_LAST);
	return flags[a];
}

/* What the report that is under way says of r, whatever has become of r since it began. */
static enum dsn_action
told(const struct queue_item *item, const struct queue_recipient *r)
{
	if (r->flags & QUEUE_REPORTED_FAILURE)
		return DSN_FAILED;
	return r->flags & QUEUE_REPORTED_SUCCESS ? success(item, r) : DSN_DELAYED;
}

/*
 * Of a message that one of our addresses sent on, that address: it is what the sender wrote to, and where it leads is confidential
 * (RFC 3464 4.2). It stands in the original recipient, which forwarding has set unless the sender did; who names there what is no
 * address of mail learns none.
 */
static struct slice
address_sent_to(const struct queue_recipient *r, struct arena *a)
{
	struct slice address = r->orcpt, type, kept = {NULL, 0};
	struct buf b;

	if (!slice_cut(&address, ';', &type))
		return SLICE("undisclosed");
	if (slice_eq_nocase(type, SLICE("utf-8")))
		return address.n > 0 ? address : SLICE("undisclosed");
	buf_init(&b, QUEUE_ADDRESS_BYTES_MAX);
	if (!slice_eq_nocase(type, SLICE("rfc822")) || !smtp_xtext_decode(address, &b) || !arena_copy(a, buf_slice(&b), &kept))
		kept = slice_of(NULL, 0);
	buf_fini(&b);
	return kept.n > 0 ? kept : SLICE("undisclosed");
}

/* Without the words of the server behind that address, which may name what it leads to. */
static void
keep_confidential(const struct queue_recipient *r, struct arena *a, struct dsn_recipient *v)
{
	if (!(r->flags & QUEUE_FORWARDED))
		return;
	v->forwarded = true;
	v->address = address_sent_to(r, a);
	v->mta = v->text = slice_of(NULL, 0);
}

bool
dsn_report_begin(const struct queue_item *item, struct arena *a, struct dsn_report *report_r)
{
	struct dsn_recipient *v = arena_array(a, item->count, sizeof(*v));

	*report_r = (struct dsn_report){
	    .mail_from = item->mail_from,
	    .envid = item->envid,
	    .ret = item->ret,
	    .requiretls = (item->flags & QUEUE_REQUIRETLS) != 0,
	    .release = (int64_t)(item->release_ms / 1000),
	    .hold_for = item->hold_for,
	    .arrived = (int64_t)item->internal_date,
	    .recipients = v,
	};
	for (uint16_t i = 0; v && i < item->count; i++) {
		const struct queue_recipient *r = &item->recipients[i];
		if (!(r->flags & QUEUE_IN_REPORT))
			continue;
		v[report_r->count++] = (struct dsn_recipient){
		    .action = told(item, r),
		    .unsure = (r->flags & QUEUE_UNSURE) != 0,
		    .address = r->address,
		    .orcpt = r->orcpt,
		    .status = r->status,
		    .mta = r->mta,
		    .text = r->text,
		};
		keep_confidential(r, a, &v[report_r->count - 1]);
	}
	return report_r->count > 0;
}
