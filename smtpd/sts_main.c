/*
 * Role STS: what a domain's MTA-STS policy is (RFC 8461), for transport. Asks the resolver for the record and for the policy host's
 * addresses, fetches the policy by HTTPS when it is new, and keeps it. It has its own directory and outbound sockets, and no message
 * ever.
 *
 * One look-up for a domain at a time; who asks meanwhile gets its answer. A policy that is known, with the id that the record
 * has, is not fetched again before it is a day old; then the known one is told at once and a fetch goes on by itself.
 */
#include "common/config.h"
#include "common/dns.h"
#include "common/dns_name.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"
#include "smtpd/sts_cache.h"
#include "smtpd/sts_fetch.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define LOOKUPS_MAX 256
#define ASKERS_MAX 4096 /* of all look-ups */
#define REFRESH_SECONDS 86400u
/* A fetch that failed is not tried again so soon for the same id (RFC 8461 3.3). */
#define FAILED_SECONDS 300u
#define FAILURES_MAX 256
#define ADDRESSES_MAX 8
#define AGAIN "known, being fetched again"

struct asker {
	struct asker *next;
	struct edge *edge;
	uint64_t id;
};

struct lookup {
	struct lookup *next;
	struct asker *askers;
	uint64_t ticket; /* of the DNS question */
	bool asking;
	bool refreshing; /* a policy is known, and binds meanwhile */
	struct sts_fetch *fetch;
	char id[STS_ID_CHARS_MAX + 1];
	struct buf addresses;
	unsigned address_count;
	char domain[DNS_NAME_BYTES_MAX + 1];
	char host[DNS_NAME_BYTES_MAX + 16];
};

static struct lookup *lookups;
static unsigned lookup_count;
static unsigned asker_count;
static struct sts_fetcher *fetcher;

static struct failure {
	char domain[DNS_NAME_BYTES_MAX + 1];
	char id[STS_ID_CHARS_MAX + 1];
	uint64_t until;
} failures[FAILURES_MAX];
static unsigned failure_next;

static uint64_t
now_seconds(void)
{
	return clock_wall_us() / 1000000;
}

/* ---- answers ---- */

static void
tell(struct edge *edge, uint64_t id, enum err_class class, const struct sts_entry *entry, const char *why)
{
	bool known = entry != NULL && entry->policy.mode != STS_NONE;

	IPC_TELL(edge, STS_POLICY, .id = id, .class = class, .mode = known ? (uint8_t)entry->policy.mode : STS_NONE,
	    .why = slice_sub(slice_str(why), 0, 200), .text = known ? slice_of(entry->text, entry->text_bytes) : slice_of(NULL, 0));
}

static void
tell_askers(struct lookup *l, const struct sts_entry *entry, const char *why)
{
	while (l->askers != NULL) {
		struct asker *a = l->askers;
		l->askers = a->next;
		if (a->edge != NULL)
			tell(a->edge, a->id, ERR_NONE, entry, why);
		free(a);
		asker_count--;
	}
}

/* The end of a look-up, with that policy, if any. */
static void
end_with(struct lookup *l, const struct sts_entry *entry, const char *why)
{
	struct lookup **at = &lookups;

	tell_askers(l, entry, why);
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	lookup_count--;
	buf_fini(&l->addresses);
	sts_fetch_free(&l->fetch);
	free(l);
}

/* The same with what is known now. */
static void
end(struct lookup *l, const char *why)
{
	end_with(l, sts_cache_find(slice_str(l->domain), now_seconds()), why);
}

/* ---- failures ---- */

static bool
failed_lately(const struct lookup *l, uint64_t now)
{
	for (unsigned i = 0; i < FAILURES_MAX; i++)
		if (failures[i].until > now && strcmp(failures[i].domain, l->domain) == 0 && strcmp(failures[i].id, l->id) == 0)
			return true;
	return false;
}

static void
fetch_failed(struct lookup *l, const char *why)
{
	struct failure *f = &failures[failure_next++ % FAILURES_MAX];

	(void)snprintf(f->domain, sizeof f->domain, "%s", l->domain);
	(void)snprintf(f->id, sizeof f->id, "%s", l->id);
	f->until = now_seconds() + FAILED_SECONDS;
	/* RFC 8461 3.3: the operator is to know. */
	log_event(LOG_INFO, NO_SESSION, "sts-fetch-failed", LOG_CSTR("domain", l->domain), LOG_CSTR("id", l->id), LOG_CSTR("why", why),
	    LOG_END);
	end(l, why);
}

/* ---- the policy ---- */

static void
on_fetched(void *arg, struct slice text, const char *why)
{
	struct lookup *l = arg;
	struct sts_policy policy;

	l->fetch = NULL; /* it ends by itself */
	if (why == NULL && !sts_policy_parse(text, &policy))
		why = "what the policy host has is no policy";
	if (why != NULL) {
		fetch_failed(l, why);
		return;
	}
	const struct sts_entry *entry = sts_cache_put(slice_str(l->domain), slice_str(l->id), now_seconds(), text);

	log_event(LOG_INFO, NO_SESSION, "sts-fetched", LOG_CSTR("domain", l->domain), LOG_CSTR("id", l->id),
	    LOG_CSTR("mode", sts_mode_name(policy.mode)), LOG_NUM("max_age", policy.max_age), LOG_END);
	/* A max_age of 0 is no reason to leave it out of account now: it was fetched for this. */
	end_with(l, entry, "fetched");
}

static void
fetch(struct lookup *l)
{
	buf_put_u8(&l->addresses, '\0');
	if (l->address_count == 0 || l->addresses.failed)
		fetch_failed(l, "the policy host has no address");
	else if (fetcher == NULL)
		fetch_failed(l, "the known authorities (tls.authorities) could not be read");
	else if ((l->fetch = sts_fetch_new(fetcher, l->host, (const char *)l->addresses.p, on_fetched, l)) == NULL)
		fetch_failed(l, "the fetch could not be begun");
}

/* ---- the DNS ---- */

static void
ask(struct lookup *l, struct slice name, enum dns_type type, dns_done_fn *done)
{
	static const struct dns_answer none = {.status = DNS_TEMP};

	l->asking = dns_client()->ask(dns_client()->ctx, name, type, done, l, &l->ticket);
	if (!l->asking)
		done(l, &none);
}

static void
take_addresses(struct lookup *l, const struct dns_answer *answer, int family)
{
	char text[INET6_ADDRSTRLEN];

	for (unsigned i = 0; answer->status == DNS_OK && i < answer->count && l->address_count < ADDRESSES_MAX; i++) {
		struct slice octets = answer->records[i].data;
		if (octets.n != (family == AF_INET ? 4 : 16) || inet_ntop(family, octets.p, text, sizeof text) == NULL)
			continue;
		buf_putf(&l->addresses, "%s%s%s%s", l->address_count++ ? "," : "", family == AF_INET6 ? "[" : "", text,
		    family == AF_INET6 ? "]" : "");
	}
}

static void
on_aaaa(void *arg, const struct dns_answer *answer)
{
	struct lookup *l = arg;

	l->asking = false;
	take_addresses(l, answer, AF_INET6);
	fetch(l);
}

static void
on_a(void *arg, const struct dns_answer *answer)
{
	struct lookup *l = arg;

	l->asking = false;
	take_addresses(l, answer, AF_INET);
	ask(l, slice_str(l->host), DNS_AAAA, on_aaaa);
}

static void
on_record(void *arg, const struct dns_answer *answer)
{
	struct lookup *l = arg;
	uint64_t now = now_seconds();
	const struct sts_entry *known = sts_cache_find(slice_str(l->domain), now);
	struct slice id;

	l->asking = false;
	/* Without a record the policy that is known still binds (RFC 8461 3.1, 5.1). */
	if (answer->status != DNS_OK || !sts_record_id(answer, &id) || !slice_cstr(id, l->id, sizeof l->id)) {
		end(l, answer->status == DNS_TEMP || answer->status == DNS_BOGUS ? "the record is not to be had" : "no record");
		return;
	}
	if (known != NULL && slice_eq(id, slice_str(known->id))) {
		if (now - known->fetched < REFRESH_SECONDS || failed_lately(l, now)) {
			end(l, "known");
			return;
		}
		l->refreshing = true;
		tell_askers(l, known, AGAIN);
	}
	if (failed_lately(l, now))
		end(l, "the fetch failed a moment ago");
	else
		ask(l, slice_str(l->host), DNS_A, on_a);
}

/* ---- questions ---- */

static struct lookup *
lookup_of(struct slice domain)
{
	struct lookup *l = lookups;

	while (l != NULL && !slice_eq(domain, slice_str(l->domain)))
		l = l->next;
	return l;
}

static struct lookup *
lookup_new(struct slice domain)
{
	struct lookup *l = MEM_NEW(struct lookup);

	buf_init(&l->addresses, 1024);
	if (!slice_cstr(domain, l->domain, sizeof l->domain))
		l->domain[0] = '\0';
	(void)snprintf(l->host, sizeof l->host, "mta-sts.%s", l->domain);
	l->next = lookups;
	lookups = l;
	lookup_count++;
	return l;
}

static void
add_asker(struct lookup *l, struct edge *edge, uint64_t id)
{
	struct asker *a = MEM_NEW(struct asker);

	*a = (struct asker){.next = l->askers, .edge = edge, .id = id};
	l->askers = a;
	asker_count++;
}

static void
on_ask(struct edge *e, struct msg_STS_ASK *m)
{
	struct lookup *l = lookup_of(m->domain);
	struct buf name;
	bool good;

	/* In the form that all names have here, and with room for the label before it. */
	buf_init(&name, DNS_NAME_BYTES_MAX);
	good = dns_name_to_ascii(m->domain, &name) && slice_eq(buf_slice(&name), m->domain) && m->domain.n <= DNS_NAME_BYTES_MAX - 9;
	buf_fini(&name);
	if (!good) {
		tell(e, m->id, ERR_NONE, NULL, "no such name can be");
		return;
	}
	if (asker_count >= ASKERS_MAX || (l == NULL && lookup_count >= LOOKUPS_MAX)) {
		tell(e, m->id, ERR_TEMP, NULL, "too many at once");
		return;
	}
	const struct sts_entry *known = l != NULL && l->refreshing ? sts_cache_find(m->domain, now_seconds()) : NULL;

	if (known != NULL) {
		tell(e, m->id, ERR_NONE, known, AGAIN);
		return;
	}
	if (l != NULL) {
		add_asker(l, e, m->id);
		return;
	}
	l = lookup_new(m->domain);
	add_asker(l, e, m->id);
	buf_init(&name, DNS_NAME_BYTES_MAX);
	buf_putf(&name, "_mta-sts.%s", l->domain);
	ask(l, buf_slice(&name), DNS_TXT, on_record);
	buf_fini(&name);
}

/* ---- life ---- */

static void
edge_down(struct edge *e)
{
	for (struct lookup *l = lookups; l; l = l->next)
		for (struct asker *a = l->askers; a; a = a->next)
			if (a->edge == e)
				a->edge = NULL;
}

static int
init(struct err *e)
{
	char dir[512];

	(void)snprintf(dir, sizeof dir, "%s/sts", role_state_dir());
	if (sts_cache_open(dir, now_seconds(), e) < 0)
		return -1;
	fetcher = sts_fetcher_new(role_loop(), config_string(role_config(), OPT_TLS_AUTHORITIES),
	    (uint16_t)config_number(role_config(), OPT_STS_PORT), config_number(role_config(), OPT_STS_TIMEOUT), e);
	/* Mail goes out without it as well, and under the policies that are known. */
	if (fetcher == NULL)
		log_event(LOG_WARN, NO_SESSION, "sts-off", LOG_ERR(e), LOG_END);
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_transport = {.STS_ASK = on_ask};
	static const struct ipc_dispatch from_resolver = {.DNS_ANSWER = dns_client_answer};
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
	    .role = ROLE_STS,
	    .dispatch = {[ROLE_TRANSPORT] = &from_transport, [ROLE_RESOLVER] = &from_resolver, [ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_edge_down = edge_down,
	};
	int status = role_main(argc, argv, &spec);

	while (lookups != NULL) {
		for (struct asker *a = lookups->askers; a; a = a->next)
			a->edge = NULL;
		end(lookups, "");
	}
	sts_fetcher_free(&fetcher);
	sts_cache_close();
	return status;
}
