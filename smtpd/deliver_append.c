/*
 * Storing one message at all of its accounts at once. A keeper that dies before it has answered is asked
 * again through its successor with the same {origin, sequence}: it answers again what it had done, or does it now.
 */
#include "smtpd/deliver.h"
#include "smtpd/deliver_keeper.h"

#include "common/auth_proto.h"
#include "common/config.h"
#include "common/mem.h"
#include "smtpd/deliver_report.h"
#include "store/store.h"

#include <assert.h>
#include <stdlib.h>

#define RETRY_MS 100

/* One account's part of a job. */
struct append {
	struct job *job;
	struct target *target;
	struct append *next; /* to be tried again */
	bool asked;	     /* a keeper, which has not answered */
};

static struct append *again;
static struct loop_timer *again_timer;

static void try(struct append *a);

/* ---- results ---- */

static void
set_result(struct target *t, enum queue_state state, unsigned code, const char *enhanced, const char *text)
{
	t->state = state;
	t->code = code;
	t->enhanced = enhanced;
	(void)snprintf(t->text, sizeof(t->text), "%s", text);
}

/* The row that decides at RCPT already when it is known there. Pending all the same: when others have the message already, the
 * queue tries this one again. */
static void
set_full(struct job *j, struct target *t)
{
	const struct policy_input in = {.submission = j->submission,
	    .recipient = DIR_LOCAL,
	    .mailbox_full = true,
	    .quota_refuse = config_bool(role_config(), OPT_POLICY_QUOTA_REFUSE)};
	const struct policy_decision *d = policy_decide(POLICY_RCPT, &in);

	deliver_trace_decision(j, POLICY_RCPT, d, &in);
	set_result(t, QUEUE_PENDING, d->reply.code, d->reply.enhanced, d->reply.text);
}

/* A keeper's or the store's error as the state of a delivery and the words for it. */
static void
set_failure(struct job *j, struct target *t, enum err_class class, enum err_code code)
{
	if (code == ERR_CODE_OVER_QUOTA)
		set_full(j, t);
	else if (code == ERR_CODE_NO_SPACE)
		set_result(t, QUEUE_PENDING, 452, "4.3.1", "No room on the disk");
	else if (code == ERR_CODE_TOO_BIG)
		set_result(t, QUEUE_FAILED, 552, "5.3.4", "Message too big for the mailbox");
	else if (code == ERR_CODE_NOT_FOUND && class == ERR_PERM)
		set_result(t, QUEUE_FAILED, 550, "5.2.1", "The mailbox does not exist any more");
	else if (class == ERR_PERM)
		set_result(t, QUEUE_FAILED, 554, "5.3.0", "The mailbox cannot take this message");
	else {
		set_result(t, QUEUE_PENDING, 451, "4.3.0", "The mailbox is not available for the moment");
		t->unavailable = true;
	}
}

static void
finished(struct append *a)
{
	struct job *j = a->job;
	const struct target *t = a->target;

	deliver_trace(j, "append", LOG_STR("to", t->address), LOG_NUM("account", t->account),
	    LOG_NUM("sequence", t->sequence), LOG_CSTR("result", queue_state_name(t->state)),
	    LOG_CSTR("mailbox", t->mailbox == STORE_TARGET_JUNK ? "junk" : "inbox"), LOG_CSTR("text", t->text),
	    LOG_NUM("tries", t->tries), LOG_END);
	free(a);
	if (j->recipients)
		deliver_lmtp_tell(j);
	if (--j->open == 0)
		deliver_decide(j);
}

/* ---- asking ---- */

static void
try_again(struct append *a)
{
	if (a->target->tries >= DELIVER_APPEND_TRIES_MAX) {
		a->target->uncertain = a->asked;
		set_failure(a->job, a->target, ERR_TEMP, ERR_CODE_UNAVAILABLE);
		finished(a);
		return;
	}
	/* Later: the edge that has just failed is still being taken down, and a successor needs a moment. */
	a->next = again;
	again = a;
	loop_timer_set(again_timer, RETRY_MS);
}

static void
on_again(void *arg)
{
	struct append *list = again;

	(void)arg;
	again = NULL;
	while (list) {
		struct append *a = list;
		list = a->next;
		try(a);
	}
}

static void
append_gone(void *obj, const struct err *e)
{
	struct append *a = obj;

	/* Once is usual: a keeper that nobody else uses leaves when it has been idle, whoever is on the way to it. */
	log_event(a->target->tries > 1 ? LOG_WARN : LOG_INFO, slice_str(a->job->session), "append-unanswered",
	    LOG_NUM("account", a->target->account), LOG_CSTR("why", e->client), LOG_END);
	deliver_keeper_release(a->target->account);
	try_again(a);
}

static bool
ask_keeper(const struct job *j, const struct target *t, struct edge *keeper, uint64_t id)
{
	uint64_t date = j->envelope.received_us / 1000000;

	return IPC_SEND(keeper, MSG_APPEND, .id = id, .origin = slice_of(j->queue_id, SMTP_QUEUE_ID_CHARS),
	    .sequence = t->sequence, .target = t->mailbox, .internal_date = date, .bytes = j->final.bytes,
	    .sha256 = slice_of(j->final.sha256, sizeof(j->final.sha256)), .message = j->final.fd,
	    .summary = j->summary_fd);
}

static void
keeper_ready(void *arg, struct edge *keeper, const struct err *e)
{
	struct append *a = arg;
	uint64_t id;

	if (keeper == NULL) {
		if (e->class == ERR_PERM) { /* nobody has it any more, whatever was done */
			set_failure(a->job, a->target, e->class, e->code);
			finished(a);
		} else {
			try_again(a);
		}
		return;
	}
	id = ipc_expect(keeper, DELIVER_APPEND_MS, append_gone, a);
	if (id != 0 && ask_keeper(a->job, a->target, keeper, id)) {
		a->asked = true;
		return;
	}
	if (id != 0)
		ipc_forget(keeper, id);
	deliver_keeper_release(a->target->account);
	try_again(a);
}

static void
try(struct append *a)
{
	a->target->tries++;
	deliver_keeper_want(a->target->account, keeper_ready, a);
}

void
deliver_on_appended(struct edge *e, struct msg_MSG_APPEND_REPLY *m)
{
	struct append *a = ipc_answered(e, m->id);

	if (a == NULL)
		return;
	deliver_keeper_release(a->target->account);
	if (m->class == ERR_NONE)
		set_result(a->target, QUEUE_DONE, 250, "2.0.0", "");
	else
		set_failure(a->job, a->target, m->class <= ERR_BUG ? (enum err_class)m->class : ERR_TEMP,
		    m->code <= ERR_CODE_EXPIRED ? (enum err_code)m->code : ERR_CODE_NONE);
	finished(a);
}

/* ---- the stage ---- */

/* What the queue would have to hold of this message must fit before anything of it is stored. */
static bool
fits_queue(const struct job *j)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < j->target_count; i++)
		bytes += j->targets[i].address.n + j->targets[i].dsn.orcpt.n;
	return queue_item_fits(j->target_count, bytes);
}

void
deliver_append(struct job *j)
{
	if (!j->from_queue && !fits_queue(j)) {
		deliver_job_reply(j, 452, "4.5.3", "Too many recipients for one message");
		return;
	}
	if (deliver_job_stale(j)) {
		deliver_job_reply(j, 451, "4.3.0", "Took too long, try again later");
		return;
	}
	for (uint32_t i = 0; j->decision && i < j->target_count; i++)
		j->targets[i].mailbox = j->decision->action == POLICY_JUNK ? STORE_TARGET_JUNK : STORE_TARGET_INBOX;
	/* From here on it is the queue's: who submits it again has not sent it twice to those who have a mailbox here. */
	if (j->outside || j->envelope.release > 0) {
		deliver_queue_add(j);
		return;
	}
	/* One more than there are, so that answers which come before the loop ends do not end the stage. */
	j->open++;
	for (uint32_t i = 0; i < j->target_count; i++) {
		struct target *t = &j->targets[i];
		if (t->state != QUEUE_PENDING)
			continue;
		struct append *a = MEM_NEW(struct append);
		*a = (struct append){.job = j, .target = t};
		j->open++;
		try(a);
	}
	if (--j->open == 0)
		deliver_decide(j);
}

void
deliver_append_init(struct loop *l)
{
	again_timer = loop_timer_new(l, on_again, NULL);
}

/* ---- what comes of it ---- */

/* Answers with the words of the first account in that state, one that may take it later before one that will not; there is one. */
static void
reply_of(struct job *j, enum queue_state state)
{
	const struct target *t = NULL;

	for (const struct target *at = j->targets; at < j->targets + j->target_count; at++)
		if (at->state == state && (t == NULL || (t->code >= 500 && at->code < 500)))
			t = at;
	assert(t != NULL);
	deliver_job_reply(j, t->code, t->enhanced, t->text);
}

bool
deliver_success_is_due(const struct job *j)
{
	/* What went to Junk has a sender who may be forged: nobody is told of it. */
	if (j->envelope.mail_from.n == 0 || j->report || (j->decision && j->decision->action == POLICY_JUNK))
		return false;
	for (uint32_t i = 0; i < j->target_count; i++)
		if (!j->targets[i].returned && j->targets[i].state == QUEUE_DONE && (j->targets[i].dsn.notify & SMTP_NOTIFY_SUCCESS))
			return true;
	return false;
}

void
deliver_decide(struct job *j)
{
	unsigned in_state[QUEUE_STATE_LAST + 1] = {0};
	bool uncertain = false;

	if (j->report) {
		deliver_report_decide(j);
		return;
	}
	if (j->from_queue) {
		deliver_ask_again(j);
		return;
	}
	if (j->recipients) {
		deliver_lmtp_decide(j);
		return;
	}
	for (uint32_t i = 0; i < j->target_count; i++) {
		in_state[j->targets[i].state]++;
		uncertain = uncertain || j->targets[i].uncertain;
	}
	if (in_state[QUEUE_DONE] == j->target_count && !deliver_success_is_due(j))
		deliver_job_delivered(j);
	else if (in_state[QUEUE_DONE] > 0 || uncertain)
		deliver_queue_add(j); /* some have it, or may have: from now on it is ours */
	else
		reply_of(j, in_state[QUEUE_PENDING] > 0 ? QUEUE_PENDING : QUEUE_FAILED);
}
