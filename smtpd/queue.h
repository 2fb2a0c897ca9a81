/*
 * queue: the role that holds what could not be delivered at once, and the spool files of messages on
 * their way. Its directory STATE/queue has
 *
 *   index/             a Berkeley DB environment (store/env.h): one record per message, by queue id
 *   messages/ID.msg    the message as composed, CRLF and all
 *   messages/ID.meta   its record as first added, and its summary: enough to make the index again
 *
 * and STATE/spool holds files without names, which end with those who have them open.
 *
 * What is durable when, and what a start after a crash does with it:
 *
 *   state                                     acknowledged   at start
 *   1 no .msg, or part of it                  no             files without a record are removed
 *   2 .msg and .meta synced, directory synced no             removed
 *   3 record committed and flushed            yes            tried again when due
 *   4 record changed by a result, flushed     yes            the same, with its new states
 *   5 record deleted and flushed              yes            files without a record are removed
 *
 * An index that is damaged, or whose log is damaged where it had been synced, is thrown away and made again from the .meta
 * files: recipients that were done are then tried once more, and their keepers answer from {origin, sequence} what they have
 * done already.
 *
 * Each record and each .meta file carries a checksum of its own. The record, version 1 (integers
 * big-endian, a slice is a u32 length and octets): u32 CRC-32 of what follows, u8 version,
 * u32 attempts, u64 next try, u64 time added (milliseconds since 1970), u64 octets of the message,
 * 32 octets SHA-256 of it, slice item (smtpd/queue_item.h). A .meta file: "MSQMETA1", u32 CRC-32 of what follows, slice record,
 * slice summary.
 *
 * queue_record.c   the record and the .meta file as octets (pure)
 * queue_table.c    index and files: durable changes, start, rebuild
 * queue_items.c    the items in memory, their schedule, deliver's questions
 * queue_spool.c    spool files and their total
 * queue_admin.c    the mailstead command
 */
#ifndef SMTPD_QUEUE_H
#define SMTPD_QUEUE_H

#include "common/ipc.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/role.h"
#include "smtpd/queue_item.h"
#include "smtpd/smtp_id.h"

#define QUEUE_ITEMS_MAX 20000 /* past it QUEUE_ADD is refused: the client is told 451 */
#define QUEUE_SPOOL_FILES_MAX 4096
#define QUEUE_RECORD_VERSION 1
#define QUEUE_META_BYTES_MAX (2u << 20)

enum queue_place {
	QUEUE_WAITING, /* until its time */
	QUEUE_READY,   /* due: in line for deliver */
	QUEUE_OUT,     /* deliver has it */
	QUEUE_PARKED,  /* nothing left to try, but somebody is to be told that it failed */
};

/* A message of the queue in memory, and as a record. */
struct queue_message {
	struct queue_message *next, *previous;
	struct queue_message *ready_next;
	char id[SMTP_QUEUE_ID_CHARS + 1];
	enum queue_place place;
	uint32_t attempts;
	uint64_t next_ms;
	uint64_t added_ms;
	uint64_t bytes;
	uint8_t sha256[32];
	uint8_t *item; /* encoded */
	size_t item_bytes;
};

/* ---- queue_record.c ---- */

bool queue_record_encode(const struct queue_message *m, struct buf *b) __attribute__((warn_unused_result));
/* Fills all but id and place; m->item points into record. Hostile input; the item itself is not looked into. */
bool queue_record_decode(struct slice record, struct queue_message *m_r, struct slice *item_r)
    __attribute__((warn_unused_result));
bool queue_meta_encode(struct slice record, struct slice summary, struct buf *b) __attribute__((warn_unused_result));
bool queue_meta_decode(struct slice meta, struct slice *record_r, struct slice *summary_r)
    __attribute__((warn_unused_result));

/* ---- queue_table.c: 0, or -1 and e. Blocks on the disk. ---- */

/* Opens STATE/queue, which exists, with what a crash left behind put in order, and calls found for each message. */
typedef void queue_found_fn(struct queue_message *m); /* owned by the callee */
int queue_table_open(const char *state_dir, queue_found_fn *found, struct err *e);
/* At the end of the process. */
void queue_table_close(void);
/* Everything of a new message is durable when it returns. message is compared with m->bytes and m->sha256. */
int queue_table_add(const struct queue_message *m, int message, int summary, struct err *e);
int queue_table_update(const struct queue_message *m, struct err *e);
int queue_table_remove(const struct queue_message *m, struct err *e);
/* The message and its summary as new descriptors. */
int queue_table_files(const struct queue_message *m, int *message_r, int *summary_r, struct err *e);
/* Nothing that is said about the disk can be believed any more: the process has to end. */
bool queue_table_failed(void);
void queue_table_free(struct queue_message **m);

/* ---- queue_items.c ---- */

int queue_items_init(struct err *e);
void queue_on_add(struct edge *e, struct msg_QUEUE_ADD *m);
void queue_on_next(struct edge *e, struct msg_QUEUE_NEXT *m);
void queue_on_result(struct edge *e, struct msg_QUEUE_RESULT *m);
/* deliver ended: what it had is due again. */
void queue_deliver_down(void);
/* Tells deliver when something is due. */
void queue_deliver_up(void);
/* All messages, for the command; NULL at the end. */
const struct queue_message *queue_items_first(void);
/* Everything that waits is due now. Gives how many. */
unsigned queue_items_retry_all(void);

/* ---- queue_spool.c ---- */

int queue_spool_init(const char *state_dir, struct err *e);
void queue_on_spool_open(struct edge *e, struct msg_SPOOL_OPEN *m);
void queue_on_spool_done(struct edge *e, struct msg_SPOOL_DONE *m);
void queue_spool_edge_down(const struct edge *e);

/* ---- queue_admin.c ---- */

extern const struct ipc_dispatch queue_from_admin;

#endif
