/*
 * A table of fixed size, spread by a keyed hash so that nobody chooses whom to push out; when it is full, the one that was quiet
 * for longest among a few places is forgotten. Time is cut into windows: what counts is this one and the part of the one
 * before that is not older than a window.
 */
#include "smtpd/front_rate.h"

#include "common/mem.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#define KEY_BYTES 16
#define NETWORK_BYTES 17 /* octets that count, then the address with the rest as zero */

struct entry {
	uint8_t network[NETWORK_BYTES]; /* all zero: free */
	uint64_t window;
	uint32_t now[FRONT_RATE_COUNT];
	uint32_t before[FRONT_RATE_COUNT];
};

struct front_rate {
	uint8_t key[KEY_BYTES];
	struct entry entry[FRONT_RATE_ENTRIES];
};

struct front_rate *
front_rate_new(void)
{
	struct front_rate *r = MEM_NEW(struct front_rate);
	int ok = RAND_bytes(r->key, sizeof(r->key));

	assert(ok == 1);
	return r;
}

void
front_rate_free(struct front_rate **r)
{
	MEM_FREE(r);
}

static void
network_of(const uint8_t ip[16], bool wide, uint8_t out[NETWORK_BYTES])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool ipv4 = memcmp(ip, mapped, sizeof(mapped)) == 0;
	uint8_t octets = ipv4 ? (wide ? 15 : 16) : (wide ? 6 : 8);

	memset(out, 0, NETWORK_BYTES);
	out[0] = octets;
	memcpy(out + 1, ip, octets);
}

static size_t
place_of(const struct front_rate *r, const uint8_t network[NETWORK_BYTES])
{
	uint8_t in[KEY_BYTES + NETWORK_BYTES], out[32];
	int ok;

	memcpy(in, r->key, KEY_BYTES);
	memcpy(in + KEY_BYTES, network, NETWORK_BYTES);
	ok = EVP_Digest(in, sizeof(in), out, NULL, EVP_sha256(), NULL);
	assert(ok == 1);
	return (size_t)out[0] | (size_t)out[1] << 8;
}

static size_t
way_of(size_t place, unsigned way)
{
	return (place + way) & (FRONT_RATE_ENTRIES - 1);
}

/* The entry moves on to the window of now. */
static void
move_on(struct entry *at, uint64_t window)
{
	if (at->window == window)
		return;
	for (unsigned k = 0; k < FRONT_RATE_COUNT; k++) {
		at->before[k] = at->window + 1 == window ? at->now[k] : 0;
		at->now[k] = 0;
	}
	at->window = window;
}

static void
add(struct front_rate *r, const uint8_t network[NETWORK_BYTES], enum front_rate_kind kind, uint64_t window)
{
	size_t place = place_of(r, network);
	struct entry *best = &r->entry[way_of(place, 0)];

	for (unsigned way = 0; way < FRONT_RATE_WAYS; way++) {
		struct entry *at = &r->entry[way_of(place, way)];

		if (memcmp(at->network, network, NETWORK_BYTES) == 0) {
			best = at;
			break;
		}
		if (at->network[0] == 0 ? best->network[0] != 0 : best->network[0] != 0 && at->window < best->window)
			best = at;
	}
	if (memcmp(best->network, network, NETWORK_BYTES) != 0) {
		*best = (struct entry){.window = window};
		memcpy(best->network, network, NETWORK_BYTES);
	}
	move_on(best, window);
	if (best->now[kind] < UINT32_MAX)
		best->now[kind]++;
}

void
front_rate_add(struct front_rate *r, const uint8_t ip[16], enum front_rate_kind kind, uint64_t now_ms)
{
	uint8_t network[NETWORK_BYTES];

	for (unsigned wide = 0; wide < 2; wide++) {
		network_of(ip, wide != 0, network);
		add(r, network, kind, now_ms / FRONT_RATE_WINDOW_MS);
	}
}

static uint64_t
count_of(const struct front_rate *r, const uint8_t network[NETWORK_BYTES], enum front_rate_kind kind, uint64_t now_ms)
{
	uint64_t window = now_ms / FRONT_RATE_WINDOW_MS, left = FRONT_RATE_WINDOW_MS - now_ms % FRONT_RATE_WINDOW_MS;
	size_t place = place_of(r, network);

	for (unsigned way = 0; way < FRONT_RATE_WAYS; way++) {
		struct entry at = r->entry[way_of(place, way)];

		if (memcmp(at.network, network, NETWORK_BYTES) == 0) {
			move_on(&at, window);
			return at.now[kind] + (uint64_t)at.before[kind] * left / FRONT_RATE_WINDOW_MS;
		}
	}
	return 0;
}

bool
front_rate_spent(const struct front_rate *r, const uint8_t ip[16], enum front_rate_kind kind, uint64_t max, uint64_t now_ms)
{
	uint8_t address[NETWORK_BYTES], network[NETWORK_BYTES];

	if (max == 0)
		return false;
	network_of(ip, false, address);
	network_of(ip, true, network);
	return count_of(r, address, kind, now_ms) >= max || count_of(r, network, kind, now_ms) >= max * FRONT_RATE_NETWORK_FACTOR;
}
