/*
 * Role POP3_WORKER: the sessions of one account. It lives while it has one and worker.linger
 * longer, then asks the store to let it go. When the store's parent is gone, so are its leases:
 * sessions end, and the process with them.
 */
#include "common/charset.h"
#include "common/log.h"
#include "common/role.h"
#include "pop3d/keeper.h"
#include "pop3d/session.h"

/* A drain that is not done by then is over all the same. */
#define DRAIN_MS 5000

static struct loop_timer *linger_timer;
static struct loop_timer *drain_timer;
static bool draining;

static void
linger(void)
{
	loop_timer_set(linger_timer, config_number(role_config(), OPT_WORKER_LINGER));
}

static void
linger_over(void *arg)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	(void)arg;
	if (session_count() > 0)
		return;
	if (store == NULL || !IPC_SEND(store, PROCESS_IDLE, ))
		log_event(LOG_DEBUG, NO_SESSION, "idle-not-told", LOG_END);
	/*
	 * No answer means that there is work on its way; should there be none after all, it asks
	 * again.
	 */
	linger();
}

static void
over(void *arg)
{
	(void)arg;
	role_exit(0);
}

static void
drain(void)
{
	if (draining)
		return;
	draining = true;
	loop_timer_set(drain_timer, DRAIN_MS);
	session_end_all();
	if (session_count() == 0)
		role_exit(0);
}

static void
session_over(uint64_t number)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	IPC_TELL(store, WORKER_SESSION_END, .session_no = number);
}

static void
no_session_left(void)
{
	if (draining)
		role_exit(0);
	else
		linger();
}

static void
on_session(struct edge *store, struct msg_WORKER_SESSION *m)
{
	(void)store;
	if (m->relay < 0 || draining)
		return;
	loop_timer_stop(linger_timer);
	session_new(m->relay, m->session_no, m->session, m->utf8 != 0);
	m->relay = -1;
}

static void
on_revoke(struct edge *store, struct msg_WORKER_REVOKE *m)
{
	(void)store;
	session_revoke(m->session_no);
}

static void
on_leave(struct edge *store, struct msg_PROCESS_LEAVE *m)
{
	(void)store;
	(void)m;
	role_exit(0);
}

static int
init(struct err *e)
{
	static const struct session_events events = {
	    .over = session_over, .none_left = no_session_left};

	(void)e;
	charset_init();
	linger_timer = loop_timer_new(role_loop(), linger_over, NULL);
	drain_timer = loop_timer_new(role_loop(), over, NULL);
	session_set_events(&events);
	linger();
	return 0;
}

static void
edge_down(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_KEEPER)
		keeper_edge_down(e);
	else if (edge_peer(e)->role == ROLE_STORE)
		drain();
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_recorder = {0};
	static const struct ipc_dispatch from_store = {
	    .WORKER_SESSION = on_session,
	    .WORKER_REVOKE = on_revoke,
	    .PROCESS_LEAVE = on_leave,
	    .STORE_CONNECTED = keeper_on_connected,
	};
	static const struct role_spec spec = {
	    .role = ROLE_POP3_WORKER,
	    .dispatch =
		{
		    [ROLE_STORE] = &from_store,
		    [ROLE_KEEPER] = &keeper_dispatch,
		    [ROLE_RECORDER] = &from_recorder,
		},
	    .init = init,
	    .on_edge_down = edge_down,
	    .on_drain = drain,
	};

	return role_main(argc, argv, &spec);
}
