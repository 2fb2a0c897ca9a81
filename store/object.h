/*
 * object: messages at rest: root/mail/xx/ID, one immutable file each, the
 * octets as they were accepted and nothing else.
 *
 * An id is 16 octets: u64 number (counted up in the account, never reused) and
 * the first 8 octets of the SHA-256 of the message, so that every object can be checked from its
 * name alone. Its file is the 32 hexadecimal digits of the id; xx are bits 8..15 of the number, so
 * that messages that come together lie together and one directory sync serves them all.
 *
 * A file is whole when the index has given its number away: it is written under its name, it and then its directory are
 * synced, and only then a transaction refers to it. One with a number from the index's next one on is nobody's.
 */
#ifndef STORE_OBJECT_H
#define STORE_OBJECT_H

#include "common/err.h"
#include "common/slice.h"
#include "store/store.h"

#define OBJECT_SHARDS 256u
#define OBJECT_SHARD_OBJECTS 256u

void object_id(uint64_t number, const uint8_t sha256[STORE_SHA256_BYTES], uint8_t id_r[STORE_OBJECT_ID_BYTES]);
uint64_t object_number(const uint8_t id[STORE_OBJECT_ID_BYTES]);
/* The directory that an object lies in: 0..OBJECT_SHARDS-1. */
unsigned object_shard(uint64_t number);

/* Where it lies; path_r has FILE_PATH_BYTES_MAX octets. */
void object_path(char *path_r, const char *root, const uint8_t id[STORE_OBJECT_ID_BYTES]);

/* Makes root/mail. */
int object_init(const char *root, struct err *e) __attribute__((warn_unused_result));
/* Makes durable which directories for objects a killed process made. */
int object_settle(const char *root, struct err *e) __attribute__((warn_unused_result));
/* Makes the directory that the object of that number will lie in, durably, when it is not there: else object_write() does. */
int object_prepare(const char *root, uint64_t number, struct err *e) __attribute__((warn_unused_result));
/*
 * Copies bytes octets of source (any file, read once with pread(2)) and compares length and hash; then they are on disk
 * under the name that belongs to number, but for the sync of the directory: object_sync_shard() before anything refers
 * to it. ERR_CODE_MALFORMED when source is not what was said. Blocks on the disk.
 */
int object_write(const char *root, uint64_t number, int source, uint64_t bytes,
    const uint8_t sha256[STORE_SHA256_BYTES], struct err *e) __attribute__((warn_unused_result));
int object_sync_shard(const char *root, unsigned shard, struct err *e) __attribute__((warn_unused_result));
/* A descriptor for reading only, whose size was compared with size. ERR_CODE_CORRUPT when it is not there or differs. */
int object_open(const char *root, const uint8_t id[STORE_OBJECT_ID_BYTES], uint64_t size, struct err *e)
    __attribute__((warn_unused_result));
/* The same whatever its size. */
int object_open_any(const char *root, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e)
    __attribute__((warn_unused_result));
/* Hash and length of a file, read with pread(2) from its beginning. */
int object_hash(int fd, uint8_t sha256_r[STORE_SHA256_BYTES], uint64_t *bytes_r, struct err *e)
    __attribute__((warn_unused_result));
/* Is that the hash of the object of that id, as far as its name tells? */
bool object_id_fits(const uint8_t id[STORE_OBJECT_ID_BYTES], const uint8_t sha256[STORE_SHA256_BYTES]);
int object_remove(const char *root, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e);
/* Makes removals durable; a directory that is not there has none. */
int object_sync_removals(const char *root, unsigned shard, struct err *e) __attribute__((warn_unused_result));
/* fn for the id of each object's file, in no order, until it gives other than 0. */
typedef int object_each_fn(void *arg, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e);
int object_each_of(const char *root, unsigned shard, object_each_fn *fn, void *arg, struct err *e)
    __attribute__((warn_unused_result));
int object_each(const char *root, object_each_fn *fn, void *arg, struct err *e) __attribute__((warn_unused_result));
/* Removes what a crash left: objects that no transaction knew (number >= next). */
int object_clean(const char *root, uint64_t next, struct err *e) __attribute__((warn_unused_result));

#endif
