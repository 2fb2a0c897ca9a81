/*
 * The order of a start is fixed: settings, descriptors and edges arrive and wait; CTL_START then
 * runs init as the role's own user, closes the sandbox, brings the edges up, hands over the
 * listeners, and answers CTL_READY. So a handler never runs before its role is initialised, and no
 * client octet is read outside the sandbox.
 */
#include "common/role.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/sandbox.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_DIR_SIZE 513
#define LISTENERS_MAX 64
/* As the table has them for TRACE_EVENT; what is longer is cut. */
#define TRACE_SESSION_BYTES_MAX 64
#define TRACE_FIELDS_BYTES_MAX 4096

struct edge_list {
	struct edge **e;
	unsigned n;
	unsigned cap;
};

struct waiting_listener {
	char name[65];
	int fd;
};

struct waiting_edge {
	struct edge_peer peer;
	int fd;
};

static struct {
	const struct role_spec *spec;
	struct loop *loop;
	struct config *config;
	struct edge *control;
	struct edge_peer self;
	struct edge_list edges[ROLE_COUNT];
	struct waiting_listener listeners[LISTENERS_MAX];
	unsigned listener_count;
	struct loop_timer *replace;
	struct waiting_edge *waiting; /* edges that came before the start, or while the one before is still to be heard */
	unsigned waiting_count;
	uint64_t account;
	uint64_t trace_lost;
	char state_dir[STATE_DIR_SIZE];
	char name[48];
	bool demo;
	bool running; /* the edges are up */
	int status;
} me;

/* ---- what a role may ask ---- */

struct loop *
role_loop(void)
{
	return me.loop;
}

const struct config *
role_config(void)
{
	return me.config;
}

uint64_t
role_account(void)
{
	return me.account;
}

const struct edge_peer *
role_self(void)
{
	return &me.self;
}

const char *
role_state_dir(void)
{
	return me.state_dir;
}

void
role_exit(int status)
{
	me.status = status;
	loop_stop(me.loop);
}

struct edge *
role_edge(enum role peer, uint32_t instance)
{
	const struct edge_list *l = &me.edges[peer];

	if (peer == ROLE_SUPERVISOR)
		return me.control;
	for (unsigned i = 0; i < l->n; i++)
		if (edge_peer(l->e[i])->instance == instance)
			return l->e[i];
	return NULL;
}

unsigned
role_edge_count(enum role peer)
{
	return me.edges[peer].n;
}

struct edge *
role_edge_at(enum role peer, unsigned i)
{
	assert(i < me.edges[peer].n);
	return me.edges[peer].e[i];
}

/* ---- edges ---- */

static void
list_add(struct edge_list *l, struct edge *e)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 4;
		l->e = mem_resize(l->e, l->cap, sizeof(struct edge *));
	}
	l->e[l->n++] = e;
}

/* Keeps the order, which is the order of pool members. */
static void
list_remove(struct edge_list *l, const struct edge *e)
{
	unsigned i = 0;

	while (i < l->n && l->e[i] != e)
		i++;
	assert(i < l->n);
	l->n--;
	memmove(&l->e[i], &l->e[i + 1], (l->n - i) * sizeof(struct edge *));
}

static void
report_garbage(const struct edge_peer *peer)
{
	if (!IPC_SEND(me.control, CTL_GARBAGE, .peer_role = peer->role,
		.peer_instance = peer->instance, .peer_generation = peer->generation))
		log_event(LOG_ERROR, NO_SESSION, "garbage-unreported", LOG_END);
}

static void
on_edge_down(struct edge *e, void *arg)
{
	struct edge_peer peer = *edge_peer(e);
	bool garbage = edge_sent_garbage(e);

	(void)arg;
	list_remove(&me.edges[peer.role], e);
	log_event(LOG_DEBUG, NO_SESSION, "edge-down", LOG_CSTR("peer", role_info(peer.role)->name),
	    LOG_NUM("instance", peer.instance), LOG_NUM("generation", peer.generation), LOG_END);
	if (me.spec->on_edge_down)
		me.spec->on_edge_down(e);
	edge_free(&e);
	if (garbage)
		report_garbage(&peer);
}

static void
on_edge_drained(struct edge *e, void *arg)
{
	(void)arg;
	if (me.spec->on_edge_drained)
		me.spec->on_edge_drained(e);
}

struct edge *
role_edge_add(int fd, struct edge_peer peer)
{
	static const struct edge_events events = {on_edge_down, on_edge_drained};

	if (peer.role >= ROLE_COUNT || me.spec->dispatch[peer.role] == NULL) {
		log_event(
		    LOG_DEBUG, NO_SESSION, "edge-unwanted", LOG_NUM("role", peer.role), LOG_END);
		close(fd);
		return NULL;
	}
	struct edge *e = edge_new(
	    me.loop, fd, me.spec->role, peer, me.spec->dispatch[peer.role], &events, NULL);

	list_add(&me.edges[peer.role], e);
	if (me.running && me.spec->on_edge_up)
		me.spec->on_edge_up(e);
	return e;
}

void
role_edge_close(struct edge **e)
{
	if (*e == NULL)
		return;
	list_remove(&me.edges[edge_peer(*e)->role], *e);
	edge_free(e);
}

/* ---- the control edge ---- */

static void
fail(int status, const char *event, const struct err *e)
{
	log_event(LOG_ERROR, NO_SESSION, event, LOG_ERR(e), LOG_END);
	role_exit(status);
}

static void
set_name(void)
{
	const struct role_info *info = role_info(me.spec->role);

	if (me.account)
		snprintf(
		    me.name, sizeof me.name, "%s.%llu", info->name, (unsigned long long)me.account);
	else if (info->instances > 1)
		snprintf(me.name, sizeof me.name, "%s.%u", info->name, me.self.instance);
	else
		snprintf(me.name, sizeof me.name, "%s", info->name);
	log_init(me.name, config_bool(me.config, OPT_LOG_DEBUG) ? LOG_DEBUG : LOG_INFO);
	(void)prctl(PR_SET_NAME, me.name);
}

static void
on_hello(struct edge *control, struct msg_CTL_HELLO *m)
{
	uint8_t hash[32];
	struct err e;

	(void)control;
	msg_table_hash(hash);
	if (!slice_eq(m->table_hash, slice_of(hash, sizeof hash)) || m->role != me.spec->role ||
	    me.config) {
		err_set(&e, ERR_PERM, ERR_CODE_NONE, "another version",
		    "the supervisor and this program are of different versions: restart mailstead "
		    "as a whole");
		fail(ROLE_EXIT_MISMATCH, "version-mismatch", &e);
		return;
	}
	if (config_decode(m->config, &me.config, &e) < 0) {
		fail(ROLE_EXIT_MISMATCH, "settings-refused", &e);
		return;
	}
	me.self = (struct edge_peer){me.spec->role, m->instance, m->generation};
	me.account = m->account;
	me.demo = m->demo;
	if (!slice_cstr(m->state_dir, me.state_dir, sizeof me.state_dir)) {
		err_set(&e, ERR_BUG, ERR_CODE_NONE, "internal error", "state directory");
		fail(ROLE_EXIT_INIT, "settings-refused", &e);
		return;
	}
	set_name();
}

static void
replace_edge(int fd, struct edge_peer peer)
{
	struct edge *old = role_edge(peer.role, peer.instance);

	if (old)
		on_edge_down(old, NULL);
	(void)role_edge_add(fd, peer);
}

static void
wait_for_edge(int fd, struct edge_peer peer)
{
	me.waiting = mem_resize(me.waiting, me.waiting_count + 1, sizeof *me.waiting);
	me.waiting[me.waiting_count++] = (struct waiting_edge){peer, fd};
}

/* The one before has ended: what it had said comes first, or a result would be lost that it was sure to have given. */
static void
on_replace(void *arg)
{
	struct waiting_edge *waiting = me.waiting;
	unsigned n = me.waiting_count;

	(void)arg;
	me.waiting = NULL;
	me.waiting_count = 0;
	for (unsigned i = 0; i < n; i++) {
		struct edge *old = role_edge(waiting[i].peer.role, waiting[i].peer.instance);
		if (old)
			edge_take_rest(old);
		replace_edge(waiting[i].fd, waiting[i].peer);
	}
	free(waiting);
}

/* Before the start an edge only waits: its peer may be running and talking already. */
static void
on_edge(struct edge *control, struct msg_CTL_EDGE *m)
{
	struct edge_peer peer = {m->peer_role, m->peer_instance, m->peer_generation};
	int fd = m->fd;

	(void)control;
	m->fd = -1;
	if (fd < 0 || m->peer_role >= ROLE_COUNT || m->peer_role == ROLE_SUPERVISOR) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if (me.running && role_edge(peer.role, peer.instance) == NULL && me.waiting_count == 0) {
		(void)role_edge_add(fd, peer);
		return;
	}
	wait_for_edge(fd, peer);
	/* Not from inside a message of the control edge: that of another one would be handled meanwhile. */
	if (me.running)
		loop_timer_set(me.replace, 0);
}

static void
on_listen(struct edge *control, struct msg_CTL_LISTEN *m)
{
	struct waiting_listener w = {.fd = m->fd};

	(void)control;
	if (m->fd < 0 || !slice_cstr(m->name, w.name, sizeof w.name))
		return;
	if (!me.running && me.listener_count < LISTENERS_MAX) {
		me.listeners[me.listener_count++] = w;
		m->fd = -1;
	} else if (me.running && me.spec->on_listener) {
		m->fd = -1;
		me.spec->on_listener(w.name, w.fd);
	}
}

static struct sandbox_place
own_place(void)
{
	return (struct sandbox_place){
	    .role = me.spec->role,
	    .account = me.account,
	    .state_dir = me.state_dir,
	    .own_user = geteuid() == 0 && !me.demo,
	};
}

static bool
start(struct err *e)
{
	struct sandbox_place place = own_place();

	if (sandbox_prepare(&place, e) < 0)
		return false;
	/* A change of user cancels it. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (me.spec->init && me.spec->init(e) < 0)
		return false;
	if (sandbox_close(&place, e) < 0)
		return false;
	for (unsigned i = 0; i < me.waiting_count; i++)
		replace_edge(me.waiting[i].fd, me.waiting[i].peer);
	MEM_FREE(&me.waiting);
	me.waiting_count = 0;
	return me.spec->start == NULL || me.spec->start(e) == 0;
}

/* From the end of each list, so that the role may close the edge it is given. */
static void
bring_up(void)
{
	for (unsigned r = 0; r < ROLE_COUNT && me.spec->on_edge_up; r++)
		for (unsigned i = me.edges[r].n; i-- > 0;)
			me.spec->on_edge_up(me.edges[r].e[i]);
}

static void
on_start(struct edge *control, struct msg_CTL_START *m)
{
	struct err e = {0};

	(void)m;
	if (me.config == NULL || me.running)
		return;
	if (!start(&e)) {
		fail(e.code == ERR_CODE_NO_SPACE ? ROLE_EXIT_NO_SPACE : ROLE_EXIT_INIT, "start-failed", &e);
		return;
	}
	me.running = true;
	bring_up();
	for (unsigned i = 0; i < me.listener_count; i++) {
		if (me.spec->on_listener)
			me.spec->on_listener(me.listeners[i].name, me.listeners[i].fd);
		else
			close(me.listeners[i].fd);
	}
	if (!IPC_SEND(control, CTL_READY, ))
		role_exit(ROLE_EXIT_INIT);
}

static void
on_reload(struct edge *control, struct msg_CTL_RELOAD *m)
{
	struct config *fresh;
	struct err e;

	(void)control;
	if (config_decode(m->config, &fresh, &e) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "settings-refused", LOG_ERR(&e), LOG_END);
		return;
	}
	config_free(&me.config);
	me.config = fresh;
	log_init(me.name, config_bool(fresh, OPT_LOG_DEBUG) ? LOG_DEBUG : LOG_INFO);
	if (me.running && me.spec->on_reload)
		me.spec->on_reload();
}

static void
on_drain(struct edge *control, struct msg_CTL_DRAIN *m)
{
	(void)control;
	(void)m;
	if (me.running && me.spec->on_drain)
		me.spec->on_drain();
	else
		role_exit(0);
}

static void
on_spawn_exit(struct edge *control, struct msg_CTL_SPAWN_EXIT *m)
{
	(void)control;
	if (me.spec->on_spawn_exit)
		me.spec->on_spawn_exit(m->id, m->status);
}

/* Without a supervisor nobody would ever replace this process or its peers. */
static void
on_control_down(struct edge *e, void *arg)
{
	(void)e;
	(void)arg;
	role_exit(0);
}

static void
open_control(void)
{
	static const struct edge_events events = {.on_down = on_control_down};
	static struct ipc_dispatch dispatch;
	const struct ipc_dispatch *own = me.spec->dispatch[ROLE_SUPERVISOR];

	if (own)
		dispatch = *own;
	dispatch.CTL_HELLO = on_hello;
	dispatch.CTL_EDGE = on_edge;
	dispatch.CTL_LISTEN = on_listen;
	dispatch.CTL_START = on_start;
	dispatch.CTL_RELOAD = on_reload;
	dispatch.CTL_DRAIN = on_drain;
	dispatch.CTL_SPAWN_EXIT = on_spawn_exit;
	me.control = edge_new(me.loop, ROLE_CONTROL_FD, me.spec->role,
	    (struct edge_peer){.role = ROLE_SUPERVISOR}, &dispatch, &events, NULL);
}

/* Not so when somebody starts the program by hand. */
static bool
control_is_socket(void)
{
	struct stat st;

	return fstat(ROLE_CONTROL_FD, &st) == 0 && S_ISSOCK(st.st_mode);
}

int
role_main(int argc, char **argv, const struct role_spec *spec)
{
	(void)argc;
	(void)argv;
	me.spec = spec;
	log_init(role_info(spec->role)->name, LOG_INFO);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || !control_is_socket()) {
		fprintf(stderr, "%s: started by `mailstead run` only\n",
		    role_info(spec->role)->program);
		return 2;
	}
	me.loop = loop_new();
	me.replace = loop_timer_new(me.loop, on_replace, NULL);
	open_control();
	loop_run(me.loop);
	return me.status;
}

/* ---- processes on request ---- */

uint64_t
role_spawn(enum role role, uint64_t account, int fd)
{
	static uint64_t last_id;

	if (!IPC_SEND(me.control, CTL_SPAWN, .id = last_id + 1, .role = role, .account = account,
		.fd = fd))
		return 0;
	return ++last_id;
}

/* ---- the recorder ---- */

void
role_trace(struct slice session, const char *event, struct slice fields)
{
	log_event_text(LOG_INFO, session, event, fields);
	role_record(session, event, fields);
}

void
role_record(struct slice session, const char *event, struct slice fields)
{
	struct edge *recorder = role_edge(ROLE_RECORDER, 0);

	if (recorder == NULL || me.spec->role == ROLE_RECORDER)
		return;
	if (!IPC_SEND(recorder, TRACE_EVENT, .time_us = clock_wall_us(),
		.session = slice_sub(session, 0, TRACE_SESSION_BYTES_MAX),
		.event = slice_str(event),
		.fields = slice_sub(fields, 0, TRACE_FIELDS_BYTES_MAX)) &&
	    me.trace_lost++ % 1000 == 0)
		log_event(
		    LOG_WARN, NO_SESSION, "trace-lost", LOG_NUM("events", me.trace_lost), LOG_END);
}
