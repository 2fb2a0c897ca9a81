/*
 * Like the keys of certificates these have numbers that begin at random in each process (authd/key.h), and live in OpenSSL objects only.
 */
#include "authd/key_dkim.h"
#include "authd/key_pem.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <sys/random.h>

#define HASH_BYTES 32

struct dkim_key_pair {
	char *domain;
	struct dkim_selector selector;
	EVP_PKEY *key;
};

struct key_dkim {
	uint32_t first; /* the number of the first key */
	unsigned count;
	struct dkim_key_pair keys[KEY_DKIM_KEYS_MAX];
};

static struct key_dkim *served;

struct key_dkim *
key_dkim_new(void)
{
	struct key_dkim *ks = MEM_NEW(struct key_dkim);

	if (getrandom(&ks->first, sizeof ks->first, 0) != (ssize_t)sizeof ks->first)
		abort();
	return ks;
}

void
key_dkim_free(struct key_dkim **ks)
{
	if (*ks == NULL)
		return;
	for (unsigned i = 0; i < (*ks)->count; i++) {
		EVP_PKEY_free((*ks)->keys[i].key);
		free((*ks)->keys[i].domain);
	}
	MEM_FREE(ks);
}

unsigned
key_dkim_count(const struct key_dkim *ks)
{
	return ks->count;
}

static int
refuse(struct err *e, const char *detail)
{
	ERR_clear_error();
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "the key cannot be used", "%s", detail);
}

/* ---- reading ---- */

static const char *
unfit(const EVP_PKEY *key, enum dkim_algorithm a)
{
	if (a == DKIM_ED25519_SHA256)
		return EVP_PKEY_is_a(key, "ED25519") ? NULL : "the key is no Ed25519 key";
	if (!EVP_PKEY_is_a(key, "RSA"))
		return "the key is no RSA key";
	if (EVP_PKEY_get_bits(key) < KEY_DKIM_RSA_BITS_MIN)
		return "the RSA key has fewer than 2048 bits";
	return EVP_PKEY_get_bits(key) <= KEY_DKIM_RSA_BITS_MAX ? NULL : "the RSA key has more than 4096 bits";
}

int
key_dkim_add(struct key_dkim *ks, struct slice domain, const struct dkim_selector *s, struct slice pem, struct err *e)
{
	struct dkim_key_pair *p = &ks->keys[ks->count];
	const char *why;

	if (ks->count == KEY_DKIM_KEYS_MAX)
		return refuse(e, "too many DKIM keys");
	if (pem.n > INT32_MAX)
		return refuse(e, "the file is too long");
	EVP_PKEY *key = key_pem_private(pem);

	if (key == NULL)
		return refuse(e, "the file holds no private key in PEM without a pass phrase");
	why = unfit(key, s->algorithm);
	if (why != NULL) {
		EVP_PKEY_free(key);
		return refuse(e, why);
	}
	*p = (struct dkim_key_pair){mem_copy_str(domain.p, domain.n), *s, key};
	ks->count++;
	return 0;
}

/* ---- finding ---- */

/* The newest in use, one of each algorithm; false when there is none of that very domain. */
static bool
find_exact(const struct key_dkim *ks, struct slice domain, uint64_t now, struct key_dkim_found *found_r)
{
	uint64_t newest[DKIM_ALGORITHMS] = {0};
	bool some = false;

	*found_r = (struct key_dkim_found){.domain = {NULL, 0}};
	for (unsigned i = 0; i < ks->count; i++) {
		const struct dkim_key_pair *p = &ks->keys[i];
		enum dkim_algorithm a = p->selector.algorithm;

		if (p->selector.use_from < newest[a] || dkim_selector_state(&p->selector, now) != DKIM_SELECTOR_ACTIVE ||
		    !slice_eq_nocase(slice_str(p->domain), domain))
			continue;
		newest[a] = p->selector.use_from;
		found_r->domain = slice_str(p->domain);
		found_r->of[a].number = ks->first + i;
		found_r->of[a].selector = slice_str(p->selector.name);
		some = true;
	}
	return some;
}

bool
key_dkim_find(const struct key_dkim *ks, struct slice domain, uint64_t now, struct key_dkim_found *found_r)
{
	while (domain.n > 0) {
		if (find_exact(ks, domain, now, found_r))
			return true;
		domain = slice_sub(domain, slice_index(domain, '.') + 1, domain.n);
	}
	return false;
}

/* ---- signing ---- */

static bool
sign_ed25519(EVP_PKEY *key, struct slice hash, uint8_t *sig_r, size_t *sig_n_r)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	bool ok = c != NULL && EVP_DigestSignInit(c, NULL, NULL, NULL, key) == 1 && EVP_DigestSign(c, sig_r, sig_n_r, hash.p, hash.n) == 1;

	EVP_MD_CTX_free(c);
	return ok;
}

static bool
sign_rsa(EVP_PKEY *key, struct slice hash, uint8_t *sig_r, size_t *sig_n_r)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(key, NULL);
	bool ok = c != NULL && EVP_PKEY_sign_init(c) > 0 && EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PADDING) > 0 &&
		  EVP_PKEY_CTX_set_signature_md(c, EVP_sha256()) > 0 && EVP_PKEY_sign(c, sig_r, sig_n_r, hash.p, hash.n) > 0;

	EVP_PKEY_CTX_free(c);
	return ok;
}

int
key_dkim_sign(const struct key_dkim *ks, uint32_t number, struct slice hash, uint8_t sig_r[KEY_DKIM_SIGNATURE_BYTES_MAX],
    size_t *sig_n_r, struct err *e)
{
	uint32_t i = number - ks->first;

	if (i >= ks->count)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such key", "there is no such key");
	if (hash.n != HASH_BYTES)
		return refuse(e, "what is to be signed is no SHA-256 hash");
	const struct dkim_key_pair *p = &ks->keys[i];
	bool ed25519 = p->selector.algorithm == DKIM_ED25519_SHA256;

	*sig_n_r = KEY_DKIM_SIGNATURE_BYTES_MAX;
	if (ed25519 ? sign_ed25519(p->key, hash, sig_r, sig_n_r) : sign_rsa(p->key, hash, sig_r, sig_n_r))
		return 0;
	return refuse(e, "the key cannot sign");
}

/* ---- the messages ---- */

void
key_dkim_serve(struct key_dkim *ks)
{
	served = ks;
}

static void
on_find(struct edge *sign, struct msg_KEY_DKIM_FIND *m)
{
	struct key_dkim_found f = {.domain = {NULL, 0}};

	assert(served != NULL);
	if (!key_dkim_find(served, m->domain, clock_wall_us() / 1000000, &f))
		f = (struct key_dkim_found){.domain = {NULL, 0}};
	IPC_TELL(sign, KEY_DKIM_FOUND, .id = m->id, .found = f.domain, .rsa = f.of[DKIM_RSA_SHA256].number,
	    .rsa_selector = f.of[DKIM_RSA_SHA256].selector, .ed25519 = f.of[DKIM_ED25519_SHA256].number,
	    .ed25519_selector = f.of[DKIM_ED25519_SHA256].selector);
}

static void
on_sign(struct edge *sign, struct msg_KEY_DKIM_SIGN *m)
{
	uint8_t sig[KEY_DKIM_SIGNATURE_BYTES_MAX];
	struct err e = {0};
	size_t n = 0;

	assert(served != NULL);
	if (key_dkim_sign(served, m->key, m->hash, sig, &n, &e) < 0) {
		log_event(LOG_WARN, NO_SESSION, "dkim-signature-refused", LOG_NUM("key", m->key), LOG_ERR(&e), LOG_END);
		n = 0;
	}
	/* sign has its own deadline. */
	IPC_TELL(sign, KEY_DKIM_SIGNED, .id = m->id, .class = e.class, .signature = slice_of(sig, n));
}

const struct ipc_dispatch key_from_sign = {
    .KEY_DKIM_FIND = on_find,
    .KEY_DKIM_SIGN = on_sign,
};
