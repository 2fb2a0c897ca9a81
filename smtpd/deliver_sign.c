/*
 * DKIM signatures for what leaves. The sign role reads the message that verify has read, and says the same hash of it; its fields
 * stand before ours. When it ends meanwhile, the messages wait for its successor and are asked about once more: one that has ended
 * two of them is deferred.
 */
#include "smtpd/deliver_sign.h"

#include "smtpd/deliver.h"

static struct job *line; /* who waits for a sign process */
static struct loop_timer *patience;

static void
give_up(struct job *j)
{
	deliver_job_reply(j, 451, "4.3.0", "The message could not be signed for the moment, try again later");
}

/* ---- asking ---- */

static void
wait_for_process(struct job *j)
{
	if (line == NULL)
		loop_timer_set(patience, DELIVER_SIGN_MS);
	j->line_next = line;
	line = j;
	j->open++;
}

/* Calls again for all that stand there now; who is not taken stands there again. */
static void
line_empty(void (*call)(struct job *))
{
	struct job *next, *j = line;

	loop_timer_stop(patience);
	line = NULL;
	for (; j != NULL; j = next) {
		next = j->line_next;
		j->open--;
		call(j);
	}
}

static void ask(struct job *j);

static void
sign_gone(void *obj, const struct err *e)
{
	struct job *j = obj;

	j->open--;
	deliver_trace(j, "sign-lost", LOG_CSTR("why", e->client), LOG_NUM("tries", j->sign_tries), LOG_END);
	if (j->sign_tries == DELIVER_SIGN_TRIES_MAX)
		give_up(j);
	else if (e->code == ERR_CODE_TIMEOUT)
		ask(j);
	else
		wait_for_process(j);
}

static void
ask(struct job *j)
{
	struct edge *sign = role_edge(ROLE_SIGN, 0);
	struct slice domain = slice_sub(j->verdict.form.from_domain, 0, 255);

	if (deliver_job_stale(j)) {
		give_up(j);
		return;
	}
	if (sign == NULL) {
		wait_for_process(j);
		return;
	}
	uint64_t id = ipc_expect(sign, DELIVER_SIGN_MS, sign_gone, j);

	if (id != 0 && IPC_SEND(sign, SIGN_MESSAGE, .id = id, .session = slice_str(j->session), .domain = domain,
			   .bytes = j->message.bytes, .message = j->message.fd)) {
		j->open++;
		j->sign_tries++;
		return;
	}
	if (id != 0)
		ipc_forget(sign, id);
	give_up(j);
}

static void
patience_ends(void *arg)
{
	(void)arg;
	line_empty(give_up);
}

void
deliver_sign_init(struct loop *l)
{
	patience = loop_timer_new(l, patience_ends, NULL);
}

void
deliver_sign_up(void)
{
	line_empty(ask);
}

void
deliver_sign(struct job *j)
{
	j->sign_tries = 0;
	ask(j);
}

/* ---- the answer ---- */

void
deliver_on_signed(struct edge *e, struct msg_SIGN_REPLY *m)
{
	struct job *j = ipc_answered(e, m->id);

	if (j == NULL)
		return;
	j->open--;
	deliver_trace(j, "signed", LOG_NUM("class", m->class), LOG_NUM("bytes", m->fields.n), LOG_STR("text", m->text), LOG_END);
	if (m->class != ERR_NONE ||
	    (m->fields.n > 0 && (!slice_eq(m->sha256, slice_of(j->message.sha256, sizeof j->message.sha256)) ||
				    !arena_copy(j->arena, m->fields, &j->signatures))))
		give_up(j);
	else
		deliver_compose(j);
}
