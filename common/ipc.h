/*
 * ipc: an edge between two processes: a SOCK_SEQPACKET socketpair that carries
 * the messages of common/msg.h. Each end knows the role at the other end (from
 * the supervisor or the store, never from the peer) and accepts only what
 * common/messages.def lets that role send here and what its own dispatch has a
 * handler for. Anything else is garbage: the edge is closed and reported.
 *
 * Writing never blocks: what the socket does not take is queued up to
 * IPC_QUEUE_BYTES_MAX. Past that, ipc_send() returns false: requests fail as
 * ERR_TEMP at once, event senders send one resync later (edge.on_drained).
 */
#ifndef COMMON_IPC_H
#define COMMON_IPC_H

#include "common/err.h"
#include "common/msg.h"

struct loop;
struct edge;

#define IPC_QUEUE_BYTES_MAX (4u << 20)
/* Descriptors held by that queue. */
#define IPC_QUEUE_FDS_MAX 1024u
/* Messages handled per wake-up, so that one busy peer cannot starve the others. */
#define IPC_MESSAGES_PER_WAKE 32
/* Messages that are still taken from a peer that has gone: more than a socket holds. */
#define IPC_REST_MESSAGES_MAX 100000

/*
 * The handlers of one kind of edge, by message name:
 *   static const struct ipc_dispatch from_deliver = {.DNS_QUERY = on_query};
 * A handler owns the descriptors of the message: it takes one by setting the field to -1; what is
 * left is closed after it returns. Slices are valid until it returns (SECRETs are wiped then). It
 * may free the edge it was called for.
 */
struct ipc_dispatch {
#define MSG(NAME, from, to, fields) void (*NAME)(struct edge *, struct msg_##NAME *);
#include "common/messages.def"
#undef MSG
};

struct edge_peer {
	enum role role;
	uint32_t instance;
	uint64_t generation; /* differs for each process that ever filled the role */
};

struct edge_events {
	/* The edge ended (peer exited, garbage, write error); fails all pending requests first. The
	 * owner calls edge_free(). */
	void (*on_down)(struct edge *e, void *arg);
	/* The queue, once full, is empty again. May be NULL. */
	void (*on_drained)(struct edge *e, void *arg);
};

/* A new edge on fd, which it owns. self is the role of this process. */
struct edge *edge_new(struct loop *l, int fd, enum role self, struct edge_peer peer,
    const struct ipc_dispatch *dispatch, const struct edge_events *events, void *arg);
/* Closes and frees; sets *e to NULL; NULL is fine. Pending requests get ERR_TEMP before it returns;
 * on_down is not called. */
void edge_free(struct edge **e);
/* Handles what a peer that has gone had said before; on_down may come meanwhile. Not to be called from inside a handler. */
void edge_take_rest(struct edge *e);
const struct edge_peer *edge_peer(const struct edge *e);
void *edge_arg(const struct edge *e);
void edge_set_arg(struct edge *e, void *arg);

/* Why on_down came: true when the peer sent garbage, false when it left or a write failed. */
bool edge_sent_garbage(const struct edge *e);

/*
 * Sends m; descriptors are duplicated into the message and stay the caller's. False when the queue
 * is full or the edge is down. A field over its maximum is a bug too: it is logged as one, nothing
 * is sent, false. A message that the table does not allow here ends the process.
 */
bool ipc_send(struct edge *e, const struct msg *m) __attribute__((warn_unused_result));
#define IPC_SEND(edge, NAME, ...)                                                                  \
	ipc_send((edge), &(struct msg){.type = MSG_##NAME,                                         \
			     .u.NAME = (struct msg_##NAME){.msg_unused = 0, __VA_ARGS__}})
/*
 * Sends what may be lost: an answer, whose asker has a deadline, or a notice. What cannot be sent (see above) is lost and logged; what
 * finds no edge (e is NULL), or a peer that has ended, is for nobody. Whether it was sent.
 */
bool ipc_tell(struct edge *e, const struct msg *m);
#define IPC_TELL(edge, NAME, ...)                                                                  \
	ipc_tell((edge), &(struct msg){.type = MSG_##NAME,                                         \
			     .u.NAME = (struct msg_##NAME){.msg_unused = 0, __VA_ARGS__}})

/*
 * From within the handler of a message of e: it cannot be handled yet. The message is kept whole (the handler took none of its
 * descriptors), nothing more of e is read, and ipc_retry() hands the message to its handler again: so the order
 * of a peer's messages stays. That a peer has gone is seen only after that: the wait must have an end.
 */
void ipc_put_back(struct edge *e);
/* Hands over what was put back, if anything was, and reads on unless it is put back again. Not from within a handler of any edge. */
void ipc_retry(struct edge *e);
bool ipc_is_put_back(const struct edge *e);

/*
 * Requests: a table of pending ids per edge, each with a deadline and an owner.
 *   uint64_t id = ipc_expect(edge, 5000, on_gone, obj);
 *   if (!IPC_SEND(edge, DNS_QUERY, .id = id, ...)) ...   (ipc_forget, then treat as ERR_TEMP)
 * and in the handler of the reply:
 *   struct x *obj = ipc_answered(edge, m->id); if (obj == NULL) return;  (late: its deadline had
 * passed) on_gone(obj, e) is called once, later, from the loop (or from edge_free()), when the
 * deadline passes or the edge ends before the answer. Ids are never 0 and never reused in a
 * process.
 */
typedef void ipc_gone_fn(void *obj, const struct err *e);
#define IPC_PENDING_MAX 65536
/* 0 when IPC_PENDING_MAX requests are waiting already, or the edge is down: treat as ERR_TEMP. */
uint64_t ipc_expect(struct edge *e, uint32_t deadline_ms, ipc_gone_fn *gone, void *obj);
/* Ends the wait and returns obj; NULL when that id is not waiting on this edge. */
void *ipc_answered(struct edge *e, uint64_t id);
/* obj when that id is waiting, and goes on waiting (a part of its answer came); else NULL. */
void *ipc_waits(const struct edge *e, uint64_t id);
/* As ipc_answered but without interest in the object (cancel). */
void ipc_forget(struct edge *e, uint64_t id);

#endif
