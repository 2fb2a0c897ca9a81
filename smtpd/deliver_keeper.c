/*
 * Edges to keepers, one per account in use. The store's parent starts the
 * keeper when there is none. An edge that nobody uses is closed after a while, or at once
 * when another account needs its place, so that idle keepers may leave; when all are in
 * use, those who want another account wait in line.
 */
#include "smtpd/deliver.h"
#include "smtpd/deliver_keeper.h"

#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>

#define BUCKETS 256
#define SWEEP_MS 1000

struct waiter {
	struct waiter *next;
	uint64_t account;
	keeper_ready_fn *ready;
	void *arg;
};

struct waiters {
	struct waiter *first;
	struct waiter *last;
};

struct keeper {
	struct keeper *next;
	uint64_t account;
	struct edge *edge; /* NULL: not connected (any more) */
	bool connecting;
	unsigned users; /* between ready and release */
	uint64_t idle_since;
	struct waiters waiters; /* for the connection */
};

static struct keeper *table[BUCKETS];
static unsigned count;
static struct waiters line; /* for a place in the table */
static struct loop_timer *sweep_timer;

static void connect_keeper(struct keeper *k);

static void
waiters_put(struct waiters *w, struct waiter *one)
{
	one->next = NULL;
	if (w->first == NULL)
		w->first = w->last = one;
	else
		w->last = w->last->next = one;
}

static struct waiter *
waiters_take(struct waiters *w)
{
	struct waiter *one = w->first;

	if (one)
		w->first = one->next;
	return one;
}

static struct keeper **
find(uint64_t account)
{
	struct keeper **at = &table[account % BUCKETS];

	while (*at != NULL && (*at)->account != account)
		at = &(*at)->next;
	return at;
}

static bool
in_use(const struct keeper *k)
{
	return k->users > 0 || k->connecting || k->waiters.first != NULL;
}

static void
remove_at(struct keeper **at)
{
	struct keeper *k = *at;

	assert(!in_use(k));
	*at = k->next;
	role_edge_close(&k->edge);
	free(k);
	count--;
}

/* Removes what has been idle for ms; gives the number still there that is idle. */
static unsigned
sweep(uint64_t ms)
{
	uint64_t now = clock_ms();
	unsigned idle = 0;

	for (unsigned b = 0; b < BUCKETS; b++) {
		struct keeper **at = &table[b];
		while (*at != NULL) {
			if (!in_use(*at) && now - (*at)->idle_since >= ms) {
				remove_at(at);
				continue;
			}
			idle += !in_use(*at);
			at = &(*at)->next;
		}
	}
	return idle;
}

/* Makes a place for one more account by giving up the one that has been idle the longest. */
static bool
make_place(void)
{
	struct keeper **oldest = NULL;

	if (count < DELIVER_KEEPERS_MAX)
		return true;
	for (unsigned b = 0; b < BUCKETS; b++)
		for (struct keeper **at = &table[b]; *at != NULL; at = &(*at)->next)
			if (!in_use(*at) && (oldest == NULL || (*at)->idle_since < (*oldest)->idle_since))
				oldest = at;
	if (oldest == NULL)
		return false;
	remove_at(oldest);
	return true;
}

/* ---- connecting ---- */

static void
connect_failed(struct keeper *k, const struct err *e)
{
	struct waiters failed = k->waiters;
	struct waiter *w;

	k->connecting = false;
	k->waiters = (struct waiters){NULL, NULL};
	k->idle_since = clock_ms();
	while ((w = waiters_take(&failed)) != NULL) {
		w->ready(w->arg, NULL, e);
		free(w);
	}
	loop_timer_set(sweep_timer, SWEEP_MS);
}

static void
connect_gone(void *obj, const struct err *e)
{
	connect_failed(obj, e);
}

static void
connect_keeper(struct keeper *k)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	struct err e;
	uint64_t id = store ? ipc_expect(store, DELIVER_CONNECT_MS, connect_gone, k) : 0;

	k->connecting = true;
	if (id != 0 && IPC_SEND(store, STORE_CONNECT, .id = id, .account = k->account))
		return;
	if (id != 0)
		ipc_forget(store, id);
	err_set(&e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "the store is away", NULL);
	connect_failed(k, &e);
}

void
deliver_on_connected(struct edge *e, struct msg_STORE_CONNECTED *m)
{
	struct keeper *k = ipc_answered(e, m->id);
	struct err why;
	struct waiter *w;

	if (k == NULL)
		return;
	if (m->class != ERR_NONE || m->fd < 0) {
		err_set(&why, m->class != ERR_NONE && m->class <= ERR_BUG ? (enum err_class)m->class : ERR_TEMP,
		    m->code <= ERR_CODE_EXPIRED ? (enum err_code)m->code : ERR_CODE_UNAVAILABLE,
		    "the mailbox is not available", "no keeper for account %llu", (unsigned long long)k->account);
		connect_failed(k, &why);
		return;
	}
	k->edge = role_edge_add(m->fd, (struct edge_peer){ROLE_KEEPER, 0, k->account});
	m->fd = -1;
	k->connecting = false;
	/* One at a time, as each may add and take others. */
	while (k->edge != NULL && (w = waiters_take(&k->waiters)) != NULL) {
		k->users++;
		w->ready(w->arg, k->edge, NULL);
		free(w);
	}
}

/* ---- wanting and releasing ---- */

/* Joins w to its account's keeper, which has or gets a place. */
static void
join(struct waiter *w)
{
	struct keeper **at = find(w->account);
	struct keeper *k = *at;

	if (k == NULL) {
		k = *at = MEM_NEW(struct keeper);
		k->account = w->account;
		count++;
	}
	if (k->edge != NULL) {
		k->users++;
		w->ready(w->arg, k->edge, NULL);
		free(w);
		return;
	}
	waiters_put(&k->waiters, w);
	if (!k->connecting)
		connect_keeper(k);
}

static void
serve_line(void)
{
	while (line.first != NULL && (*find(line.first->account) != NULL || make_place()))
		join(waiters_take(&line));
}

void
deliver_keeper_want(uint64_t account, keeper_ready_fn *ready, void *arg)
{
	struct waiter *w = MEM_NEW(struct waiter);

	*w = (struct waiter){.account = account, .ready = ready, .arg = arg};
	if (*find(account) != NULL || make_place())
		join(w);
	else
		waiters_put(&line, w);
}

void
deliver_keeper_release(uint64_t account)
{
	struct keeper *k = *find(account);

	assert(k != NULL && k->users > 0);
	if (--k->users == 0) {
		k->idle_since = clock_ms();
		/* Who waits in line is served from the timer: the caller may be in the middle of its own work. */
		loop_timer_set(sweep_timer, line.first ? 0 : SWEEP_MS);
	}
}

void
deliver_keeper_down(const struct edge *e)
{
	for (unsigned b = 0; b < BUCKETS; b++)
		for (struct keeper *k = table[b]; k != NULL; k = k->next)
			if (k->edge == e)
				k->edge = NULL;
}

static void
on_sweep(void *arg)
{
	(void)arg;
	serve_line();
	if (sweep(DELIVER_KEEPER_IDLE_MS) > 0)
		loop_timer_set(sweep_timer, SWEEP_MS);
}

void
deliver_keeper_init(struct loop *l)
{
	sweep_timer = loop_timer_new(l, on_sweep, NULL);
}
