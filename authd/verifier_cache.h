/*
 * verifier_cache: who gave the right password a moment ago, so that a client
 * that logs in for every poll does not cost a slow hash each time. An entry is a
 * keyed hash over account, stored hash and password: it holds for exactly that
 * password checked against exactly that stored hash, and tells nothing without the
 * process's random key.
 */
#ifndef AUTHD_VERIFIER_CACHE_H
#define AUTHD_VERIFIER_CACHE_H

#include "common/err.h"
#include "common/slice.h"

#define VERIFIER_CACHE_ENTRIES 2048 /* a power of two */
#define VERIFIER_CACHE_WAYS 4	    /* places an entry may have; the oldest makes room */
#define VERIFIER_CACHE_MS (5 * 60 * 1000)

struct verifier_cache;

/* NULL and e when there are no random numbers. */
struct verifier_cache *verifier_cache_new(struct err *e);
/* Wipes key and entries. */
void verifier_cache_free(struct verifier_cache **c);

/* Was this password right for this account and stored hash within VERIFIER_CACHE_MS before now_ms?
 */
bool verifier_cache_has(const struct verifier_cache *c, uint64_t account, struct slice hash,
    struct slice password, uint64_t now_ms);
/* It was right. */
void verifier_cache_add(struct verifier_cache *c, uint64_t account, struct slice hash,
    struct slice password, uint64_t now_ms);

#endif
