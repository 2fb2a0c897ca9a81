/*
 * Three rounds of questions: the MX records of the domain; A and AAAA of each host that is left; TLSA of each host whose addresses the
 * DNS proves. The TLSA base domain is the name behind the host's CNAMEs, when there are such and records there, else the host's
 * name as the MX record has it (RFC 7672 2.2.2). Where a CNAME leads to addresses that the DNS does not prove it may itself be proved:
 * that is asked, and then the host's own name counts.
 *
 * A list of MX records that the DNS does not prove makes no TLSA record count (RFC 7672 2.2.1): who can forge the list chooses the host.
 */
#include "smtpd/transport_route.h"

#include "common/loop.h"
#include "common/mem.h"
#include "smtpd/smtp_grammar.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* A, AAAA, and two for TLSA of each host. */
#define QUESTIONS_MAX (4 * TRANSPORT_HOSTS_MAX + 1)

struct question {
	struct transport_search *search;
	struct transport_host *host; /* NULL: the domain's MX */
	uint16_t type;
	uint64_t ticket;
	bool waits;
};

struct transport_search {
	const struct dns_asker *dns;
	struct transport_route_config config;
	struct slice destination;
	struct arena *arena;
	struct transport_route route;
	transport_route_fn *done;
	void *arg;
	struct loop_timer *timer;
	struct question questions[QUESTIONS_MAX];
	unsigned question_count, waiting;
	bool asking; /* more questions of this round are about to be asked */
	bool tlsa_asked, implicit;
	bool cut; /* the arena is full */
	bool dropped_own, some_failed;
};

void
transport_address_text(const struct stream_address *a, char *text_r)
{
	(void)inet_ntop(a->ip6 ? AF_INET6 : AF_INET, a->ip, text_r, TRANSPORT_IP_TEXT_MAX);
}

/* ---- the end ---- */

static void
fail(struct transport_search *s, bool permanent, const char *status, const char *text)
{
	transport_failure_set(&s->route.failure, TRANSPORT_AT_CONNECT, permanent, status, text);
	s->route.ok = false;
	loop_timer_set(s->timer, 0);
}

static void
found(struct transport_search *s)
{
	s->route.ok = true;
	loop_timer_set(s->timer, 0);
}

static void
tell(void *arg)
{
	struct transport_search *s = arg;

	s->done(s->arg, &s->route);
}

/* ---- questions ---- */

static void on_answer(void *arg, const struct dns_answer *answer);

static void
ask(struct transport_search *s, struct transport_host *host, struct slice name, uint16_t type)
{
	struct question *q = &s->questions[s->question_count++];

	assert(s->question_count <= QUESTIONS_MAX);
	*q = (struct question){.search = s, .host = host, .type = type};
	q->waits = s->dns->ask(s->dns->ctx, name, type, on_answer, q, &q->ticket);
	if (q->waits)
		s->waiting++;
	else if (host != NULL && (type == DNS_TLSA || type == DNS_CNAME))
		host->tlsa = TRANSPORT_TLSA_FAILED;
	else if (host != NULL)
		host->failed = true;
	else
		fail(s, false, "4.4.3", "the resolver is away");
}

/* ---- addresses ---- */

/* Of this machine itself, or of nobody: what a domain of others cannot mean (RFC 5735 4, RFC 4291 2.5). */
static bool
address_is_odd(const struct stream_address *a)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, zero[15];

	if (!a->ip6)
		return a->ip[0] == 127 || a->ip[0] == 0 || a->ip[0] >= 224;
	if (memcmp(a->ip, mapped, sizeof mapped) == 0)
		return true;
	if (memcmp(a->ip, zero, sizeof zero) == 0 && a->ip[15] <= 1)
		return true;
	return a->ip[0] == 0xff || (a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80);
}

static unsigned
count_addresses(const struct transport_host *h, bool ip6)
{
	unsigned n = 0;

	for (unsigned i = 0; i < h->address_count; i++)
		n += h->addresses[i].ip6 == ip6;
	return n;
}

/* Many of one kind leave room for the other: this machine may have only that. */
static void
add_address(struct transport_search *s, struct transport_host *h, struct slice ip)
{
	struct stream_address a = {.ip6 = ip.n == 16, .port = s->config.port};

	if ((ip.n != 4 && ip.n != 16) || count_addresses(h, a.ip6) == TRANSPORT_ADDRESSES_MAX)
		return;
	memcpy(a.ip, ip.p, ip.n);
	if (!s->config.loopback && address_is_odd(&a))
		return;
	h->addresses[h->address_count++] = a;
}

/* IPv6 and IPv4 by turns, IPv6 first, each in the order that the DNS gave; as many as are tried. */
static void
interleave(struct transport_host *h)
{
	struct stream_address out[2 * TRANSPORT_ADDRESSES_MAX];
	unsigned n = 0, six = 0, four = 0;

	while (n < h->address_count) {
		while (six < h->address_count && !h->addresses[six].ip6)
			six++;
		if (six < h->address_count)
			out[n++] = h->addresses[six++];
		while (four < h->address_count && h->addresses[four].ip6)
			four++;
		if (four < h->address_count)
			out[n++] = h->addresses[four++];
	}
	h->address_count = n < TRANSPORT_ADDRESSES_MAX ? n : TRANSPORT_ADDRESSES_MAX;
	memcpy(h->addresses, out, h->address_count * sizeof *out);
}

/* "192.0.2.1", "2001:db8::1", or either as a literal of RFC 5321 4.1.3. */
static bool
read_ip(struct slice text, uint8_t ip_r[16], size_t *n_r)
{
	char ip[64];

	if (text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
		text = slice_sub(text, 1, text.n - 1);
	if (slice_starts_nocase(text, SLICE("IPv6:")))
		text = slice_sub(text, 5, text.n);
	if (!slice_cstr(text, ip, sizeof ip))
		return false;
	*n_r = inet_pton(AF_INET, ip, ip_r) == 1 ? 4 : inet_pton(AF_INET6, ip, ip_r) == 1 ? 16 : 0;
	return *n_r > 0;
}

/* ---- hosts ---- */

static struct transport_host *
add_host(struct transport_search *s, struct slice name, uint16_t preference)
{
	struct transport_host *h = ARENA_NEW(s->arena, struct transport_host);

	if (h == NULL || !arena_copy(s->arena, name, &h->name)) {
		s->cut = true;
		return NULL;
	}
	h->base = h->name;
	h->preference = preference;
	s->route.hosts[s->route.host_count++] = h;
	return h;
}

/* A name that can be asked for: not empty, not an address (RFC 5321 5.1: the data of MX is a name). */
static bool
host_name_is_good(struct slice name)
{
	uint8_t ip[16];
	size_t n;

	return smtp_domain_valid(name, false) && !read_ip(name, ip, &n);
}

/* ---- TLSA, the third round ---- */

static void
ask_tlsa_of(struct transport_search *s, struct transport_host *h, struct slice base)
{
	char name[DNS_NAME_BYTES_MAX + 32];
	uint16_t port = h->address_count > 0 ? h->addresses[0].port : s->config.port;

	h->base = base;
	snprintf(name, sizeof name, "_%u._tcp.%.*s", port, SLICE_ARG(base));
	ask(s, h, slice_str(name), DNS_TLSA);
}

static void
on_tlsa(struct transport_search *s, struct transport_host *h, const struct dns_answer *answer)
{
	if (answer->status == DNS_TEMP || answer->status == DNS_BOGUS) {
		h->tlsa = TRANSPORT_TLSA_FAILED;
		return;
	}
	if (answer->status != DNS_OK || !answer->secure) {
		if (h->base.p != h->name.p)
			ask_tlsa_of(s, h, h->name);
		return;
	}
	h->tlsa = TRANSPORT_TLSA_RECORDS;
	for (unsigned i = 0; i < answer->count && h->tlsa_count < TRANSPORT_TLSA_MAX; i++)
		if (!arena_copy(s->arena, answer->records[i].data, &h->tlsa_records[h->tlsa_count++]))
			s->cut = true;
}

/* The host's first CNAME, whose addresses are not proved. */
static void
on_cname(struct transport_search *s, struct transport_host *h, const struct dns_answer *answer)
{
	if (answer->status == DNS_TEMP || answer->status == DNS_BOGUS)
		h->tlsa = TRANSPORT_TLSA_FAILED;
	else if (answer->status == DNS_OK && answer->secure)
		ask_tlsa_of(s, h, h->name);
}

static void
ask_tlsa(struct transport_search *s)
{
	s->tlsa_asked = true;
	s->asking = true;
	for (unsigned i = 0; i < s->route.host_count && s->route.mx_secure && !s->config.no_dane; i++) {
		struct transport_host *h = s->route.hosts[i];

		if (h->literal || h->failed || h->address_count == 0)
			continue;
		if (h->secure)
			ask_tlsa_of(s, h, h->alias.n > 0 ? h->alias : h->name);
		else if (h->alias.n > 0)
			ask(s, h, h->name, DNS_CNAME);
	}
	s->asking = false;
}

/* ---- what is left of the hosts ---- */

/* A look-up that failed may have been made to: then nobody knows that a host has no TLSA records. */
static bool
host_may_be_used(const struct transport_search *s, const struct transport_host *h)
{
	return h->address_count > 0 && h->tlsa != TRANSPORT_TLSA_FAILED && !(h->failed && s->route.mx_secure && !s->config.no_dane);
}

static void
keep_usable_hosts(struct transport_search *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->route.host_count; i++) {
		struct transport_host *h = s->route.hosts[i];

		s->some_failed = s->some_failed || h->failed || h->tlsa == TRANSPORT_TLSA_FAILED;
		if (host_may_be_used(s, h))
			s->route.hosts[n++] = h;
	}
	s->route.host_count = n;
}

static void
round_is_over(struct transport_search *s)
{
	if (s->waiting > 0 || s->asking)
		return;
	if (!s->tlsa_asked) {
		for (unsigned i = 0; i < s->route.host_count; i++)
			interleave(s->route.hosts[i]);
		ask_tlsa(s);
		if (s->waiting > 0)
			return;
	}
	keep_usable_hosts(s);
	if (s->cut)
		fail(s, false, "4.4.3", "the DNS says more than can be taken");
	else if (s->route.host_count > 0)
		found(s);
	else if (s->some_failed)
		fail(s, false, "4.4.3", "the addresses of the domain's servers cannot be found out now");
	else
		fail(s, true, "5.4.4", "none of the domain's servers has an address");
}

/* A host's addresses. It is proved by the DNS when both answers are. */
static void
on_addresses(struct transport_search *s, struct transport_host *h, const struct dns_answer *answer)
{
	h->secure = h->secure && answer->secure;
	if (answer->status == DNS_TEMP || answer->status == DNS_BOGUS)
		h->failed = true;
	if (answer->status == DNS_OK && h->alias.n == 0 && host_name_is_good(answer->alias) &&
	    !arena_copy(s->arena, answer->alias, &h->alias))
		s->cut = true;
	for (unsigned i = 0; answer->status == DNS_OK && i < answer->count; i++)
		add_address(s, h, answer->records[i].data);
}

static void
ask_addresses(struct transport_search *s)
{
	s->asking = true;
	for (unsigned i = 0; i < s->route.host_count; i++) {
		struct transport_host *h = s->route.hosts[i];

		h->secure = true;
		ask(s, h, h->name, DNS_AAAA);
		ask(s, h, h->name, DNS_A);
	}
	s->asking = false;
	round_is_over(s);
}

/* ---- MX, the first round ---- */

static unsigned
below(unsigned n)
{
	uint32_t r;

	if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
		return 0;
	return (unsigned)(r % n);
}

/* Orders indices of records by preference; those of one preference by chance (RFC 5321 5.1). */
static void
sort_records(const struct dns_answer *answer, unsigned *order, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		order[i] = i;
	for (unsigned i = n; i > 1; i--) {
		unsigned k = below(i), swap = order[i - 1];

		order[i - 1] = order[k];
		order[k] = swap;
	}
	for (unsigned i = 1; i < n; i++) {
		unsigned moved = order[i], k = i;

		for (; k > 0 && answer->records[order[k - 1]].preference > answer->records[moved].preference; k--)
			order[k] = order[k - 1];
		order[k] = moved;
	}
}

/* The preference from which on hosts are of no use: that of this server itself (RFC 5321 5.1); over all when it is not there. */
static unsigned
own_preference(const struct transport_search *s, const struct dns_answer *answer)
{
	unsigned least = UINT16_MAX + 1u;

	for (unsigned i = 0; i < answer->count; i++)
		if (slice_eq_nocase(answer->records[i].name, s->config.own_name) && answer->records[i].preference < least)
			least = answer->records[i].preference;
	return least;
}

/* Records that are looked at: sorting takes the square of it. */
#define RECORDS_MAX 256

static void
take_records(struct transport_search *s, const struct dns_answer *answer)
{
	unsigned order[RECORDS_MAX], n = answer->count < RECORDS_MAX ? answer->count : RECORDS_MAX;
	unsigned own = own_preference(s, answer);

	sort_records(answer, order, n);
	for (unsigned i = 0; i < n && s->route.host_count < TRANSPORT_HOSTS_MAX; i++) {
		const struct dns_record *r = &answer->records[order[i]];

		if (r->preference >= own)
			s->dropped_own = true;
		else if (host_name_is_good(r->name))
			(void)add_host(s, r->name, r->preference);
	}
}

static void
on_mx(struct transport_search *s, const struct dns_answer *answer)
{
	s->route.mx_secure = answer->secure;
	if (answer->status == DNS_NXDOMAIN) {
		fail(s, true, "5.1.2", "the domain does not exist");
	} else if (answer->status == DNS_BOGUS) {
		fail(s, false, "4.4.3", "the domain's DNSSEC signatures do not hold");
	} else if (answer->status == DNS_TEMP) {
		fail(s, false, "4.4.3", "the domain's servers cannot be found out now");
	} else if (answer->status == DNS_OK && answer->count == 1 && answer->records[0].name.n == 0) {
		fail(s, true, "5.1.10", "the domain takes no mail (null MX)");
	} else {
		s->implicit = answer->status == DNS_NODATA;
		if (!s->implicit)
			take_records(s, answer);
		else if (slice_eq_nocase(s->destination, s->config.own_name))
			s->dropped_own = true;
		else
			(void)add_host(s, s->destination, 0);
		if (s->route.host_count > 0)
			ask_addresses(s);
		else if (s->dropped_own)
			fail(s, true, "5.4.6", "this server is the domain's best one, and does not know the domain");
		else
			fail(s, true, "5.4.4", "the domain names no server that can be asked");
	}
}

static void
on_answer(void *arg, const struct dns_answer *answer)
{
	struct question *q = arg;
	struct transport_search *s = q->search;

	q->waits = false;
	assert(s->waiting > 0);
	s->waiting--;
	if (q->host == NULL) {
		on_mx(s, answer);
		return;
	}
	if (q->type == DNS_TLSA)
		on_tlsa(s, q->host, answer);
	else if (q->type == DNS_CNAME)
		on_cname(s, q->host, answer);
	else
		on_addresses(s, q->host, answer);
	round_is_over(s);
}

/* ---- the beginning ---- */

static struct slice
relay_host(struct slice relay, uint16_t *port)
{
	size_t at = slice_rindex(relay, '@');
	uint64_t n;

	if (at < relay.n && slice_u64(slice_sub(relay, at + 1, relay.n), UINT16_MAX, &n) && n > 0)
		*port = (uint16_t)n;
	return slice_sub(relay, 0, at);
}

bool
transport_relay_valid(struct slice relay)
{
	size_t at = slice_rindex(relay, '@'), n;
	struct slice host = slice_sub(relay, 0, at);
	uint64_t port;
	uint8_t ip[16];

	if (at < relay.n && (!slice_u64(slice_sub(relay, at + 1, relay.n), UINT16_MAX, &port) || port == 0))
		return false;
	return smtp_domain_valid(host, false) || read_ip(host, ip, &n);
}

/* A host that needs no MX: what the configuration names, or a literal. */
static void
begin_direct(struct transport_search *s, struct slice name)
{
	struct transport_host *h = add_host(s, name, 0);
	uint8_t ip[16];
	size_t n;

	s->route.mx_secure = s->route.relay;
	if (h == NULL) {
		fail(s, false, "4.4.3", "the name is too long");
	} else if (read_ip(name, ip, &n)) {
		h->literal = true;
		add_address(s, h, slice_of(ip, n));
		s->tlsa_asked = true;
		round_is_over(s);
	} else {
		ask_addresses(s);
	}
}

struct transport_search *
transport_search_new(struct loop *l, const struct dns_asker *dns, const struct transport_route_config *config, struct slice destination,
    transport_route_fn *done, void *arg)
{
	struct transport_search *s = MEM_NEW(struct transport_search);

	s->dns = dns;
	s->config = *config;
	s->done = done;
	s->arg = arg;
	s->arena = arena_new(TRANSPORT_ROUTE_BYTES_MAX);
	s->timer = loop_timer_new(l, tell, s);
	s->route.relay = config->relay.n > 0;
	s->config.loopback = config->loopback || s->route.relay;
	if (!arena_copy(s->arena, destination, &s->destination) || !arena_copy(s->arena, config->own_name, &s->config.own_name))
		fail(s, true, "5.1.2", "the domain's name is too long");
	else if (s->route.relay)
		begin_direct(s, relay_host(config->relay, &s->config.port));
	else if (destination.n > 0 && destination.p[0] == '[')
		begin_direct(s, s->destination);
	else
		ask(s, NULL, s->destination, DNS_MX);
	return s;
}

void
transport_search_free(struct transport_search **sp)
{
	struct transport_search *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	for (unsigned i = 0; i < s->question_count; i++)
		if (s->questions[i].waits)
			s->dns->cancel(s->dns->ctx, s->questions[i].ticket);
	loop_timer_free(&s->timer);
	arena_free(&s->arena);
	free(s);
}
