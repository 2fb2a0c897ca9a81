/*
 * What the files of the supervisor share.
 */
#ifndef ADMIN_SUPERVISOR_PRIVATE_H
#define ADMIN_SUPERVISOR_PRIVATE_H

#include "admin/supervisor.h"
#include "common/control.h"
#include "common/ipc.h"
#include "common/loop.h"

#include <sys/types.h>

/* A process that ended within this time of being ready counts as one that keeps dying. */
#define STABLE_MS 2000u
/* Pauses before further tries: none, then 1 s, 2 s ... */
#define RESTART_PAUSE_MS_MAX 30000u
/* One that renews itself soon after its start waits so long. */
#define RENEWAL_PAUSE_MS 100u
/* A role that is not ready by then is killed and tried again: recovery of a big data base takes its
 * time. */
#define START_MS_MAX 300000u
/* What a phase of the drain may take before SIGKILL. */
#define DRAIN_PHASE_MS_MAX 6000u
#define DRAIN_PHASES 4u
/* Keepers and workers of a store that died get so long to end by themselves. */
#define ORPHAN_MS_MAX 500u
/* Keepers and workers at once. */
#define SPAWNED_MAX 20000u

struct supervisor;

struct child {
	struct supervisor *s;
	enum role role;
	uint32_t instance;
	uint64_t generation; /* of a keeper or worker: the id of its CTL_SPAWN */
	uint64_t account;    /* 0: one of the supervisor's own list */
	pid_t pid;	     /* 0: not running */
	struct edge *control;
	bool ready;
	bool was_ready;	   /* ever */
	bool orphan;	   /* a keeper or worker whose store has died */
	uint64_t recorder; /* generation of the recorder that it is joined to */
	uint64_t started_ms;
	uint64_t ready_ms;
	unsigned restarts;
	unsigned quick_ends;	  /* in a row */
	struct loop_timer *timer; /* restart, or the limit of the start */
	struct child *next;
};

enum supervisor_state {
	SUPERVISOR_STARTING,
	SUPERVISOR_READY,
	SUPERVISOR_DRAINING,
};

struct supervisor {
	struct supervisor_options options;
	struct config *config;
	struct loop *loop;
	struct child *children; /* the static ones first, in the order of common/roles.def */
	struct child **children_end;
	unsigned spawned;
	struct spawn_order *orders; /* of processes whose predecessor still ends */
	unsigned order_count;
	uint64_t last_generation;
	enum supervisor_state state;
	unsigned phase; /* of the drain */
	struct loop_timer *drain_timer;
	struct loop_timer *orphan_timer;
	struct control *control;
	struct loop_io *signal_io;
	int signal_fd;
	int lock_fd;
	int status;   /* exit status of the whole */
	pid_t helper; /* options.when_ready */
	uint64_t started_ms;
	char libexec[512];
	bool own_users;
	bool had_terminal; /* at the start */
};

/* ---- supervisor.c ---- */
void supervisor_child_ready(struct child *c);
/* A child has ended and was collected. */
void supervisor_child_ended(struct child *c, int wait_status);
/* 0 when the settings are in effect; text_r says what was found. */
int supervisor_reload(struct supervisor *s, char *text_r, size_t size);
void supervisor_drain(struct supervisor *s, int status);

/* ---- supervisor_child.c ---- */
struct child *child_new(struct supervisor *s, enum role role, uint32_t instance, uint64_t account);
/* Takes it out of the list and frees it. */
void child_remove(struct child *c);
/* fork and exec; sends CTL_HELLO and its listeners. CTL_START is still to come. false when the
 * system refuses (logged). */
bool child_start(struct child *c);
/* CTL_START, and the limit for CTL_READY. */
void child_go(struct child *c);
void child_kill(struct child *c, int signal_number);
bool child_is_static(const struct child *c);
/* The pause before the next start of c, which has just ended. */
uint64_t child_restart_pause(const struct child *c, uint64_t now_ms);

/* ---- supervisor_edges.c ---- */
struct edge_row {
	enum role asks;
	enum role answers;
};
/* The static edges; asks == answers == 0 ends the table. */
const struct edge_row *supervisor_edge_table(void);
bool supervisor_edge_wanted(enum role a, enum role b);
/* Joins c with every running child that it has an edge to and is not joined with. Called again for
 * a recorder whose control edge could not take all of them at once. */
void supervisor_join(struct child *c);

/* ---- supervisor_listen.c ---- */
/* Binds all listeners and makes the control sockets. */
int supervisor_listen(struct supervisor *s, struct err *e);
void supervisor_unlisten(const struct config *config);
/* Sends c its listeners. */
void supervisor_send_listeners(struct child *c);

/* ---- supervisor_state.c ---- */
/* The state directory's lock and directories. */
int supervisor_make_state(struct supervisor *s, struct err *e);
/* accounts/<account>, for its keeper alone. */
int supervisor_make_account(struct supervisor *s, uint64_t account, struct err *e);

/* ---- supervisor_control.c ---- */
/* The messages of the children's control edges. */
const struct ipc_dispatch *supervisor_child_dispatch(void);
/* RUN/supervisor. */
void supervisor_serve(struct supervisor *s, int fd);
/* The running static child, or NULL. */
struct child *supervisor_find(struct supervisor *s, enum role role, uint32_t instance);

/* ---- supervisor_spawn.c ---- */
/* CTL_SPAWN: starts it, keeps the order while a predecessor still ends, or refuses. */
void supervisor_on_spawn(struct edge *e, struct msg_CTL_SPAWN *m);
/* A keeper or worker has ended and was removed: its successor, if one is ordered, starts. */
void supervisor_spawn_next(struct supervisor *s, enum role role, uint64_t account);
/* The store has ended: so have its orders. */
void supervisor_spawn_forget(struct supervisor *s);
/* Tells the store that what it asked for has ended. */
void supervisor_tell_spawn_exit(struct supervisor *s, uint64_t id, int status);

/* ---- supervisor_notify.c ---- */
/* Tells systemd; nothing when it did not start us. */
void supervisor_notify(const char *state);

#endif
