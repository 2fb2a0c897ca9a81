/*
 * Keys live in OpenSSL objects only; the PEM text they came from is the caller's to wipe. A request
 * names a key by its place in the list, and what it may ask for is decided by the kind of that key,
 * never by the request alone.
 */
#include "authd/key.h"
#include "authd/key_pem.h"

#include "common/buf.h"
#include "common/log.h"
#include "common/mem.h"

#include <assert.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/random.h>

#define RSA_BITS_MIN 2048

struct key_pair {
	char *chain; /* PEM, leaf first, nothing else in it */
	char *names; /* one a line */
	EVP_PKEY *key;
	bool ec;
};

struct key_store {
	uint32_t first; /* the number of the first pair */
	struct key_pair pairs[KEY_PAIRS_MAX];
	unsigned count;
};

static struct key_store *served;

struct key_store *
key_store_new(void)
{
	struct key_store *ks = MEM_NEW(struct key_store);

	if (getrandom(&ks->first, sizeof ks->first, 0) != (ssize_t)sizeof ks->first)
		abort();
	return ks;
}

static void
pair_fini(struct key_pair *p)
{
	EVP_PKEY_free(p->key);
	free(p->chain);
	free(p->names);
	*p = (struct key_pair){0};
}

void
key_store_free(struct key_store **ks)
{
	if (*ks == NULL)
		return;
	for (unsigned i = 0; i < (*ks)->count; i++)
		pair_fini(&(*ks)->pairs[i]);
	MEM_FREE(ks);
}

unsigned
key_store_count(const struct key_store *ks)
{
	return ks->count;
}

uint32_t
key_store_number(const struct key_store *ks, unsigned i)
{
	return ks->first + i;
}

static int
refuse(struct err *e, const char *detail)
{
	ERR_clear_error();
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "TLS is not available", "%s", detail);
}

/* ---- reading ---- */

static int
read_key(struct slice pem, EVP_PKEY **key_r, struct err *e)
{
	*key_r = key_pem_private(pem);
	if (*key_r == NULL)
		return refuse(e, "the key file holds no private key in PEM without a pass phrase");
	if (EVP_PKEY_is_a(*key_r, "EC"))
		return 0;
	if (EVP_PKEY_is_a(*key_r, "RSA"))
		return EVP_PKEY_get_bits(*key_r) >= RSA_BITS_MIN
			   ? 0
			   : refuse(e, "the RSA key has fewer than 2048 bits");
	return refuse(e, "the key is neither RSA nor EC");
}

/*
 * Names with anything but letters, digits, hyphen, dot and star are left out: they match no server
 * name.
 */
static void
put_name(struct buf *names, const ASN1_STRING *s)
{
	struct slice name = slice_of(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));

	for (size_t i = 0; i < name.n; i++) {
		uint8_t c = name.p[i];

		if (!ascii_alpha(c) && !ascii_digit(c) && c != '-' && c != '.' && c != '*' &&
		    c != '_')
			return;
	}
	/* What does not fit any more is served as the default certificate is. */
	if (name.n == 0 || names->n + name.n + 1 > KEY_NAMES_BYTES_MAX)
		return;
	if (names->n > 0)
		buf_put_u8(names, '\n');
	buf_put_slice(names, name);
}

/*
 * The DNS names of the subject alternative names; only without any of these the common name (RFC
 * 6125 6.4.4).
 */
static void
leaf_names(X509 *leaf, struct buf *names)
{
	GENERAL_NAMES *alternatives = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(alternatives); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(alternatives, i);

		if (g->type == GEN_DNS)
			put_name(names, g->d.dNSName);
	}
	sk_GENERAL_NAME_pop_free(alternatives, GENERAL_NAME_free);
	if (names->n > 0)
		return;
	const X509_NAME *subject = X509_get_subject_name(leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

	if (at >= 0)
		put_name(names, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

/* Reads the certificates, writes them anew to out, and checks that the leaf belongs to key. */
static int
read_chain(struct slice pem, EVP_PKEY *key, BIO *out, struct buf *names, struct err *e)
{
	BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n);
	unsigned n = 0;
	bool fits = true;

	for (; in != NULL && n < KEY_CHAIN_CERTS_MAX; n++) {
		X509 *x = PEM_read_bio_X509(in, NULL, key_pem_no_pass_phrase, NULL);

		if (x == NULL)
			break;
		if (n == 0) {
			fits = X509_check_private_key(x, key) == 1;
			leaf_names(x, names);
		}
		(void)PEM_write_bio_X509(out, x);
		X509_free(x);
	}
	BIO_free(in);
	ERR_clear_error();
	if (n == 0)
		return refuse(e, "the certificate file holds no certificate in PEM");
	return fits ? 0
		    : refuse(e, "the private key is not that of the first certificate in the file");
}

static int
fill_pair(struct key_pair *p, struct slice chain_pem, struct slice key_pem, BIO *out,
    struct buf *names, struct err *e)
{
	char *text;

	if (read_key(key_pem, &p->key, e) < 0 || read_chain(chain_pem, p->key, out, names, e) < 0)
		return -1;
	long n = BIO_get_mem_data(out, &text);

	if (n <= 0 || n > (long)KEY_CHAIN_BYTES_MAX)
		return refuse(e, "the certificate chain is too long");
	p->chain = mem_copy_str(text, (size_t)n);
	p->names = mem_copy_str(names->p, names->n);
	p->ec = EVP_PKEY_is_a(p->key, "EC");
	return 0;
}

int
key_store_add(struct key_store *ks, struct slice chain_pem, struct slice key_pem, struct err *e)
{
	struct key_pair *p = &ks->pairs[ks->count];
	struct buf names;

	if (ks->count == KEY_PAIRS_MAX)
		return refuse(e, "too many certificates");
	if (chain_pem.n > INT32_MAX || key_pem.n > INT32_MAX)
		return refuse(e, "the file is too long");
	BIO *out = BIO_new(BIO_s_mem());

	if (out == NULL)
		abort();
	buf_init(&names, KEY_NAMES_BYTES_MAX);
	buf_put(&names, "", 0);
	int result = fill_pair(p, chain_pem, key_pem, out, &names, e);

	buf_fini(&names);
	BIO_free(out);
	if (result < 0)
		pair_fini(p);
	else
		ks->count++;
	return result;
}

/* ---- signing ---- */

static const EVP_MD *
digest_by_name(struct slice name)
{
	static const struct {
		const char *name;
		const EVP_MD *(*md)(void);
	} known[] = {
	    {"SHA2-256", EVP_sha256},
	    {"SHA2-384", EVP_sha384},
	    {"SHA2-512", EVP_sha512},
	    {"SHA2-224", EVP_sha224},
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (slice_eq(name, slice_str(known[i].name)))
			return known[i].md();
	}
	return NULL;
}

/* Prepares the operation as the scheme says; false when the key is of another kind. */
static bool
set_scheme(EVP_PKEY_CTX *c, const struct key_pair *p, struct slice scheme)
{
	if (p->ec)
		return slice_eq(scheme, SLICE("ecdsa"));
	if (slice_eq(scheme, SLICE("rsa-pkcs1")))
		return EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PADDING) > 0;
	return slice_eq(scheme, SLICE("rsa-pss")) &&
	       EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PSS_PADDING) > 0 &&
	       EVP_PKEY_CTX_set_rsa_pss_saltlen(c, RSA_PSS_SALTLEN_DIGEST) > 0;
}

int
key_store_sign(struct key_store *ks, uint32_t number, struct slice scheme, struct slice digest_name,
    struct slice digest, uint8_t sig_r[KEY_SIGNATURE_BYTES_MAX], size_t *sig_n_r, struct err *e)
{
	const EVP_MD *md = digest_by_name(digest_name);
	uint32_t i = number - ks->first;

	if (i >= ks->count)
		return err_set(
		    e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such key", "there is no such key");
	if (md == NULL || digest.n != (size_t)EVP_MD_get_size(md))
		return refuse(e, "unknown digest, or one of another length than its name says");
	const struct key_pair *p = &ks->pairs[i];
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(p->key, NULL);
	bool ok = c != NULL && EVP_PKEY_sign_init(c) > 0 && set_scheme(c, p, scheme) &&
		  EVP_PKEY_CTX_set_signature_md(c, md) > 0;

	*sig_n_r = KEY_SIGNATURE_BYTES_MAX;
	ok = ok && EVP_PKEY_sign(c, sig_r, sig_n_r, digest.p, digest.n) > 0;
	EVP_PKEY_CTX_free(c);
	return ok ? 0 : refuse(e, "the key cannot sign in that way");
}

/* ---- the messages ---- */

void
key_serve(struct key_store *ks)
{
	served = ks;
}

static void
on_key_certs(struct edge *front, struct msg_KEY_CERTS *m)
{
	assert(served != NULL);
	/* The last one has more = 0; without any certificate an empty one says so. */
	for (unsigned i = 0; i < served->count || i == 0; i++) {
		const struct key_pair *p = &served->pairs[i];

		if (!IPC_SEND(front, KEY_CERT, .id = m->id, .more = i + 1 < served->count,
			.key = key_store_number(served, i), .is_default = i == 0,
			.names = slice_str(p->names), .chain = slice_str(p->chain)))
			return;
	}
}

static void
on_key_sign(struct edge *front, struct msg_KEY_SIGN *m)
{
	uint8_t sig[KEY_SIGNATURE_BYTES_MAX];
	size_t n = 0;
	struct err e = {0};

	assert(served != NULL);
	if (key_store_sign(served, m->key, m->scheme, m->digest_name, m->digest, sig, &n, &e) < 0) {
		/* A front that has not got the certificates of this process yet asks for unknown keys. */
		enum log_level level = e.code == ERR_CODE_NOT_FOUND ? LOG_INFO : LOG_WARN;

		log_event(level, NO_SESSION, "signature-refused", LOG_NUM("key", m->key),
		    LOG_STR("scheme", m->scheme), LOG_ERR(&e), LOG_END);
		n = 0;
	}
	/* A front whose queue is full or that is gone has its own deadline. */
	IPC_TELL(front, KEY_SIGNED, .id = m->id, .class = e.class, .signature = slice_of(sig, n));
}

const struct ipc_dispatch key_from_front = {
    .KEY_CERTS = on_key_certs,
    .KEY_SIGN = on_key_sign,
};
