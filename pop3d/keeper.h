/*
 * keeper: a POP3 worker's way to its account's keeper, which may die and come back while the
 * session goes on. One request at a time, as POP3 does one command at a time; it outlives the edge
 * and is sent again to the next keeper.
 */
#ifndef POP3D_KEEPER_H
#define POP3D_KEEPER_H

#include "common/err.h"
#include "common/ipc.h"

/*
 * A request without an answer fails as ERR_TEMP after so long, or after so many keepers that died
 * over it.
 */
#define KEEPER_REQUEST_MS 60000
#define KEEPER_TRIES_MAX 3

/*
 * Sends the request with that id; what it points to must stay until the answer. False when it did
 * not go.
 */
typedef bool keeper_send_fn(struct edge *e, uint64_t id, void *arg);
/*
 * The one call with the end of a request, never from inside keeper_ask(): reply is the struct
 * msg_..._REPLY of what was asked, whose descriptors may be taken by setting the field to -1, or
 * NULL and e says why not.
 */
typedef void keeper_done_fn(void *arg, void *reply, const struct err *e);

/* No other request may be waiting. */
void keeper_ask(keeper_send_fn *send, keeper_done_fn *done, void *arg);
/* Its owner is going away: done is not called. Nothing when none is waiting. */
void keeper_forget(void);
/* This process's own {origin, sequence} for a mutation; the same for every sending of it. */
struct slice keeper_origin(void);
uint64_t keeper_next_sequence(void);

/* For the role: its edges, and the messages. */
void keeper_edge_down(struct edge *e);
void keeper_on_connected(struct edge *store, struct msg_STORE_CONNECTED *m);
extern const struct ipc_dispatch keeper_dispatch;

#endif
