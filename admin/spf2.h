/*
 * spf2: how a receiver that runs libspf2 reads an SPF record. Many do, and libspf2 departs from RFC 7208 in places; its word is
 * shown beside ours and decides nothing.
 *
 * The library has known faults. Guards: an explanation is never expanded (CVE-2023-42118), a name of more than 253 octets is not
 * asked for (else memory without end), and the number of questions and the octets of a text are bounded. Run it in a process
 * without rights all the same.
 */
#ifndef ADMIN_SPF2_H
#define ADMIN_SPF2_H

#include "common/dns.h"

#define SPF2_QUESTIONS_MAX 100u
#define SPF2_NAME_BYTES_MAX 253u
#define SPF2_TEXT_BYTES_MAX 4096u
#define SPF2_REASON_SIZE 200

struct spf2_query {
	uint8_t ip[16];	    /* IPv4 as ::ffff:a.b.c.d */
	const char *helo;
	const char *sender; /* "" for the null reverse-path */
};

struct spf2_outcome {
	const char *result; /* the word of RFC 8601 2.7.2; static */
	char reason[SPF2_REASON_SIZE]; /* the library's first complaint, or empty */
	unsigned questions;
};

/* Answers one question; *answer_r and what it points to stay until the next call. name is without final dot. May block. */
typedef void spf2_lookup_fn(void *arg, const char *name, uint16_t type, struct dns_answer *answer_r);

/* Evaluates MAIL FROM (HELO, when that is null). */
void spf2_check(const struct spf2_query *q, spf2_lookup_fn *lookup, void *arg, struct spf2_outcome *outcome_r);

#endif
