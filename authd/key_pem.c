#include "authd/key_pem.h"

#include <openssl/bio.h>
#include <openssl/pem.h>

int
key_pem_no_pass_phrase(char *text, int size, int writing, void *arg)
{
	(void)text;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

EVP_PKEY *
key_pem_private(struct slice pem)
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, key_pem_no_pass_phrase, NULL) : NULL;

	BIO_free(bio);
	return key;
}
