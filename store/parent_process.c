/*
 * A process is in the books from its order on: what is sent on its edge waits
 * in the socket until it reads. When it never comes up, the edge ends, and who
 * waits at the other sockets sees theirs end too. So there is no state
 * "starting".
 */
#include "store/parent_quota.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADS 4096u

static struct parent_account *heads[HEADS];
static unsigned account_count;
static unsigned process_count[ROLE_COUNT];

static struct parent_account **
head_of(uint64_t id)
{
	return &heads[id % HEADS];
}

struct parent_account *
parent_account_find(uint64_t id)
{
	struct parent_account *a = *head_of(id);

	while (a != NULL && a->id != id)
		a = a->next;
	return a;
}

struct parent_account *
parent_account(uint64_t id)
{
	struct parent_account *a = parent_account_find(id);

	if (a != NULL)
		return a;
	if (account_count == PARENT_ACCOUNTS_MAX || id == 0)
		return NULL;
	a = MEM_NEW(struct parent_account);
	a->id = id;
	a->next = *head_of(id);
	*head_of(id) = a;
	account_count++;
	return a;
}

unsigned
parent_account_count(void)
{
	return account_count;
}

unsigned
parent_count(enum role role)
{
	return process_count[role];
}

void
parent_account_each(parent_account_fn *fn, void *arg)
{
	for (unsigned i = 0; i < HEADS; i++)
		for (const struct parent_account *a = heads[i]; a != NULL; a = a->next)
			fn(a, arg);
}

static struct parent_process **
place_of(struct parent_account *a, enum role role)
{
	assert(role == ROLE_KEEPER || role == ROLE_IMAP_WORKER || role == ROLE_POP3_WORKER);
	return role == ROLE_KEEPER ? &a->keeper : role == ROLE_IMAP_WORKER ? &a->imap : &a->pop3;
}

static int
may_start(const struct parent_account *a, enum role role, struct err *e)
{
	unsigned workers = process_count[ROLE_IMAP_WORKER] + process_count[ROLE_POP3_WORKER];

	if (a->holder != NULL)
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "this account is being worked on", NULL);
	if (role == ROLE_KEEPER ? process_count[role] >= PARENT_KEEPERS_MAX : workers >= PARENT_WORKERS_MAX)
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "too many accounts in use", NULL);
	if (role == ROLE_KEEPER && a->failures >= PARENT_FAILURES_MAX && clock_ms() < a->aside_until_ms)
		return a->no_space ? err_set(e, ERR_TEMP, ERR_CODE_NO_SPACE, "insufficient storage", NULL)
				   : err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "this account is being repaired", NULL);
	return 0;
}

static struct parent_process *
spawn(struct parent_account *a, enum role role, struct err *e)
{
	struct parent_process *p;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		err_sys(e, errno, "socketpair");
		return NULL;
	}
	uint64_t id = role_spawn(role, a->id, pair[1]);

	(void)close(pair[1]);
	if (id == 0) {
		(void)close(pair[0]);
		err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "the supervisor takes no order");
		return NULL;
	}
	p = MEM_NEW(struct parent_process);
	p->role = role;
	p->account = a;
	p->generation = id;
	p->edge = role_edge_add(pair[0], (struct edge_peer){.role = role, .generation = id});
	assert(p->edge != NULL);
	edge_set_arg(p->edge, p);
	process_count[role]++;
	a->keepers += role == ROLE_KEEPER;
	return p;
}

struct parent_process *
parent_process(struct parent_account *a, enum role role, struct err *e)
{
	struct parent_process **place = place_of(a, role);

	if (*place == NULL && may_start(a, role, e) == 0) {
		*place = spawn(a, role, e);
		/* Before any peer's edge. */
		if (*place != NULL && role == ROLE_KEEPER)
			parent_quota_keeper_up(*place);
	}
	return *place;
}

struct parent_process *
parent_process_of(struct edge *e)
{
	struct parent_process *p = edge_arg(e);

	assert(p != NULL && p->edge == e);
	return p;
}

static void
set_aside(struct parent_account *a, bool no_space)
{
	a->no_space = no_space;
	a->aside_until_ms = clock_ms() + (no_space ? PARENT_ASIDE_FULL_MS : PARENT_ASIDE_MS);
}

static void
note_keeper_end(struct parent_account *a, const struct parent_process *p)
{
	if (p->leaving || p->opened)
		return;
	a->failures++;
	a->failed_id = p->generation;
	set_aside(a, p->no_space);
	log_event(a->failures >= PARENT_FAILURES_MAX ? LOG_ERROR : LOG_WARN, NO_SESSION, "keeper-failed",
	    LOG_NUM("account", a->id), LOG_NUM("times", a->failures), LOG_END);
}

void
parent_process_exit(uint64_t generation, uint32_t status)
{
	bool no_space = status == ROLE_EXIT_NO_SPACE;

	if (status != 128 + SIGKILL && status != ROLE_EXIT_REFUSED && !no_space)
		return;
	for (unsigned i = 0; i < HEADS; i++) {
		for (struct parent_account *a = heads[i]; a != NULL; a = a->next) {
			if (a->keeper != NULL && a->keeper->generation == generation)
				*(no_space ? &a->keeper->no_space : &a->keeper->opened) = true;
			else if (a->failed_id == generation && a->failures > 0 && no_space)
				set_aside(a, true);
			else if (a->failed_id == generation && a->failures > 0)
				a->failures--;
		}
	}
}

void
parent_process_down(struct edge *e)
{
	struct parent_process *p = parent_process_of(e);
	struct parent_process **place = place_of(p->account, p->role);

	process_count[p->role]--;
	if (p->role == ROLE_KEEPER) {
		p->account->keepers--;
		note_keeper_end(p->account, p);
		parent_deletion_end(p->account, false);
	} else {
		parent_lease_worker_down(p);
	}
	if (*place == p)
		*place = NULL;
	parent_hold_settle(p->account);
	if (p->role == ROLE_KEEPER)
		parent_quota_keeper_down(p);
	free(p);
}

void
parent_process_leave(struct parent_process *p)
{
	struct parent_process **place = place_of(p->account, p->role);

	if (!IPC_SEND(p->edge, PROCESS_LEAVE, ))
		return;
	p->leaving = true;
	if (*place == p)
		*place = NULL;
	if (p->role == ROLE_KEEPER)
		parent_quota_keeper_leaves(p);
}
