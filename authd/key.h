/*
 * key: the server's private keys and what may be done with them: hand out certificates, sign
 * digests. Nothing here gives a private key out. Reading the files is the role's business
 * (key_main.c); this works on their content. Nothing blocks; a signature with an RSA key of 2048
 * bits takes under a millisecond.
 */
#ifndef AUTHD_KEY_H
#define AUTHD_KEY_H

#include "common/err.h"
#include "common/ipc.h"
#include "common/slice.h"

/* As the message table has them. */
#define KEY_CHAIN_BYTES_MAX 49152u
#define KEY_NAMES_BYTES_MAX 4096u
#define KEY_SIGNATURE_BYTES_MAX 1024u
/* Pairs of certificate and key. */
#define KEY_PAIRS_MAX 256u
/* Certificates of one chain. */
#define KEY_CHAIN_CERTS_MAX 16u

struct key_store;

struct key_store *key_store_new(void);
/* Wipes and frees; sets *ks to NULL; NULL is fine. */
void key_store_free(struct key_store **ks);

/*
 * Adds one pair: a PEM chain (leaf first) and the leaf's PEM private key, RSA (2048 bits or more)
 * or EC. The first pair added is the default. -1 with e->detail in words for the operator: not PEM,
 * encrypted, too weak, key and certificate do not belong together, expired certificates are taken
 * all the same.
 */
int key_store_add(
    struct key_store *ks, struct slice chain_pem, struct slice key_pem, struct err *e);
unsigned key_store_count(const struct key_store *ks);
/*
 * The number of pair i, by which fronts ask for it. Numbers begin at random in each process: a front
 * that still has the certificates of the key role before gets no signature by another key.
 */
uint32_t key_store_number(const struct key_store *ks, unsigned i);

/*
 * Signs a digest. scheme "ecdsa", "rsa-pkcs1" or "rsa-pss" (salt as long as the digest) must fit
 * the key, digest_name must be of the SHA-2 family and the digest as long as that says. -1:
 * ERR_PERM when the request is wrong.
 */
int key_store_sign(struct key_store *ks, uint32_t number, struct slice scheme,
    struct slice digest_name, struct slice digest, uint8_t sig_r[KEY_SIGNATURE_BYTES_MAX],
    size_t *sig_n_r, struct err *e);

/* The answers to KEY_CERTS and KEY_SIGN; one store per process, set by key_serve(). */
void key_serve(struct key_store *ks);
extern const struct ipc_dispatch key_from_front;

#endif
