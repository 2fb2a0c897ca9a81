/*
 * process: the keepers and workers of the accounts in use, as the store's parent knows them. At most one keeper, one IMAP
 * worker and one POP3 worker an account. A process can be written to from the moment it is asked for: what is sent waits in
 * the socket until it reads.
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
	struct edge *edge;   /* NULL: does not run */
	uint64_t spawn_id;   /* of the one that runs, or ended last */
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
/* Its edge went down: it runs no more. */
void process_ended(struct process *p);
/* The supervisor tells how a process ended (role_spec.on_spawn_exit). */
void process_exit_status(uint64_t spawn_id, uint32_t status);
/* It was told PROCESS_LEAVE: nothing more is sent to it. */
void process_let_go(struct process *p);
unsigned process_count(void);

#endif
