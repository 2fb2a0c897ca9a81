#include "smtpd/deliver_forward.h"

#include "smtpd/deliver.h"

#include "common/auth_proto.h"
#include "common/cursor.h"

/* The reverse-path and the address that leads there, once. */
static bool
note(struct job *j, struct slice from, struct slice by)
{
	if (j->forward == NULL) {
		j->forward = arena_array(j->arena, 1, sizeof(*j->forward));
		if (j->forward == NULL)
			return false;
		*j->forward = (struct forward){.count = 0};
		/* One for all of them: the sender is the same, and any domain of ours does. */
		if (!arena_copy(j->arena, from, &j->forward->from))
			return false;
	}
	if (j->forward->count == FORWARD_ADDRESSES_MAX)
		return false;
	j->forward->by[j->forward->count++] = by;
	return true;
}

/* Who was written to, as a sender would say it himself (RFC 3461 4.2, 5.2.7; RFC 6533 3): a report is about that address. */
static bool
put_original(struct slice address, struct buf *b)
{
	bool ascii = slice_is_ascii(address);

	buf_put_str(b, ascii ? "rfc822;" : "utf-8;");
	for (size_t i = 0; i < address.n; i++) {
		uint8_t c = address.p[i];

		if (c > ' ' && c != 0x7f && c != '+' && c != '=' && c != '\\')
			buf_put_u8(b, c);
		else
			buf_putf(b, ascii ? "+%02X" : "\\x{%02X}", c);
	}
	return !b->failed;
}

static struct envelope_dsn
wishes_of(const struct job *j, uint32_t recipient)
{
	struct envelope_dsn dsn = j->envelope.dsn[recipient];
	struct buf b;

	buf_init(&b, SMTP_ORCPT_CHARS_MAX);
	if (dsn.orcpt.n == 0 && (!put_original(j->envelope.recipients[recipient], &b) || !arena_copy(j->arena, buf_slice(&b), &dsn.orcpt)))
		dsn.orcpt = slice_of(NULL, 0);
	buf_fini(&b);
	return dsn;
}

bool
deliver_forward_take(struct job *j, const struct msg_DIR_RESOLVE_REPLY *m, uint32_t recipient)
{
	struct cursor c = cursor_of(m->outside);
	const struct envelope_dsn dsn = wishes_of(j, recipient);
	struct slice kept;
	int64_t at;

	if (m->outside.n == 0)
		return true;
	if (!note(j, m->forward_from, j->envelope.recipients[recipient]))
		return false;
	j->forward->looped |= m->looped != 0;
	while (cursor_left(&c) > 0) {
		struct slice address = cursor_slice(&c, QUEUE_ADDRESS_BYTES_MAX);

		if (c.bad || address.n == 0 || !arena_copy(j->arena, address, &kept))
			return false;
		at = deliver_target_add(j, &(struct target){.address = kept, .dsn = dsn, .forwarded = true});
		if (at < 0)
			return false;
		if (j->recipients)
			deliver_lmtp_lead(j, recipient, (uint32_t)at);
	}
	j->outside = true;
	return true;
}

void
deliver_forward_marks(const struct job *j, struct buf *b)
{
	for (unsigned i = 0; j->forward && i < j->forward->count; i++)
		forward_mark_put(j->forward->by[i], b);
}

bool
deliver_forward_fields(const struct job *j, struct buf *b)
{
	for (unsigned i = 0; j->forward && i < j->forward->count; i++)
		if (!forward_mark_field(j->forward->by[i], j->envelope.recipient_count == 1, b))
			return false;
	return true;
}

/* ---- whether it goes on ---- */

/* The author is, as far as he says, of a domain that sends this on. */
static bool
author_is_ours(const struct job *j)
{
	struct slice author = j->verdict.form.from_domain;

	for (unsigned i = 0; i < j->forward->count; i++) {
		struct slice by = j->forward->by[i];

		if (policy_domains_related(author, slice_sub(by, slice_rindex(by, '@') + 1, by.n)))
			return true;
	}
	return false;
}

/* A recipient that led nowhere else gets the answer; the indexes follow their targets. */
static void
renumber(struct job *j, const uint32_t *now, const struct policy_decision *d)
{
	for (uint32_t i = 0; j->recipients && i < j->envelope.recipient_count; i++) {
		struct recipient *r = &j->recipients[i];
		uint32_t n = 0;

		if (r->code != 0)
			continue;
		for (uint32_t k = 0; k < r->count; k++)
			if (now[r->targets[k]] != UINT32_MAX)
				r->targets[n++] = now[r->targets[k]];
		r->count = n;
		if (n == 0)
			deliver_lmtp_refuse(j, i, d->reply.code, d->reply.enhanced, d->reply.text);
	}
}

/* Without the targets that it would be sent on to. False at the job's cap. */
static bool
drop_forwarded(struct job *j, const struct policy_decision *d)
{
	uint32_t *now = arena_array(j->arena, j->target_count, sizeof(*now));
	uint32_t n = 0;

	if (now == NULL)
		return false;
	j->outside = false;
	for (uint32_t i = 0; i < j->target_count; i++) {
		now[i] = j->targets[i].forwarded ? UINT32_MAX : n;
		if (j->targets[i].forwarded) {
			deliver_trace(j, "not-sent-on", LOG_STR("to", j->targets[i].address), LOG_CSTR("rule", d->rule), LOG_END);
			continue;
		}
		j->outside |= j->targets[i].account == 0;
		j->targets[n++] = j->targets[i];
	}
	renumber(j, now, d);
	j->target_count = n;
	j->forward = NULL;
	return true;
}

const struct policy_decision *
deliver_forward_judge(struct job *j, const struct policy_input *taken)
{
	const struct policy_decision *d;
	struct policy_input in;

	/* A user of ours says what he wants to be sent, but there is no reverse-path for a loop. */
	if (j->forward == NULL || (j->submission && !j->forward->looped))
		return NULL;
	in = j->submission ? (struct policy_input){.submission = true}
			   : policy_input_forward(&j->verdict, j->decision->action == POLICY_JUNK, j->verdict.full && author_is_ours(j));
	in.arc_override = taken->arc_override;
	in.dmarc_except = taken->dmarc_except;
	in.looped |= j->forward->looped;
	d = policy_decide(POLICY_FORWARD, &in);
	if (d->action == POLICY_ACCEPT)
		return NULL;
	deliver_trace_decision(j, POLICY_FORWARD, d, &in);
	/* Of what cannot be kept apart nothing is taken. */
	if (!drop_forwarded(j, d) || (j->target_count == 0 && j->recipients == NULL))
		return d;
	return NULL;
}
