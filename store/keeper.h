/*
 * keeper: the one process that works on an account's directory. It serves its
 * peers (deliver, IMAP and POP3 workers) over edges that the store's parent
 * gave it; each is judged by its role.
 *
 * Requests are done as they come; what they answer, and what is to be told to
 * watchers, waits in the outbox until one sync has made all of it durable
 * (keeper_batch.c). Appends wait together before they are done, so that one
 * sync of a directory serves them all.
 */
#ifndef STORE_KEEPER_H
#define STORE_KEEPER_H

#include "common/ipc.h"
#include "store/index.h"

struct keeper;
extern const struct ipc_dispatch keeper_from_deliver;
extern const struct ipc_dispatch keeper_from_imap;
extern const struct ipc_dispatch keeper_from_pop3;
extern const struct ipc_dispatch keeper_from_admin;

/* Settings that may change while it runs. */
struct keeper_settings {
	struct quota limit;
	uint64_t retention_s;
};

/* What the keeper wants of the process around it. */
struct keeper_events {
	/* Nothing that was not flushed may be answered: end the process at once. */
	void (*broken)(void *arg);
	/* After a flush that changed them. May be NULL. */
	void (*usage)(void *arg, struct quota usage);
};

/* A keeper over an open index, which it owns from now on. One per process. root is the directory of the index. */
void keeper_start(struct loop *l, struct index *ix, const char *root, const struct keeper_settings *settings,
    const struct keeper_events *events, void *arg);
void keeper_set(const struct keeper_settings *settings);
/* Finishes what waits, and closes the index with a checkpoint. */
void keeper_stop(void);

/* A peer came, is about to go, or takes octets again. */
void keeper_peer_up(struct edge *e);
void keeper_peer_down(struct edge *e);
void keeper_peer_drained(struct edge *e);
/* Milliseconds since the last request. */
uint64_t keeper_quiet_ms(void);
/* Housekeeping when it is quiet; true when there is more to do. */
bool keeper_upkeep(void);

#endif
