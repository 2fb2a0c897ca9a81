/*
 * An IMAP front that claims mailboxes it has no lease for. Lines: "attach CONN" asks the store to attach that
 * connection; "lease ACCOUNT CONN" tells the store itself that a lease is open, as only the directory may.
 */
#include "tests/evil/evil.h"

#include <inttypes.h>

static void
on_attached(struct edge *e, struct msg_STORE_ATTACHED *m)
{
	(void)e;
	evil_say("class %u relay %s\n", m->class, m->relay >= 0 ? "yes" : "no");
}

static void
on_gone(void *obj, const struct err *e)
{
	(void)obj;
	evil_say("gone %s\n", e->detail);
}

static void
attach(uint64_t conn)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	uint64_t id = store ? ipc_expect(store, 5000, on_gone, &on_gone) : 0;

	if (id == 0 || !IPC_SEND(store, STORE_ATTACH, .id = id, .conn = conn, .session = SLICE("evil"),
			   .facts = SLICE("client=evil")))
		evil_say("no store\n");
}

static void
lease(uint64_t account, uint64_t conn)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	if (store == NULL || !IPC_SEND(store, LEASE_OPEN, .id = 1, .account = account, .front_role = ROLE_IMAP_FRONT,
				 .front_generation = role_self()->generation, .conn = conn, .service = SLICE("imap"),
				 .login = SLICE("alice@demo.test")))
		evil_say("no store\n");
	else
		evil_say("sent\n");
}

static void
on_line(char *line)
{
	uint64_t a, b;

	if (sscanf(line, "attach %" SCNu64, &a) == 1)
		attach(a);
	else if (sscanf(line, "lease %" SCNu64 " %" SCNu64, &a, &b) == 2)
		lease(a, b);
	else
		evil_say("what?\n");
}

static void
on_listener(const char *name, int fd)
{
	if (strcmp(name, "imap") == 0)
		evil_listen(fd, on_line);
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_store = {.STORE_ATTACHED = on_attached};
	static const struct ipc_dispatch nothing;
	static const struct role_spec spec = {
	    .role = ROLE_IMAP_FRONT,
	    .dispatch = {[ROLE_STORE] = &from_store, [ROLE_VERIFIER] = &nothing, [ROLE_KEY] = &nothing, [ROLE_RECORDER] = &nothing},
	    .on_listener = on_listener,
	};

	return role_main(argc, argv, &spec);
}
