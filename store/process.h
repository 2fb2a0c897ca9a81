/*
 * process: the keepers and workers of the accounts in use, as the store's parent knows them. At most one keeper, one IMAP
 * worker and one POP3 worker an account: a successor is started only when the supervisor has reported the end of its predecessor.
 * A process can be written to from the moment it is asked for: what is sent waits in the socket until it reads.
 */
#ifndef STORE_PROCESS_H
#define STORE_PROCESS_H

#include "common/role.h"

/* A process that failed in its init this often in a row is set aside ... */
#define PROCESS_FAILURES_MAX 2
/* ... for that long; requests for it fail meanwhile. */
#define PROCESS_ASIDE_MS 30000
/* Processes at once. */
#define PROCESSES_MAX 8192

struct account;

struct process {
	struct account *account;
	enum role role;
	struct edge *edge;   /* NULL: not wanted now */
	uint64_t spawn_id;   /* of the one that runs or is ending, 0 once its end was reported */
	int waiting_fd;	     /* -1, or the successor's end of the edge, until its predecessor's end is reported */
	uint32_t peers_sent; /* KEEPER_PEER to this one so far */
	uint32_t sessions;   /* of a worker */
	unsigned failures;   /* ends in init in a row */
	uint64_t aside_until_ms;
};

struct account {
	struct account *next;
	uint64_t id;
	uint64_t bytes; /* as the keeper said last */
	uint64_t messages;
	bool usage_known;
	bool deleted;
	struct process keeper;
	struct process imap;
	struct process pop3;
};

/* The account's entry, made when there is none. */
struct account *process_account(uint64_t id);
/* The entry or NULL. */
struct account *process_account_find(uint64_t id);
/* Calls fn for each account known. */
void process_account_each(void (*fn)(struct account *a, void *arg), void *arg);

/* role: KEEPER, IMAP_WORKER or POP3_WORKER. */
struct process *process_of(struct account *a, enum role role);
/* The process behind an edge of those roles; NULL when it is none of ours. */
struct process *process_by_edge(const struct edge *e);
/*
 * Starts it when it does not run. False with e: set aside after failures, too many processes, or no supervisor.
 * Does not block.
 */
bool process_run(struct process *p, struct err *e);
/* Its edge went down, and is freed by the caller: it runs no more, or is about to end. */
void process_ended(struct process *p);
/* Closes its edge, on which it ends; nothing more is sent to it. Nothing happens when it does not run. */
void process_end(struct process *p);
/* The supervisor tells how a process ended (role_spec.on_spawn_exit). */
void process_exit_status(uint64_t spawn_id, uint32_t status);
unsigned process_count(void);

#endif
