/*
 * All three parts go in with their lengths, so that no two triples make the same
 * octets. Entries are compared in constant time. Nothing is extended on use:
 * five minutes after the slow check it is done again.
 */
#include "authd/verifier_cache.h"

#include "common/buf.h"
#include "common/cursor.h"
#include "common/mem.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#define MAC_BYTES 32
#define INPUT_BYTES_MAX 4096

_Static_assert((VERIFIER_CACHE_ENTRIES & (VERIFIER_CACHE_ENTRIES - 1)) == 0, "power of two");

struct entry {
	uint8_t mac[MAC_BYTES];
	uint64_t since_ms;
	bool used;
};

struct verifier_cache {
	uint8_t key[MAC_BYTES];
	struct entry entry[VERIFIER_CACHE_ENTRIES];
};

struct verifier_cache *
verifier_cache_new(struct err *e)
{
	struct verifier_cache *c = MEM_NEW(struct verifier_cache);

	if (RAND_bytes(c->key, sizeof c->key) != 1) {
		MEM_FREE(&c);
		(void)err_set(e, ERR_TEMP, ERR_CODE_NONE, "no random numbers", "RAND_bytes failed");
	}
	return c;
}

void
verifier_cache_free(struct verifier_cache **c)
{
	if (*c == NULL)
		return;
	mem_wipe(*c, sizeof **c);
	MEM_FREE(c);
}

/* False when the parts are longer than anything that is cached. */
static bool
mac_of(const struct verifier_cache *c, uint64_t account, struct slice hash, struct slice password,
    uint8_t mac_r[MAC_BYTES])
{
	unsigned n = MAC_BYTES;
	struct buf b;
	bool ok;

	buf_init(&b, INPUT_BYTES_MAX);
	/* Room for all of it at once: growing would leave copies of the password behind. */
	if (buf_room(&b, sizeof account + 8 + hash.n + password.n) == NULL)
		return false;
	put_u64(&b, account);
	put_slice(&b, hash);
	put_slice(&b, password);
	ok = !b.failed && HMAC(EVP_sha256(), c->key, sizeof c->key, b.p, b.n, mac_r, &n) != NULL;
	assert(n == MAC_BYTES);
	mem_wipe(b.p, b.n);
	buf_fini(&b);
	return ok;
}

static size_t
place_of(const uint8_t mac[MAC_BYTES], unsigned way)
{
	size_t at = (size_t)mac[0] | (size_t)mac[1] << 8 | (size_t)mac[2] << 16;

	return (at + way) & (VERIFIER_CACHE_ENTRIES - 1);
}

bool
verifier_cache_has(const struct verifier_cache *c, uint64_t account, struct slice hash,
    struct slice password, uint64_t now_ms)
{
	uint8_t mac[MAC_BYTES];
	bool found = false;

	if (!mac_of(c, account, hash, password, mac))
		return false;
	for (unsigned way = 0; way < VERIFIER_CACHE_WAYS; way++) {
		const struct entry *at = &c->entry[place_of(mac, way)];

		if (at->used && now_ms - at->since_ms < VERIFIER_CACHE_MS &&
		    CRYPTO_memcmp(at->mac, mac, MAC_BYTES) == 0)
			found = true;
	}
	return found;
}

void
verifier_cache_add(struct verifier_cache *c, uint64_t account, struct slice hash,
    struct slice password, uint64_t now_ms)
{
	uint8_t mac[MAC_BYTES];
	struct entry *best = NULL;

	if (!mac_of(c, account, hash, password, mac))
		return;
	for (unsigned way = 0; way < VERIFIER_CACHE_WAYS; way++) {
		struct entry *at = &c->entry[place_of(mac, way)];

		if (!at->used || CRYPTO_memcmp(at->mac, mac, MAC_BYTES) == 0) {
			best = at;
			break;
		}
		if (best == NULL || at->since_ms < best->since_ms)
			best = at;
	}
	memcpy(best->mac, mac, MAC_BYTES);
	best->since_ms = now_ms;
	best->used = true;
}
