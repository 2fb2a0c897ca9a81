/*
 * dns: asking the resolver role, and reading what it answers. The client side
 * only: resolution, caching and DNSSEC validation are dnsd's.
 */
#ifndef COMMON_DNS_H
#define COMMON_DNS_H

#include "common/arena.h"
#include "common/slice.h"

enum dns_type {
	DNS_A = 1,
	DNS_NS = 2,
	DNS_CNAME = 5,
	DNS_SOA = 6,
	DNS_PTR = 12,
	DNS_MX = 15,
	DNS_TXT = 16,
	DNS_AAAA = 28,
	DNS_TLSA = 52,
};

enum dns_status {
	DNS_OK,	      /* at least one record of the type asked for */
	DNS_NODATA,   /* the name exists, no record of that type */
	DNS_NXDOMAIN, /* the name does not exist */
	DNS_TEMP,     /* SERVFAIL, timeout, refused, resolver away */
	DNS_BOGUS,    /* DNSSEC validation failed: treat as DNS_TEMP, never as an answer */
};

struct dns_record {
	/* A: 4 octets; AAAA: 16; TXT: all character-strings joined without space; MX, PTR, CNAME, NS: `name`;
	 * other types: the raw RDATA. */
	struct slice data;
	/* Text form without final dot, lower case; \DDD for octets outside 33-126, and for "." and "\" in labels. */
	struct slice name;
	uint16_t preference; /* MX */
};

struct dns_answer {
	enum dns_status status;
	bool secure;
	uint32_t ttl;
	struct dns_record *records; /* of the type asked for, after following CNAMEs */
	struct slice alias;	    /* the name that the CNAMEs lead to, in the form of struct dns_record; empty: there was none */
	unsigned count;
	char why_bogus[256];
};

/* Records of one answer: as many as fit into a message of 64 KiB. */
#define DNS_RECORDS_MAX (65535 / 11)

/*
 * Reads a DNS answer message for (name, type): follows the CNAME chain inside it (at most 16), copies the records
 * into a. Hostile input. Malformed messages give DNS_TEMP. No record is left out: it could be the one that counts. Returns false
 * only at a's cap.
 */
bool dns_answer_parse(struct slice packet, struct slice name, uint16_t type, struct arena *a,
    struct dns_answer *answer_r);

/*
 * How the checks ask (SPF, DKIM keys, DMARC): a table, so that they are tested without processes. name is in the
 * text form of struct dns_record. ask() returns false when it cannot even try (treated as DNS_TEMP). done is called
 * exactly once, never from inside ask(); the answer is valid only during the call. cancel() guarantees that done is not called any more.
 */
typedef void dns_done_fn(void *arg, const struct dns_answer *answer);
struct dns_asker {
	void *ctx;
	bool (*ask)(void *ctx, struct slice name, uint16_t type, dns_done_fn *done, void *arg, uint64_t *ticket_r);
	void (*cancel)(void *ctx, uint64_t ticket);
};

struct edge;
struct msg_DNS_ANSWER;

/*
 * The asker over this process's edge to the resolver (common/dns_client.c). Each question waits at most
 * dns.timeout, a little more than the resolver itself; while the resolver is away ask() returns false.
 */
const struct dns_asker *dns_client(void);
/* The handler of DNS_ANSWER in the dispatch of roles that use dns_client(). */
void dns_client_answer(struct edge *e, struct msg_DNS_ANSWER *m);

#endif
