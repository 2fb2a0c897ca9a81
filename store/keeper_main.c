/*
 * The keeper of one account: its only writer, holding its lock. Nothing here waits for anybody but the disk. When a sync fails,
 * what waits is refused by ending: the peers see their edges end and ask a successor again, with the same origin
 * and sequence.
 */
#include "store/kept.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* How long a predecessor that is dying may still hold the lock. */
#define LOCK_WAIT_MS 5000u
#define LOCK_STEP_US 5000u
/* Housekeeping: pieces of work this far apart while there is some, and this often otherwise. */
#define UPKEEP_STEP_MS 5u
#define PURGE_EVERY_MS (3600u * 1000u)
#define ORIGIN_RING(role) ((role) == ROLE_DELIVER ? INDEX_RING_DELIVERY : INDEX_RING_WORKER)

struct keeper keeper;

static struct loop_timer *flush_timer;
static struct loop_timer *upkeep_timer;
static struct loop_timer *idle_timer;
static struct index_usage told_usage;
static bool flush_armed;
static bool leaving;

/* ---- answers, transactions ---- */

struct keeper_peer *
keeper_peer(struct edge *e)
{
	return edge_arg(e);
}

uint64_t
keeper_quota(void)
{
	return config_number(role_config(), OPT_QUOTA_BYTES);
}

bool
keeper_may_use(struct edge *e, uint32_t mailbox, struct err *err_r)
{
	if (edge_peer(e)->role != ROLE_POP3_WORKER || mailbox == index_target(keeper.index, STORE_TARGET_INBOX))
		return true;
	err_set(err_r, ERR_PERM, ERR_CODE_DENIED, "not permitted", "POP3 asked for mailbox %u", mailbox);
	return false;
}

static void
arm_idle(void)
{
	loop_timer_set(idle_timer, config_number(role_config(), OPT_KEEPER_LINGER));
}

/* Forgets a peer whose edge is about to be freed. */
static void
peer_gone(struct edge *e)
{
	struct keeper_peer *p = keeper_peer(e);

	outbox_forget(keeper.outbox, e);
	keeper_append_forget(e);
	MEM_FREE(&p);
	if (--keeper.peer_count == 0)
		arm_idle();
}

static void
cannot_answer(struct edge *e, enum msg_type type)
{
	log_event(LOG_WARN, NO_SESSION, "answer-lost", LOG_CSTR("peer", role_info(edge_peer(e)->role)->name),
	    LOG_CSTR("message", msg_info(type)->name), LOG_END);
	/* Lost events can be told later; for a lost answer the peer has to ask again. */
	if (type == MSG_EVENT_NEW || type == MSG_EVENT_FLAGS || type == MSG_EVENT_EXPUNGE || type == MSG_EVENT_MAILBOXES ||
	    type == MSG_EVENT_RESYNC) {
		keeper_peer(e)->lost_events = true;
		return;
	}
	peer_gone(e);
	role_edge_close(&e);
}

void
keeper_say(struct edge *e, const struct msg *m)
{
	if (!outbox_put(keeper.outbox, e, m))
		cannot_answer(e, m->type);
	keeper_flush_soon();
}

void
keeper_flush_soon(void)
{
	if (!flush_armed)
		loop_timer_set(flush_timer, 0);
	flush_armed = true;
}

static void
give_up(const struct err *why)
{
	log_event(LOG_ERROR, NO_SESSION, "index-failed", LOG_NUM("account", role_account()), LOG_ERR(why), LOG_END);
	index_close(&keeper.index);
	_exit(1);
}

bool
keeper_begin(struct err *err_r)
{
	index_set_now(keeper.index, clock_wall_us() / 1000000);
	index_changes_reset(keeper.index);
	if (index_begin(keeper.index, err_r) == 0)
		return true;
	if (index_broken(keeper.index))
		give_up(err_r);
	return false;
}

/* A refused page or a failed sync, found by whatever call: the successor recovers or rebuilds. */
static void
give_up_if_broken(void)
{
	struct err why;

	if (!index_broken(keeper.index))
		return;
	err_set(&why, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the index cannot be used any more");
	give_up(&why);
}

void
keeper_abort(void)
{
	index_abort(keeper.index);
	index_changes_reset(keeper.index);
	give_up_if_broken();
}

/* The answer as it is recorded: encoded, with its id as zero. */
static bool
record_answer(enum role role, struct slice origin, uint64_t sequence, const struct msg *answer, struct err *err_r)
{
	static struct buf b;
	struct msg_fds none;

	if (b.max == 0)
		buf_init(&b, MSG_BYTES_MAX);
	if (!msg_encode(answer, &b, &none)) {
		err_set(err_r, ERR_BUG, ERR_CODE_NONE, "internal error", "an answer that cannot be recorded");
		return false;
	}
	return index_request_done(keeper.index, ORIGIN_RING(role), origin.p, sequence, buf_slice(&b), err_r) == 0;
}

bool
keeper_commit(struct edge *e, struct slice origin, uint64_t sequence, const struct msg *answer, struct err *err_r)
{
	if (answer && !record_answer(edge_peer(e)->role, origin, sequence, answer, err_r)) {
		keeper_abort();
		return false;
	}
	if (index_commit(keeper.index, err_r) < 0) {
		if (index_broken(keeper.index))
			give_up(err_r);
		index_changes_reset(keeper.index);
		return false;
	}
	keeper_tell_changes();
	index_changes_reset(keeper.index);
	keeper_flush_soon();
	return true;
}

/* Puts the id of this asking into a recorded answer. */
static bool
set_id(struct msg *m, uint64_t id)
{
	switch (m->type) {
	case MSG_MBOX_CHANGE_REPLY:
		m->u.MBOX_CHANGE_REPLY.id = id;
		return true;
	case MSG_MSG_FLAGS_REPLY:
		m->u.MSG_FLAGS_REPLY.id = id;
		return true;
	case MSG_MSG_APPEND_REPLY:
		m->u.MSG_APPEND_REPLY.id = id;
		return true;
	case MSG_MSG_COPY_REPLY:
		m->u.MSG_COPY_REPLY.id = id;
		return true;
	case MSG_MSG_EXPUNGE_REPLY:
		m->u.MSG_EXPUNGE_REPLY.id = id;
		return true;
	default:
		return false;
	}
}

bool
keeper_answered_before(struct edge *e, uint64_t id, struct slice origin, uint64_t sequence, struct err *err_r)
{
	static struct buf b;
	static struct msg m;
	const struct msg_fds none = {.n = 0};

	if (b.max == 0)
		buf_init(&b, MSG_BYTES_MAX);
	if (origin.n != STORE_ORIGIN_BYTES) {
		err_set(err_r, ERR_PERM, ERR_CODE_MALFORMED, "bad request", "origin of %zu octets", origin.n);
		return false;
	}
	int found = index_request_find(keeper.index, origin.p, sequence, &b, err_r);

	if (found < 0 && index_broken(keeper.index))
		give_up(err_r);
	if (found <= 0)
		return false;
	if (!msg_decode(buf_slice(&b), &none, &m) || !set_id(&m, id)) {
		err_set(err_r, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "a recorded answer does not decode");
		return false;
	}
	keeper_say(e, &m);
	return true;
}

/* ---- the sync ---- */

static void
tell_usage(void)
{
	struct index_usage u = index_usage(keeper.index);
	struct edge *store = role_edge(ROLE_STORE, 0);

	if (store && (u.bytes != told_usage.bytes || u.messages != told_usage.messages) &&
	    IPC_SEND(store, KEEPER_USAGE, .bytes = u.bytes, .messages = u.messages))
		told_usage = u;
}

static void
flush(void)
{
	struct err e = {0};

	keeper_append_all();
	flush_armed = false;
	give_up_if_broken();
	if (index_flush(keeper.index, &e) < 0)
		give_up(&e);
	keeper_tell_tables();
	outbox_send(keeper.outbox, cannot_answer);
	tell_usage();
	if (index_wants_upkeep(keeper.index))
		loop_timer_set(upkeep_timer, UPKEEP_STEP_MS);
}

static void
on_flush(void *arg)
{
	(void)arg;
	flush();
	/* What was said meanwhile is on its way already: keeper_say() armed the timer again. */
}

/* ---- housekeeping, idling, leaving ---- */

static void
on_upkeep(void *arg)
{
	static uint64_t next_purge_ms;
	struct err e = {0};
	int more = 0;

	(void)arg;
	if (index_wants_upkeep(keeper.index)) {
		more = index_upkeep(keeper.index, &e);
	} else if (clock_ms() >= next_purge_ms) {
		uint64_t now = clock_wall_us() / 1000000, keep = config_number(role_config(), OPT_RETENTION) / 1000;

		more = index_purge(keeper.index, now > keep ? now - keep : 0, &e);
		if (more == 0)
			next_purge_ms = clock_ms() + PURGE_EVERY_MS;
	}
	if (more < 0) {
		if (index_broken(keeper.index))
			give_up(&e);
		log_event(LOG_WARN, NO_SESSION, "upkeep-failed", LOG_NUM("account", role_account()), LOG_ERR(&e), LOG_END);
	}
	loop_timer_set(upkeep_timer, more > 0 ? UPKEEP_STEP_MS : PURGE_EVERY_MS);
}

static void
on_idle(void *arg)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	(void)arg;
	if (keeper.peer_count > 0)
		return;
	/* Unanswered, it is asked again: a peer was on its way. */
	if (store && !IPC_SEND(store, PROCESS_IDLE, .peers_seen = keeper.peers_seen))
		log_event(LOG_WARN, NO_SESSION, "idle-unsaid", LOG_END);
	arm_idle();
}

static void
leave(void)
{
	if (leaving)
		return;
	leaving = true;
	flush();
	index_close(&keeper.index);
	role_exit(0);
}

static void
on_leave(struct edge *e, struct msg_PROCESS_LEAVE *m)
{
	(void)e;
	(void)m;
	leave();
}

/* ---- peers ---- */

static void
on_peer(struct edge *e, struct msg_KEEPER_PEER *m)
{
	int fd = m->fd;

	(void)e;
	m->fd = -1;
	keeper.peers_seen++;
	if (fd >= 0 && m->peer_role < ROLE_COUNT)
		(void)role_edge_add(fd, (struct edge_peer){.role = m->peer_role, .instance = keeper.peers_seen,
					    .generation = m->peer_generation});
}

static bool
is_client(const struct edge *e)
{
	enum role r = edge_peer(e)->role;

	return r == ROLE_DELIVER || r == ROLE_IMAP_WORKER || r == ROLE_POP3_WORKER;
}

static void
on_edge_up(struct edge *e)
{
	if (!is_client(e))
		return;
	struct keeper_peer *p = MEM_NEW(struct keeper_peer);

	p->edge = e;
	edge_set_arg(e, p);
	keeper.peer_count++;
	loop_timer_stop(idle_timer);
}

static void
on_edge_down(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_STORE) {
		/* Without the parent nobody can reach this process any more, and a new parent will want a new keeper. */
		leave();
		return;
	}
	if (is_client(e))
		peer_gone(e);
}

static void
on_edge_drained(struct edge *e)
{
	if (is_client(e) && keeper_peer(e)->lost_events)
		keeper_tell_resync(keeper_peer(e));
}

/* ---- the role ---- */

/* Never two keepers on one account. The lock ends with the process, however it ends. */
static int
take_lock(struct err *e)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[sizeof keeper.root + 8];
	uint64_t until = clock_ms() + LOCK_WAIT_MS;

	file_path(path, keeper.root, "lock");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys(e, errno, path);
	while (fcntl(fd, F_OFD_SETLK, &whole) < 0) {
		if ((errno != EAGAIN && errno != EACCES) || clock_ms() > until)
			return err_sys(e, errno, "lock of the account");
		usleep(LOCK_STEP_US);
	}
	/* Held until the process ends: the descriptor stays open. */
	return 0;
}

static int
init(struct err *e)
{
	int n = snprintf(keeper.root, sizeof keeper.root, "%s/accounts/%llu", role_state_dir(),
	    (unsigned long long)role_account());

	if (n < 0 || (size_t)n >= sizeof keeper.root)
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "bad setting", "state.directory is too long");
	if (take_lock(e) < 0)
		return -1;
	file_hook_db();
	keeper.outbox = outbox_new();
	flush_timer = loop_timer_new(role_loop(), on_flush, NULL);
	upkeep_timer = loop_timer_new(role_loop(), on_upkeep, NULL);
	idle_timer = loop_timer_new(role_loop(), on_idle, NULL);
	return index_open(keeper.root, clock_wall_us() / 1000000, &keeper.index, e);
}

static int
start(struct err *e)
{
	(void)e;
	loop_timer_set(upkeep_timer, UPKEEP_STEP_MS);
	arm_idle();
	tell_usage();
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_store = {.KEEPER_PEER = on_peer, .PROCESS_LEAVE = on_leave};
	static const struct ipc_dispatch from_deliver = {.MBOX_LIST = keeper_on_mbox_list, .MSG_APPEND = keeper_on_append};
	static const struct ipc_dispatch from_imap = {.MBOX_LIST = keeper_on_mbox_list,
	    .MBOX_CHANGE = keeper_on_mbox_change,
	    .MBOX_OPEN = keeper_on_mbox_open,
	    .MBOX_CLOSE = keeper_on_mbox_close,
	    .MBOX_RECENT = keeper_on_mbox_recent,
	    .MSG_FLAGS = keeper_on_flags,
	    .MSG_APPEND = keeper_on_append,
	    .MSG_COPY = keeper_on_copy,
	    .MSG_EXPUNGE = keeper_on_expunge,
	    .MSG_FETCH = keeper_on_fetch};
	static const struct ipc_dispatch from_pop3 = {.MBOX_LIST = keeper_on_mbox_list,
	    .MBOX_OPEN = keeper_on_mbox_open,
	    .MBOX_CLOSE = keeper_on_mbox_close,
	    .MSG_EXPUNGE = keeper_on_expunge,
	    .MSG_FETCH = keeper_on_fetch};
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
	    .role = ROLE_KEEPER,
	    .dispatch = {[ROLE_STORE] = &from_store, [ROLE_DELIVER] = &from_deliver, [ROLE_IMAP_WORKER] = &from_imap,
		[ROLE_POP3_WORKER] = &from_pop3, [ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .start = start,
	    .on_edge_up = on_edge_up,
	    .on_edge_down = on_edge_down,
	    .on_edge_drained = on_edge_drained,
	    .on_drain = leave,
	};

	return role_main(argc, argv, &spec);
}
