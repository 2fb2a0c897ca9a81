/*
 * libopendkim never sees a key record from the DNS: it gets one that is written
 * here from what this file understood, with the key encoded anew. That keeps its parser and
 * its base64 away from hostile octets, makes the check of the key's size ours (the library
 * forgets it on some paths), and lets bare RSAPublicKey encodings work, which it does not know.
 */
#include "smtpd/dkim_key.h"

#include "common/dns_name.h"
#include "common/mem.h"
#include "smtpd/dkim_tags.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define ED25519_BYTES 32
#define ED25519_BITS 256

/* Base64 with white space in it. False when it does not decode within max octets. */
static bool
base64_decode(struct slice s, uint8_t *to, size_t max, size_t *n_r)
{
	uint32_t word = 0;
	unsigned bits = 0;
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		uint32_t v;

		if (c >= 'A' && c <= 'Z')
			v = (uint32_t)(c - 'A');
		else if (c >= 'a' && c <= 'z')
			v = (uint32_t)(c - 'a' + 26);
		else if (ascii_digit(c))
			v = (uint32_t)(c - '0' + 52);
		else if (c == '+' || c == '/')
			v = c == '+' ? 62 : 63;
		else
			continue;
		word = word << 6 | v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			if (n == max)
				return false;
			to[n++] = (uint8_t)(word >> bits);
		}
	}
	*n_r = n;
	return true;
}

/* The key as SubjectPublicKeyInfo, or as the bare RSAPublicKey that RFC 6376 3.6.1 speaks of. */
static EVP_PKEY *
rsa_read(const uint8_t *der, size_t n)
{
	const uint8_t *p = der;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)n);

	if (key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
		return key;
	EVP_PKEY_free(key);
	p = der;
	return d2i_PublicKey(EVP_PKEY_RSA, NULL, &p, (long)n);
}

static bool
put_base64(struct buf *out, const uint8_t *p, size_t n)
{
	size_t octets = (n + 2) / 3 * 4;
	uint8_t *to = buf_room(out, octets + 1);

	if (to == NULL)
		return false;
	buf_added(out, (size_t)EVP_EncodeBlock(to, p, (int)n));
	return true;
}

static const char *
rsa_key(const uint8_t *der, size_t n, struct dkim_key *key, struct buf *out, enum dkim_result *result_r)
{
	EVP_PKEY *pkey = rsa_read(der, n);
	uint8_t *spki = NULL;
	const char *why = NULL;
	int spki_n;

	ERR_clear_error();
	if (pkey == NULL)
		return "key cannot be read";
	key->bits = (uint32_t)EVP_PKEY_get_bits(pkey);
	spki_n = i2d_PUBKEY(pkey, &spki);
	EVP_PKEY_free(pkey);
	if (key->bits < DKIM_RSA_BITS_MIN) {
		/* RFC 8301 3.2: never valid. */
		*result_r = DKIM_RESULT_FAIL;
		why = "key is too short";
	} else if (key->bits > DKIM_RSA_BITS_MAX) {
		why = "key is too long";
	} else if (spki_n <= 0 || !buf_put_str(out, "v=DKIM1; k=rsa; p=") ||
	    !put_base64(out, spki, (size_t)spki_n)) {
		why = "key cannot be used";
	}
	OPENSSL_free(spki);
	return why;
}

static const char *
ed25519_key(const uint8_t *p, size_t n, struct dkim_key *key, struct buf *out)
{
	if (n != ED25519_BYTES)
		return "key cannot be read";
	key->bits = ED25519_BITS;
	if (!buf_put_str(out, "v=DKIM1; k=ed25519; p=") || !put_base64(out, p, n))
		return "key cannot be used";
	return NULL;
}

/* k=, h=, s=, t= of the record against the signature's a=. */
static const char *
check_tags(const struct dkim_tag_list *tags, struct slice k, struct slice algorithm, struct dkim_key *key)
{
	struct slice v = dkim_tags_get(tags, "v"), h = dkim_tags_get(tags, "h");
	struct slice s = dkim_tags_get(tags, "s"), t = dkim_tags_get(tags, "t");

	/* "This tag MUST be the first tag in the record" when it is there at all. */
	if (v.p != NULL && (!slice_eq(v, SLICE("DKIM1")) || !slice_eq(tags->v[0].name, SLICE("v"))))
		return "key record has another version";
	if (!slice_starts_nocase(algorithm, k) || algorithm.n <= k.n || algorithm.p[k.n] != '-')
		return "key is of another type";
	if (h.p != NULL && !dkim_list_has(h, ':', SLICE("sha256")))
		return "key is not for this hash";
	if (s.p != NULL && !dkim_list_has(s, ':', SLICE("*")) && !dkim_list_has(s, ':', SLICE("email")))
		return "key is not for mail";
	key->testing = dkim_list_has(t, ':', SLICE("y"));
	key->strict = dkim_list_has(t, ':', SLICE("s"));
	return NULL;
}

const char *
dkim_key_read(struct slice text, struct slice algorithm, struct dkim_key *key_r, struct buf *record_r,
    enum dkim_result *result_r)
{
	struct dkim_tag_list tags;
	struct slice k, p;
	uint8_t der[DKIM_KEY_BYTES_MAX];
	const char *why;
	size_t n;

	*key_r = (struct dkim_key){.bits = 0};
	*result_r = DKIM_RESULT_PERMERROR;
	if (!dkim_tags_parse(text, &tags))
		return "key record is malformed";
	k = dkim_tags_get(&tags, "k");
	p = dkim_tags_get(&tags, "p");
	if (k.p == NULL)
		k = SLICE("rsa");
	if (p.p == NULL)
		return "key record is malformed";
	if ((why = check_tags(&tags, k, algorithm, key_r)) != NULL)
		return why;
	if (p.n == 0)
		return "key is revoked";
	if (!dkim_base64_valid(p) || !base64_decode(p, der, sizeof der, &n))
		return "key cannot be read";
	if (slice_eq_nocase(k, SLICE("rsa")))
		return rsa_key(der, n, key_r, record_r, result_r);
	return ed25519_key(der, n, key_r, record_r);
}

bool
dkim_key_name(struct slice selector, struct slice domain, struct buf *out)
{
	size_t before = out->n;

	if (dns_name_to_ascii(selector, out) && buf_put_str(out, "._domainkey.") &&
	    dns_name_to_ascii(domain, out) && out->n - before <= DNS_NAME_BYTES_MAX)
		return true;
	out->n = before;
	return false;
}

struct slice
dkim_key_pick(const struct dns_answer *answer, bool *several_r)
{
	struct dkim_tag_list tags;
	struct slice found = {NULL, 0};

	*several_r = false;
	for (unsigned i = 0; i < answer->count; i++) {
		struct slice text = answer->records[i].data;

		if (!dkim_tags_parse(text, &tags) || dkim_tags_get(&tags, "p").p == NULL)
			continue;
		*several_r = found.p != NULL;
		found = text;
	}
	return found.p != NULL ? found : answer->records[0].data;
}

/* Our own record's key. */
static EVP_PKEY *
key_open(struct slice record)
{
	struct dkim_tag_list tags;
	uint8_t octets[DKIM_KEY_BYTES_MAX];
	size_t n;

	if (!dkim_tags_parse(record, &tags) ||
	    !base64_decode(dkim_tags_get(&tags, "p"), octets, sizeof octets, &n))
		return NULL;
	if (slice_eq(dkim_tags_get(&tags, "k"), SLICE("rsa")))
		return rsa_read(octets, n);
	return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, octets, n);
}

static bool
rsa_verifies(EVP_PKEY *key, const uint8_t hash[32], const uint8_t *b, size_t n)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	bool good = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
	    EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 && EVP_PKEY_verify(ctx, b, n, hash, 32) == 1;

	EVP_PKEY_CTX_free(ctx);
	return good;
}

/* RFC 8463 3: PureEdDSA of the hash. */
static bool
ed25519_verifies(EVP_PKEY *key, const uint8_t hash[32], const uint8_t *b, size_t n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestVerify(ctx, b, n, hash, 32) == 1;

	EVP_MD_CTX_free(ctx);
	return good;
}

bool
dkim_key_verifies(struct slice record, const uint8_t hash[32], struct slice b)
{
	EVP_PKEY *key = key_open(record);
	uint8_t octets[DKIM_RSA_BITS_MAX / 8];
	size_t n;
	bool good = false;

	if (key != NULL && base64_decode(b, octets, sizeof octets, &n))
		good = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA ? rsa_verifies(key, hash, octets, n)
								  : ed25519_verifies(key, hash, octets, n);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return good;
}

bool
dkim_base64_is(struct slice text, const uint8_t *octets, size_t n)
{
	uint8_t decoded[64];
	size_t decoded_n;

	return n <= sizeof decoded && base64_decode(text, decoded, sizeof decoded, &decoded_n) && decoded_n == n &&
	    memcmp(decoded, octets, n) == 0;
}
