/*
 * base: the base copy of an account's index: every record of the index
 * database, in order of keys, in one synced, checksummed file "base" beside it.
 * With the redo records in the log since it began it is the truth from which a refused database is rebuilt.
 *
 * It is written in steps between requests; what changes meanwhile is in the log
 * (store/redo.h says why that gives one true state). Integers are big-endian:
 *
 *    0    8  "MAILBASE"
 *    8    4  version, 1
 *   12    4  the log file being written when the copy began: it and all later ones are kept
 *   16    4  where in it
 *   20    4  0
 *   24    8  serial of the last transaction before it began
 *   32    8  seconds since 1970
 *   40    4  CRC-32 of the octets before
 *   44    …  blocks: u32 length, u32 CRC-32 of the octets, and that many octets
 *            of records (u16 length and key, u32 length and value), none cut
 *            in two; after the last a block of length 0 and, in place of octets,
 *            u64 number of records, whose CRC-32 it has
 */
#ifndef STORE_BASE_H
#define STORE_BASE_H

#include "store/env.h"

#define BASE_VERSION 1
#define BASE_HEADER_BYTES 44u
#define BASE_BLOCK_HEADER_BYTES 8u
/* A block is closed once it is as long. */
#define BASE_BLOCK_FULL_BYTES (64u * 1024)
#define BASE_BLOCK_BYTES_MAX (256u * 1024)

struct base_info {
	struct env_log_place log; /* its end when the copy began */
	uint64_t serial;
	uint64_t time;
	uint64_t bytes; /* of the file */
};

struct base_writer;

/* Begins a copy in dir ("base.new"). serial: of the last committed transaction. */
int base_begin(struct env *env, const char *dir, uint64_t serial, uint64_t time, struct base_writer **writer_r,
    struct err *e) __attribute__((warn_unused_result));
/* Copies about bytes octets more. 1: there is more to do; 0: all is written, flushed, synced and in place, the writer is
 * freed and *info_r filled; -1: given up, the writer is freed, the old copy stands. No transaction may be open. */
int base_step(struct base_writer **writer, size_t bytes, struct base_info *info_r, struct err *e)
    __attribute__((warn_unused_result));
/* Gives it up. NULL is fine. */
void base_abandon(struct base_writer **writer);

/* Only the header. -1 with ERR_CODE_CORRUPT when it is no base copy, ERR_CODE_NOT_FOUND when there is none. */
int base_read_info(const char *dir, struct base_info *info_r, struct err *e) __attribute__((warn_unused_result));
/* All of it; -1 from fn (NULL: it is only checked) ends it, with e. Everything was checked when this returns 0. */
typedef int base_record_fn(void *arg, struct slice key, struct slice value, struct err *e);
int base_read(const char *dir, base_record_fn *fn, void *arg, struct base_info *info_r, struct err *e)
    __attribute__((warn_unused_result));

/* The next record of a block's octets; false at the end or when there is none that can be read (then c->bad). */
bool base_record_next(struct cursor *c, struct slice *key_r, struct slice *value_r) __attribute__((warn_unused_result));

#endif
