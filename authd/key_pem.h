/*
 * key_pem: reading PEM where nobody is there to be asked for a pass phrase.
 */
#ifndef AUTHD_KEY_PEM_H
#define AUTHD_KEY_PEM_H

#include "common/slice.h"

#include <openssl/evp.h>

/* OpenSSL's question for a pass phrase, which has no answer. */
int key_pem_no_pass_phrase(char *text, int size, int writing, void *arg);
/* The private key in pem, of at most INT_MAX octets; the caller's. NULL: there is none that can be read without a pass phrase. */
EVP_PKEY *key_pem_private(struct slice pem);

#endif
