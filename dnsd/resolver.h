/*
 * resolver: the one validating, caching resolver of the whole server, over
 * libunbound on this process's event loop. It knows no edges and no messages.
 */
#ifndef DNSD_RESOLVER_H
#define DNSD_RESOLVER_H

#include "common/config.h"
#include "common/dns.h"
#include "common/err.h"

struct loop;
struct resolver;
struct resolver_query;

/* What came of a query. status is DNS_OK whenever there is a whole DNS message in packet (its RCODE is NOERROR or NXDOMAIN),
 * else DNS_TEMP or DNS_BOGUS. */
struct resolver_answer {
	enum dns_status status;
	bool secure;
	struct slice packet;
	struct slice why_bogus;
};

/* Called once for each query, maybe from inside resolver_ask(). The answer is valid during the call only. */
typedef void resolver_done_fn(void *arg, const struct resolver_answer *answer);

/*
 * Reads the settings dns.server and dns.trust_anchor, opens all files that will ever be needed, and makes the resolver ready.
 * To be called before the sandbox closes. NULL and e when a setting cannot be used. Blocks on local files only.
 */
struct resolver *resolver_new(struct loop *l, const struct config *c, struct err *e);
void resolver_free(struct resolver **r);

/*
 * Asks for (name, type), class IN. NULL when done was called already; else a query that is valid until done is called or it is
 * cancelled. A name that DNS cannot hold is answered DNS_TEMP.
 */
struct resolver_query *resolver_ask(struct resolver *r, const char *name, uint16_t type, uint32_t timeout_ms,
    resolver_done_fn *done, void *arg);
/* done is not called any more. Sets *q to NULL; NULL is fine. */
void resolver_cancel(struct resolver_query **q);

#endif
