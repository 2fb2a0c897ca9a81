/*
 * Role TRANSPORT: the way to other servers. Outbound sockets and the resolver; no paths, no keys.
 */
#include "common/dns.h"
#include "smtpd/transport.h"
#include "smtpd/transport_sts.h"

static struct tls_client *tls;
static bool draining;
static struct buf credentials;

bool
transport_draining(void)
{
	return draining;
}

struct tls_client *
transport_tls_client(void)
{
	return tls;
}

void
transport_leave_when_done(void)
{
	if (draining && (transport_job_count() == 0 || role_edge(ROLE_QUEUE, 0) == NULL))
		role_exit(0);
}

struct slice
transport_credentials(void)
{
	return buf_slice(&credentials);
}

static int
check_relay(enum option o, const char *name, struct err *e)
{
	struct slice relay = slice_str(config_string(role_config(), o));

	if (relay.n == 0 || (transport_relay_valid(relay) && relay.n <= TRANSPORT_RELAY_BYTES_MAX))
		return 0;
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "wrong setting", "%s is not HOST, ADDRESS, or either with @PORT", name);
}

static int
check_settings(struct err *e)
{
	struct slice wrong;

	if (check_relay(OPT_TRANSPORT_RELAY, "transport.relay", e) < 0 || check_relay(OPT_TRANSPORT_FALLBACK, "transport.fallback", e) < 0)
		return -1;
	if (!transport_routes_valid(slice_str(config_string(role_config(), OPT_TRANSPORT_ROUTES)), &wrong))
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "wrong setting", "transport.routes: %.*s is not DOMAIN=RELAY",
		    SLICE_ARG(wrong));
	return 0;
}

static int
load_credentials(struct err *e)
{
	const char *path = config_string(role_config(), OPT_TRANSPORT_CREDENTIALS);
	unsigned line;

	buf_init(&credentials, TRANSPORT_CREDENTIALS_BYTES_MAX);
	if (path[0] == '\0')
		return 0;
	if (transport_credentials_load(path, &credentials, e) < 0)
		return -1;
	line = transport_credentials_wrong(buf_slice(&credentials));
	if (line > 0)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "wrong setting", "%s:%u: not RELAY, user and password", path, line);
	return 0;
}

static int
init(struct err *e)
{
	if (check_settings(e) < 0 || load_credentials(e) < 0)
		return -1;
	tls = tls_client_new(config_string(role_config(), OPT_TLS_AUTHORITIES), e);
	return tls == NULL ? -1 : 0;
}

static void
on_edge_up(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_QUEUE)
		transport_queue_up(e);
}

static void
on_edge_drained(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_QUEUE)
		transport_queue_drained(e);
}

static void
on_edge_down(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_QUEUE && draining)
		role_exit(0);
}

/* What no server was told of goes back at once; the rest is finished. */
static void
on_drain(void)
{
	draining = true;
	transport_queue_drain();
	transport_conns_quit();
	transport_leave_when_done();
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_resolver = {.DNS_ANSWER = dns_client_answer};
	static const struct ipc_dispatch from_sts = {.STS_POLICY = transport_sts_answer};
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
	    .role = ROLE_TRANSPORT,
	    .dispatch = {[ROLE_QUEUE] = &transport_from_queue,
		[ROLE_RESOLVER] = &from_resolver,
		[ROLE_STS] = &from_sts,
		[ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_edge_up = on_edge_up,
	    .on_edge_down = on_edge_down,
	    .on_edge_drained = on_edge_drained,
	    .on_drain = on_drain,
	};

	return role_main(argc, argv, &spec);
}
