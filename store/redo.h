/*
 * redo: what one transaction did to the index, as records that the store
 * writes into Berkeley DB's log itself, in the same flush as the commit. Base
 * copy + these records are the truth from which the databases are rebuilt when
 * a page of them is refused: no page of Berkeley DB is needed for that.
 *
 * One record, at most REDO_BYTES_MAX octets, integers big-endian:
 *
 *    0   16  for Berkeley DB: u32 record type REDO_TYPE in the machine's byte
 *            order, u32 transaction 0, eight octets 0
 *   16    1  version, 1
 *   17    1  1 in the last record of a transaction, 2 in a mark, else 0
 *   18    2  number of this record in its transaction, from 0
 *   20    8  serial of the transaction, of a mark 0
 *   28    8  serial of the last transaction that was durable when the record was written
 *   36    8  u32 file, u32 offset: where the log ended when that transaction was made durable
 *   44    …  operations; of a mark u32 pages of the index, u32 pages of the summaries, 0 for what is not known
 *   -4    4  CRC-32 of the octets from 16 to here
 *
 * An operation: kind (1), u16 length and key, then
 *   1 put     u32 length and the value
 *   2 delete  nothing
 *   3 patch   u16 count, and for each: u16 offset, u16 length, octets to put there
 *
 * So each record proves how far the log had reached the disk: when the octets before that place are no log any more, they
 * were damaged, and did not just fail to get there. A mark is a record for nothing but that, and for how many pages of each database
 * were on the disk: a file that is shorter was cut short.
 *
 * A transaction counts when all of its records are there and no later one has
 * a serial that is not higher (a transaction whose commit was lost is followed by another one
 * with its serial). Applying is idempotent in sequence: starting from any state between the base's beginning and its end
 * gives the same result, so that a base copy may be written while transactions go on.
 */
#ifndef STORE_REDO_H
#define STORE_REDO_H

#include "common/cursor.h"

#define REDO_TYPE 10101u
#define REDO_VERSION 1
#define REDO_HEADER_BYTES 44u
/* A record is closed once it is longer than REDO_FULL_BYTES; one more operation always fits. */
#define REDO_FULL_BYTES (256u * 1024)
#define REDO_BYTES_MAX (512u * 1024)

/* What of a log had been synced; all 0: nothing is known. */
struct redo_durable {
	uint64_t serial;
	uint32_t file;
	uint32_t offset;
};

/* How many pages of each database were on the disk; 0: not known. */
struct redo_pages {
	uint32_t index;
	uint32_t summary;
};

/* Starts record number part of a transaction in b (reset first). */
void redo_begin(struct buf *b, uint64_t serial, unsigned part, const struct redo_durable *durable);
/* A whole mark in b (reset first). */
void redo_mark(struct buf *b, const struct redo_durable *durable, const struct redo_pages *pages);
void redo_put(struct buf *b, struct slice key, struct slice value);
void redo_delete(struct buf *b, struct slice key);
/* From old to value, which have the same length: a patch when that is shorter, else a put. */
void redo_change(struct buf *b, struct slice key, struct slice old, struct slice value);
/* Closes it; false when b's maximum was passed. */
bool redo_end(struct buf *b, bool last);

enum redo_kind {
	REDO_PUT = 1,
	REDO_DELETE = 2,
	REDO_PATCH = 3,
};

struct redo {
	uint64_t serial;
	unsigned part;
	bool last;
	bool mark; /* then it is of no transaction */
	struct redo_durable durable;
	struct redo_pages pages; /* of a mark */
	struct cursor ops;
};

struct redo_op {
	enum redo_kind kind;
	struct slice key;
	struct slice value;   /* put */
	unsigned patch_count; /* patch */
	struct cursor patches;
};

/* True when the octets of a log record begin like one of ours (others are Berkeley DB's own). */
bool redo_is_ours(struct slice record);
/* And like a mark. */
bool redo_is_mark(struct slice record);
/* Decodes the header and checks the sum; false for damage. */
bool redo_open(struct slice record, struct redo *redo_r) __attribute__((warn_unused_result));
/* Puts one flipped bit of such a record right, wherever it is; false when it is not that. */
bool redo_mend(uint8_t *record, size_t n) __attribute__((warn_unused_result));
/* The next operation; false at the end, or when there is none that can be read (then r->ops.bad). */
bool redo_next(struct redo *r, struct redo_op *op_r) __attribute__((warn_unused_result));
/* Applies a patch to the octets of value. Parts that lie outside are left out: a later put of the same key follows. */
void redo_patch(const struct redo_op *op, uint8_t *value, size_t n);

#endif
