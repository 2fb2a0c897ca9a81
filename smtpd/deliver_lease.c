/*
 * Leases are the store's: it is asked for each message, so that a lease that was revoked counts at once, and none
 * is lost with this process.
 */
#include "smtpd/deliver.h"

static void
lease_gone(void *obj, const struct err *e)
{
	struct job *j = obj;

	j->open--;
	deliver_trace(j, "lease-unknown", LOG_CSTR("why", e->client), LOG_END);
	deliver_job_reply(j, 451, "4.3.0", "Not possible for the moment, try again later");
}

void
deliver_lease(struct job *j, const struct edge_peer *front, uint64_t conn)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	uint64_t id = store ? ipc_expect(store, DELIVER_ASK_MS, lease_gone, j) : 0;

	if (id != 0 && IPC_SEND(store, LEASE_ASK, .id = id, .front_instance = front->instance,
			   .front_generation = front->generation, .conn = conn)) {
		j->open++;
		return;
	}
	if (id != 0)
		ipc_forget(store, id);
	deliver_job_reply(j, 451, "4.3.0", "Not possible for the moment, try again later");
}

void
deliver_on_lease(struct edge *e, struct msg_LEASE_TOLD *m)
{
	struct job *j = ipc_answered(e, m->id);

	if (j == NULL)
		return;
	j->open--;
	if (arena_copy(j->arena, m->login, &j->login))
		j->account = m->account;
	deliver_begin(j);
}
