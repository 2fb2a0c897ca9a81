/*
 * keeper: what the files of the keeper share. A request is one transaction on the index; its answer and its events wait in the
 * outbox until the next sync, which all requests of one round of the loop share (group commit). Reads see what was
 * committed, and their answers wait just the same, so nobody is told of anything that could still be lost.
 */
#ifndef STORE_KEPT_H
#define STORE_KEPT_H

#include "common/role.h"
#include "store/index.h"
#include "store/outbox.h"

/* Mailboxes that one peer watches at once. */
#define KEEPER_WATCHED_MAX 256

struct keeper_peer {
	struct edge *edge;
	uint32_t watched[KEEPER_WATCHED_MAX];
	unsigned watched_count;
	bool lost_events;    /* the edge was full: to be told by EVENT_RESYNC when it is empty again */
	bool table_changed;  /* EVENT_MAILBOXES is due with the next sync */
};

struct keeper {
	struct index *index;
	struct outbox *outbox;
	char root[512]; /* the account's directory */
	unsigned peer_count;
	uint32_t peers_seen;
};

extern struct keeper keeper;

/* The peer behind an edge of a worker or deliver. */
struct keeper_peer *keeper_peer(struct edge *e);
/* May this peer use that mailbox? POP3 has only INBOX. */
bool keeper_may_use(struct edge *e, uint32_t mailbox, struct err *err_r);
uint64_t keeper_quota(void);

/* Queues m for e, to leave after the next sync. An edge that cannot be answered is closed: its peer asks again. */
void keeper_say(struct edge *e, const struct msg *m);
#define KEEPER_SAY(edge, NAME, ...)                                                                \
	keeper_say((edge),                                                                         \
	    &(struct msg){.type = MSG_##NAME, .u.NAME = (struct msg_##NAME){.msg_unused = 0, __VA_ARGS__}})
/* Arms the sync at the end of this round. */
void keeper_flush_soon(void);

/* ---- requests that change something ---- */

/*
 * The answer of a request that was done before: sends it with this id and returns true. Else false; with err_r set
 * when the index could not be asked.
 */
bool keeper_answered_before(struct edge *e, uint64_t id, struct slice origin, uint64_t sequence, struct err *err_r);
/* Begins a transaction; false with err_r. */
bool keeper_begin(struct err *err_r);
/*
 * Ends the transaction: records the answer for {origin, sequence}, commits, and queues the events. On false the transaction is undone and
 * err_r says why. The answer itself is the caller's to send.
 */
bool keeper_commit(struct edge *e, struct slice origin, uint64_t sequence, const struct msg *answer, struct err *err_r);
/* Undoes it. */
void keeper_abort(void);

/* ---- events (keeper_event.c) ---- */

/* Queues the events of what the last transaction changed, for all who watch. */
void keeper_tell_changes(void);
bool keeper_watch(struct keeper_peer *p, uint32_t mailbox);
void keeper_unwatch(struct keeper_peer *p, uint32_t mailbox);
/* Before the outbox is sent: the EVENT_MAILBOXES that are due. */
void keeper_tell_tables(void);
/* The edge is empty again after it lost events. */
void keeper_tell_resync(struct keeper_peer *p);

/* ---- the handlers ---- */

void keeper_on_mbox_list(struct edge *e, struct msg_MBOX_LIST *m);
void keeper_on_mbox_change(struct edge *e, struct msg_MBOX_CHANGE *m);
void keeper_on_mbox_open(struct edge *e, struct msg_MBOX_OPEN *m);
void keeper_on_mbox_close(struct edge *e, struct msg_MBOX_CLOSE *m);
void keeper_on_mbox_recent(struct edge *e, struct msg_MBOX_RECENT *m);
void keeper_on_flags(struct edge *e, struct msg_MSG_FLAGS *m);
void keeper_on_copy(struct edge *e, struct msg_MSG_COPY *m);
void keeper_on_expunge(struct edge *e, struct msg_MSG_EXPUNGE *m);
void keeper_on_fetch(struct edge *e, struct msg_MSG_FETCH *m);
void keeper_on_append(struct edge *e, struct msg_MSG_APPEND *m);
/* Stores the messages that came in this round; before the sync. */
void keeper_append_all(void);
/* Forgets those of an edge that ended. */
void keeper_append_forget(const struct edge *e);

#endif
