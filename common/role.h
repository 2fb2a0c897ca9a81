/*
 * role: the life of every process but the supervisor and the command. A role's
 * main() calls role_main() with its struct role_spec; role_main() takes the
 * control edge on descriptor 3, receives settings, listeners and edges, calls
 * init, closes the sandbox as the row of common/sandbox_table.c says, reports
 * ready, runs the loop, and exits when the supervisor is gone.
 */
#ifndef COMMON_ROLE_H
#define COMMON_ROLE_H

#include "common/config.h"
#include "common/ipc.h"
#include "common/loop.h"
#include "common/roles.h"

#define ROLE_CONTROL_FD 3

/* Exit statuses the supervisor knows: another message table (an upgrade half done); init() or start() failed, or did so for
 * want of room on the disk. */
#define ROLE_EXIT_MISMATCH 64
#define ROLE_EXIT_INIT 65
#define ROLE_EXIT_NO_SPACE 66
/* As CTL_SPAWN_EXIT tells of a process that was never started. */
#define ROLE_EXIT_REFUSED 255

struct role_spec {
	enum role role;
	/* What peers of each role may send here: NULL-dispatch roles have no edge to this one. */
	const struct ipc_dispatch *dispatch[ROLE_COUNT];
	/* Opens what must be opened before the sandbox closes; runs as the role's own user already.
	 * A failure ends the process (the supervisor backs off); role_main() logs e. May be NULL.
	 */
	int (*init)(struct err *e);
	/* Called inside the sandbox, before on_edge_up of the first edges, on_listener and
	 * CTL_READY; role_edge() works already. A failure ends the process. May be NULL. */
	int (*start)(struct err *e);
	/* A listening socket (non-blocking, already listening), owned by the role from now on;
	 * "control" is for common/control.h. */
	void (*on_listener)(const char *name, int fd);
	/* An edge came up (again) or went down. edge_down is called after its pending requests
	 * failed; the edge is freed after it returns. May be NULL. */
	void (*on_edge_up)(struct edge *e);
	void (*on_edge_down)(struct edge *e);
	/* An edge whose queue was full is empty again. May be NULL. */
	void (*on_edge_drained)(struct edge *e);
	/* New settings are in role_config(). May be NULL. */
	void (*on_reload)(void);
	/* Take no new work and call role_exit() when nothing is left; NULL: exit at once. */
	void (*on_drain)(void);
	/* The store only: the process of that role_spawn() could not be started, or has ended. */
	void (*on_spawn_exit)(uint64_t id, uint32_t status);
};

/* Runs the role; returns main()'s exit status. */
int role_main(int argc, char **argv, const struct role_spec *spec);

/* The process's own things, valid from init on. */
struct loop *role_loop(void);
const struct config *role_config(void);
/* The account of a keeper or worker, else 0. */
uint64_t role_account(void);
/* This process's own role, instance and generation. */
const struct edge_peer *role_self(void);
/* Path of the state directory (for init only: later the sandbox forbids paths). */
const char *role_state_dir(void);

/* The edge to the peer role, or NULL while that peer is away. instance: 0 ... pool size - 1. */
struct edge *role_edge(enum role peer, uint32_t instance);
/* Number of instances of that peer with a live edge, and the i-th of them. */
unsigned role_edge_count(enum role peer);
struct edge *role_edge_at(enum role peer, unsigned i);
/*
 * Adds an edge made by the store (keeper, worker, deliver): same rules, events to on_edge_up/down;
 * on_edge_up is called before it returns. Owns fd. NULL, with fd closed, when the spec has no
 * dispatch for that role.
 */
struct edge *role_edge_add(int fd, struct edge_peer peer);
/* Ends an edge of this process without a call of on_edge_down; sets *e to NULL. */
void role_edge_close(struct edge **e);

/*
 * The store only: asks the supervisor for a keeper or worker of that account (CTL_SPAWN). fd, the
 * new process's end of its edge to the store, stays the caller's; the other end goes to
 * role_edge_add(). The new process knows that edge as one to (ROLE_STORE, 0). Gives the request's
 * number for on_spawn_exit, which comes once for each, or 0 when the supervisor's edge is full.
 */
uint64_t role_spawn(enum role role, uint64_t account, int fd);

/* Ends the loop; role_main() returns status. */
void role_exit(int status);

/*
 * One event of a session's time line: to the log (as common/log.h) and to the recorder. fields:
 * "key=value" pairs as made by log_field*(). Never blocks; dropped (and counted) when the recorder
 * does not keep up.
 */
void role_trace(struct slice session, const char *event, struct slice fields);
/* The same to the recorder alone: evidence, of which a log would have too much. */
void role_record(struct slice session, const char *event, struct slice fields);

#endif
