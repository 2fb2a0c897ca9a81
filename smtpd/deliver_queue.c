/*
 * The two ways between deliver and queue: what could not be stored at once goes there with its message as
 * composed, and what is due comes back and is stored with the same {origin, sequence} as the first time.
 */
#include "smtpd/deliver.h"
#include "smtpd/deliver_forward.h"

#include "common/mem.h"
#include "common/memfd.h"
#include "smtpd/deliver_report.h"

#include <stdlib.h>
#include <unistd.h>

static unsigned running; /* items on their way, and questions for one */
static bool more_due;    /* the queue said so, and has not said otherwise since */
static struct job *add_again;
static struct loop_timer *add_timer;

/* ---- to the queue ---- */

/* The domain of the reverse-path says that this client does not send for it (RFC 7208 8.4), and its author proves nothing else. */
static bool
sender_disowned(const struct job *j)
{
	const struct verdict *v = &j->verdict;
	struct slice from = j->envelope.mail_from;

	return v->mail_from.result == SPF_RESULT_FAIL && from.n > 0 &&
	    !(v->dmarc.result == DMARC_RESULT_PASS &&
		policy_domains_related(v->form.from_domain, slice_sub(from, slice_rindex(from, '@') + 1, from.n)));
}

/* A report would reach somebody who has sent nothing: what fails of it is told to the log alone. */
static bool
sender_may_be_forged(const struct job *j)
{
	return (j->decision && j->decision->action == POLICY_JUNK) || sender_disowned(j);
}

static bool
encode_item(struct job *j, struct buf *b)
{
	struct queue_item item = {
	    .internal_date = j->envelope.received_us / 1000000,
	    .session = slice_str(j->session),
	    .mail_from = j->envelope.mail_from,
	    .flags = (uint8_t)((j->envelope.smtputf8 ? QUEUE_SMTPUTF8 : 0) | (j->envelope.eightbit ? QUEUE_EIGHTBIT : 0) |
		(j->envelope.binary ? QUEUE_BINARY : 0) | (j->envelope.requiretls ? QUEUE_REQUIRETLS : 0) |
		(j->verdict.form.tls_optional && !j->envelope.requiretls ? QUEUE_TLS_OPTIONAL : 0) |
		(j->decision && j->decision->action == POLICY_HOLD ? QUEUE_HELD : 0)),
	    .ret = j->envelope.ret,
	    .envid = j->envelope.envid,
	    .skip = j->return_path_bytes,
	    .forward_from = j->forward ? j->forward->from : slice_of(NULL, 0),
	    .release_ms = j->envelope.release * 1000,
	    .hold_for = j->envelope.hold_for,
	    .priority = j->envelope.priority,
	};

	bool forged = sender_may_be_forged(j);

	item.recipients = arena_array(j->arena, j->target_count, sizeof(*item.recipients));
	if (item.recipients == NULL)
		return false;
	for (uint32_t i = 0; i < j->target_count; i++) {
		const struct target *t = &j->targets[i];
		if (t->returned)
			continue;
		item.recipients[item.count++] = (struct queue_recipient){
		    .account = t->account,
		    .sequence = t->sequence,
		    .target = t->mailbox,
		    .state = t->state,
		    .address = t->address,
		    .text = slice_str(t->text),
		    .status = slice_str(t->enhanced ? t->enhanced : ""),
		    .notify = forged ? SMTP_NOTIFY_NEVER : t->dsn.notify,
		    .orcpt = t->dsn.orcpt,
		    .attempts = t->tries > 0,
		    .flags = t->forwarded ? QUEUE_FORWARDED : 0,
		};
	}
	return queue_item_encode(&item, b);
}

static bool
all_stored(const struct job *j)
{
	for (uint32_t i = 0; i < j->target_count; i++)
		if (!j->targets[i].returned && j->targets[i].state != QUEUE_DONE)
			return false;
	return true;
}

/* Not taken (yet): once more, with the same id, until nobody waits for the answer any more. */
static void
add_failed(struct job *j, const char *why)
{
	uint64_t ms = clock_ms() - j->began_ms;

	deliver_trace(j, "queue-refused", LOG_CSTR("why", why), LOG_END);
	if (!j->outside && all_stored(j) && ms > DELIVER_TELL_MS) {
		deliver_job_delivered(j); /* a report is less than a message that comes twice */
		return;
	}
	if (ms > DELIVER_STALE_MS) {
		/* Both have been away for so long. Who has it will have it twice when the client comes again; lost it is for
		 * nobody. */
		if (j->recipients) {
			deliver_lmtp_answer(j, false);
			return;
		}
		deliver_job_reply(j, 451, "4.3.0", "Not everything could be delivered, try again later");
		return;
	}
	j->open++;
	j->add_next = add_again;
	add_again = j;
	loop_timer_set(add_timer, DELIVER_ADD_AGAIN_MS);
}

static void
on_add_again(void *arg)
{
	struct job *list = add_again;

	(void)arg;
	add_again = NULL;
	while (list) {
		struct job *j = list;
		list = j->add_next;
		j->open--;
		deliver_queue_add(j);
	}
}

void
deliver_queue_init(struct loop *l)
{
	add_timer = loop_timer_new(l, on_add_again, NULL);
}

static void
add_gone(void *obj, const struct err *e)
{
	struct job *j = obj;

	j->open--;
	add_failed(j, e->client);
}

void
deliver_queue_add(struct job *j)
{
	struct edge *queue = role_edge(ROLE_QUEUE, 0);
	uint64_t id = queue ? ipc_expect(queue, DELIVER_ASK_MS, add_gone, j) : 0;
	struct buf b;
	bool sent;

	buf_init(&b, QUEUE_ITEM_BYTES_MAX);
	sent = id != 0 && encode_item(j, &b) &&
	    IPC_SEND(queue, QUEUE_ADD, .id = id, .queue_id = slice_str(j->queue_id), .item = buf_slice(&b),
		.bytes = j->final.bytes, .sha256 = slice_of(j->final.sha256, sizeof(j->final.sha256)),
		.message = j->final.fd, .summary = j->summary_fd);
	buf_fini(&b);
	if (sent) {
		j->open++;
		return;
	}
	if (id != 0)
		ipc_forget(queue, id);
	add_failed(j, "the queue is away");
}

void
deliver_on_queue_added(struct edge *e, struct msg_QUEUE_ADDED *m)
{
	struct job *j = ipc_answered(e, m->id);

	if (j == NULL)
		return;
	j->open--;
	if (m->class == ERR_NONE)
		deliver_job_delivered(j);
	else
		add_failed(j, "the queue could not keep it");
}

/* ---- from the queue ---- */

static void pump(void);

static void
next_gone(void *obj, const struct err *e)
{
	(void)obj;
	(void)e;
	running--;
	more_due = false;
}

static void
pump(void)
{
	struct edge *queue = role_edge(ROLE_QUEUE, 0);

	while (more_due && !deliver_draining() && running < DELIVER_QUEUE_JOBS_MAX && queue) {
		uint64_t id = ipc_expect(queue, DELIVER_ASK_MS, next_gone, &running);
		if (id == 0)
			return;
		if (!IPC_SEND(queue, QUEUE_NEXT, .id = id)) {
			ipc_forget(queue, id);
			return;
		}
		running++;
	}
}

void
deliver_on_queue_due(struct edge *e, struct msg_QUEUE_DUE *m)
{
	(void)e;
	(void)m;
	more_due = true;
	pump();
}

void
deliver_queue_up(void)
{
	more_due = true;
	pump();
	if (add_again)
		loop_timer_set(add_timer, 0);
}

/* An item's account becomes a target; those that are done or failed already stay out. */
static bool
take_targets(struct job *j, const struct queue_item *item)
{
	j->targets = arena_array(j->arena, item->count, sizeof(*j->targets));
	if (j->targets == NULL)
		return false;
	for (uint16_t i = 0; i < item->count; i++) {
		const struct queue_recipient *r = &item->recipients[i];
		if (r->state != QUEUE_PENDING || r->account == 0)
			continue;
		j->targets[j->target_count++] = (struct target){
		    .account = r->account,
		    .sequence = r->sequence,
		    .mailbox = r->target,
		    .state = QUEUE_PENDING,
		    .address = r->address,
		};
	}
	return true;
}

static bool
take_item(struct job *j, struct msg_QUEUE_ITEM *m)
{
	struct queue_item item;
	struct slice kept;

	if (!slice_cstr(m->queue_id, j->queue_id, sizeof(j->queue_id)) ||
	    !smtp_queue_id_valid(slice_str(j->queue_id)) || !arena_copy(j->arena, m->item, &kept) ||
	    !queue_item_decode(kept, j->arena, &item) || m->sha256.n != sizeof(j->final.sha256) || m->message < 0)
		return false;
	if (!slice_cstr(item.session, j->session, sizeof(j->session)))
		j->session[0] = '\0';
	j->envelope.received_us = item.internal_date * 1000000;
	memcpy(j->final.sha256, m->sha256.p, m->sha256.n);
	j->final.bytes = m->bytes;
	j->final.fd = m->message;
	j->summary_fd = m->summary;
	m->message = m->summary = -1;
	return take_targets(j, &item);
}

/* Tries the recipients that are pending. */
static bool
begin_item(struct job *j, struct msg_QUEUE_ITEM *m)
{
	if (!take_item(j, m))
		return false;
	j->from_queue = true;
	deliver_trace(j, "retry", LOG_NUM("accounts", j->target_count), LOG_END);
	deliver_append(j);
	return true;
}

void
deliver_on_queue_item(struct edge *e, struct msg_QUEUE_ITEM *m)
{
	struct job *j;

	if (ipc_answered(e, m->id) == NULL)
		return;
	if (!m->found) {
		running--;
		more_due = false;
		return;
	}
	j = deliver_job_new();
	if (j == NULL || !(m->report_id.n > 0 ? deliver_report_begin(j, m) : begin_item(j, m))) {
		/* It stays with the queue, which will bring it again when it hears nothing. */
		log_event(LOG_WARN, NO_SESSION, "queue-item-unusable", LOG_STR("id", m->queue_id), LOG_END);
		running--;
		more_due = false;
		if (j)
			deliver_job_end(j);
	}
}

static void
report_end(struct job *j)
{
	running--;
	deliver_job_end(j);
	pump();
}

static void
result_gone(void *obj, const struct err *e)
{
	struct job *j = obj;

	(void)e;
	j->open--;
	report_end(j);
}

void
deliver_on_queue_result(struct edge *e, struct msg_QUEUE_RESULT_REPLY *m)
{
	struct job *j = ipc_answered(e, m->id);

	if (j == NULL)
		return;
	j->open--;
	if (m->class != ERR_NONE)
		deliver_trace(j, "queue-result-refused", LOG_NUM("class", m->class), LOG_END);
	report_end(j);
}

static bool
encode_results(struct job *j, struct buf *b)
{
	struct queue_results r = {.count = (uint16_t)j->target_count};

	r.v = arena_array(j->arena, j->target_count, sizeof(*r.v));
	if (r.v == NULL)
		return false;
	for (uint32_t i = 0; i < j->target_count; i++)
		r.v[i] = (struct queue_result){
		    .sequence = j->targets[i].sequence,
		    .state = j->targets[i].state,
		    .status = slice_str(j->targets[i].enhanced ? j->targets[i].enhanced : ""),
		    .text = slice_str(j->targets[i].text),
		};
	return queue_results_encode(&r, b);
}

void
deliver_queue_report(struct job *j)
{
	struct edge *queue = role_edge(ROLE_QUEUE, 0);
	uint64_t id = queue ? ipc_expect(queue, DELIVER_ASK_MS, result_gone, j) : 0;
	struct buf b;
	bool sent;

	buf_init(&b, QUEUE_ITEM_BYTES_MAX);
	if (j->report)
		sent = id != 0 && IPC_SEND(queue, QUEUE_RESULT, .id = id, .queue_id = slice_str(j->report->of),
		    .report_id = slice_str(j->queue_id), .class = j->report->class);
	else
		sent = id != 0 && encode_results(j, &b) &&
		    IPC_SEND(queue, QUEUE_RESULT, .id = id, .queue_id = slice_str(j->queue_id), .results = buf_slice(&b));
	buf_fini(&b);
	if (sent) {
		j->open++;
		return;
	}
	if (id != 0)
		ipc_forget(queue, id);
	report_end(j);
}
