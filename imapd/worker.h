/*
 * worker: what the sessions of one account share: the link to the keeper, the table of mailboxes, the views of selected
 * mailboxes, budgets. One per process in role IMAP_WORKER; tests make their own.
 */
#ifndef IMAPD_WORKER_H
#define IMAPD_WORKER_H

#include "imapd/box.h"
#include "imapd/keeper_link.h"
#include "imapd/mailbox_table.h"

/* Octets of all APPENDs under way in one worker; past it NO [LIMIT]. */
#define WORKER_SPOOL_BYTES_MAX (UINT64_C(256) << 20)

struct session;

struct worker_hooks {
	/* The keeper's edge is wanted: STORE_CONNECT. */
	void (*connect)(void *arg);
	/* That session has ended and is freed. */
	void (*session_ended)(void *arg, uint64_t number);
};

struct worker {
	struct loop *loop;
	const struct worker_hooks *hooks;
	void *arg;
	struct keeper_link *keeper;
	struct mailbox_table *table;
	struct box *boxes;
	struct session *sessions;
	unsigned sessions_n;
	uint64_t message_bytes_max;
	uint64_t idle_ms;    /* autologout */
	uint64_t spool_bytes; /* in use */
	uint64_t surrogate_bytes; /* kept by sessions between commands */
};

/* Caller's struct. message_bytes_max and idle_ms may be changed later. */
void worker_init(struct worker *w, struct loop *l, const struct worker_hooks *hooks, void *arg);
/* Frees all of it, sessions included (their streams are cut). */
void worker_fini(struct worker *w);
/* A keeper's edge came up or went down. */
void worker_keeper_up(struct worker *w, struct edge *e);
void worker_keeper_down(struct worker *w, struct edge *e);
/* The dispatch for an edge to the keeper; edge events find the worker by worker_set_current(). */
extern const struct ipc_dispatch worker_from_keeper;
/* The process's worker, for the dispatch. */
void worker_set_current(struct worker *w);

#endif
