/*
 * What stands behind the prefix is kept as it came, quoted pairs included; whether it needs quotes is found out each time it is
 * printed, since a server on the way may take away those that it does not need.
 */
#include "authd/srs.h"

#include "authd/address.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>

#define DAY_SECONDS 86400
#define DAYS 1024 /* what two signs of base 32 can tell apart */
#define HASH_BYTES 5
#define TEXT_BYTES_MAX 1024
/* A clock that went back a little. */
#define DAYS_AHEAD_MAX 1

static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";

/* What an address of the scheme has behind its prefix. */
struct srs_parts {
	bool second; /* SRS1, which only other servers make */
	struct slice hash;
	unsigned times;
	struct slice day;   /* not of SRS1 */
	struct slice host;  /* of the sender, or of the first forwarder */
	struct slice local; /* the sender's; SRS1: what the first forwarder has behind "SRS0" */
	struct slice ours;
};

static void
put_lower(struct buf *b, struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		buf_put_u8(b, ascii_lower(s.p[i]));
	buf_put_u8(b, '\0'); /* none of the parts has it */
}

static void
put_base32(struct buf *b, uint64_t bits, unsigned signs)
{
	while (signs-- > 0)
		buf_put_u8(b, (uint8_t)base32[bits >> (5 * signs) & 31]);
}

static void
hash_of(const uint8_t secret[SRS_SECRET_BYTES], const struct srs_parts *p, struct buf *out)
{
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned n = sizeof mac;
	uint64_t bits = 0;
	struct buf b;
	bool ok;

	buf_init(&b, TEXT_BYTES_MAX);
	put_lower(&b, p->ours);
	put_lower(&b, p->day);
	put_lower(&b, p->host);
	put_lower(&b, p->local);
	if (p->times > 1)
		buf_put_u8(&b, (uint8_t)p->times);
	ok = !b.failed && HMAC(EVP_sha256(), secret, SRS_SECRET_BYTES, b.p, b.n, mac, &n) != NULL;
	buf_fini(&b);
	assert(!ok || n >= HASH_BYTES);
	for (unsigned i = 0; ok && i < HASH_BYTES; i++)
		bits = bits << 8 | mac[i];
	if (!ok)
		out->failed = true;
	put_base32(out, bits, SRS_HASH_CHARS);
	if (p->times > 1)
		put_base32(out, p->times, 1);
}

static bool
is_separator(uint8_t c)
{
	return c == '=' || c == '+' || c == '-';
}

static bool
has_prefix(struct slice local, const char *prefix)
{
	return local.n > 4 && slice_starts_nocase(local, slice_str(prefix)) && is_separator(local.p[4]);
}

/* The local part without its quotes, and the domain. */
static bool
cut_address(struct slice address, struct slice *local_r, struct slice *domain_r)
{
	size_t at = slice_rindex(address, '@');
	struct slice local = slice_sub(address, 0, at);

	if (at == 0 || at + 1 >= address.n || address.n > SRS_ADDRESS_BYTES_MAX)
		return false;
	if (local.n >= 2 && local.p[0] == '"' && local.p[local.n - 1] == '"')
		local = slice_sub(local, 1, local.n - 1);
	*local_r = local;
	*domain_r = slice_sub(address, at + 1, address.n);
	return true;
}

/* A domain, or an address literal, as far as that matters here: nothing that would end it in an address. */
static bool
is_host(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && s.p[i] < 0x80 && (s.p[i] == '\0' || strchr(".-_:[]", s.p[i]) == NULL))
			return false;
	return s.n > 0;
}

/* "HASH=first.example=rest" */
static bool
cut_second(struct slice rest, struct srs_parts *p)
{
	return slice_cut(&rest, '=', &p->hash) && slice_cut(&rest, '=', &p->host) && is_host(p->host) &&
	    (p->local = rest, rest.n > 0 && is_separator(rest.p[0]));
}

/* "HASH=TT=domain=local" */
static bool
cut_first(struct slice rest, struct srs_parts *p)
{
	bool good = slice_cut(&rest, '=', &p->hash) && slice_cut(&rest, '=', &p->day) && slice_cut(&rest, '=', &p->host) &&
	    is_host(p->host) && rest.p != NULL;

	p->local = rest;
	return good;
}

static bool
put_address(struct buf *out, struct slice local, struct slice domain)
{
	bool quoted = !address_is_dot_string(local);

	if (quoted)
		buf_put_u8(out, '"');
	buf_put_slice(out, local);
	if (quoted)
		buf_put_u8(out, '"');
	buf_put_u8(out, '@');
	return buf_put_slice(out, domain);
}

static void
put_local(struct buf *b, const struct srs_parts *p)
{
	buf_put_str(b, "SRS0=");
	buf_put_slice(b, p->hash);
	buf_put_u8(b, '=');
	buf_put_slice(b, p->day);
	buf_put_u8(b, '=');
	buf_put_slice(b, p->host);
	buf_put_u8(b, '=');
	buf_put_slice(b, p->local);
}

/* All or nothing of text goes into out. */
static bool
put_whole(struct buf *out, const struct buf *text, size_t most)
{
	return !text->failed && text->n <= most && buf_put_slice(out, buf_slice(text));
}

bool
srs_forward(const uint8_t secret[SRS_SECRET_BYTES], const struct srs_message *m, struct buf *out)
{
	struct srs_parts p = {.ours = m->domain, .times = m->times};
	struct buf day, hash, local, whole;
	/* What fits once fits each time. */
	size_t most = SRS_ADDRESS_BYTES_MAX - (m->times == 1);
	bool good;

	assert(m->times >= 1 && m->times <= SRS_TIMES_MAX);
	if (!cut_address(m->sender, &p.local, &p.host) || !is_host(p.host))
		return false;
	buf_init(&day, 2);
	buf_init(&hash, SRS_HASH_CHARS + 1);
	buf_init(&local, TEXT_BYTES_MAX);
	buf_init(&whole, TEXT_BYTES_MAX);
	put_base32(&day, m->now / DAY_SECONDS % DAYS, 2);
	p.day = buf_slice(&day);
	hash_of(secret, &p, &hash);
	p.hash = buf_slice(&hash);
	put_local(&local, &p);
	good = !hash.failed && !local.failed && put_address(&whole, buf_slice(&local), m->domain) && put_whole(out, &whole, most);
	buf_fini(&whole);
	buf_fini(&local);
	buf_fini(&hash);
	buf_fini(&day);
	return good;
}

/* The number that a sign of base 32 is; more than all of them for any other octet. */
static unsigned
value_of(uint8_t sign)
{
	return (unsigned)slice_index(slice_str(base32), ascii_lower(sign));
}

/* It is of our making, for the time that it says. */
static bool
hash_holds(const uint8_t secret[SRS_SECRET_BYTES], struct srs_parts *p)
{
	struct buf want, got;
	bool same;

	p->times = p->hash.n == SRS_HASH_CHARS + 1 ? value_of(p->hash.p[SRS_HASH_CHARS]) : 1;
	if (p->times > SRS_TIMES_MAX)
		return false;
	buf_init(&want, SRS_HASH_CHARS + 1);
	buf_init(&got, SRS_HASH_CHARS + 1);
	hash_of(secret, p, &want);
	for (size_t i = 0; i < p->hash.n; i++)
		buf_put_u8(&got, ascii_lower(p->hash.p[i]));
	same = !want.failed && want.n == p->hash.n && CRYPTO_memcmp(want.p, got.p, want.n) == 0;
	buf_fini(&got);
	buf_fini(&want);
	return same;
}

/* The day is authentic: two signs of base 32. */
static bool
day_holds(struct slice day, uint64_t now)
{
	unsigned number = 0;
	uint64_t age;

	for (size_t i = 0; i < day.n; i++)
		number = number * 32 + value_of(day.p[i]);
	age = (now / DAY_SECONDS + DAYS + DAYS_AHEAD_MAX - number % DAYS) % DAYS;
	return age <= SRS_DAYS_MAX + DAYS_AHEAD_MAX;
}

/* Cuts an address of the scheme, of whomever it is. */
static enum srs_result
cut(struct slice address, struct srs_parts *p)
{
	struct slice local, rest;

	if (!cut_address(address, &local, &p->ours) || !(has_prefix(local, "SRS0") || has_prefix(local, "SRS1")))
		return SRS_OTHER;
	p->second = local.p[3] == '1';
	rest = slice_sub(local, 5, local.n);
	return (p->second ? cut_second(rest, p) : cut_first(rest, p)) ? SRS_GOOD : SRS_FORGED;
}

/* The address that it was made of. */
static bool
put_within(const struct srs_parts *p, struct buf *out)
{
	struct buf local, whole;
	bool good;

	buf_init(&local, TEXT_BYTES_MAX);
	buf_init(&whole, TEXT_BYTES_MAX);
	if (p->second)
		buf_put_str(&local, "SRS0");
	buf_put_slice(&local, p->local);
	good = put_address(&whole, buf_slice(&local), p->host) && put_whole(out, &whole, SRS_ADDRESS_BYTES_MAX);
	buf_fini(&whole);
	buf_fini(&local);
	return good;
}

enum srs_result
srs_reverse(const uint8_t secret[SRS_SECRET_BYTES], struct slice address, uint64_t now, struct buf *out, unsigned *times_r)
{
	struct srs_parts p = {.second = false};
	enum srs_result r = cut(address, &p);

	if (r != SRS_GOOD)
		return r;
	if (p.second || !hash_holds(secret, &p))
		return SRS_FORGED;
	if (!day_holds(p.day, now))
		return SRS_EXPIRED;
	*times_r = p.times;
	return put_within(&p, out) ? SRS_GOOD : SRS_FORGED;
}

bool
srs_within(struct slice address, struct buf *out)
{
	struct srs_parts p = {.second = false};

	return cut(address, &p) == SRS_GOOD && put_within(&p, out);
}
