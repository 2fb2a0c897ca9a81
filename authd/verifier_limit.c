/*
 * A table of fixed size: with more failing networks than it holds, the one that
 * failed least recently among a few places is forgotten. Networks are spread by a keyed hash,
 * so that nobody chooses whom to push out.
 */
#include "authd/verifier_limit.h"

#include "common/mem.h"

#include <arpa/inet.h>
#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define NETWORK_BYTES 9 /* family, then 4 or 8 octets */
#define KEY_BYTES 16

struct network {
	uint8_t octets[NETWORK_BYTES];
	bool loopback;
};

struct entry {
	uint8_t octets[NETWORK_BYTES];
	uint32_t failures; /* 0: free */
	uint64_t last_ms;
};

struct verifier_limit {
	uint8_t key[KEY_BYTES];
	struct entry entry[VERIFIER_LIMIT_NETWORKS];
};

struct verifier_limit *
verifier_limit_new(void)
{
	struct verifier_limit *l = MEM_NEW(struct verifier_limit);
	int ok = RAND_bytes(l->key, sizeof l->key);

	assert(ok == 1);
	return l;
}

void
verifier_limit_free(struct verifier_limit **l)
{
	MEM_FREE(l);
}

static struct network
network_of(struct slice address)
{
	struct network n = {.loopback = false};
	char text[64];
	uint8_t octets[16];

	if (!slice_cstr(address, text, sizeof text))
		return n;
	if (inet_pton(AF_INET, text, octets) == 1) {
		n.octets[0] = 4;
		memcpy(n.octets + 1, octets, 4);
		n.loopback = octets[0] == 127;
	} else if (inet_pton(AF_INET6, text, octets) == 1) {
		static const uint8_t one[16] = {[15] = 1};

		n.octets[0] = 6;
		memcpy(n.octets + 1, octets, 8);
		n.loopback = memcmp(octets, one, sizeof one) == 0;
	}
	return n;
}

/* The places of a network: consecutive ones from a keyed hash on. */
static size_t
place_of(const struct verifier_limit *l, const struct network *n)
{
	uint8_t in[KEY_BYTES + NETWORK_BYTES], out[32];
	int ok;

	memcpy(in, l->key, KEY_BYTES);
	memcpy(in + KEY_BYTES, n->octets, NETWORK_BYTES);
	ok = EVP_Digest(in, sizeof in, out, NULL, EVP_sha256(), NULL);
	assert(ok == 1);
	return (size_t)out[0] | (size_t)out[1] << 8;
}

static size_t
way_of(size_t place, unsigned way)
{
	return (place + way) & (VERIFIER_LIMIT_NETWORKS - 1);
}

/* The failures that still count. */
static uint32_t
failures_now(const struct entry *at, uint64_t now_ms)
{
	uint64_t halvings = (now_ms - at->last_ms) / VERIFIER_LIMIT_HALVE_MS;

	return halvings > 31 ? 0 : at->failures >> halvings;
}

static uint32_t
delay_of(uint32_t failures)
{
	uint32_t ms = VERIFIER_LIMIT_FIRST_MS;

	if (failures < VERIFIER_LIMIT_FREE)
		return 0;
	for (; failures > VERIFIER_LIMIT_FREE && ms < VERIFIER_LIMIT_MOST_MS; failures--)
		ms *= 2;
	return ms < VERIFIER_LIMIT_MOST_MS ? ms : VERIFIER_LIMIT_MOST_MS;
}

uint32_t
verifier_limit_delay(const struct verifier_limit *l, struct slice address, uint64_t now_ms)
{
	struct network n = network_of(address);
	size_t place = place_of(l, &n);
	uint32_t ms = 0;

	for (unsigned way = 0; way < VERIFIER_LIMIT_WAYS; way++) {
		const struct entry *at = &l->entry[way_of(place, way)];

		if (at->failures > 0 && memcmp(at->octets, n.octets, NETWORK_BYTES) == 0)
			ms = delay_of(failures_now(at, now_ms));
	}
	return n.loopback && ms > VERIFIER_LIMIT_LOOPBACK_MS ? VERIFIER_LIMIT_LOOPBACK_MS : ms;
}

void
verifier_limit_failed(struct verifier_limit *l, struct slice address, uint64_t now_ms)
{
	struct network n = network_of(address);
	size_t place = place_of(l, &n);
	struct entry *best = NULL;

	for (unsigned way = 0; way < VERIFIER_LIMIT_WAYS; way++) {
		struct entry *at = &l->entry[way_of(place, way)];

		if (at->failures > 0 && memcmp(at->octets, n.octets, NETWORK_BYTES) == 0) {
			best = at;
			break;
		}
		if (best == NULL || (best->failures > 0 && at->failures == 0) ||
		    (best->failures > 0 && at->last_ms < best->last_ms))
			best = at;
	}
	if (best->failures == 0 || memcmp(best->octets, n.octets, NETWORK_BYTES) != 0)
		*best = (struct entry){.failures = 0};
	else
		best->failures = failures_now(best, now_ms);
	memcpy(best->octets, n.octets, NETWORK_BYTES);
	if (best->failures < UINT32_MAX)
		best->failures++;
	best->last_ms = now_ms;
}
