/*
 * One answer for each recipient (RFC 2033 4.2). The client has a queue of its own, so what cannot be stored now goes back to it and
 * does not go to ours: no message arrives twice because both try again.
 *
 * A recipient is ours, 250, from the moment that one of its accounts has the message, or may have it (a keeper was asked and
 * died): the client must not come with it again, and the accounts that lack it get it through our queue. That happens to an alias, and it
 * spreads: when our queue is going to deliver to an account, every recipient that leads there is ours as well, or its client
 * would deliver there once more. So accounts are joined into groups, two being in one when a recipient leads to both, and a
 * group is ours or the client's as a whole. An account that takes the message at no time (it is gone) joins nothing.
 *
 * Replies go out in the order of RCPT, each as soon as it and those before it are known: at once when all of its accounts have the message,
 * the others when all have answered.
 */
#include "smtpd/deliver.h"

#include <assert.h>

bool
deliver_lmtp_begin(struct job *j)
{
	j->recipients = arena_array(j->arena, j->envelope.recipient_count, sizeof(*j->recipients));
	if (j->recipients == NULL)
		return false;
	memset(j->recipients, 0, j->envelope.recipient_count * sizeof(*j->recipients));
	return true;
}

bool
deliver_lmtp_room(struct job *j, uint32_t recipient, uint32_t count)
{
	struct recipient *r = &j->recipients[recipient];

	r->targets = arena_array(j->arena, count, sizeof(*r->targets));
	return r->targets != NULL;
}

void
deliver_lmtp_lead(struct job *j, uint32_t recipient, uint32_t target)
{
	struct recipient *r = &j->recipients[recipient];

	r->targets[r->count++] = target;
}

void
deliver_lmtp_refuse(struct job *j, uint32_t recipient, unsigned code, const char *enhanced, const char *text)
{
	struct recipient *r = &j->recipients[recipient];

	r->count = 0;
	r->code = code;
	r->enhanced = enhanced;
	r->text = text;
}

/* ---- telling ---- */

static void
tell(struct job *j, unsigned code, const char *enhanced, const char *text)
{
	uint32_t i = j->told++;

	deliver_trace(j, "reply", LOG_STR("to", j->envelope.recipients[i]), LOG_NUM("code", code), LOG_CSTR("enhanced", enhanced),
	    LOG_CSTR("text", text), LOG_NUM("ms", clock_ms() - j->began_ms), LOG_END);
	/* The front takes no answer out of order, so from this recipient on they get the temporary error at the end. */
	IPC_TELL(j->front, DELIVER_RECIPIENT, .id = j->front_id, .recipient = i, .code = (uint16_t)code,
	    .enhanced = slice_str(enhanced), .text = slice_str(text));
}

static void
tell_taken(struct job *j)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "Taken as %s", j->queue_id);
	tell(j, 250, "2.0.0", text);
}

static bool
all_stored(const struct job *j, const struct recipient *r)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (j->targets[r->targets[i]].state != QUEUE_DONE)
			return false;
	return r->count > 0;
}

void
deliver_lmtp_tell(struct job *j)
{
	while (j->told < j->envelope.recipient_count && all_stored(j, &j->recipients[j->told]))
		tell_taken(j);
}

/* Its group is ours. What is gone counts for nothing: it may have been kept for another recipient's sake. */
static bool
is_ours(const struct job *j, const struct recipient *r)
{
	for (uint32_t i = 0; i < r->count; i++) {
		const struct target *t = &j->targets[r->targets[i]];
		if (t->state != QUEUE_FAILED && !t->returned)
			return true;
	}
	return false;
}

/* The words of the first account that lacks it, one that may take it later before one that will not. */
static const struct target *
failure_of(const struct job *j, const struct recipient *r)
{
	const struct target *found = NULL;

	for (uint32_t i = 0; i < r->count; i++) {
		const struct target *t = &j->targets[r->targets[i]];
		if (t->state != QUEUE_DONE && (found == NULL || (found->state == QUEUE_FAILED && t->state == QUEUE_PENDING)))
			found = t;
	}
	assert(found != NULL);
	return found;
}

static void
tell_outcome(struct job *j, const struct recipient *r, bool queued)
{
	if (r->code != 0) {
		tell(j, r->code, r->enhanced, r->text);
	} else if (all_stored(j, r) || (queued && is_ours(j, r))) {
		tell_taken(j);
	} else if (is_ours(j, r)) {
		tell(j, 451, "4.3.0", "Not everything could be delivered, try again later");
	} else {
		const struct target *t = failure_of(j, r);
		tell(j, t->code, t->enhanced, t->text);
	}
}

void
deliver_lmtp_answer(struct job *j, bool queued)
{
	while (j->told < j->envelope.recipient_count)
		tell_outcome(j, &j->recipients[j->told], queued);
	deliver_job_told(j);
}

/* ---- whose they are ---- */

/* The target that stands for the group. */
static struct target *
group_of(struct job *j, struct target *t)
{
	while (j->targets[t->joined].joined != t->joined) {
		t->joined = j->targets[t->joined].joined;
		t = &j->targets[t->joined];
	}
	return &j->targets[t->joined];
}

static void
join_accounts(struct job *j, const struct recipient *r)
{
	struct target *group = NULL;

	for (uint32_t i = 0; i < r->count; i++) {
		struct target *t = &j->targets[r->targets[i]];
		if (t->state == QUEUE_FAILED)
			continue;
		struct target *other = group_of(j, t);
		if (group != NULL && other != group) {
			other->joined = group->joined;
			group->ours |= other->ours;
		} else {
			group = other;
		}
	}
}

/* What the recipient leads to is ours when one of its groups is; it has one at most. */
static void
claim_accounts(struct job *j, const struct recipient *r)
{
	bool ours = false;

	for (uint32_t i = 0; i < r->count && !ours; i++) {
		struct target *t = &j->targets[r->targets[i]];
		ours = t->state != QUEUE_FAILED && group_of(j, t)->ours;
	}
	for (uint32_t i = 0; i < r->count && ours; i++)
		j->targets[r->targets[i]].returned = false;
}

void
deliver_lmtp_decide(struct job *j)
{
	bool complete = true;

	for (uint32_t i = 0; i < j->target_count; i++) {
		struct target *t = &j->targets[i];
		t->joined = i;
		t->ours = t->state == QUEUE_DONE || t->uncertain;
		t->returned = true;
	}
	for (uint32_t i = 0; i < j->envelope.recipient_count; i++)
		join_accounts(j, &j->recipients[i]);
	for (uint32_t i = 0; i < j->envelope.recipient_count; i++)
		claim_accounts(j, &j->recipients[i]);
	for (uint32_t i = 0; i < j->target_count; i++)
		complete = complete && (j->targets[i].returned || j->targets[i].state == QUEUE_DONE);
	if (complete && !deliver_success_is_due(j))
		deliver_lmtp_answer(j, true);
	else
		deliver_queue_add(j); /* what is ours and not stored, or to be reported */
}
