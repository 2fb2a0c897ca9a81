/*
 * Role SIGN: DKIM signatures for messages that leave. It parses the header of a user's message, so it has no path, no
 * socket and no key: the key role does the private operation.
 */
#include "common/log.h"
#include "common/role.h"

static void
on_message(struct edge *e, struct msg_SIGN_MESSAGE *m)
{
	if (!IPC_SEND(e, SIGN_REPLY, .id = m->id, .text = SLICE("no key for this domain")))
		log_event(LOG_WARN, m->session, "sign-reply-unsent", LOG_END);
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_deliver = {.SIGN_MESSAGE = on_message};
	static const struct ipc_dispatch from_key;
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
	    .role = ROLE_SIGN,
	    .dispatch = {[ROLE_DELIVER] = &from_deliver, [ROLE_KEY] = &from_key, [ROLE_RECORDER] = &from_recorder},
	};

	return role_main(argc, argv, &spec);
}
