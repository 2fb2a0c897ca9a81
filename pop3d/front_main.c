/* Role POP3_FRONT: client sockets and TLS until login, then a relay. */
#include "common/role.h"
#include "common/tls.h"
#include "pop3d/front.h"

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

static void
edge_down(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_KEY)
		tls_server_key_edge(tls_server(), NULL);
	front_edge_down(e);
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_recorder = {0};
	static const struct role_spec spec = {
	    .role = ROLE_POP3_FRONT,
	    .dispatch =
		{
		    [ROLE_VERIFIER] = &front_from_verifier,
		    [ROLE_STORE] = &front_from_store,
		    [ROLE_KEY] = &tls_from_key,
		    [ROLE_RECORDER] = &from_recorder,
		},
	    .init = init,
	    .on_listener = front_listen,
	    .on_edge_up = edge_up,
	    .on_edge_down = edge_down,
	    .on_reload = front_reload,
	    .on_drain = front_drain,
	};

	return role_main(argc, argv, &spec);
}
