/*
 * parent: the books of role STORE: which leases are open, which accounts have a
 * keeper and workers, which sessions sit in which worker. It opens no path and
 * reads no message.
 *
 * A lease is opened by the directory alone, for one connection of one front;
 * a front gets a worker only under one (store/parent_lease.c). Keepers and workers are started when they are
 * wanted (store/parent_process.c).
 */
#ifndef STORE_PARENT_H
#define STORE_PARENT_H

#include "common/ipc.h"
#include "store/quota.h"

/* Past these a front or deliver gets ERR_LIMIT or ERR_TEMP and asks again. */
#define PARENT_LEASES_MAX 16384u
/* An IMAP or POP3 lease that its front has not used by then ends: the login was not finished (its verifier died, say). */
#define PARENT_LEASE_UNUSED_MS 60000u
#define PARENT_KEEPERS_MAX 1024u
#define PARENT_WORKERS_MAX 4096u
#define PARENT_ACCOUNTS_MAX 200000u
/* So many keepers of an account that ended before they had it open set it aside, for that long. */
#define PARENT_FAILURES_MAX 2u
#define PARENT_ASIDE_MS 60000u
/* And when they found no room on the disk, which may be there again at any time. */
#define PARENT_ASIDE_FULL_MS 5000u

struct parent_account;
struct parent_domain;

struct parent_process {
	enum role role;
	struct parent_account *account;
	struct edge *edge;
	uint64_t generation; /* the number of its role_spawn() */
	unsigned sessions;   /* of a worker */
	bool opened;	     /* a keeper that said that the account is open */
	bool no_space;	     /* one that ended because it found no room */
	bool leaving;
	unsigned asked;	       /* KEEPER_CEILING that a keeper owes */
	uint64_t asked_no;     /* the last KEEPER_WANT, of whomever, before it was asked last, */
	uint64_t confirmed_no; /* and before it was asked what it has answered last */
	bool surveyed;	       /* one that was started for its figures alone */
	uint32_t peers_sent; /* KEEPER_PEER, by which it is known whether a keeper that asks to leave has seen them all */
};

struct parent_account {
	uint64_t id;
	struct parent_process *keeper;
	struct parent_process *imap;
	struct parent_process *pop3;
	struct quota usage; /* as its keeper told it last */
	bool usage_known;
	/* What follows is parent_quota.c's. */
	struct parent_domain *domain; /* NULL: the directory has not told */
	struct parent_account *domain_next;
	struct quota limit; /* as told: QUOTA_DEFAULT is the setting */
	struct quota ceiling;
	bool ceiling_known;
	bool wants; /* a ceiling of at least `want` */
	struct quota want;
	uint64_t want_id; /* its keeper's */
	uint64_t want_no; /* all are numbered */
	struct parent_account *wants_next;
	/* And from here on the others'. */
	unsigned failures;
	uint64_t failed_id; /* generation of the keeper that was counted last */
	uint64_t aside_until_ms;
	bool no_space; /* that keeper found no room */
	/* A deletion that waits for the keeper to be through. */
	struct edge *deleter;
	uint64_t delete_id;
	/* The command's connection that wants the directory for itself; no process is started while it is there. */
	struct edge *holder;
	uint64_t hold_id; /* 0: answered */
	unsigned keepers; /* that have not ended: one that leaves is still at work */
	struct parent_account *next;
};

struct parent_lease {
	struct edge_peer front;
	uint64_t conn;
	uint64_t account;
	char login[321];
	struct parent_process *worker; /* of its session; NULL before and after */
	uint64_t session_no;	       /* 0: not attached yet */
	uint64_t opened_ms;
	struct parent_lease *next;
};

/* ---- parent_process.c ---- */

/* The account's books, made when there are none; NULL at the limit. */
struct parent_account *parent_account(uint64_t id);
/* NULL when there are none. */
struct parent_account *parent_account_find(uint64_t id);
/* The running process of that role, started when there is none. NULL and e when it cannot be. */
struct parent_process *parent_process(struct parent_account *a, enum role role, struct err *e);
/* The process at the other end of an edge to a keeper or worker. */
struct parent_process *parent_process_of(struct edge *e);
/* Its edge ended. */
void parent_process_down(struct edge *e);
/* It has leave to go: the account gets another one when there is need. */
void parent_process_leave(struct parent_process *p);
/* The supervisor tells how a process ended: a keeper that was killed from outside, or never started, has not failed; one that
 * found no room on the disk has, and that is what its account's users are told. Before or after its edge ends. */
void parent_process_exit(uint64_t generation, uint32_t status);
/* Answers the hold of an account once its keepers have gone. */
void parent_hold_settle(struct parent_account *a);
/* Number of running keepers, workers, accounts in the books. */
unsigned parent_count(enum role role);
unsigned parent_account_count(void);
/* Calls fn for every account. */
typedef void parent_account_fn(const struct parent_account *a, void *arg);
void parent_account_each(parent_account_fn *fn, void *arg);

/* ---- parent_lease.c ---- */

/* Opens one. -1 and e: the front has gone, it has that connection already, or there are too many. */
int parent_lease_open(const struct edge_peer *front, uint64_t conn, uint64_t account, struct slice login, struct err *e);
struct parent_lease *parent_lease_find(const struct edge_peer *front, uint64_t conn);
/* The connection ended. */
void parent_lease_close(const struct edge_peer *front, uint64_t conn);
/* All of an account (its sessions are told to end); all of a front that has gone. */
void parent_lease_revoke(uint64_t account);
void parent_lease_front_down(const struct edge_peer *front);
/* A worker told the end of a session, or has ended with all of them. */
void parent_lease_session_end(struct parent_process *worker, uint64_t session_no);
void parent_lease_worker_down(struct parent_process *worker);
unsigned parent_lease_count(void);
/* Ends those that have been unused for too long at that time (clock_ms()); to be called now and then. */
void parent_lease_sweep(uint64_t now_ms);

/* ---- parent.c: the handlers ---- */

extern const struct ipc_dispatch parent_from_directory;
extern const struct ipc_dispatch parent_from_front;
extern const struct ipc_dispatch parent_from_smtp;
extern const struct ipc_dispatch parent_from_submission;
extern const struct ipc_dispatch parent_from_deliver;
extern const struct ipc_dispatch parent_from_worker;
extern const struct ipc_dispatch parent_from_keeper;
extern const struct ipc_dispatch parent_from_admin;
void parent_edge_down(struct edge *e);
/* A connection of the command has gone: what it held is free. */
void parent_admin_gone(struct edge *e, void *arg);
/* The keeper that was told to remove the account did so, or ended before; nothing when none was told. */
void parent_deletion_end(struct parent_account *a, bool done);

#endif
