/*
 * queue_record: what the queue has on the disk, as octets. Pure; what is decoded may be hostile.
 *
 * Each record carries a checksum of its own. The record, version 2 (integers big-endian, a slice is a u32 length and octets): u32 CRC-32
 * of what follows, u8 version, u32 attempts, u64 next try (of items before version 3, which have none for each recipient), u64 time
 * added (milliseconds since 1970), u64 octets of the message, 32 octets SHA-256 of it, u64 pack, u32 place of the row in it (both not in
 * version 1), slice item (smtpd/queue_item.h). The meta: "MSQMETA1", u32 CRC-32 of what follows, slice record, slice summary.
 */
#ifndef SMTPD_QUEUE_RECORD_H
#define SMTPD_QUEUE_RECORD_H

#include "common/buf.h"
#include "smtpd/queue_item.h"
#include "smtpd/smtp_id.h"

struct queue_message;

#define QUEUE_RECORD_VERSION 2
#define QUEUE_RECORD_BYTES_MAX (QUEUE_ITEM_BYTES_MAX + 256)
#define QUEUE_META_BYTES_MAX (2u << 20)

bool queue_record_encode(const struct queue_message *m, struct buf *b) __attribute__((warn_unused_result));
/* Fills all but the id; m->item points into record. Hostile input; the item itself is not looked into. */
bool queue_record_decode(struct slice record, struct queue_message *m_r, struct slice *item_r)
    __attribute__((warn_unused_result));
bool queue_meta_encode(struct slice record, struct slice summary, struct buf *b) __attribute__((warn_unused_result));
bool queue_meta_decode(struct slice meta, struct slice *record_r, struct slice *summary_r)
    __attribute__((warn_unused_result));

/* What a batch begins with (smtpd/queue_files.h): count is at most QUEUE_ADDS_MAX. out: QUEUE_BATCH_HEAD_BYTES octets. */
#define QUEUE_BATCH_HEAD_BYTES 20
void queue_batch_head_encode(unsigned count, uint32_t bytes, uint8_t *out);
/* bytes_r is at least what head and rows have. */
bool queue_batch_head_decode(struct slice head, unsigned *count_r, uint32_t *bytes_r) __attribute__((warn_unused_result));

/* A message in a batch. Its state alone is outside of the checksum. */
enum queue_row_state {
	QUEUE_ROW_WAITING = 1,
	QUEUE_ROW_DONE = 2,
};
struct queue_row {
	enum queue_row_state state;
	char id[SMTP_QUEUE_ID_CHARS + 1];
	uint32_t at;
	uint32_t meta_bytes;
	uint32_t text_bytes;
};
#define QUEUE_ROW_BYTES (1 + 4 + SMTP_QUEUE_ID_CHARS + 12)
/* Where row i is in its batch. */
static inline uint32_t
queue_row_at(unsigned i)
{
	return QUEUE_BATCH_HEAD_BYTES + i * QUEUE_ROW_BYTES;
}
/* out: QUEUE_ROW_BYTES octets. */
void queue_row_encode(const struct queue_row *r, uint8_t *out);
bool queue_row_decode(struct slice row, struct queue_row *row_r) __attribute__((warn_unused_result));

#endif
