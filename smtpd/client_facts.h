/*
 * client_facts: what the DNS says of the address of a client: its name (iprev, RFC 8601 2.7.3) and the lists that it is on. Found by
 * the port 25 front while the dialogue runs (smtpd/client_check.h), judged by policy.
 *
 * The encoded form, version 1, in the envelope: u8 version, u8 iprev, slice name, u16 count of lists, for each:
 * slice zone, u8 white, u8 weight, 4 octets answer; nothing follows.
 */
#ifndef SMTPD_CLIENT_FACTS_H
#define SMTPD_CLIENT_FACTS_H

#include "common/buf.h"
#include "common/dns_name.h"

#define CLIENT_FACTS_VERSION 1
#define CLIENT_LISTS_MAX 16 /* zones asked, of both settings together; more are not */
#define CLIENT_WEIGHT_MAX 100
#define CLIENT_FACTS_BYTES_MAX (16 + DNS_NAME_BYTES_MAX + CLIENT_LISTS_MAX * (DNS_NAME_BYTES_MAX + 10))

/* Stable numbers: they cross edges, and are recorded. */
enum client_iprev {
	CLIENT_IPREV_NONE, /* not looked for */
	CLIENT_IPREV_PASS,
	CLIENT_IPREV_FAIL, /* it has names, and none leads back */
	CLIENT_IPREV_TEMPERROR,
	CLIENT_IPREV_PERMERROR, /* it has no name */
	CLIENT_IPREV_COUNT
};

const char *client_iprev_name(enum client_iprev r);

/* A list that has the address. */
struct client_list {
	struct slice zone;
	bool white;
	uint8_t weight;
	uint8_t answer[4];
};

struct client_facts {
	enum client_iprev iprev;
	struct slice name; /* of a pass, in A-labels */
	struct client_list lists[CLIENT_LISTS_MAX];
	uint16_t count;
};

bool client_facts_encode(const struct client_facts *f, struct buf *b) __attribute__((warn_unused_result));
/* False when in is not the encoded form; the empty slice is that of nothing known. The slices point into in. */
bool client_facts_decode(struct slice in, struct client_facts *facts_r) __attribute__((warn_unused_result));

/* Weights of the lists that are black, or white. */
unsigned client_facts_weight(const struct client_facts *f, bool white);

/*
 * One zone of a setting: "zone", "zone=2,4-11" (last octets of answers that count; else all do), either with ":weight" behind it
 * (1 to CLIENT_WEIGHT_MAX; CLIENT_WEIGHT_USUAL when not said).
 */
#define CLIENT_WEIGHT_USUAL 2

struct client_zone {
	struct slice zone;
	bool white;
	uint8_t weight;
	uint8_t codes[32]; /* a bit for each last octet that counts */
};

/* Takes the next one from *text, words separated by spaces. 1, 0 at the end, -1 for a word that is none: *zone_r->zone is that word. */
int client_zone_next(struct slice *text, struct client_zone *zone_r);
/*
 * Does an answer say that the address is listed? Only 127.0.0.0/8 does, and 127.255.255.x not: there lists say that they
 * will not answer.
 */
bool client_zone_lists(const struct client_zone *z, const uint8_t answer[4]);

#endif
