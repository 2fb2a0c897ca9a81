#include "smtpd/transport_sts.h"

#include "common/mem.h"
#include "common/role.h"

#include <stdlib.h>

struct transport_sts {
	transport_sts_fn *done; /* NULL: cancelled */
	void *arg;
};

static void
answered(struct transport_sts *q, bool known, const struct sts_policy *policy, const char *why)
{
	if (q->done)
		q->done(q->arg, known, policy, why);
	free(q);
}

static void
gone(void *obj, const struct err *e)
{
	answered(obj, false, NULL, e->client);
}

struct transport_sts *
transport_sts_ask(struct slice domain, transport_sts_fn *done, void *arg)
{
	struct edge *sts = role_edge(ROLE_STS, 0);
	struct transport_sts *q = MEM_NEW(struct transport_sts);
	uint64_t id = sts ? ipc_expect(sts, TRANSPORT_STS_MS, gone, q) : 0;

	*q = (struct transport_sts){done, arg};
	if (id != 0 && IPC_SEND(sts, STS_ASK, .id = id, .domain = domain))
		return q;
	if (id != 0)
		ipc_forget(sts, id);
	free(q);
	return NULL;
}

void
transport_sts_cancel(struct transport_sts **q)
{
	/* It stays until its answer, or its end, comes. */
	if (*q != NULL)
		(*q)->done = NULL;
	*q = NULL;
}

void
transport_sts_answer(struct edge *e, struct msg_STS_POLICY *m)
{
	struct transport_sts *q = ipc_answered(e, m->id);
	struct sts_policy policy;
	char why[201];
	bool follow;

	if (q == NULL)
		return;
	follow = m->mode != STS_NONE;
	if (!slice_cstr(m->why, why, sizeof why))
		why[0] = '\0';
	/* What it says is checked like anything that comes over an edge. */
	if (m->class != ERR_NONE || (follow && !sts_policy_parse(m->text, &policy)))
		answered(q, false, NULL, why);
	else
		answered(q, true, follow ? &policy : NULL, why);
}
