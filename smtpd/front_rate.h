/*
 * front_rate: how much came lately from an address, and from the network around it: an IPv4 address and its /24, an IPv6 /64 and
 * its /48. Pure: the caller has the clock.
 */
#ifndef SMTPD_FRONT_RATE_H
#define SMTPD_FRONT_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define FRONT_RATE_ENTRIES 16384 /* addresses and networks remembered at once; a power of two */
#define FRONT_RATE_WAYS 8
#define FRONT_RATE_WINDOW_MS (10u * 60 * 1000)
#define FRONT_RATE_NETWORK_FACTOR 4 /* a network may do as much as so many addresses */

enum front_rate_kind { FRONT_RATE_MESSAGES, FRONT_RATE_RECIPIENTS, FRONT_RATE_UNKNOWN, FRONT_RATE_COUNT };

struct front_rate;

struct front_rate *front_rate_new(void);
void front_rate_free(struct front_rate **r);
void front_rate_add(struct front_rate *r, const uint8_t ip[16], enum front_rate_kind kind, uint64_t now_ms);
/* Has the address had max in the last FRONT_RATE_WINDOW_MS, or its network FRONT_RATE_NETWORK_FACTOR times as many? max 0: never. */
bool front_rate_spent(const struct front_rate *r, const uint8_t ip[16], enum front_rate_kind kind, uint64_t max, uint64_t now_ms);

#endif
