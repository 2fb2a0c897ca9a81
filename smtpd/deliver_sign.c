/*
 * DKIM signatures for what leaves. The sign role reads the message that verify has read, and says the same hash of it; its fields
 * stand before ours. When it ends meanwhile, the messages that it had wait for its successor and are asked about once more, each of
 * them alone, so that the one that ended it takes no other message down with it; that one is deferred then.
 */
#include "smtpd/deliver_sign.h"

#include "smtpd/deliver.h"
#include "smtpd/deliver_report.h"

#include <assert.h>

/* Who waits for the sign process, in the order they came. */
static struct job *line_first, *line_last;
static struct loop_timer *patience; /* runs while somebody waits; begins again whenever it is somebody's turn */
static unsigned in_flight;
static bool suspect; /* what is in flight is one message whose first process ended */

static void pump(void);

static void
give_up(struct job *j)
{
	deliver_job_reply(j, 451, "4.3.0", "The message could not be signed for the moment, try again later");
}

/* ---- the line ---- */

static void
line_put(struct job *j)
{
	j->line_next = NULL;
	j->open++;
	if (line_first == NULL) {
		line_first = j;
		loop_timer_set(patience, DELIVER_SIGN_MS);
	} else {
		line_last->line_next = j;
	}
	line_last = j;
}

static struct job *
line_take(void)
{
	struct job *j = line_first;

	line_first = j->line_next;
	j->open--;
	if (line_first != NULL)
		loop_timer_set(patience, DELIVER_SIGN_MS);
	else
		loop_timer_stop(patience);
	return j;
}

static void
patience_ends(void *arg)
{
	(void)arg;
	while (line_first != NULL)
		give_up(line_take());
}

/* ---- asking ---- */

/* The process has one message less. */
static void
landed(struct job *j)
{
	assert(in_flight > 0);
	j->open--;
	in_flight--;
	suspect = suspect && in_flight > 0;
}

static void
sign_gone(void *obj, const struct err *e)
{
	struct job *j = obj;

	landed(j);
	deliver_trace(j, "sign-lost", LOG_CSTR("why", e->client), LOG_NUM("tries", j->sign_tries), LOG_END);
	if (j->sign_tries < DELIVER_SIGN_TRIES_MAX)
		line_put(j);
	else
		give_up(j);
	pump();
}

/* False when the process does not take it: it has ended, or has too much to do. */
static bool
ask(struct job *j, struct edge *sign)
{
	struct slice domain = slice_sub(j->verdict.form.from_domain, 0, 255);
	uint64_t id = ipc_expect(sign, DELIVER_SIGN_MS, sign_gone, j);

	if (id == 0)
		return false;
	if (!IPC_SEND(sign, SIGN_MESSAGE, .id = id, .session = slice_str(j->session), .domain = domain, .bytes = j->message.bytes,
		.message = j->message.fd)) {
		ipc_forget(sign, id);
		return false;
	}
	j->open++;
	suspect = j->sign_tries++ > 0;
	in_flight++;
	return true;
}

/* Asks about those whose turn it is. Who is not taken waits for an answer to another one, or for the next process. */
static void
pump(void)
{
	struct edge *sign = role_edge(ROLE_SIGN, 0);

	while (sign != NULL && line_first != NULL && !suspect && (line_first->sign_tries == 0 || in_flight == 0)) {
		if (deliver_job_stale(line_first))
			give_up(line_take());
		else if (ask(line_first, sign))
			(void)line_take();
		else
			break;
	}
}

void
deliver_sign_init(struct loop *l)
{
	patience = loop_timer_new(l, patience_ends, NULL);
}

void
deliver_sign_up(void)
{
	pump();
}

void
deliver_sign(struct job *j)
{
	j->sign_tries = 0;
	line_put(j);
	pump();
}

/* ---- the answer ---- */

void
deliver_on_signed(struct edge *e, struct msg_SIGN_REPLY *m)
{
	struct job *j = ipc_answered(e, m->id);

	if (j == NULL)
		return;
	landed(j);
	deliver_trace(j, "signed", LOG_NUM("class", m->class), LOG_NUM("bytes", m->fields.n), LOG_STR("text", m->text), LOG_END);
	if (m->class != ERR_NONE ||
	    (m->fields.n > 0 && (!slice_eq(m->sha256, slice_of(j->message.sha256, sizeof j->message.sha256)) ||
				    !arena_copy(j->arena, m->fields, &j->signatures))))
		give_up(j);
	else if (j->report)
		deliver_report_signed(j);
	else
		deliver_compose(j);
	pump();
}
