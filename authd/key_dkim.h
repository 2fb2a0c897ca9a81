/*
 * key_dkim: the keys that sign mail (DKIM), apart from those of certificates: another list, other numbers, other messages, and another
 * role that may send them. What is signed is always a SHA-256 hash: with RSA (PKCS #1 v1.5) by rsa-sha256 of RFC 6376 3.3.1, with
 * Ed25519 as the message of RFC 8463 3. Nothing here gives a private key out, and nothing blocks.
 */
#ifndef AUTHD_KEY_DKIM_H
#define AUTHD_KEY_DKIM_H

#include "common/dkim_selector.h"
#include "common/err.h"
#include "common/ipc.h"

/* Keys of all domains that are read; what is above is left out, and said so in the log. */
#define KEY_DKIM_KEYS_MAX 1024u
#define KEY_DKIM_SIGNATURE_BYTES_MAX 512u
#define KEY_DKIM_RSA_BITS_MIN 2048
#define KEY_DKIM_RSA_BITS_MAX 4096 /* what every verifier takes (RFC 8301 3.2) */

struct key_dkim;

struct key_dkim *key_dkim_new(void);
/* Wipes and frees; sets *ks to NULL; NULL is fine. */
void key_dkim_free(struct key_dkim **ks);

/*
 * Adds the private key of a selector, PEM; domain in A-labels, lower case. -1 with e->detail in words for the operator: no PEM, with a pass
 * phrase, of another algorithm than s says, an RSA key of another size, too many.
 */
int key_dkim_add(struct key_dkim *ks, struct slice domain, const struct dkim_selector *s, struct slice pem, struct err *e);
unsigned key_dkim_count(const struct key_dkim *ks);

struct key_dkim_found {
	struct slice domain; /* the asked one, or the nearest above it that has a key; valid as long as the list */
	struct {
		uint32_t number;
		struct slice selector; /* empty: no key of this algorithm */
	} of[DKIM_ALGORITHMS];
};

/* The keys in use at that time (seconds since 1970) for mail of a domain: of each algorithm the newest. False: there is none. */
bool key_dkim_find(const struct key_dkim *ks, struct slice domain, uint64_t now, struct key_dkim_found *found_r);

/* Signs a hash with the key of that number. -1: ERR_PERM when there is no such key or hash is no 32 octets. */
int key_dkim_sign(const struct key_dkim *ks, uint32_t number, struct slice hash, uint8_t sig_r[KEY_DKIM_SIGNATURE_BYTES_MAX],
    size_t *sig_n_r, struct err *e);

/* The answers to KEY_DKIM_FIND and KEY_DKIM_SIGN; one list per process, set by key_dkim_serve(). */
void key_dkim_serve(struct key_dkim *ks);
extern const struct ipc_dispatch key_from_sign;

#endif
