/*
 * The queue's messages in memory (struct queue_message of smtpd/queue.h): what comes in, what is tried, and what came of a try.
 *
 * queue_items.c    the messages, their pieces and times; the start
 * queue_change.c   an item that is read, changed and written
 * queue_try.c      what came of a try
 * queue_add.c      what comes in, and what becomes durable together
 */
#ifndef SMTPD_QUEUE_ITEMS_H
#define SMTPD_QUEUE_ITEMS_H

#include "common/config.h"
#include "common/ipc.h"
#include "common/log.h"
#include "smtpd/queue_item.h"
#include "smtpd/queue_plan.h"

struct queue_message;

/* An item of QUEUE_ITEM_BYTES_MAX octets, decoded, with what is changed in it. */
#define QUEUE_ITEM_ARENA_BYTES_MAX (1u << 20)

/* ---- queue_items.c ---- */

int queue_items_init(struct err *e);
/* At the end of the process: what is in memory. */
void queue_items_fini(void);
struct queue_plan *queue_items_plan(void);
/* NULL: there is none. */
struct queue_message *queue_items_find(struct slice id);
/* All messages, for the command; NULL at the end. */
struct queue_message *queue_items_first(void);
/* The first that is older than that id, which has gone: for a list that is told in parts. NULL: none is. Linear. */
struct queue_message *queue_items_older(struct slice id);
size_t queue_items_count(void);
/* The piece of the report with that id, which is to be made; NULL: there is none. */
struct queue_piece *queue_items_report(struct slice id);
/* A message whose record is durable; it has no pieces yet. */
void queue_items_new(struct queue_message *m);
/* Nothing of m is left to do, and its record has gone: frees it with its pieces. */
void queue_items_done(struct queue_message *m);
/* Whether such a message was done with, of as many as are remembered. */
bool queue_items_has_gone(struct slice id);
/* What waits of m (NULL: of all messages) is due now, but for what is to be sent later. Gives how many pieces. */
unsigned queue_items_retry(const struct queue_message *m);
/* Nothing of m, of which nothing is out, is tried any more. */
void queue_items_stop(struct queue_message *m);
/* m was held or released. */
void queue_items_reschedule(struct queue_message *m);
/* Something may be due, or has another time. */
void queue_items_arm(void);
/* A piece's destination as the plan has it; false when the address leads nowhere. out: of QUEUE_ADDRESS_BYTES_MAX. */
bool queue_destination(const struct queue_recipient *r, struct buf *out);

/* A piece for each destination of item, which is m's, that has something left to try; each with its time. */
void queue_pieces_make(struct queue_message *m, const struct queue_item *item);
/* One for the report that the item names, which deliver makes. */
void queue_piece_for_report(struct queue_message *m, struct slice report_id);
/* Where p goes: the domain or literal; empty: this server. */
struct slice queue_piece_destination(const struct queue_piece *p);
/* Recipient k of those that p has in the item of its message. */
struct queue_recipient *queue_piece_recipient(const struct queue_piece *p, const struct queue_item *item, unsigned k);
/* p is being tried, until then at most: those that are come first among the pieces of their message. */
void queue_piece_out(struct queue_piece *p, uint64_t until_ms);
bool queue_piece_any_out(const struct queue_message *m);
/* p has another time, or is parked while its message is held. One that was out is its message's last then. */
void queue_piece_again(struct queue_piece *p, uint64_t when_ms);
/* Takes p out of its message and frees it. */
void queue_piece_end(struct queue_piece *p);
/* Whether m is older than that option says. */
bool queue_past(const struct queue_message *m, enum option o);
/* A request failed in a way that leaves nothing on the disk to be trusted: the process is ending. */
bool queue_must_end(void);
uint64_t queue_now_ms(void);
uint64_t queue_pause_of(const struct queue_piece *p, uint32_t attempts);

/*
 * Of a recipient of item that has failed; nothing of others. What is reported to nobody, since it comes from nobody (RFC 5321 6.1,
 * RFC 3464 2) or the sender is not to be told, stands in the log as well.
 */
void queue_trace_failed(const struct queue_message *m, const struct queue_item *item, const struct queue_recipient *r);

/* ---- queue_change.c ---- */

/* A message whose item is open. */
struct queue_change {
	struct queue_message *message;
	struct arena *arena;
	struct queue_item item; /* may be changed; the slices in it live as long as the change */
	uint8_t *octets;	/* of the record */
	bool changed;		/* what others have changed is not written yet */
	bool report;		/* one begins with it */
};

/* Opens the item of m, with what was changed in it and is not written yet. NULL, logged, when it cannot be read. */
struct queue_change *queue_change_begin(struct queue_message *m);
/* Nothing was changed. */
void queue_change_drop(struct queue_change *c);
/*
 * Takes the item's new state over, which queue_settle() makes durable: a message of which nothing is left to do is removed, with all of its
 * pieces; m may be gone then. What cannot be written is written when it can be.
 */
void queue_change_end(struct queue_change *c);
/* The same at once: 0, or -1 and e: then this change is none, unless others of that message wait and are written with it later. */
int queue_change_now(struct queue_change *c, struct err *e);
/* Writes what is open. False: some of it cannot be written for now. */
bool queue_changes_write(void);
/* m goes: what is open of it goes with it. */
void queue_change_forget(struct queue_message *m);
/* Puts the item into m encoded. False when it does not fit (it did when it was added). */
bool queue_item_set(struct queue_message *m, const struct queue_item *item) __attribute__((warn_unused_result));
void queue_item_forget(struct queue_message *m);
/* Something is left to do. */
bool queue_item_keeps(const struct queue_item *item);
/* The sender is to be told, or need not be. True: a report begins; its id is in a. */
bool queue_report_begin(struct queue_message *m, struct queue_item *item, struct arena *a);

/* ---- queue_try.c ---- */

/*
 * A try of p has ended: those of the results that belong to it are applied, and p is done with or has another time. 0, or -1 and e, and p
 * has another time. p and its message may be gone.
 */
int queue_piece_tried(struct queue_piece *p, struct slice results, struct err *e);
/* p was not tried, since nothing of its destination can be reached: it waits until then, or has failed when its time is over. */
void queue_piece_defer(struct queue_piece *p, uint64_t when_ms);
/* The report of p is made, or given up: its message goes on without it. 0, or -1 and e. p and its message may be gone. */
int queue_piece_reported(struct queue_piece *p, const char *result, struct err *e);
/* A message came: when it is a report, that is made, and whatever deliver says of it, it is not to be made again. */
void queue_report_came(const char *id);

/* ---- queue_add.c ---- */

void queue_on_add(struct edge *e, struct msg_QUEUE_ADD *m);
/* What was changed becomes durable now, or as soon as all is read that can be; who waits for that is told. */
void queue_settle(void);
void queue_settle_soon(void);
/* Nobody waits at that edge any more. */
void queue_add_edge_down(const struct edge *edge);
/* What waits is answered by nobody. */
void queue_add_fini(void);

#endif
