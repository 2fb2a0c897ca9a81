/*
 * Role TRANSPORT: the way to other servers. Outbound sockets and the resolver; no paths, no keys.
 */
#include "common/dns.h"
#include "common/log.h"
#include "common/role.h"

#include <unistd.h>

static void
on_send(struct edge *e, struct msg_TRANSPORT_SEND *m)
{
	/* RETURNED: the queue keeps it. */
	if (!IPC_SEND(e, TRANSPORT_RESULT, .id = m->id, .queue_id = m->queue_id, .reached = 2))
		log_event(LOG_WARN, m->session, "transport-result-unsent", LOG_END);
}

static void
on_taken(struct edge *e, struct msg_TRANSPORT_TAKEN *m)
{
	(void)e;
	(void)m;
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_queue = {.TRANSPORT_SEND = on_send, .TRANSPORT_TAKEN = on_taken};
	static const struct ipc_dispatch from_resolver = {.DNS_ANSWER = dns_client_answer};
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
	    .role = ROLE_TRANSPORT,
	    .dispatch = {[ROLE_QUEUE] = &from_queue, [ROLE_RESOLVER] = &from_resolver, [ROLE_RECORDER] = &from_recorder},
	};

	return role_main(argc, argv, &spec);
}
