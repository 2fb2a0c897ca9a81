/*
 * The directory's word, asked again: a front is not believed. Nothing is stored before every
 * recipient is known to be local, so that until then the whole transaction can be deferred or refused.
 */
#include "smtpd/deliver.h"
#include "smtpd/deliver_forward.h"
#include "smtpd/deliver_report.h"
#include "smtpd/deliver_sign.h"

#include "common/auth_proto.h"
#include "common/config.h"
#include "common/cursor.h"
#include "common/mem.h"

#include <stdlib.h>

/* One question about one recipient. */
struct question {
	struct job *job;
	uint32_t recipient;
	bool again; /* about a target that the queue has brought back, with its number */
};

/* ---- recipients ---- */

static bool
same_target(const struct target *a, const struct target *b)
{
	return a->account == b->account && a->forwarded == b->forwarded && (a->account != 0 || slice_eq(a->address, b->address));
}

/* What either of two recipients wants to be told of; NEVER stands alone (RFC 3461 4.1). */
static uint8_t
wish_of_either(uint8_t a, uint8_t b)
{
	if (a == b)
		return a;
	return ((a ? a : SMTP_NOTIFY_DEFAULT) | (b ? b : SMTP_NOTIFY_DEFAULT)) & ~SMTP_NOTIFY_NEVER & SMTP_NOTIFY_ALL;
}

int64_t
deliver_target_add(struct job *j, const struct target *t)
{
	for (uint32_t i = 0; i < j->target_count; i++)
		if (same_target(&j->targets[i], t)) {
			j->targets[i].dsn.notify = wish_of_either(j->targets[i].dsn.notify, t->dsn.notify);
			return i;
		}
	if (j->target_count == DELIVER_ACCOUNTS_MAX)
		return -1;
	if ((j->target_count & (j->target_count - 1)) == 0) { /* 0 or a power of two: full */
		uint32_t cap = j->target_count ? j->target_count * 2 : 1;
		struct target *more = arena_array(j->arena, cap, sizeof(*more));
		if (more == NULL)
			return -1;
		if (j->target_count > 0)
			memcpy(more, j->targets, j->target_count * sizeof(*more));
		j->targets = more;
	}
	j->targets[j->target_count] = *t;
	j->targets[j->target_count].sequence = j->target_count;
	j->targets[j->target_count].state = QUEUE_PENDING;
	return j->target_count++;
}

/* The account, or (0) the address itself, which is elsewhere. */
static int64_t
add_target(struct job *j, uint64_t account, uint32_t recipient)
{
	return deliver_target_add(j, &(struct target){
	    .account = account, .address = j->envelope.recipients[recipient], .dsn = j->envelope.dsn[recipient]});
}

static void
recipients_done(struct job *j)
{
	if (j->recipients && j->target_count == 0) {
		deliver_lmtp_answer(j, true);
	} else if (j->failed && j->target_count > 0 && j->reply_code >= 500) {
		/* Some are good and some are not any more: asked again, the client is told which at RCPT. */
		deliver_job_reply(j, 451, "4.3.0", "A recipient has changed meanwhile, try again");
	} else if (j->failed) {
		deliver_job_reply_failure(j);
	} else if (j->report) {
		deliver_report_write(j);
	} else {
		deliver_verify(j);
	}
}

/* One recipient gets nothing, and with it all of them, unless each has its own answer. */
static void
refuse(struct job *j, uint32_t recipient, unsigned code, const char *enhanced, const char *text)
{
	if (j->recipients)
		deliver_lmtp_refuse(j, recipient, code, enhanced, text);
	else
		deliver_job_fail(j, code, enhanced, text);
}

static void
defer_recipient(struct job *j, uint32_t recipient)
{
	refuse(j, recipient, 451, "4.3.0", "The directory is not available for the moment, try again later");
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
asked_again(struct question *q, unsigned status)
{
	struct job *j = q->job;
	struct target *t = &j->targets[q->recipient];

	free(q);
	if (status == DIR_UNKNOWN) {
		t->state = QUEUE_FAILED;
		t->code = 550;
		t->enhanced = "5.1.1";
		(void)snprintf(t->text, sizeof(t->text), "%s", "The address does not exist any more");
		deliver_trace(j, "recipient-gone", LOG_STR("to", t->address), LOG_NUM("account", t->account), LOG_END);
	}
	if (--j->open == 0)
		deliver_queue_report(j);
}

static void
resolve_gone(void *obj, const struct err *e)
{
	struct question *q = obj;

	(void)e;
	if (q->again) {
		asked_again(q, DIR_TEMP);
		return;
	}
	defer_recipient(q->job, q->recipient);
	answered(q);
}

/* How many targets it may lead to; 0: that is no answer. */
static uint32_t
targets_of(const struct msg_DIR_RESOLVE_REPLY *m)
{
	struct cursor c = cursor_of(m->outside);
	uint32_t n = (uint32_t)(m->accounts.n / sizeof(uint64_t));

	for (; !c.bad && cursor_left(&c) > 0; n++)
		(void)cursor_slice(&c, QUEUE_ADDRESS_BYTES_MAX);
	return c.bad || m->accounts.n % sizeof(uint64_t) != 0 ? 0 : n;
}

static bool
take_targets(struct job *j, const struct msg_DIR_RESOLVE_REPLY *m, uint32_t recipient)
{
	struct cursor c = cursor_of(m->accounts);

	if (j->recipients && !deliver_lmtp_room(j, recipient, targets_of(m)))
		return false;
	while (cursor_left(&c) > 0) {
		uint64_t account = cursor_u64(&c);
		int64_t at = account == 0 ? -1 : add_target(j, account, recipient);
		if (at < 0)
			return false;
		if (j->recipients)
			deliver_lmtp_lead(j, recipient, (uint32_t)at);
	}
	return deliver_forward_take(j, m, recipient);
}

static void
take_local(struct job *j, struct msg_DIR_RESOLVE_REPLY *m, uint32_t recipient)
{
	uint32_t before = j->target_count;
	bool off = m->outside.n > 0 && !config_bool(role_config(), OPT_TRANSPORT_ENABLED);

	/* Mailboxes here get it also while nothing is sent to other servers. */
	if (off)
		m->outside = slice_of(NULL, 0);
	if (off && m->accounts.n == 0) {
		refuse(j, recipient, 451, "4.3.2", "Nothing is sent to other servers for the moment, try again later");
		return;
	}
	if (targets_of(m) == 0) {
		defer_recipient(j, recipient);
		return;
	}
	if (take_targets(j, m, recipient))
		return;
	/* All of its targets, or none: no other recipient has those that it brought. */
	if (j->recipients)
		j->target_count = before;
	refuse(j, recipient, 452, "4.5.3", "Too many recipients");
}

/* A recipient of another server (submission). */
static void
take_outside(struct job *j, uint32_t recipient)
{
	j->outside = true;
	if (add_target(j, 0, recipient) < 0)
		refuse(j, recipient, 452, "4.5.3", "Too many recipients");
}

/* The row of the table that the front had too: something has changed since, or a front is not to be believed. NULL: it is taken. */
static const struct policy_decision *
refusal(struct job *j, enum policy_table table, const struct policy_input *in)
{
	const struct policy_decision *d = policy_decide(table, in);

	if (d->action == POLICY_ACCEPT)
		return NULL;
	deliver_trace_decision(j, table, d, in);
	return d;
}

void
deliver_on_resolve(struct edge *e, struct msg_DIR_RESOLVE_REPLY *m)
{
	struct question *q = ipc_answered(e, m->id);

	if (q == NULL)
		return;
	if (q->again) {
		asked_again(q, m->status);
		return;
	}
	struct job *j = q->job;
	struct slice address = j->envelope.recipients[q->recipient];
	const struct envelope_dsn *dsn = &j->envelope.dsn[q->recipient];
	deliver_trace(j, "recipient", LOG_STR("to", address), LOG_NUM("status", m->status),
	    LOG_NUM("accounts", m->accounts.n / sizeof(uint64_t)), LOG_NUM("outside", m->outside.n > 0),
	    LOG_NUM("notify", dsn->notify), LOG_STR("orcpt", dsn->orcpt), LOG_END);
	/* What leaves comes from our own users, or is ours. */
	bool own = j->submission || j->report != NULL;
	struct policy_input in = {.submission = own, .recipient = m->status != 0 ? m->status : DIR_TEMP};
	if (in.recipient == DIR_NOT_OURS)
		policy_input_outside(&in, address, own && config_bool(role_config(), OPT_TRANSPORT_ENABLED),
		    config_bool(role_config(), OPT_SUBMISSION_LITERALS));
	const struct policy_decision *d = refusal(j, POLICY_RCPT, &in);

	if (d != NULL)
		refuse(j, q->recipient, d->reply.code, d->reply.enhanced, d->reply.text);
	else if (in.recipient == DIR_NOT_OURS)
		take_outside(j, q->recipient);
	else
		take_local(j, m, q->recipient);
	answered(q);
}

/* False: the directory is away. */
static bool
ask(struct question about, struct slice address)
{
	struct edge *dir = role_edge(ROLE_DIRECTORY, 0);
	struct question *q = MEM_NEW(struct question);
	uint64_t id;

	*q = about;
	id = dir ? ipc_expect(dir, DELIVER_ASK_MS, resolve_gone, q) : 0;
	if (id != 0 && IPC_SEND(dir, DIR_RESOLVE, .id = id, .address = address, .sender = about.job->envelope.mail_from)) {
		about.job->open++;
		return true;
	}
	if (id != 0)
		ipc_forget(dir, id);
	free(q);
	return false;
}

static void
ask_recipient(struct job *j, uint32_t i)
{
	if (!ask((struct question){.job = j, .recipient = i}, j->envelope.recipients[i]))
		defer_recipient(j, i);
}

/* An account that was deleted has no mailbox that could say so. */
void
deliver_ask_again(struct job *j)
{
	j->open++;
	for (uint32_t i = 0; i < j->target_count; i++) {
		const struct target *t = &j->targets[i];
		if (t->state == QUEUE_PENDING && t->account != 0 && t->unavailable)
			(void)ask((struct question){.job = j, .recipient = i, .again = true}, t->address);
	}
	if (--j->open == 0)
		deliver_queue_report(j);
}

static void
ask_recipients(struct job *j)
{
	if (j->lmtp && !deliver_lmtp_begin(j))
		deliver_job_fail(j, 452, "4.5.3", "Too many recipients");
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
	const struct policy_input in = {.submission = true,
	    .sender = !known ? POLICY_SENDER_UNKNOWN : allowed ? POLICY_SENDER_OWN : POLICY_SENDER_FOREIGN};
	const struct policy_decision *d = refusal(j, POLICY_MAIL, &in);

	j->open--;
	if (d != NULL)
		deliver_job_fail(j, d->reply.code, d->reply.enhanced,
		    asks_author(j) && known ? "The address in From is not yours" : d->reply.text);
	if (j->failed)
		deliver_job_reply_failure(j);
	else if (asks_author(j) && j->outside)
		deliver_sign(j);
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
