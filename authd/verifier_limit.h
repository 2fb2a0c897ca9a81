/*
 * verifier_limit: the longer a network keeps giving wrong passwords, the longer
 * each further try of it waits before it is looked at, right or wrong. A network is an
 * IPv4 address or an IPv6 /64. Pure: the caller has the clock and the timers.
 */
#ifndef AUTHD_VERIFIER_LIMIT_H
#define AUTHD_VERIFIER_LIMIT_H

#include "common/slice.h"

#define VERIFIER_LIMIT_NETWORKS 4096 /* remembered at once; a power of two */
#define VERIFIER_LIMIT_WAYS 8
#define VERIFIER_LIMIT_FREE 2	    /* failures without a delay: people mistype */
#define VERIFIER_LIMIT_FIRST_MS 500 /* the next one; doubled by each further */
#define VERIFIER_LIMIT_MOST_MS 8000
#define VERIFIER_LIMIT_LOOPBACK_MS                                                                 \
	500 /* the most for this machine itself: a web mail's users share it */
#define VERIFIER_LIMIT_HALVE_MS (5 * 60 * 1000) /* failures count half after so long without one   \
						 */

struct verifier_limit;

struct verifier_limit *verifier_limit_new(void);
void verifier_limit_free(struct verifier_limit **l);

/* Milliseconds that a try from this address (numeric; anything else is one network of its own)
 * waits. */
uint32_t verifier_limit_delay(
    const struct verifier_limit *l, struct slice address, uint64_t now_ms);
/* A try from it failed. */
void verifier_limit_failed(struct verifier_limit *l, struct slice address, uint64_t now_ms);

#endif
