/* Role IMAP_FRONT: client sockets and TLS until login, then a relay. */
#include "common/role.h"
#include "common/tls.h"
#include "imapd/front.h"

static int
init(struct err *e)
{
	return tls_server_new(e) ? 0 : -1;
}

static void
edge_up(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_KEY)
		tls_server_key_edge(tls_server(), e);
}

static const struct ipc_dispatch from_recorder = {0};

int
main(int argc, char **argv)
{
	const struct role_spec spec = {
	    .role = ROLE_IMAP_FRONT,
	    .dispatch = {[ROLE_VERIFIER] = &front_from_verifier,
		[ROLE_STORE] = &front_from_store,
		[ROLE_KEY] = &tls_from_key,
		[ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_listener = front_listen,
	    .on_edge_up = edge_up,
	    .on_edge_down = front_edge_down,
	    .on_reload = front_reload,
	    .on_drain = front_drain,
	};

	return role_main(argc, argv, &spec);
}
