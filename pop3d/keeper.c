/*
 * The store gives the edge (STORE_CONNECT); the account is the one that it started this process
 * for. Trying again is the timer's affair alone, so that no failure is told from inside the call
 * that caused it.
 */
#include "pop3d/keeper.h"

#include "common/log.h"
#include "common/role.h"
#include "store/store.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>

/* Pause before trying again, doubled each time up to the last. */
#define AGAIN_MS 100
#define AGAIN_MS_MAX 2000

static struct {
	struct edge *edge;
	uint64_t connecting; /* the STORE_CONNECT that waits; 0: none */
	uint64_t generation;
	struct loop_timer *timer;
	/* The request. */
	keeper_send_fn *send;
	keeper_done_fn *done; /* NULL: none is waiting */
	void *arg;
	uint64_t id; /* on the edge; 0: not sent */
	uint64_t until_ms;
	uint64_t pause_ms;
	unsigned tries;
	bool refusal_logged;
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t sequence;
} keeper;

static void
again_later(void)
{
	loop_timer_set(keeper.timer, keeper.pause_ms);
	keeper.pause_ms = keeper.pause_ms < AGAIN_MS_MAX / 2 ? keeper.pause_ms * 2 : AGAIN_MS_MAX;
}

static void
finish(void *reply, const struct err *e)
{
	keeper_done_fn *done = keeper.done;

	keeper.done = NULL;
	keeper.id = 0;
	loop_timer_stop(keeper.timer);
	if (done)
		done(keeper.arg, reply, e);
}

/* No answer, and no more tries. A keeper that was asked may have done it. */
static void
give_up(const struct err *e)
{
	struct err uncertain;

	if (keeper.tries > 0) {
		err_set(&uncertain, ERR_TEMP, ERR_CODE_UNCERTAIN, "Temporary failure", "%s", e->detail);
		e = &uncertain;
	}
	finish(NULL, e);
}

/* ---- the edge ---- */

static void
connect_gone(void *obj, const struct err *e)
{
	(void)obj;
	log_event(LOG_INFO, NO_SESSION, "keeper-not-connected", LOG_ERR(e), LOG_END);
	keeper.connecting = 0;
	again_later();
}

static void
connect_keeper(void)
{
	struct edge *store = role_edge(ROLE_STORE, 0);

	if (keeper.connecting != 0 || keeper.edge != NULL)
		return;
	uint64_t id = store ? ipc_expect(store, KEEPER_REQUEST_MS, connect_gone, NULL) : 0;

	if (id != 0 && IPC_SEND(store, STORE_CONNECT, .id = id, .account = role_account())) {
		keeper.connecting = id;
		return;
	}
	if (id != 0)
		ipc_forget(store, id);
	again_later();
}

static void
request_gone(void *obj, const struct err *e)
{
	(void)obj;
	keeper.id = 0;
	keeper.tries++;
	if (e->code == ERR_CODE_TIMEOUT || keeper.tries >= KEEPER_TRIES_MAX)
		give_up(e);
	else
		again_later();
}

/* Sends what waits; when that cannot be now, the timer comes back. */
static void
send_now(void)
{
	if (keeper.done == NULL || keeper.id != 0)
		return;
	if (keeper.edge == NULL) {
		connect_keeper();
		return;
	}
	keeper.id = ipc_expect(keeper.edge, KEEPER_REQUEST_MS, request_gone, NULL);
	if (keeper.id != 0 && keeper.send(keeper.edge, keeper.id, keeper.arg))
		return;
	if (keeper.id != 0)
		ipc_forget(keeper.edge, keeper.id);
	keeper.id = 0;
	again_later();
}

static void
try_again(void *arg)
{
	struct err late;

	(void)arg;
	if (keeper.done != NULL && keeper.id == 0 && clock_ms() >= keeper.until_ms) {
		err_set(&late, ERR_TEMP, ERR_CODE_UNAVAILABLE, "Temporary failure",
		    "no keeper in time");
		give_up(&late);
		return;
	}
	send_now();
}

/* An account that is being repaired, or gone for good. */
static void
refused(const struct msg_STORE_CONNECTED *m)
{
	struct err e;

	if (!keeper.refusal_logged)
		log_event(LOG_WARN, NO_SESSION, "keeper-refused", LOG_NUM("class", m->class),
		    LOG_NUM("code", m->code), LOG_END);
	keeper.refusal_logged = true;
	if (m->class == ERR_NONE || m->class == ERR_TEMP) {
		again_later();
		return;
	}
	err_set(&e, (enum err_class)m->class, (enum err_code)m->code, "Not available", "no keeper");
	finish(NULL, &e);
}

void
keeper_on_connected(struct edge *store, struct msg_STORE_CONNECTED *m)
{
	if (keeper.connecting != m->id)
		return;
	(void)ipc_answered(store, m->id);
	keeper.connecting = 0;
	if (m->class != ERR_NONE || m->fd < 0) {
		refused(m);
		return;
	}
	int fd = m->fd;

	m->fd = -1;
	keeper.edge = role_edge_add(
	    fd, (struct edge_peer){.role = ROLE_KEEPER, .generation = ++keeper.generation});
	send_now();
}

void
keeper_edge_down(struct edge *e)
{
	if (e != keeper.edge)
		return;
	keeper.edge = NULL;
	if (keeper.done != NULL)
		again_later();
}

/* ---- the session's side ---- */

static void
init(void)
{
	if (keeper.timer != NULL)
		return;
	keeper.timer = loop_timer_new(role_loop(), try_again, NULL);
	if (getrandom(keeper.origin, sizeof keeper.origin, 0) != (ssize_t)sizeof keeper.origin)
		abort();
}

void
keeper_ask(keeper_send_fn *send, keeper_done_fn *done, void *arg)
{
	assert(keeper.done == NULL && keeper.id == 0);
	init();
	keeper.send = send;
	keeper.done = done;
	keeper.arg = arg;
	keeper.tries = 0;
	keeper.pause_ms = AGAIN_MS;
	keeper.refusal_logged = false;
	keeper.until_ms = clock_ms() + KEEPER_REQUEST_MS;
	send_now();
}

void
keeper_forget(void)
{
	if (keeper.done == NULL)
		return;
	if (keeper.id != 0 && keeper.edge != NULL)
		ipc_forget(keeper.edge, keeper.id);
	keeper.id = 0;
	keeper.done = NULL;
	loop_timer_stop(keeper.timer);
}

struct slice
keeper_origin(void)
{
	init();
	return slice_of(keeper.origin, sizeof keeper.origin);
}

uint64_t
keeper_next_sequence(void)
{
	return ++keeper.sequence;
}

/* ---- the answers ---- */

static void
answered(struct edge *e, uint64_t id, void *reply, uint32_t class, uint32_t code)
{
	struct err why;

	if (keeper.done == NULL || id != keeper.id)
		return;
	(void)ipc_answered(e, id);
	if (class == ERR_NONE) {
		finish(reply, NULL);
		return;
	}
	err_set(&why, (enum err_class) class, (enum err_code)code, "Temporary failure",
	    "refused by the keeper");
	finish(NULL, &why);
}

static void
on_list(struct edge *e, struct msg_MBOX_LIST_REPLY *m)
{
	answered(e, m->id, m, m->class, m->code);
}

static void
on_fetch(struct edge *e, struct msg_MSG_FETCH_REPLY *m)
{
	answered(e, m->id, m, m->class, m->code);
}

static void
on_expunge(struct edge *e, struct msg_MSG_EXPUNGE_REPLY *m)
{
	answered(e, m->id, m, m->class, m->code);
}

/*
 * A maildrop does not change during a session (RFC 1939 4), and nothing is watched; a keeper may
 * tell all the same.
 */
static void
on_mailboxes(struct edge *e, struct msg_EVENT_MAILBOXES *m)
{
	(void)e;
	(void)m;
}

const struct ipc_dispatch keeper_dispatch = {
    .MBOX_LIST_REPLY = on_list,
    .MSG_FETCH_REPLY = on_fetch,
    .MSG_EXPUNGE_REPLY = on_expunge,
    .EVENT_MAILBOXES = on_mailboxes,
};
