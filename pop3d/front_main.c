/* Role POP3_FRONT: client sockets and TLS until login, then a relay. */
#include "common/login.h"
#include "common/role.h"
#include "common/tls.h"
#include "pop3d/front.h"

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_recorder = {0};
	static const struct role_spec spec = {
	    .role = ROLE_POP3_FRONT,
	    .dispatch =
		{
		    [ROLE_VERIFIER] = &login_from_verifier,
		    [ROLE_STORE] = &login_from_store,
		    [ROLE_KEY] = &tls_from_key,
		    [ROLE_RECORDER] = &from_recorder,
		},
	    .init = front_init,
	    .on_listener = login_on_listener,
	    .on_edge_up = login_on_edge_up,
	    .on_edge_down = login_on_edge_down,
	    .on_reload = login_on_reload,
	    .on_drain = login_on_drain,
	};

	return role_main(argc, argv, &spec);
}
