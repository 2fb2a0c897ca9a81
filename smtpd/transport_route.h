/*
 * transport_route: which servers take mail for a domain, in which order, at which addresses, and what the DNS says of their
 * certificates (RFC 5321 5.1, RFC 7505, RFC 7672). Asks through a struct dns_asker, and so is tested without processes.
 */
#ifndef SMTPD_TRANSPORT_ROUTE_H
#define SMTPD_TRANSPORT_ROUTE_H

#include "common/dns.h"
#include "common/dns_name.h"
#include "common/stream.h"
#include "smtpd/transport_session.h"

#define TRANSPORT_HOSTS_MAX 10	   /* of a domain: the best ones; RFC 5321 5.1 wants at least two */
#define TRANSPORT_ADDRESSES_MAX 8 /* of one host */
#define TRANSPORT_TLSA_MAX 32	   /* of one host */
#define TRANSPORT_ROUTE_BYTES_MAX (1u << 20)

/* What is known of a host's certificate. */
enum transport_tlsa {
	TRANSPORT_TLSA_NONE,	/* nothing that can be believed: as if there were no DANE */
	TRANSPORT_TLSA_RECORDS, /* TLS, and one of them must match */
	TRANSPORT_TLSA_FAILED,	/* it cannot be known whether there are any: the host is not to be used (RFC 7672 2.1.2) */
};

struct transport_host {
	struct slice name; /* A-labels; of an address literal the literal */
	uint16_t preference;
	struct stream_address addresses[2 * TRANSPORT_ADDRESSES_MAX]; /* IPv6 and IPv4 by turns; while they are asked for so many of each */
	unsigned address_count;
	bool literal; /* no name to be proved */
	bool secure;  /* the DNS proves its addresses */
	struct slice alias; /* the name that its CNAMEs lead to; empty: it has none */
	struct slice base;  /* whose TLSA records there are, and who is to be proved: name or alias */
	enum transport_tlsa tlsa;
	struct slice tlsa_records[TRANSPORT_TLSA_MAX]; /* RDATA */
	unsigned tlsa_count;
	bool failed; /* its addresses cannot be known now */
};

struct transport_route {
	bool ok;		       /* there is a host to be tried; else failure says why not */
	struct transport_failure failure; /* stage TRANSPORT_AT_CONNECT */
	bool mx_secure;		       /* the DNS proves the list */
	bool relay;		       /* the one that the configuration names */
	struct transport_host *hosts[TRANSPORT_HOSTS_MAX]; /* best first */
	unsigned host_count;
};

struct transport_route_config {
	struct slice own_name; /* this server, as in MX records */
	uint16_t port;
	struct slice relay;    /* HOST or HOST@PORT, asked instead of any MX; empty: none */
	bool no_dane;	       /* no TLSA records are looked for, and a failed look-up leaves no host out that has an address */
	bool loopback;	       /* addresses of this machine itself, as the DNS has them, may be used */
};

struct transport_search;
typedef void transport_route_fn(void *arg, const struct transport_route *route);

/*
 * Finds the way to destination: a domain in A-labels, or an address literal with its brackets. done is called once, never from inside
 * this call; the route is valid until the search is freed.
 */
struct transport_search *transport_search_new(struct loop *l, const struct dns_asker *dns, const struct transport_route_config *config,
    struct slice destination, transport_route_fn *done, void *arg);
/* done is not called any more. May be called from inside done; the route ends with it. */
void transport_search_free(struct transport_search **s);

/* The relay's setting is HOST, ADDRESS or either with @PORT. */
bool transport_relay_valid(struct slice relay);
/* "192.0.2.1", "2001:db8::1"; text_r has room for TRANSPORT_IP_TEXT_MAX. */
#define TRANSPORT_IP_TEXT_MAX 46
void transport_address_text(const struct stream_address *a, char *text_r);

#endif
