/*
 * DKIM signatures for what leaves. The sign role reads the message that verify has read, and says the same hash of it; its fields
 * stand before ours.
 */
#include "smtpd/deliver.h"

#define SIGN_TRIES_MAX 2

static void ask(struct job *j);

static void
sign_gone(void *obj, const struct err *e)
{
	struct job *j = obj;

	j->open--;
	deliver_trace(j, "sign-lost", LOG_CSTR("why", e->client), LOG_NUM("tries", j->sign_tries), LOG_END);
	ask(j);
}

static void
ask(struct job *j)
{
	struct edge *sign = role_edge(ROLE_SIGN, 0);
	struct slice author = j->verdict.form.from_address;
	struct slice domain = slice_sub(author, slice_rindex(author, '@') + 1, author.n);
	uint64_t id = 0;

	if (j->sign_tries < SIGN_TRIES_MAX && sign != NULL)
		id = ipc_expect(sign, DELIVER_SIGN_MS, sign_gone, j);
	j->sign_tries++;
	if (id != 0 && IPC_SEND(sign, SIGN_MESSAGE, .id = id, .session = slice_str(j->session), .domain = slice_sub(domain, 0, 255),
			   .bytes = j->message.bytes, .message = j->message.fd)) {
		j->open++;
		return;
	}
	if (id != 0)
		ipc_forget(sign, id);
	deliver_job_reply(j, 451, "4.3.0", "The message could not be signed for the moment, try again later");
}

void
deliver_sign(struct job *j)
{
	j->sign_tries = 0;
	ask(j);
}

void
deliver_on_signed(struct edge *e, struct msg_SIGN_REPLY *m)
{
	struct job *j = ipc_answered(e, m->id);

	if (j == NULL)
		return;
	j->open--;
	deliver_trace(j, "signed", LOG_NUM("class", m->class), LOG_NUM("bytes", m->fields.n), LOG_STR("text", m->text), LOG_END);
	if (m->class != ERR_NONE) {
		deliver_job_reply(j, 451, "4.3.0", "The message could not be signed for the moment, try again later");
		return;
	}
	if (m->fields.n > 0 && (!slice_eq(m->sha256, slice_of(j->message.sha256, sizeof j->message.sha256)) ||
				   !arena_copy(j->arena, m->fields, &j->signatures))) {
		deliver_job_reply(j, 451, "4.3.0", "The message could not be signed for the moment, try again later");
		return;
	}
	deliver_compose(j);
}
