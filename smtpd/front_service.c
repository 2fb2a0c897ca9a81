/*
 * The role around the sessions: listeners with their limits, settings, edges,
 * and the end: a drain lets a message that is being handed over come to its answer, and
 * ends everything else with 421.
 */
#include "smtpd/front.h"
#include "smtpd/front_login.h"
#include "smtpd/front_policy.h"
#include "smtpd/front_room.h"
#include "smtpd/front_service.h"

#include "common/config.h"
#include "common/dns.h"
#include "common/tls.h"
#include "smtpd/proxy_header.h"

#include <stdio.h>
#include <unistd.h>

#define LISTENERS_MAX 48

struct front_service smtpd_service;

/* The first is for what has no name of its own. */
static struct front_port ports[] = {{.name = "smtp"}, {.name = "submissions", .tls_first = true}, {.name = "lmtp", .lmtp = true},
    {.name = "local", .local = true}};
#define PORT_COUNT (sizeof(ports) / sizeof(*ports))

static struct listener *listeners[LISTENERS_MAX];
static unsigned listener_count;

const struct ipc_dispatch smtpd_from_directory = {
    .DIR_RESOLVE_REPLY = smtpd_on_resolve,
    .DIR_SENDER_REPLY = smtpd_on_sender,
    .DIR_LOCAL_REPLY = smtpd_on_local,
};
const struct ipc_dispatch smtpd_from_port25_directory = {.DIR_RESOLVE_REPLY = smtpd_on_resolve};
const struct ipc_dispatch smtpd_from_store = {.STORE_USAGE_REPLY = smtpd_on_usage};
const struct ipc_dispatch smtpd_from_deliver = {
    .DELIVER_RECIPIENT = smtpd_on_recipient,
    .DELIVER_REPLY = smtpd_on_deliver,
};
const struct ipc_dispatch smtpd_from_queue = {.SPOOL_REPLY = smtpd_on_spool};
const struct ipc_dispatch smtpd_from_verifier = {.AUTH_RESULT = smtpd_on_auth};
const struct ipc_dispatch smtpd_from_resolver = {.DNS_ANSWER = dns_client_answer};
/* Peers that only listen to us. */
const struct ipc_dispatch smtpd_from_nobody;

static struct listener_limits
limits(bool lmtp)
{
	const struct config *c = role_config();
	bool sub = smtpd_service.submission;
	unsigned lmtp_max = (unsigned)config_number(c, OPT_LMTP_CONNECTIONS);

	if (lmtp)
		return (struct listener_limits){.total_max = lmtp_max, .per_network_max = lmtp_max};
	return (struct listener_limits){
	    .total_max = (unsigned)config_number(c, sub ? OPT_LOGIN_CONNECTIONS : OPT_SMTP_CONNECTIONS),
	    .per_network_max = (unsigned)config_number(c,
		sub ? OPT_LOGIN_CONNECTIONS_PER_ADDRESS : OPT_SMTP_CONNECTIONS_PER_ADDRESS),
	};
}

/* Words that are no zone are said once, and asked never. */
static void
note_zones_of(enum option option, const char *name)
{
	struct slice text = slice_str(config_string(role_config(), option));
	struct client_zone zone;
	int got;

	while ((got = client_zone_next(&text, &zone)) != 0)
		if (got < 0)
			log_event(LOG_WARN, NO_SESSION, "no-zone", LOG_CSTR("setting", name), LOG_STR("word", zone.zone), LOG_END);
}

static void
note_zones(void)
{
	if (smtpd_service.submission)
		return;
	note_zones_of(OPT_POLICY_DNSBL, "policy.dnsbl");
	note_zones_of(OPT_POLICY_DNSWL, "policy.dnswl");
}

int
smtpd_init(struct err *e)
{
	if (!proxy_networks_valid(slice_str(config_string(role_config(), OPT_SMTP_PROXY_FROM))))
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "smtp.proxy_from is no list of networks", NULL);
	if (!proxy_networks_valid(slice_str(config_string(role_config(), OPT_SMTP_XCLIENT_FROM))))
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "smtp.xclient_from is no list of networks", NULL);
	if (tls_server_new(e) == NULL)
		return -1;
	smtpd_service.group = listener_group_new(role_loop(), limits(false));
	listener_group_on_full(smtpd_service.group, smtpd_make_room);
	/* Whoever fills port 25 does not keep out what this machine delivers. */
	smtpd_service.lmtp_group = listener_group_new(role_loop(), limits(true));
	smtpd_service.local_group = listener_group_new(role_loop(), limits(true));
	for (size_t i = 0; i < PORT_COUNT; i++)
		ports[i].group = ports[i].lmtp ? smtpd_service.lmtp_group
		    : ports[i].local	       ? smtpd_service.local_group
					       : smtpd_service.group;
	smtpd_service.rates = front_rate_new();
	note_zones();
	return 0;
}

/* ---- listeners; arg is the port ---- */

static void
accepted(void *arg, int fd, const struct client_address *a)
{
	const struct front_port *port = arg;
	const struct slice proxies = slice_str(config_string(role_config(), OPT_SMTP_PROXY_FROM));

	if (!port->lmtp && !port->local && proxy_networks_have(proxies, &a->peer.sin6_addr))
		smtpd_proxied(fd, a, port);
	else
		smtpd_accept(fd, a, port);
}

/* Too many from there. Whoever waits for TLS gets no words: it could not read them. */
void
smtpd_refuse_connection(int fd, const struct client_address *a, const struct front_port *port)
{
	const struct policy_input in = {.submission = smtpd_service.submission, .connections_spent = true};
	const struct smtp_reply_words *w = smtpd_judge_client(a, &in);
	char line[128];
	int n = snprintf(line, sizeof(line), "%u %s %s\r\n", w->code, w->enhanced, w->text);

	/* A fresh socket takes one short line or it does not matter. */
	if (!port->tls_first && n > 0 && write(fd, line, (size_t)n) < 0)
		log_event(LOG_DEBUG, NO_SESSION, "refusal-unsent", LOG_CSTR("peer", a->text), LOG_END);
	(void)close(fd);
}

static void
refused(void *arg, int fd, const struct client_address *a)
{
	smtpd_refuse_connection(fd, a, arg);
}

void
smtpd_on_listener(const char *name, int fd)
{
	struct front_port *port = &ports[0];

	for (size_t i = 0; i < PORT_COUNT; i++)
		if (strcmp(name, ports[i].name) == 0)
			port = &ports[i];

	if (listener_count == LISTENERS_MAX) {
		log_event(LOG_ERROR, NO_SESSION, "too-many-listeners", LOG_CSTR("name", name), LOG_END);
		(void)close(fd);
		return;
	}
	listeners[listener_count++] = listener_new(port->group, fd, accepted, refused, port);
}

/* ---- edges ---- */

void
smtpd_on_edge_up(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_KEY)
		tls_server_key_edge(tls_server(), e);
}

void
smtpd_on_edge_down(struct edge *e)
{
	struct front *next;

	for (struct front *f = smtpd_service.sessions; f != NULL; f = next) {
		next = f->next;
		smtpd_peer_lost(f, e);
	}
	if (edge_peer(e)->role == ROLE_KEY)
		tls_server_key_edge(tls_server(), NULL);
}

void
smtpd_on_reload(void)
{
	listener_group_limits(smtpd_service.group, limits(false));
	listener_group_limits(smtpd_service.lmtp_group, limits(true));
	listener_group_limits(smtpd_service.local_group, limits(true));
	note_zones();
}

void
smtpd_on_drain(void)
{
	struct front *next;

	smtpd_service.draining = true;
	smtpd_proxied_drain();
	while (listener_count > 0)
		listener_free(&listeners[--listener_count]);
	for (struct front *f = smtpd_service.sessions; f != NULL; f = next) {
		next = f->next;
		smtpd_drain(f);
	}
	if (smtpd_service.session_count == 0)
		role_exit(0);
}
