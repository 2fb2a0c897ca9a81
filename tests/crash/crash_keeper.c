#include "tests/crash/crash_keeper.h"

#include "common/loop.h"
#include "common/mem.h"
#include "store/keeper_retain.h"

#include <assert.h>

#define CRASH_TIMERS 4

/* What the keeper takes for a peer. */
struct edge {
	struct edge_peer peer;
	void *arg;
};

static struct edge peers[] = {
    {.peer = {.role = ROLE_DELIVER}}, {.peer = {.role = ROLE_IMAP_WORKER}}, {.peer = {.role = ROLE_POP3_WORKER}},
    {.peer = {.role = ROLE_ADMIN}}};
static const struct crash_keeper_events *events;
static struct index *ix;
static bool broken;
static uint64_t now_s, now_ms;
static char timer; /* what the loop and its timers are */
static struct crash_request *requests;
static size_t request_cap;

/* ---- in place of the real ones ---- */

bool __wrap_ipc_send(struct edge *e, const struct msg *m);
bool __wrap_ipc_tell(struct edge *e, const struct msg *m);
const struct edge_peer *__wrap_edge_peer(const struct edge *e);
void *__wrap_edge_arg(const struct edge *e);
void __wrap_edge_set_arg(struct edge *e, void *arg);
struct loop_timer *__wrap_loop_timer_new(struct loop *l, loop_timer_fn *fn, void *arg);
void __wrap_loop_timer_set(struct loop_timer *t, uint64_t ms);
void __wrap_loop_timer_stop(struct loop_timer *t);
void __wrap_loop_timer_free(struct loop_timer **t);
uint64_t __wrap_clock_ms(void);
uint64_t __wrap_clock_wall_us(void);
int __wrap_index_commit(struct index *index, struct err *e);
int __real_index_commit(struct index *index, struct err *e);
int __wrap_index_request_done(struct index *index, enum index_ring ring, const uint8_t *origin, uint64_t sequence,
    struct slice reply, struct err *e);
int __real_index_request_done(struct index *index, enum index_ring ring, const uint8_t *origin, uint64_t sequence,
    struct slice reply, struct err *e);

const struct edge_peer *
__wrap_edge_peer(const struct edge *e)
{
	return &e->peer;
}

void *
__wrap_edge_arg(const struct edge *e)
{
	return e->arg;
}

void
__wrap_edge_set_arg(struct edge *e, void *arg)
{
	e->arg = arg;
}

struct loop_timer *
__wrap_loop_timer_new(struct loop *l, loop_timer_fn *fn, void *arg)
{
	(void)l;
	(void)fn;
	(void)arg;
	return (struct loop_timer *)(void *)&timer;
}

void
__wrap_loop_timer_set(struct loop_timer *t, uint64_t ms)
{
	(void)t;
	(void)ms;
}

void
__wrap_loop_timer_stop(struct loop_timer *t)
{
	(void)t;
}

void
__wrap_loop_timer_free(struct loop_timer **t)
{
	*t = NULL;
}

uint64_t
__wrap_clock_ms(void)
{
	return now_ms;
}

uint64_t
__wrap_clock_wall_us(void)
{
	return now_s * 1000000;
}

int
__wrap_index_commit(struct index *index, struct err *e)
{
	int failed = __real_index_commit(index, e);

	if (failed == 0 && index == ix)
		events->committed(ix);
	return failed;
}

int
__wrap_index_request_done(struct index *index, enum index_ring ring, const uint8_t *origin, uint64_t sequence,
    struct slice reply, struct err *e)
{
	crash_request(sequence)->serial = index_serial(index);
	return __real_index_request_done(index, ring, origin, sequence, reply, e);
}

/* The id of an answer to a mutation, which is its sequence; 0: something else. class_r: its outcome. */
static uint64_t
answer_of(const struct msg *m, uint32_t *class_r)
{
	switch (m->type) {
#define ANSWER(NAME)                                                                               \
	case MSG_##NAME:                                                                           \
		*class_r = m->u.NAME.class;                                                        \
		return m->u.NAME.id;
		ANSWER(MBOX_CHANGE_REPLY)
		ANSWER(MSG_FLAGS_REPLY)
		ANSWER(MSG_APPEND_REPLY)
		ANSWER(MSG_COPY_REPLY)
		ANSWER(MSG_EXPUNGE_REPLY)
		ANSWER(UNDELETE_MESSAGES_REPLY)
		ANSWER(UNDELETE_MAILBOX_REPLY)
		ANSWER(RETAINED_FORGET_REPLY)
	default:
		return 0;
	}
}

bool
__wrap_ipc_send(struct edge *e, const struct msg *m)
{
	uint32_t class = ERR_NONE;
	uint64_t sequence = answer_of(m, &class);
	struct crash_request *r = crash_request(sequence);
	struct msg_fds fds;
	struct buf b;

	(void)e;
	events->told();
	/* A refusal for the moment promises nothing. */
	if (sequence == 0 || class == ERR_TEMP || class == ERR_BUG)
		return true;
	buf_init(&b, MSG_BYTES_MAX);
	bool encoded = msg_encode(m, &b, &fds);

	assert(encoded);
	if (r->answer != NULL && (r->answer_bytes != b.n || memcmp(r->answer, b.p, b.n) != 0))
		r->contradicts = true;
	free(r->answer);
	r->answer = mem_copy_str(b.p, b.n);
	r->answer_bytes = b.n;
	r->answers++;
	buf_fini(&b);
	return true;
}

bool
__wrap_ipc_tell(struct edge *e, const struct msg *m)
{
	return __wrap_ipc_send(e, m);
}

/* ---- */

struct crash_request *
crash_request(uint64_t sequence)
{
	if (sequence >= request_cap) {
		size_t cap = (size_t)sequence + 1024;

		requests = mem_resize(requests, cap, sizeof *requests);
		memset(requests + request_cap, 0, (cap - request_cap) * sizeof *requests);
		request_cap = cap;
	}
	return &requests[sequence];
}

void
crash_requests_forget(uint64_t from)
{
	for (size_t i = (size_t)from; i < request_cap; i++) {
		free(requests[i].answer);
		requests[i] = (struct crash_request){.serial = 0};
	}
}

static void
on_broken(void *arg)
{
	(void)arg;
	broken = true;
}

int
crash_keeper_open(const char *root, uint64_t now, const struct crash_keeper_events *e, struct err *err)
{
	static const struct keeper_events keeper = {.broken = on_broken};
	static const struct keeper_settings settings = {
	    .retention_s = CRASH_RETENTION_S, .retention_bytes = CRASH_RETENTION_BYTES};
	static char kept_root[FILE_PATH_BYTES_MAX];

	assert(ix == NULL && strlen(root) < sizeof kept_root);
	file_set_log_bytes(CRASH_LOG_BYTES);
	env_set_redo_bytes(CRASH_REDO_BYTES);
	memcpy(kept_root, root, strlen(root) + 1);
	events = e;
	broken = false;
	now_s = now;
	if (index_open(kept_root, now, &ix, err) < 0)
		return -1;
	keeper_start((struct loop *)(void *)&timer, ix, kept_root, &settings, &keeper, NULL);
	keeper_quota_set((struct quota){QUOTA_NONE, QUOTA_NONE}, false);
	for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
		keeper_peer_up(&peers[i]);
	return 0;
}

struct index *
crash_keeper_index(void)
{
	return ix;
}

bool
crash_keeper_broken(void)
{
	return broken || index_broken(ix);
}

void
crash_keeper_close(bool in_order)
{
	if (ix == NULL)
		return;
	if (!in_order) {
		/* The index closes without a checkpoint, and nothing that waits is done. */
		the_keeper.stopped = true;
		ix->broken = true;
	}
	keeper_stop();
	ix = NULL;
}

void
crash_keeper_time(uint64_t seconds)
{
	now_s = seconds;
}

void
crash_keeper_settle(void)
{
	if (!the_keeper.stopped && keeper_pending_sync())
		keeper_pending_do();
}

static struct edge *
peer_of(enum role role)
{
	return &peers[role == ROLE_DELIVER ? 0 : role == ROLE_IMAP_WORKER ? 1 : role == ROLE_POP3_WORKER ? 2 : 3];
}

void
crash_keeper_leave(enum role role)
{
	keeper_peer_down(peer_of(role));
	keeper_peer_up(peer_of(role));
}

/*
 * As a step of the keeper does it, but in the order of asking, whatever waits besides, and without the sync at its end:
 * that is crash_keeper_flush(). So a history that goes on after a cut is the same again.
 */
void
crash_keeper_ask(enum role role, struct msg *m)
{
	struct edge *e = peer_of(role);

	if (m->type != MSG_MSG_APPEND)
		crash_keeper_settle();
	switch (m->type) {
#define ASK(NAME, handler)                                                                         \
	case MSG_##NAME:                                                                           \
		handler(e, &m->u.NAME);                                                            \
		break;
		ASK(MSG_APPEND, keeper_on_append)
		ASK(MSG_FLAGS, keeper_on_flags)
		ASK(MSG_COPY, keeper_on_copy)
		ASK(MSG_EXPUNGE, keeper_on_expunge)
		ASK(MSG_SUMMARY, keeper_on_summary)
		ASK(MBOX_CHANGE, keeper_on_change)
		ASK(MBOX_OPEN, keeper_on_open)
		ASK(MBOX_RECENT, keeper_on_recent)
		ASK(UNDELETE_MESSAGES, keeper_on_undelete_messages)
		ASK(UNDELETE_MAILBOX, keeper_on_undelete_mailbox)
		ASK(RETAINED_FORGET, keeper_on_forget)
	default:
		assert(false); /* no request of the workload */
	}
	/* It may have left a claim of \Recent to be done. */
	if (m->type == MSG_MBOX_OPEN)
		keeper_flush();
}

void
crash_keeper_flush(void)
{
	keeper_flush();
}

void
crash_keeper_purge(void)
{
	now_ms += UINT64_C(1000000000);
	while (!crash_keeper_broken() && keeper_upkeep())
		now_ms += UINT64_C(1000000000);
}
