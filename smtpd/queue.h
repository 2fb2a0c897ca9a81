/*
 * queue: the role that holds what could not be delivered at once, and the spool files of messages on
 * their way. Its directory STATE/queue has
 *
 *   index/             a Berkeley DB environment (store/env.h): one record per message, by queue id
 *   messages/          the messages (smtpd/queue_files.h), each with its record as first added, and its summary: enough to
 *                      make the index again
 *   rebuild            there while the index is made again
 *   boot               the boot of the machine in which it was last opened (queue_table_open())
 *
 * and STATE/spool holds files without names, which end with those who have them open.
 *
 * What is durable when, and what a start after a crash does with it:
 *
 *   state                                     acknowledged   at start
 *   1 no file of it, or part of it            no             a pack or a text of which no record knows is removed
 *   2 batch and text synced, directory synced no             the same; beside others that have records: marked as done
 *   3 record committed and flushed            yes            tried again when due
 *   4 record changed by a result, flushed     yes            the same, with its new states
 *   5 record deleted and flushed              yes            as 2
 *   6 marked as done in its pack, or the pack yes            as 2, when that was not written yet
 *     removed: not synced
 *
 * An index that is damaged, or whose log is damaged where it had been synced, is thrown away and made again from what waits in the
 * files: recipients that were done are then tried once more. Keepers answer from {origin, sequence} what they have done already; other
 * servers get the message again.
 *
 * queue_record.c     records, metas and rows as octets (pure; smtpd/queue_record.h)
 * queue_files.c      the files of the messages
 * queue_table.c      index and files: durable changes, start, rebuild
 * queue_plan.c       which piece is tried when (pure)
 * queue_items.h      the messages in memory: queue_items.c, queue_change.c, queue_try.c, queue_add.c
 * queue_deliver.c    pieces for mailboxes of this server, and reports, to deliver and back
 * queue_transport.c  pieces for other servers, to transport and back
 * queue_report.c     whom the sender is to be told of (pure)
 * queue_spool.c      spool files and their total
 * queue_admin.c      the mailstead command
 */
#ifndef SMTPD_QUEUE_H
#define SMTPD_QUEUE_H

#include "common/ipc.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/role.h"
#include "smtpd/queue_files.h"
#include "smtpd/queue_item.h"
#include "smtpd/queue_plan.h"
#include "smtpd/smtp_id.h"

#define QUEUE_ITEMS_MAX 1000000 /* past it QUEUE_ADD is refused: the client is told 451 */
#define QUEUE_ADDS_MAX 64
#define QUEUE_SPOOL_FILES_MAX 4096

/* A message of the queue in memory, and as a record. */
struct queue_message {
	struct name_link link; /* by id */
	struct queue_message *next, *previous;
	struct queue_piece *pieces, *last_piece; /* those that are out come first */
	struct queue_change *change; /* not written yet; else NULL */
	char id[SMTP_QUEUE_ID_CHARS + 1];
	bool held;     /* by an operator or a guard: nothing of it is tried */
	int8_t priority; /* of its pieces (RFC 6710) */
	bool delayed;  /* the sender was told that it takes long, or is not to be */
	uint32_t attempts; /* of all pieces */
	uint64_t next_ms;
	uint64_t release_ms; /* nothing is tried before, and times count from then; 0: from when it was added */
	uint64_t added_ms;
	uint64_t bytes;
	uint8_t sha256[32];
	struct queue_spot spot;
	/* The item, encoded: there while it is being looked at or changed, not in between. */
	uint8_t *item;
	size_t item_bytes;
};

/* A report to a sender that is to be made: that of a piece. */
struct queue_report {
	struct name_link link; /* by id */
	struct queue_piece *piece;
	char id[SMTP_QUEUE_ID_CHARS + 1];
};

/* For the time line of m. */
void queue_trace_fields(const struct queue_message *m, struct slice session, const char *event, const struct log_field *fields);
#define queue_trace(m, session, event, ...) \
	queue_trace_fields((m), (session), (event), (const struct log_field[]){__VA_ARGS__})

/* ---- queue_table.c: 0, or -1 and e. Blocks on the disk. ---- */

/*
 * Opens STATE/queue, which exists, with what a crash left behind put in order, and calls found for each message. boot names the time since
 * the machine was started, at most QUEUE_BOOT_BYTES_MAX octets: within one nothing but a process has ended, and what was written is
 * there. So an index that is shorter than it was is what Berkeley DB has made of it when pages at its end became free; after a power cut
 * it counts as damaged.
 */
#define QUEUE_BOOT_BYTES_MAX 64
typedef void queue_found_fn(struct queue_message *m); /* owned by the callee */
int queue_table_open(const char *state_dir, struct slice boot, queue_found_fn *found, struct err *e);
/* At the end of the process. */
void queue_table_close(void);
/* New messages, each with its descriptors, and what came of it. */
struct queue_add {
	struct queue_message *message; /* its spot is filled in */
	int text; /* compared with message->bytes and sha256 */
	int summary;
	int result; /* 0: everything of it is durable; -1: nothing of it is there */
	struct err error;
};
/* As many at once as there are waiting, up to QUEUE_ADDS_MAX: their syncs are shared. */
void queue_table_add(struct queue_add *adds, unsigned count);
/* What these two do is seen at once, and durable when queue_table_flush() or queue_table_add() returns. */
int queue_table_update(const struct queue_message *m, struct err *e);
int queue_table_remove(const struct queue_message *m, struct err *e);
/* Nothing when nothing was changed. */
int queue_table_flush(struct err *e);
/* Reads the record of m->id again: m->item is there then. */
int queue_table_read(struct queue_message *m, struct err *e);
/* The message as a new descriptor. */
int queue_table_file(const struct queue_message *m, int *message_r, struct err *e);
/* The message and its summary as new descriptors. */
int queue_table_files(const struct queue_message *m, int *message_r, int *summary_r, struct err *e);
/* Nothing that is said about the disk can be believed any more: the process has to end. */
bool queue_table_failed(void);
void queue_table_free(struct queue_message **m);

/* ---- queue_deliver.c ---- */

void queue_on_next(struct edge *e, struct msg_QUEUE_NEXT *m);
void queue_on_result(struct edge *e, struct msg_QUEUE_RESULT *m);
/* deliver ended: what it had is due again. */
void queue_deliver_down(void);
/* Tells deliver when something is due. */
void queue_deliver_up(void);

/* ---- queue_transport.c ---- */

extern const struct ipc_dispatch queue_from_transport;
/* What it said is durable. */
void queue_transport_taken(void);
/* Gives transport what it has room for. */
void queue_transport_pump(void);
/* It ended, or its edge is new: what it had may have arrived, or not. */
void queue_transport_down(void);

/* ---- queue_report.c: pure ---- */

/*
 * Marks the recipients of whom the sender is to be told now with QUEUE_IN_REPORT and what they are told of; delay: also of those that are
 * still pending (RFC 3461 4.1, 5.2). Nothing while a report is under way, nor for the null reverse-path. Gives their number.
 */
unsigned queue_report_mark(struct queue_item *item, bool delay);
/* The report was made, or never will be. */
void queue_report_end(struct queue_item *item);

/* ---- queue_spool.c ---- */

int queue_spool_init(const char *state_dir, struct err *e);
void queue_on_spool_open(struct edge *e, struct msg_SPOOL_OPEN *m);
void queue_on_spool_done(struct edge *e, struct msg_SPOOL_DONE *m);
void queue_spool_edge_down(const struct edge *e);

/* ---- queue_admin.c ---- */

extern const struct ipc_dispatch queue_from_admin;

#endif
