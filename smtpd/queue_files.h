/*
 * queue_files: the files of the queue's messages, in the directory STATE/queue/messages.
 *
 *   NUMBER.pack    batches, one behind the other. A batch is what was added together: of each message its record as first
 *                  added and its summary, and its text when that has at most QUEUE_TEXT_TOGETHER_MAX octets. NUMBER: 16 hexadecimal
 *                  digits, from 1 on.
 *   ID.msg         the text of a message that has more, as composed, CRLF and all
 *   ID.meta        of messages that an older server has added (pack 0): record and summary; their text is in ID.msg
 *
 * So a batch takes one sync, whatever is in it. Of what is written nothing is changed but one octet of each message, its state.
 * A pack to which nothing is added any more is removed when all of its messages are done with. A process begins a pack of its own: behind
 * the last batch of another's there may be half of one. A batch (integers are big-endian):
 *
 *   "MSQBATC1", u32 count, u32 octets of the batch, u32 CRC-32 of both
 *   count rows (smtpd/queue_record.h): u8 state, u32 CRC-32 of what follows, id, u32 place of the meta in the pack, u32 its octets,
 *   u32 octets of the text behind it (0: it has a file); one of zeros: no message
 *   the metas, each with its text
 *
 * All of it blocks on the disk, through store/file.h. 0, or -1 and e.
 */
#ifndef SMTPD_QUEUE_FILES_H
#define SMTPD_QUEUE_FILES_H

#include "common/err.h"
#include "common/slice.h"
#include "smtpd/smtp_id.h"

struct queue_message;
struct queue_add;

/* A longer text has a file of its own, and its octets are in memory nowhere. */
#define QUEUE_TEXT_TOGETHER_MAX (64u << 10)
/* A pack that has more gets no further batch, and a batch that has more no further message: so that a message that waits long keeps
 * little more than itself on the disk. */
#define QUEUE_PACK_BYTES_MAX (1u << 20)
/* What one message may bring into a batch: its text, its record, its summary. */
#define QUEUE_ENTRY_BYTES_MAX (QUEUE_TEXT_TOGETHER_MAX + (2u << 20))

/* Where a message is: the pack, and the place of its row in there. */
struct queue_spot {
	uint64_t pack; /* 0: in ID.meta and ID.msg */
	uint32_t at;
};

/* QUEUE_PACK_BYTES_MAX, or less where a test wants many packs of a short history. */
void queue_files_set_pack_bytes(uint32_t bytes);

/* The directory exists; looks which packs there are. */
int queue_files_open(const char *messages_dir, struct err *e) __attribute__((warn_unused_result));
/* Nothing is written any more. Harmless when nothing is open. */
void queue_files_close(void);
/* At the start: is there any pack, or what an older server has added? */
bool queue_files_any(void);

/*
 * Writes each message, gives it its spot, and has it durable when its add has the result 0; of the others nothing is left. Those
 * that have another result than 0 before are left out.
 */
void queue_files_write(struct queue_add *adds, unsigned count);
/* All of them that are good so far fail for the same reason. */
void queue_adds_fail(struct queue_add *adds, unsigned count, const struct err *e);
/* The text as a new descriptor: its file, or a sealed memory file. */
int queue_files_text(const struct queue_message *m, int *text_r, struct err *e) __attribute__((warn_unused_result));
/* Is the text what the message says, by its length and hash? */
int queue_files_check(const struct queue_message *m, struct err *e) __attribute__((warn_unused_result));
/* The summary as a new memory file. */
int queue_files_summary(const struct queue_message *m, int *summary_r, struct err *e) __attribute__((warn_unused_result));

/* What is needed to remove a message that is gone from memory. */
struct queue_files_of {
	char id[SMTP_QUEUE_ID_CHARS + 1];
	struct queue_spot spot;
	bool own; /* it has ID.msg */
};
struct queue_files_of queue_files_of(const struct queue_message *m);
/* The message is done with, durably. Neither this is durable, nor need it be: what comes back has no record. Failures are logged. */
void queue_files_remove(const struct queue_files_of *f);

/* Calls fn for each message that is in the files. One that is damaged is logged and left out. The slices are valid until fn returns. */
typedef void queue_files_fn(void *arg, const char *id, struct queue_spot spot, struct slice record);
int queue_files_each(queue_files_fn *fn, void *arg, struct err *e) __attribute__((warn_unused_result));
/* At the start: the index has m. */
void queue_files_count(const struct queue_message *m);
/* When all have been counted: what nobody has is removed. */
typedef bool queue_files_has(const char *id);
int queue_files_sweep(queue_files_has *has, struct err *e) __attribute__((warn_unused_result));

#endif
