/*
 * client_check: asks the DNS about a client's address while the client talks: the name that leads back to it (iprev, RFC 8601 2.7.3) and
 * the configured lists. What has not come in time, or cannot be believed, is no answer. Knows no edges.
 */
#ifndef SMTPD_CLIENT_CHECK_H
#define SMTPD_CLIENT_CHECK_H

#include "common/dns.h"
#include "smtpd/client_facts.h"

#define CLIENT_NAMES_MAX 10 /* of an address that are followed (as RFC 7208 5.5 has it) */

struct loop;

struct client_query {
	uint8_t ip[16]; /* IPv4 as ::ffff:a.b.c.d */
	struct slice black, white; /* zones: policy.dnsbl, policy.dnswl */
	enum client_iprev iprev;   /* known already, with the name of a pass; NONE: it is asked for */
	struct slice name;
	uint64_t timeout_ms;
};

struct client_check;
/* Called once, never from inside client_check_new(). It must not free the check. */
typedef void client_done_fn(void *arg);

/* dns must outlive it. Never NULL. */
struct client_check *client_check_new(struct loop *loop, const struct dns_asker *dns, const struct client_query *q, client_done_fn *done,
    void *arg) __attribute__((warn_unused_result));
bool client_check_ended(const struct client_check *c);
/* What is known by now; complete once it has ended. Valid until client_check_free(). */
const struct client_facts *client_check_facts(const struct client_check *c);
/* Cancels what runs, without calling done; NULL is fine. */
void client_check_free(struct client_check **c);

/* The name to ask for an address under a zone (RFC 5782 2.1, 2.4; in-addr.arpa and ip6.arpa are zones too), appended. */
bool client_reverse_name(const uint8_t ip[16], struct slice zone, struct buf *out);

#endif
