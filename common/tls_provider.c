/*
 * An OpenSSL provider inside the process, for keys whose private part is elsewhere. A key is a
 * public key of OpenSSL's own provider plus the key role's number for it; everything about the
 * public part is handed on to that. Only signing is ours, in the one form that OpenSSL's TLS server
 * uses: EVP_DigestSign() in one call, the digest computed here.
 *
 * OpenSSL looks for an implementation in its own provider first and asks us to export the key to
 * it. Refusing an export that names the private part is what makes it come back to our signature
 * functions; an export of the public part is allowed, as the check of key against certificate needs
 * it.
 */
#include "common/tls_private.h"

#include "common/mem.h"

#include <assert.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <stdlib.h>

#define PROVIDER_NAME "mailstead"
#define PARAM_NUMBER "mailstead-key-number"
/* Inner look-ups never come back to us. */
#define INNER "provider=default"

struct provider_key {
	const char *type; /* "RSA" or "EC" */
	EVP_PKEY *public;
	uint32_t number;
	bool has_number;
};

/* ---- keys ---- */

static struct provider_key *
key_new(const char *type)
{
	struct provider_key *k = MEM_NEW(struct provider_key);

	k->type = type;
	return k;
}

static void *
key_new_rsa(void *provider)
{
	(void)provider;
	return key_new("RSA");
}

static void *
key_new_ec(void *provider)
{
	(void)provider;
	return key_new("EC");
}

static void
key_free(void *keydata)
{
	struct provider_key *k = keydata;

	if (k == NULL)
		return;
	EVP_PKEY_free(k->public);
	free(k);
}

static int
key_has(const void *keydata, int selection)
{
	const struct provider_key *k = keydata;

	if (k->public == NULL)
		return 0;
	return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || k->has_number;
}

static int
key_match(const void *keydata1, const void *keydata2, int selection)
{
	const struct provider_key *k1 = keydata1, *k2 = keydata2;

	(void)selection;
	return k1->public != NULL && k2->public != NULL && EVP_PKEY_eq(k1->public, k2->public) == 1;
}

static int
key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
	struct provider_key *k = keydata;
	const OSSL_PARAM *number = OSSL_PARAM_locate_const(params, PARAM_NUMBER);

	(void)selection;
	if (k->public != NULL || (number != NULL && !OSSL_PARAM_get_uint32(number, &k->number)))
		return 0;
	k->has_number = number != NULL;
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, k->type, INNER);
	/* OpenSSL's prototype lacks a const; the parameters are only read. */
	bool ok = c != NULL && EVP_PKEY_fromdata_init(c) > 0 &&
		  EVP_PKEY_fromdata(
		      c, &k->public, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *)(uintptr_t)params) > 0;

	EVP_PKEY_CTX_free(c);
	return ok;
}

static int
key_export(void *keydata, int selection, OSSL_CALLBACK *callback, void *arg)
{
	const struct provider_key *k = keydata;

	if (k->public == NULL || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY))
		return 0;
	return EVP_PKEY_export(k->public, selection, callback, arg);
}

static const OSSL_PARAM *
key_types_rsa(int selection)
{
	static const OSSL_PARAM types[] = {
	    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
	    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
	    OSSL_PARAM_uint32(PARAM_NUMBER, NULL),
	    OSSL_PARAM_END,
	};

	(void)selection;
	return types;
}

static const OSSL_PARAM *
key_types_ec(int selection)
{
	static const OSSL_PARAM types[] = {
	    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
	    OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
	    OSSL_PARAM_uint32(PARAM_NUMBER, NULL),
	    OSSL_PARAM_END,
	};

	(void)selection;
	return types;
}

static int
key_get_params(void *keydata, OSSL_PARAM params[])
{
	const struct provider_key *k = keydata;

	return k->public != NULL && EVP_PKEY_get_params(k->public, params) > 0;
}

static const OSSL_PARAM *
key_gettable(void *provider)
{
	static const OSSL_PARAM params[] = {
	    OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
	    OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
	    OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
	    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
	    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
	    OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
	    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
	    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
	    OSSL_PARAM_END,
	};

	(void)provider;
	return params;
}

static const char *
operation_name_ec(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? "ECDSA" : "EC";
}

typedef void dispatch_fn(void);
#define ENTRY(id, fn)                                                                              \
	{                                                                                          \
		(id), (dispatch_fn *)(fn)                                                          \
	}
#define KEY_ENTRIES                                                                                \
	ENTRY(OSSL_FUNC_KEYMGMT_FREE, key_free), ENTRY(OSSL_FUNC_KEYMGMT_HAS, key_has),            \
	    ENTRY(OSSL_FUNC_KEYMGMT_MATCH, key_match),                                             \
	    ENTRY(OSSL_FUNC_KEYMGMT_IMPORT, key_import),                                           \
	    ENTRY(OSSL_FUNC_KEYMGMT_EXPORT, key_export),                                           \
	    ENTRY(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params),                                   \
	    ENTRY(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable)

static const OSSL_DISPATCH rsa_keys[] = {
    KEY_ENTRIES,
    ENTRY(OSSL_FUNC_KEYMGMT_NEW, key_new_rsa),
    ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_types_rsa),
    ENTRY(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, key_types_rsa),
    {0, NULL},
};

static const OSSL_DISPATCH ec_keys[] = {
    KEY_ENTRIES,
    ENTRY(OSSL_FUNC_KEYMGMT_NEW, key_new_ec),
    ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_types_ec),
    ENTRY(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, key_types_ec),
    ENTRY(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, operation_name_ec),
    {0, NULL},
};

/* ---- signatures ---- */

struct signature {
	const struct provider_key *key; /* kept alive by the EVP_PKEY that is signing */
	EVP_MD *digest;
	bool pss;
};

static void *
signature_new(void *provider, const char *properties)
{
	(void)provider;
	(void)properties;
	return MEM_NEW(struct signature);
}

static void
signature_free(void *ctx)
{
	struct signature *s = ctx;

	if (s == NULL)
		return;
	EVP_MD_free(s->digest);
	free(s);
}

/* Padding comes as number or name. */
static bool
set_padding(struct signature *s, const OSSL_PARAM *p)
{
	const char *name;
	int number;

	if (p == NULL)
		return true;
	if (OSSL_PARAM_get_utf8_string_ptr(p, &name)) {
		s->pss = strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
		return s->pss || strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0;
	}
	if (!OSSL_PARAM_get_int(p, &number))
		return false;
	s->pss = number == RSA_PKCS1_PSS_PADDING;
	return s->pss || number == RSA_PKCS1_PADDING;
}

/* TLS has one salt length, that of the digest (RFC 8446 4.2.3), and the key role uses no other. */
static bool
check_salt(const OSSL_PARAM *p)
{
	const char *name;
	int number;

	if (p == NULL)
		return true;
	if (OSSL_PARAM_get_utf8_string_ptr(p, &name))
		return strcmp(name, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0;
	return OSSL_PARAM_get_int(p, &number) && number == RSA_PSS_SALTLEN_DIGEST;
}

static int
signature_set_params(void *ctx, const OSSL_PARAM params[])
{
	struct signature *s = ctx;

	if (params == NULL)
		return 1;
	return set_padding(s, OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) &&
	       check_salt(OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN));
}

static const OSSL_PARAM *
signature_settable(void *ctx, void *provider)
{
	static const OSSL_PARAM params[] = {
	    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
	    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
	    OSSL_PARAM_END,
	};

	(void)ctx;
	(void)provider;
	return params;
}

static int
signature_init(void *ctx, const char *digest, void *keydata, const OSSL_PARAM params[])
{
	struct signature *s = ctx;

	if (keydata != NULL)
		s->key = keydata;
	EVP_MD_free(s->digest);
	s->digest = digest ? EVP_MD_fetch(NULL, digest, INNER) : NULL;
	return s->digest != NULL && s->key != NULL && s->key->has_number &&
	       signature_set_params(s, params);
}

static const char *
scheme_of(const struct signature *s)
{
	if (s->key->type[0] == 'E')
		return "ecdsa";
	return s->pss ? "rsa-pss" : "rsa-pkcs1";
}

static int
signature_sign(void *ctx, unsigned char *sig, size_t *sig_n, size_t sig_size,
    const unsigned char *text, size_t text_n)
{
	struct signature *s = ctx;
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned digest_n = sizeof digest;

	if (s->key == NULL || s->digest == NULL)
		return 0;
	if (sig == NULL) {
		*sig_n = (size_t)EVP_PKEY_get_size(s->key->public);
		return 1;
	}
	return EVP_Digest(text, text_n, digest, &digest_n, s->digest, NULL) == 1 &&
	       tls_sign(s->key->number, scheme_of(s), EVP_MD_get0_name(s->digest),
		   slice_of(digest, digest_n), sig_size, sig, sig_n);
}

static const OSSL_DISPATCH signatures[] = {
    ENTRY(OSSL_FUNC_SIGNATURE_NEWCTX, signature_new),
    ENTRY(OSSL_FUNC_SIGNATURE_FREECTX, signature_free),
    ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signature_init),
    ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, signature_sign),
    ENTRY(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signature_set_params),
    ENTRY(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signature_settable),
    {0, NULL},
};

/* ---- the provider ---- */

static const OSSL_ALGORITHM *
provider_query(void *provider, int operation, int *no_cache)
{
	static const char property[] = "provider=" PROVIDER_NAME;
	static const OSSL_ALGORITHM keys[] = {
	    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", property, rsa_keys, NULL},
	    {"EC:id-ecPublicKey:1.2.840.10045.2.1", property, ec_keys, NULL},
	    {NULL, NULL, NULL, NULL},
	};
	static const OSSL_ALGORITHM signs[] = {
	    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", property, signatures, NULL},
	    {"ECDSA", property, signatures, NULL},
	    {NULL, NULL, NULL, NULL},
	};

	(void)provider;
	*no_cache = 0;
	if (operation == OSSL_OP_KEYMGMT)
		return keys;
	return operation == OSSL_OP_SIGNATURE ? signs : NULL;
}

static int
provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core,
    const OSSL_DISPATCH **out_r, void **provider_r)
{
	static const OSSL_DISPATCH functions[] = {
	    ENTRY(OSSL_FUNC_PROVIDER_QUERY_OPERATION, provider_query),
	    {0, NULL},
	};

	(void)core;
	*out_r = functions;
	*provider_r = (void *)(uintptr_t)handle;
	return 1;
}

bool
tls_provider_load(struct err *e)
{
	/* Held for the life of the process. */
	static OSSL_PROVIDER *inner, *own;

	inner = OSSL_PROVIDER_load(NULL, "default");
	if (inner != NULL && OSSL_PROVIDER_add_builtin(NULL, PROVIDER_NAME, provider_init) == 1)
		own = OSSL_PROVIDER_load(NULL, PROVIDER_NAME);
	/* "?": prefer, do not insist. Ours is reached by its keys only. */
	if (own != NULL && EVP_set_default_properties(NULL, "?" INNER) == 1)
		return true;
	err_set(e, ERR_BUG, ERR_CODE_NONE, "internal error", "OpenSSL refused the key provider");
	return false;
}

EVP_PKEY *
tls_provider_key(EVP_PKEY *public, uint32_t number)
{
	const char *type = EVP_PKEY_is_a(public, "RSA")	 ? "RSA"
			   : EVP_PKEY_is_a(public, "EC") ? "EC"
							 : NULL;
	OSSL_PARAM *params = NULL, *all = NULL;
	OSSL_PARAM extra[2] = {
	    OSSL_PARAM_construct_uint32(PARAM_NUMBER, &number), OSSL_PARAM_construct_end()};
	EVP_PKEY *key = NULL;

	if (type == NULL || EVP_PKEY_todata(public, EVP_PKEY_PUBLIC_KEY, &params) <= 0)
		return NULL;
	all = OSSL_PARAM_merge(params, extra);
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, type, "provider=" PROVIDER_NAME);

	if (all == NULL || c == NULL || EVP_PKEY_fromdata_init(c) <= 0 ||
	    EVP_PKEY_fromdata(c, &key, EVP_PKEY_KEYPAIR, all) <= 0)
		key = NULL;
	EVP_PKEY_CTX_free(c);
	OSSL_PARAM_free(all);
	OSSL_PARAM_free(params);
	return key;
}
