/*
 * The directory's word, asked again: a front is not believed. Nothing is stored before every
 * recipient is known to be local, so that until then the whole transaction can be deferred or refused.
 */
#include "smtpd/deliver.h"

#include "common/auth_proto.h"
#include "common/cursor.h"
#include "common/mem.h"

#include <stdlib.h>

/* One question about one recipient. */
struct question {
	struct job *job;
	uint32_t recipient;
};

/* What the stage found; on the job's side only the first failure is kept. */
static void
defer(struct job *j)
{
	deliver_job_fail(j, 451, "4.3.0", "The directory is not available for the moment, try again later");
}

/* ---- recipients ---- */

static bool
add_target(struct job *j, uint64_t account, uint32_t recipient)
{
	struct slice address = j->envelope.recipients[recipient];
	struct envelope_dsn dsn = j->envelope.dsn[recipient];

	for (uint32_t i = 0; i < j->target_count; i++)
		if (j->targets[i].account == account) {
			/* One delivery for two recipients: what either of them wants to be told of. */
			j->targets[i].dsn.notify |= dsn.notify;
			return true;
		}
	if (j->target_count == DELIVER_ACCOUNTS_MAX)
		return false;
	if ((j->target_count & (j->target_count - 1)) == 0) { /* 0 or a power of two: full */
		uint32_t cap = j->target_count ? j->target_count * 2 : 1;
		struct target *more = arena_array(j->arena, cap, sizeof(*more));
		if (more == NULL)
			return false;
		if (j->target_count > 0)
			memcpy(more, j->targets, j->target_count * sizeof(*more));
		j->targets = more;
	}
	j->targets[j->target_count] = (struct target){
	    .account = account,
	    .sequence = j->target_count,
	    .state = QUEUE_PENDING,
	    .address = address,
	    .dsn = dsn,
	};
	j->target_count++;
	return true;
}

static void
recipients_done(struct job *j)
{
	if (j->failed && j->target_count > 0 && j->reply_code >= 500) {
		/* Some are good and some are not any more: asked again, the client is told which at RCPT. */
		deliver_job_reply(j, 451, "4.3.0", "A recipient has changed meanwhile, try again");
	} else if (j->failed) {
		deliver_job_reply_failure(j);
	} else {
		deliver_verify(j);
	}
}

static void
answered(struct question *q)
{
	struct job *j = q->job;

	free(q);
	if (--j->open == 0)
		recipients_done(j);
}

static void
resolve_gone(void *obj, const struct err *e)
{
	struct question *q = obj;

	(void)e;
	defer(q->job);
	answered(q);
}

static void
take_accounts(struct job *j, struct slice accounts, uint32_t recipient)
{
	struct cursor c = cursor_of(accounts);

	if (accounts.n == 0 || accounts.n % sizeof(uint64_t) != 0) {
		defer(j);
		return;
	}
	while (cursor_left(&c) > 0) {
		uint64_t account = cursor_u64(&c);
		if (account == 0)
			defer(j);
		else if (!add_target(j, account, recipient))
			deliver_job_fail(j, 452, "4.5.3", "Too many recipients");
	}
}

void
deliver_on_resolve(struct edge *e, struct msg_DIR_RESOLVE_REPLY *m)
{
	struct question *q = ipc_answered(e, m->id);

	if (q == NULL)
		return;
	struct job *j = q->job;
	struct slice address = j->envelope.recipients[q->recipient];
	const struct envelope_dsn *dsn = &j->envelope.dsn[q->recipient];
	deliver_trace(j, "recipient", LOG_STR("to", address), LOG_NUM("status", m->status),
	    LOG_NUM("accounts", m->accounts.n / sizeof(uint64_t)), LOG_NUM("notify", dsn->notify), LOG_STR("orcpt", dsn->orcpt), LOG_END);
	switch (m->status) {
	case DIR_LOCAL:
		take_accounts(j, m->accounts, q->recipient);
		break;
	case DIR_UNKNOWN:
		deliver_job_fail(j, 550, "5.1.1", "No such recipient here");
		break;
	case DIR_NOT_OURS:
		deliver_job_fail(j, 550, "5.7.1", "Relaying denied");
		break;
	case DIR_DISABLED:
		deliver_job_fail(j, 550, "5.2.1", "This mailbox is disabled");
		break;
	default:
		defer(j);
		break;
	}
	answered(q);
}

static void
ask_recipient(struct job *j, uint32_t i)
{
	struct edge *dir = role_edge(ROLE_DIRECTORY, 0);
	struct question *q = MEM_NEW(struct question);
	uint64_t id;

	*q = (struct question){j, i};
	id = dir ? ipc_expect(dir, DELIVER_ASK_MS, resolve_gone, q) : 0;
	if (id != 0 && IPC_SEND(dir, DIR_RESOLVE, .id = id, .address = j->envelope.recipients[i])) {
		j->open++;
		return;
	}
	if (id != 0)
		ipc_forget(dir, id);
	free(q);
	defer(j);
}

static void
ask_recipients(struct job *j)
{
	for (uint32_t i = 0; i < j->envelope.recipient_count && !j->failed; i++)
		ask_recipient(j, i);
	if (j->open == 0)
		recipients_done(j);
}

/* ---- senders (submission) ---- */

/* What is asked about: the envelope's sender first, then the author in From. */
static bool
asks_author(const struct job *j)
{
	return j->decision != NULL;
}

static void
sender_answered(struct job *j, bool known, bool allowed)
{
	j->open--;
	if (!known)
		defer(j);
	else if (!allowed)
		deliver_job_fail(j, 550, "5.7.1",
		    asks_author(j) ? "The address in From is not yours" : "This sender address is not yours");
	if (j->failed)
		deliver_job_reply_failure(j);
	else if (asks_author(j))
		deliver_compose(j);
	else
		ask_recipients(j);
}

static void
sender_gone(void *obj, const struct err *e)
{
	(void)e;
	sender_answered(obj, false, false);
}

void
deliver_on_sender(struct edge *e, struct msg_DIR_SENDER_REPLY *m)
{
	struct job *j = ipc_answered(e, m->id);

	if (j == NULL)
		return;
	deliver_trace(j, "sender", LOG_CSTR("what", asks_author(j) ? "author" : "envelope"),
	    LOG_NUM("allowed", m->allowed), LOG_END);
	sender_answered(j, m->class == ERR_NONE, m->allowed != 0);
}

static void
ask_sender(struct job *j, struct slice address)
{
	struct edge *dir = role_edge(ROLE_DIRECTORY, 0);
	uint64_t id = dir ? ipc_expect(dir, DELIVER_ASK_MS, sender_gone, j) : 0;

	j->open++;
	if (id != 0 && IPC_SEND(dir, DIR_SENDER, .id = id, .account = j->account, .address = address))
		return;
	if (id != 0)
		ipc_forget(dir, id);
	sender_answered(j, false, false);
}

void
deliver_resolve(struct job *j)
{
	if (j->submission && j->envelope.mail_from.n > 0)
		ask_sender(j, j->envelope.mail_from);
	else
		ask_recipients(j);
}

void
deliver_check_author(struct job *j)
{
	struct slice author = j->verdict.form.from_address;

	/* What is longer than an address can be is nobody's. */
	if (author.n == 0 || author.n > ENVELOPE_ADDRESS_BYTES_MAX) {
		deliver_job_reply(j, 550, "5.7.1", "The address in From is not yours");
		return;
	}
	ask_sender(j, author);
}
