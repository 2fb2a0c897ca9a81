/*
 * import_spool: one message on its way into the store: its octets are collected in a file with their SHA-256, and lines that
 * end in a bare LF get the CR that mail on the wire has. Up to IMPORT_MEMORY_BYTES_MAX it is a memory file, above that a
 * file without a name in /var/tmp, so that a long message costs no memory.
 */
#ifndef ADMIN_IMPORT_SPOOL_H
#define ADMIN_IMPORT_SPOOL_H

#include "common/buf.h"
#include "common/err.h"
#include "store/store.h"

#include <openssl/evp.h>

#define IMPORT_MEMORY_BYTES_MAX (1u << 20)

struct import_spool {
	int fd; /* -1 between messages */
	bool in_memory;
	bool after_cr; /* the last octet was a CR */
	uint64_t bytes;
	EVP_MD_CTX *hash;
	struct buf room;
	struct err err; /* of the first write that failed; what follows is not written */
	bool failed;
};

void import_spool_init(struct import_spool *s);
/* Also ends a message that was begun. */
void import_spool_fini(struct import_spool *s);
void import_spool_begin(struct import_spool *s);
void import_spool_feed(struct import_spool *s, struct slice octets);
/*
 * Ends the message: its file, open for reading, and what it holds. -1 and e when it could not be written or is longer than
 * STORE_MESSAGE_BYTES_MAX. The descriptor is the caller's.
 */
int import_spool_end(struct import_spool *s, uint64_t *bytes_r, uint8_t sha256_r[STORE_SHA256_BYTES], struct err *e)
    __attribute__((warn_unused_result));

#endif
