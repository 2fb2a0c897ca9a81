/*
 * Role IMAP_WORKER: one account's sessions. It knows its account only as the one that the store started it for, reaches it only
 * through its keeper, and leaves when nobody has used it for worker.linger.
 */
#include "common/charset.h"
#include "common/log.h"
#include "common/role.h"
#include "imapd/session.h"

#include <unistd.h>

#define CONNECT_MS 20000
/* What the last words of a drain may take. */
#define DRAIN_MS 500

static struct worker worker;
static struct loop_timer *linger;

/* ---- the keeper's edge ---- */

static void
connect_gone(void *obj, const struct err *e)
{
	(void)obj;
	log_event(LOG_WARN, NO_SESSION, "keeper-not-connected", LOG_ERR(e), LOG_END);
	keeper_link_refused(worker.keeper);
}

static void
connect_keeper(void *arg)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	uint64_t id = store ? ipc_expect(store, CONNECT_MS, connect_gone, NULL) : 0;

	(void)arg;
	if (id != 0 && IPC_SEND(store, STORE_CONNECT, .id = id, .account = role_account()))
		return;
	if (id != 0)
		ipc_forget(store, id);
	keeper_link_refused(worker.keeper);
}

/* The request carries no object: its id alone tells that it is awaited. */
static void
on_connected(struct edge *e, struct msg_STORE_CONNECTED *m)
{
	struct edge *keeper;

	ipc_forget(e, m->id);
	if (m->class != ERR_NONE || m->fd < 0) {
		log_event(LOG_WARN, NO_SESSION, "keeper-refused", LOG_NUM("class", m->class),
		    LOG_NUM("code", m->code), LOG_END);
		keeper_link_refused(worker.keeper);
		return;
	}
	keeper = role_edge_add(m->fd, (struct edge_peer){.role = ROLE_KEEPER});
	m->fd = -1;
	if (keeper == NULL)
		keeper_link_refused(worker.keeper);
}

static void
edge_up(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_KEEPER)
		worker_keeper_up(&worker, e);
}

static void
edge_down(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_KEEPER)
		worker_keeper_down(&worker, e);
}

/* ---- sessions ---- */

static void
arm_linger(void)
{
	if (worker.sessions_n == 0)
		loop_timer_set(linger, config_number(role_config(), OPT_WORKER_LINGER));
	else
		loop_timer_stop(linger);
}

static void
linger_over(void *arg)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	(void)arg;
	if (worker.sessions_n > 0)
		return;
	IPC_TELL(store, PROCESS_IDLE);
	arm_linger();
}

static void
session_ended(void *arg, uint64_t number)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	(void)arg;
	IPC_TELL(store, WORKER_SESSION_END, .session_no = number);
	arm_linger();
}

static const struct worker_hooks hooks = {.connect = connect_keeper, .session_ended = session_ended};

static void
on_session(struct edge *e, struct msg_WORKER_SESSION *m)
{
	(void)e;
	if (m->relay < 0)
		return;
	session_new(&worker, m->session_no, m->session, m->relay);
	m->relay = -1;
	arm_linger();
}

static void
on_revoke(struct edge *e, struct msg_WORKER_REVOKE *m)
{
	struct session *s = session_find(&worker, m->session_no);

	(void)e;
	if (s)
		session_bye(s, "[EXPIRED] Your access has ended");
}

static void
on_leave(struct edge *e, struct msg_PROCESS_LEAVE *m)
{
	(void)e;
	(void)m;
	role_exit(0);
}

static const struct ipc_dispatch from_store = {
    .WORKER_SESSION = on_session,
    .WORKER_REVOKE = on_revoke,
    .PROCESS_LEAVE = on_leave,
    .STORE_CONNECTED = on_connected,
};
static const struct ipc_dispatch from_recorder = {0};

/* ---- the role ---- */

static void
settings(void)
{
	worker.message_bytes_max = config_number(role_config(), OPT_SMTP_MESSAGE_BYTES);
	worker.idle_ms = config_number(role_config(), OPT_IMAP_TIMEOUT);
}

static int
init(struct err *e)
{
	(void)e;
	charset_init();
	worker_init(&worker, role_loop(), &hooks, NULL);
	worker_set_current(&worker);
	linger = loop_timer_new(role_loop(), linger_over, NULL);
	settings();
	arm_linger();
	return 0;
}

static void
drain_over(void *arg)
{
	(void)arg;
	role_exit(0);
}

/* Every session is told and closed; what they have been answered is on disk. */
static void
drain(void)
{
	struct session *next;

	for (struct session *s = worker.sessions; s; s = next) {
		next = s->next;
		session_bye(s, "Server shutting down");
	}
	loop_timer_free(&linger);
	linger = loop_timer_new(role_loop(), drain_over, NULL);
	loop_timer_set(linger, DRAIN_MS);
}

int
main(int argc, char **argv)
{
	const struct role_spec spec = {
	    .role = ROLE_IMAP_WORKER,
	    .dispatch = {[ROLE_STORE] = &from_store,
		[ROLE_KEEPER] = &worker_from_keeper,
		[ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_edge_up = edge_up,
	    .on_edge_down = edge_down,
	    .on_reload = settings,
	    .on_drain = drain,
	};

	return role_main(argc, argv, &spec);
}
