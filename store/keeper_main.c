/*
 * Role KEEPER. Started by the store's parent for one account; its working
 * directory is the account's, and all paths are relative to it. The lock in it
 * is held for the process's life, so that there never are two keepers.
 *
 * It leaves when nobody uses it: no worker has an edge, and deliver was quiet
 * for the linger time. It asks (PROCESS_IDLE), and goes only when the parent agrees.
 */
#include "common/log.h"
#include "common/role.h"
#include "store/account.h"
#include "store/file.h"
#include "store/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT "."
#define UPKEEP_PAUSE_MS 250
#define UPKEEP_BUSY_MS 5
#define TICK_MS_MAX 1000
/* Exit status after a failed sync or a refused page: the next keeper repairs. */
#define EXIT_BROKEN 1

static struct loop_timer *upkeep_timer;
static bool upkeep_armed;
static struct loop_timer *idle_timer;
static uint32_t peers_seen; /* KEEPER_PEER so far */

static struct keeper_settings
settings(void)
{
	return (struct keeper_settings){
	    .retention_s = config_number(role_config(), OPT_RETENTION) / 1000,
	    .quota_wait_ms = KEEPER_QUOTA_WAIT_MS,
	    .retention_bytes = config_number(role_config(), OPT_RETENTION_BYTES),
	};
}

static void
on_broken(void *arg)
{
	(void)arg;
	role_exit(EXIT_BROKEN);
}

static void
on_usage(void *arg, struct quota usage)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	(void)arg;
	/* The next change tells it too: a figure that got lost is only old. */
	if (store != NULL && !IPC_SEND(store, KEEPER_USAGE, .bytes = usage.bytes, .messages = usage.messages))
		log_event(LOG_DEBUG, NO_SESSION, "usage-untold", LOG_END);
}

static void
on_written(void *arg)
{
	(void)arg;
	if (!upkeep_armed)
		loop_timer_set(upkeep_timer, UPKEEP_PAUSE_MS);
	upkeep_armed = true;
}

static void
on_ceiling(void *arg, struct quota ceiling, bool last)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	(void)arg;
	/* Untold, the parent reckons with the old one until it asks again or another keeper tells; mostly it is the parent
	 * that has gone. */
	if (store != NULL && !IPC_SEND(store, KEEPER_CEILING, .last = last, .bytes = ceiling.bytes, .messages = ceiling.messages))
		log_event(LOG_DEBUG, NO_SESSION, "ceiling-untold", LOG_END);
}

static bool
on_want(void *arg, uint64_t id, struct quota total)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	(void)arg;
	return store != NULL && IPC_SEND(store, KEEPER_WANT, .id = id, .bytes = total.bytes, .messages = total.messages);
}

static void
on_limits(struct edge *e, struct msg_KEEPER_LIMITS *m)
{
	(void)e;
	keeper_quota_set((struct quota){m->bytes, m->messages}, m->shared != 0);
}

static void
on_grant(struct edge *e, struct msg_KEEPER_GRANT *m)
{
	(void)e;
	keeper_quota_grant(m->id, (enum err_class)m->class, (struct quota){m->bytes, m->messages});
}

/* ---- start ---- */

static int
enter_directory(struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	int n = snprintf(path, sizeof path, "%s/accounts", role_state_dir());

	if (n < 0 || (size_t)n >= sizeof path)
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "internal error", "the state directory's name is too long");
	(void)mkdir(path, 0700);
	n = snprintf(path, sizeof path, "%s/accounts/%llu", role_state_dir(), (unsigned long long)role_account());
	if (n < 0 || (size_t)n >= sizeof path)
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "internal error", "the state directory's name is too long");
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, path);
	return chdir(path) == 0 ? 0 : err_sys(e, errno, path);
}

static int
init(struct err *e)
{
	return enter_directory(e);
}

static void
on_upkeep(void *arg)
{
	(void)arg;
	upkeep_armed = keeper_upkeep();
	if (upkeep_armed)
		loop_timer_set(upkeep_timer, UPKEEP_BUSY_MS);
}

static void on_idle(void *arg);

static uint64_t
linger_ms(void)
{
	return config_number(role_config(), OPT_KEEPER_LINGER);
}

static int
start(struct err *e)
{
	static const struct keeper_events events = {
	    .broken = on_broken, .usage = on_usage, .written = on_written, .ceiling = on_ceiling, .want = on_want};
	struct keeper_settings now = settings();
	struct index *ix;

	if (account_lock(ROOT, e) < 0)
		return -1;
	file_hook_db();
	file_reserve(ROOT);
	if (index_open(ROOT, clock_wall_us() / 1000000, &ix, e) < 0)
		return -1;
	upkeep_timer = loop_timer_new(role_loop(), on_upkeep, NULL);
	idle_timer = loop_timer_new(role_loop(), on_idle, NULL);
	keeper_start(role_loop(), ix, ROOT, &now, &events, NULL);
	on_usage(NULL, index_usage(ix));
	on_written(NULL);
	loop_timer_set(idle_timer, linger_ms());
	return 0;
}

/* ---- leaving ---- */

static bool
is_used(void)
{
	return role_edge_count(ROLE_IMAP_WORKER) > 0 || role_edge_count(ROLE_POP3_WORKER) > 0 ||
	    role_edge_count(ROLE_ADMIN) > 0 || keeper_quiet_ms() < linger_ms() || keeper_quota_waits();
}

static void
on_idle(void *arg)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	uint64_t wait = linger_ms() < TICK_MS_MAX ? linger_ms() + 1 : TICK_MS_MAX;

	(void)arg;
	/* The parent stays silent while a new peer is on its way; so the question is put again. */
	if (!is_used()) {
		if (keeper_upkeep() || keeper_copy())
			wait = UPKEEP_BUSY_MS;
		else if (store == NULL || !IPC_SEND(store, PROCESS_IDLE, .peers_seen = peers_seen))
			log_event(LOG_DEBUG, NO_SESSION, "idle-untold", LOG_END);
	} else {
		keeper_copy_stop();
	}
	loop_timer_set(idle_timer, wait);
}

static void
leave(void)
{
	keeper_stop();
	role_exit(0);
}

static void
on_leave(struct edge *e, struct msg_PROCESS_LEAVE *m)
{
	(void)e;
	(void)m;
	leave();
}

static void
on_delete(struct edge *e, struct msg_KEEPER_DELETE *m)
{
	struct err err;

	(void)m;
	keeper_stop();
	if (account_remove(ROOT, &err) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "account-not-removed", LOG_ERR(&err), LOG_END);
		role_exit(EXIT_BROKEN);
		return;
	}
	log_event(LOG_INFO, NO_SESSION, "account-removed", LOG_NUM("account", role_account()), LOG_END);
	/* Untold, it is asked of the next keeper again. */
	role_exit(IPC_SEND(e, KEEPER_DELETED, ) ? 0 : EXIT_BROKEN);
}

/* ---- edges ---- */

static bool
is_client(uint32_t role)
{
	return role == ROLE_DELIVER || role == ROLE_IMAP_WORKER || role == ROLE_POP3_WORKER || role == ROLE_ADMIN;
}

static void
on_peer(struct edge *e, struct msg_KEEPER_PEER *m)
{
	struct edge_peer peer = {.role = (enum role)m->peer_role, .generation = m->peer_generation};
	int fd = m->fd;

	(void)e;
	m->fd = -1;
	peers_seen++;
	if (fd < 0)
		return;
	if (!is_client(m->peer_role)) {
		log_event(LOG_BUG, NO_SESSION, "keeper-peer", LOG_NUM("role", m->peer_role), LOG_END);
		(void)close(fd);
		return;
	}
	(void)role_edge_add(fd, peer);
}

static void
on_edge_up(struct edge *e)
{
	if (is_client(edge_peer(e)->role))
		keeper_peer_up(e);
}

static void
on_edge_down(struct edge *e)
{
	if (is_client(edge_peer(e)->role))
		keeper_peer_down(e);
	else if (edge_peer(e)->role == ROLE_STORE)
		/* A new parent knows nothing of this keeper and will start another one. */
		leave();
}

static void
on_edge_drained(struct edge *e)
{
	if (is_client(edge_peer(e)->role))
		keeper_peer_drained(e);
}

static void
on_reload(void)
{
	struct keeper_settings now = settings();

	keeper_set(&now);
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_store = {.KEEPER_PEER = on_peer,
	    .KEEPER_LIMITS = on_limits,
	    .KEEPER_GRANT = on_grant,
	    .PROCESS_LEAVE = on_leave,
	    .KEEPER_DELETE = on_delete};
	static const struct ipc_dispatch from_recorder = {.TRACE_EVENT = NULL};
	static const struct role_spec spec = {
	    .role = ROLE_KEEPER,
	    .dispatch = {[ROLE_STORE] = &from_store,
		[ROLE_DELIVER] = &keeper_from_deliver,
		[ROLE_IMAP_WORKER] = &keeper_from_imap,
		[ROLE_POP3_WORKER] = &keeper_from_pop3,
		[ROLE_ADMIN] = &keeper_from_admin,
		[ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .start = start,
	    .on_edge_up = on_edge_up,
	    .on_edge_down = on_edge_down,
	    .on_edge_drained = on_edge_drained,
	    .on_reload = on_reload,
	    .on_drain = leave,
	};
	int status = role_main(argc, argv, &spec);

	keeper_stop();
	return status;
}
