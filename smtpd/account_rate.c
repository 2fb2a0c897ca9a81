/*
 * Accounts are few, and each of them is known to have logged in: a plain array, looked through. Addresses are sets of hashes by a key of
 * our own, so that nobody finds two that count as one. What was new on a day is known from the next on; of what is known there are two
 * generations, of which the older one is forgotten when the newer one is old or full.
 */
#include "smtpd/account_rate.h"

#include "common/cursor.h"
#include "common/mem.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

#define KEY_BYTES 16
#define ADDRESS_BYTES_MAX 1024
#define FIRST_PLACES 16

/* Hashes; 0: a free place. Of a power of two of them at most half are taken. */
struct set {
	uint64_t *place;
	uint32_t places, count;
};

struct entry {
	uint64_t account;
	uint64_t began_ms;
	uint64_t known_ms; /* when known[0] began */
	uint32_t messages, recipients;
	bool spent; /* ACCOUNT_SPENT_ADDRESSES was said */
	struct set today;
	struct set known[2]; /* from earlier days, the newer generation first */
};

struct account_rates {
	uint8_t key[KEY_BYTES];
	struct entry entry[ACCOUNT_RATE_ACCOUNTS_MAX];
	uint32_t count;
	uint32_t places; /* of all */
};

/* A clock that was put back stands still for a while; one that was far ahead has let the time pass. */
static uint64_t
age(uint64_t then_ms, uint64_t now_ms)
{
	if (then_ms <= now_ms)
		return now_ms - then_ms;
	return then_ms - now_ms > ACCOUNT_RATE_DAY_MS ? UINT64_MAX : 0;
}

/* ---- sets ---- */

static bool
has(const struct set *s, uint64_t hash)
{
	if (s->places == 0)
		return false;
	for (uint32_t at = (uint32_t)hash & (s->places - 1); s->place[at] != 0; at = (at + 1) & (s->places - 1))
		if (s->place[at] == hash)
			return true;
	return false;
}

/* There is room, and it is not there. */
static void
put(struct set *s, uint64_t hash)
{
	uint32_t at = (uint32_t)hash & (s->places - 1);

	while (s->place[at] != 0)
		at = (at + 1) & (s->places - 1);
	s->place[at] = hash;
	s->count++;
}

static void
empty(struct account_rates *r, struct set *s)
{
	r->places -= s->places;
	free(s->place);
	*s = (struct set){.place = NULL};
}

static void
forget(struct account_rates *r, struct entry *e)
{
	empty(r, &e->today);
	empty(r, &e->known[0]);
	empty(r, &e->known[1]);
}

/* ---- accounts ---- */

static uint32_t
places_of(const struct entry *e)
{
	return e->today.places + e->known[0].places + e->known[1].places;
}

/* Of those with as many places at least. */
static struct entry *
oldest_but(struct account_rates *r, const struct entry *but, uint32_t places)
{
	struct entry *found = NULL;

	for (uint32_t i = 0; i < r->count; i++)
		if (&r->entry[i] != but && places_of(&r->entry[i]) >= places && (found == NULL || r->entry[i].began_ms < found->began_ms))
			found = &r->entry[i];
	return found;
}

static void
grow(struct account_rates *r, struct entry *e, struct set *s)
{
	struct set more = {.places = s->places > 0 ? s->places * 2 : FIRST_PLACES};
	struct entry *oldest;

	more.place = mem_new_array(more.places, sizeof(*more.place));
	for (uint32_t i = 0; i < s->places; i++)
		if (s->place[i] != 0)
			put(&more, s->place[i]);
	empty(r, s);
	*s = more;
	r->places += more.places;
	while (r->places > ACCOUNT_RATE_ADDRESSES_ALL_MAX && (oldest = oldest_but(r, e, 1)) != NULL) {
		forget(r, oldest);
		*oldest = (struct entry){.account = oldest->account, .began_ms = oldest->began_ms};
	}
}

/* At ACCOUNT_RATE_ADDRESSES_MAX it stays as it is. */
static void
add(struct account_rates *r, struct entry *e, struct set *s, uint64_t hash)
{
	if (s->count >= ACCOUNT_RATE_ADDRESSES_MAX || has(s, hash))
		return;
	if (s->count * 2 >= s->places)
		grow(r, e, s);
	put(s, hash);
}

static void
next_generation(struct account_rates *r, struct entry *e, uint64_t now_ms)
{
	empty(r, &e->known[1]);
	e->known[1] = e->known[0];
	e->known[0] = (struct set){.place = NULL};
	e->known_ms = now_ms;
}

/* What was new is known from now on, unless somebody else seems to have sent it. */
static void
begin_day(struct account_rates *r, struct entry *e, uint64_t now_ms)
{
	if (e->known_ms > now_ms)
		e->known_ms = now_ms;
	else if (now_ms - e->known_ms >= ACCOUNT_RATE_KNOWN_MS)
		next_generation(r, e, now_ms);
	for (uint32_t i = 0; !e->spent && i < e->today.places; i++) {
		if (e->today.place[i] == 0)
			continue;
		if (e->known[0].count >= ACCOUNT_RATE_ADDRESSES_MAX)
			next_generation(r, e, now_ms);
		add(r, e, &e->known[0], e->today.place[i]);
	}
	empty(r, &e->today);
	e->began_ms = now_ms;
	e->messages = e->recipients = 0;
	e->spent = false;
}

static struct entry *
entry_of(struct account_rates *r, uint64_t account, uint64_t now_ms)
{
	struct entry *e = NULL;

	for (uint32_t i = 0; i < r->count && e == NULL; i++)
		if (r->entry[i].account == account)
			e = &r->entry[i];
	if (e != NULL) {
		if (age(e->began_ms, now_ms) >= ACCOUNT_RATE_DAY_MS)
			begin_day(r, e, now_ms);
		return e;
	}
	e = r->count < ACCOUNT_RATE_ACCOUNTS_MAX ? &r->entry[r->count++] : oldest_but(r, NULL, 0);
	forget(r, e);
	*e = (struct entry){.account = account, .began_ms = now_ms, .known_ms = now_ms};
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

static void
take(struct account_rates *r, struct entry *e, struct slice address)
{
	uint64_t hash = hash_of(r, address);

	if (has(&e->known[0], hash))
		return;
	add(r, e, has(&e->known[1], hash) ? &e->known[0] : &e->today, hash);
}

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
		forget(r, &r->entry[i]);
	MEM_FREE(rp);
}

/* ---- the image ---- */

static void
put_set(struct buf *b, const struct set *s)
{
	put_u32(b, s->count);
	for (uint32_t i = 0; i < s->places; i++)
		if (s->place[i] != 0)
			put_u64(b, s->place[i]);
}

void
account_rates_encode(const struct account_rates *r, struct buf *b)
{
	buf_put(b, r->key, KEY_BYTES);
	put_u32(b, r->count);
	for (uint32_t i = 0; i < r->count; i++) {
		const struct entry *e = &r->entry[i];

		put_u64(b, e->account);
		put_u64(b, e->began_ms);
		put_u64(b, e->known_ms);
		put_u32(b, e->messages);
		put_u32(b, e->recipients);
		put_u8(b, e->spent);
		put_set(b, &e->today);
		put_set(b, &e->known[0]);
		put_set(b, &e->known[1]);
	}
}

static bool
take_set(struct account_rates *r, struct entry *e, struct set *s, struct cursor *c)
{
	uint32_t count = cursor_u32(c);

	if (count > ACCOUNT_RATE_ADDRESSES_MAX || cursor_left(c) < count * sizeof(uint64_t))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t hash = cursor_u64(c);

		if (hash == 0)
			return false;
		add(r, e, s, hash);
	}
	return r->places <= ACCOUNT_RATE_ADDRESSES_ALL_MAX;
}

static bool
take_entry(struct account_rates *r, struct cursor *c)
{
	struct entry *e = &r->entry[r->count++];

	e->account = cursor_u64(c);
	e->began_ms = cursor_u64(c);
	e->known_ms = cursor_u64(c);
	e->messages = cursor_u32(c);
	e->recipients = cursor_u32(c);
	e->spent = cursor_u8(c) != 0;
	return take_set(r, e, &e->today, c) && take_set(r, e, &e->known[0], c) && take_set(r, e, &e->known[1], c);
}

struct account_rates *
account_rates_decode(struct slice image)
{
	struct account_rates *r = MEM_NEW(struct account_rates);
	struct cursor c = cursor_of(image);
	struct slice key = cursor_take(&c, KEY_BYTES);
	uint32_t count = cursor_u32(&c);
	bool good = !c.bad && count <= ACCOUNT_RATE_ACCOUNTS_MAX;

	if (good)
		memcpy(r->key, key.p, KEY_BYTES);
	while (good && r->count < count)
		good = take_entry(r, &c);
	if (!good || !cursor_done(&c))
		account_rates_free(&r);
	return r;
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
		take(r, e, m->to[i]);
	if (!over(limits->addresses, e->today.count))
		return ACCOUNT_SPENT_NOTHING;
	*first_r = !e->spent;
	e->spent = true;
	return ACCOUNT_SPENT_ADDRESSES;
}
