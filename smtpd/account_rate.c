/*
 * Accounts are few, and each of them is known to have logged in: a plain array, looked through. The addresses of one are a set of hashes
 * by a key of this process, so that nobody finds two that count as one.
 */
#include "smtpd/account_rate.h"

#include "common/mem.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

#define KEY_BYTES 16
#define ADDRESS_BYTES_MAX 1024
#define FIRST_PLACES 16

struct entry {
	uint64_t account;
	uint64_t began_ms;
	uint32_t messages, recipients, addresses;
	bool spent; /* ACCOUNT_SPENT_ADDRESSES was said */
	uint64_t *place; /* hashes, 0: free; a power of two of them, at most half of them taken */
	uint32_t places;
};

struct account_rates {
	uint8_t key[KEY_BYTES];
	struct entry entry[ACCOUNT_RATE_ACCOUNTS_MAX];
	uint32_t count;
	uint32_t places; /* of all */
};

struct account_rates *
account_rates_new(void)
{
	struct account_rates *r = MEM_NEW(struct account_rates);
	int ok = RAND_bytes(r->key, sizeof(r->key));

	assert(ok == 1);
	return r;
}

void
account_rates_free(struct account_rates **rp)
{
	struct account_rates *r = *rp;

	for (uint32_t i = 0; r != NULL && i < r->count; i++)
		free(r->entry[i].place);
	MEM_FREE(rp);
}

/* ---- accounts ---- */

static void
begin_day(struct account_rates *r, struct entry *e, uint64_t account, uint64_t now_ms)
{
	r->places -= e->places;
	free(e->place);
	*e = (struct entry){.account = account, .began_ms = now_ms};
}

static struct entry *
oldest_but(struct account_rates *r, const struct entry *but)
{
	struct entry *found = NULL;

	for (uint32_t i = 0; i < r->count; i++)
		if (&r->entry[i] != but && (found == NULL || r->entry[i].began_ms < found->began_ms))
			found = &r->entry[i];
	return found;
}

static struct entry *
entry_of(struct account_rates *r, uint64_t account, uint64_t now_ms)
{
	struct entry *e = NULL;

	for (uint32_t i = 0; i < r->count && e == NULL; i++)
		if (r->entry[i].account == account)
			e = &r->entry[i];
	if (e != NULL) {
		if (now_ms - e->began_ms >= ACCOUNT_RATE_DAY_MS)
			begin_day(r, e, account, now_ms);
		return e;
	}
	e = r->count < ACCOUNT_RATE_ACCOUNTS_MAX ? &r->entry[r->count++] : oldest_but(r, NULL);
	begin_day(r, e, account, now_ms);
	return e;
}

/* ---- addresses ---- */

static uint64_t
hash_of(const struct account_rates *r, struct slice address)
{
	uint8_t in[KEY_BYTES + ADDRESS_BYTES_MAX], out[EVP_MAX_MD_SIZE];
	size_t n = address.n < ADDRESS_BYTES_MAX ? address.n : ADDRESS_BYTES_MAX;
	uint64_t hash = 0;
	int ok;

	memcpy(in, r->key, KEY_BYTES);
	for (size_t i = 0; i < n; i++)
		in[KEY_BYTES + i] = ascii_lower(address.p[i]);
	ok = EVP_Digest(in, KEY_BYTES + n, out, NULL, EVP_sha256(), NULL);
	assert(ok == 1);
	for (unsigned i = 0; i < 8; i++)
		hash = hash << 8 | out[i];
	return hash != 0 ? hash : 1;
}

/* False when it is there already. */
static bool
put(uint64_t *place, uint32_t places, uint64_t hash)
{
	uint32_t at = (uint32_t)hash & (places - 1);

	for (; place[at] != 0; at = (at + 1) & (places - 1))
		if (place[at] == hash)
			return false;
	place[at] = hash;
	return true;
}

static void
grow(struct account_rates *r, struct entry *e)
{
	uint32_t places = e->places > 0 ? e->places * 2 : FIRST_PLACES;
	uint64_t *more = mem_new_array(places, sizeof(*more));
	struct entry *oldest;

	for (uint32_t i = 0; i < e->places; i++)
		if (e->place[i] != 0)
			(void)put(more, places, e->place[i]);
	free(e->place);
	r->places += places - e->places;
	e->place = more;
	e->places = places;
	while (r->places > ACCOUNT_RATE_ADDRESSES_ALL_MAX && (oldest = oldest_but(r, e)) != NULL && oldest->places > 0)
		begin_day(r, oldest, oldest->account, oldest->began_ms);
}

static void
add(struct account_rates *r, struct entry *e, struct slice address)
{
	if (e->addresses >= ACCOUNT_RATE_ADDRESSES_MAX)
		return;
	if (e->addresses * 2 >= e->places)
		grow(r, e);
	e->addresses += put(e->place, e->places, hash_of(r, address));
}

/* ---- counting ---- */

static bool
over(uint32_t limit, uint64_t count)
{
	return limit > 0 && count > limit;
}

enum account_spent
account_rate_count(struct account_rates *r, const struct account_limits *limits, const struct account_message *m, uint64_t now_ms,
    bool *first_r)
{
	struct entry *e = entry_of(r, m->account, now_ms);

	*first_r = false;
	if (over(limits->messages, (uint64_t)e->messages + 1))
		return ACCOUNT_SPENT_MESSAGES;
	if (over(limits->recipients, (uint64_t)e->recipients + m->count))
		return ACCOUNT_SPENT_RECIPIENTS;
	e->messages++;
	e->recipients += m->count;
	for (uint32_t i = 0; i < m->count; i++)
		add(r, e, m->to[i]);
	if (!over(limits->addresses, e->addresses))
		return ACCOUNT_SPENT_NOTHING;
	*first_r = !e->spent;
	e->spent = true;
	return ACCOUNT_SPENT_ADDRESSES;
}
