/*
 * keeper: the one process that works on an account's directory. It serves its
 * peers (deliver, IMAP and POP3 workers) over edges that the store's parent
 * gave it; each is judged by its role.
 *
 * Questions are answered as they come. What changes something waits for its step (keeper_later.c), in which many
 * changes are done together; what they answer, and what is to be told to
 * watchers, waits in the outbox until one sync has made all of it durable
 * (keeper_batch.c). Between two steps the keeper reads: a reader waits for the one that runs when it asks.
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

/* Longest wait for the parent's word on a request that may be over quota; below what the keeper's peers wait. */
#define KEEPER_QUOTA_WAIT_MS 10000u
/* account.dump is left alone for a second for each so many octets of it. */
#define KEEPER_COPY_BYTES_PER_S 4096u

/* Settings that may change while it runs. */
struct keeper_settings {
	uint64_t retention_s;
	uint64_t quota_wait_ms;
	uint64_t retention_bytes; /* compared with index_retained_cost() */
};

/* What the keeper wants of the process around it. */
struct keeper_events {
	/* Nothing that was not flushed may be answered: end the process at once. */
	void (*broken)(void *arg);
	/* After a flush that changed them. May be NULL. */
	void (*usage)(void *arg, struct quota usage);
	/* The account uses that much, and more only after it asked; durable. last: nothing comes after it. May be NULL. */
	void (*ceiling)(void *arg, struct quota ceiling, bool last);
	/* A request waits until the account may use that much: false when that could not be asked. May be NULL. */
	bool (*want)(void *arg, uint64_t id, struct quota total);
	/* The log has grown, or the disk has no room: upkeep may be due, though it may never be quiet. May be NULL. */
	void (*written)(void *arg);
};

/* A keeper over an open index, which it owns from now on. One per process. root is the directory of the index. */
void keeper_start(struct loop *l, struct index *ix, const char *root, const struct keeper_settings *settings,
    const struct keeper_events *events, void *arg);
void keeper_set(const struct keeper_settings *settings);
/* The account's limit; shared: what it uses counts in its domain too, and passes what it uses now only after a grant. */
void keeper_quota_set(struct quota limit, bool shared);
/* The answer to events->want of that id: ERR_NONE and a new ceiling, or why not. */
void keeper_quota_grant(uint64_t id, enum err_class class, struct quota ceiling);
/* A request waits for that. */
bool keeper_quota_waits(void);
/* Finishes what waits, and closes the index with a checkpoint. */
void keeper_stop(void);

/* A peer came, is about to go, or takes octets again. */
void keeper_peer_up(struct edge *e);
void keeper_peer_down(struct edge *e);
void keeper_peer_drained(struct edge *e);
/* Milliseconds since the last request. */
uint64_t keeper_quiet_ms(void);
/* A piece of housekeeping; true when there is more to do. */
bool keeper_upkeep(void);
/* A step of writing account.dump when it is old; true when there is more to do. Only while nobody uses the account; when
 * somebody does again, it is to be stopped. */
bool keeper_copy(void);
void keeper_copy_stop(void);

#endif
