#include "store/parent.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"

#define HEADS 1024u

static struct parent_lease *heads[HEADS];
static unsigned count;

static struct parent_lease **
head_of(uint64_t conn)
{
	return &heads[conn * UINT64_C(0x9e3779b97f4a7c15) >> 54];
}

static bool
is(const struct parent_lease *l, const struct edge_peer *front, uint64_t conn)
{
	return l->conn == conn && l->front.role == front->role && l->front.instance == front->instance &&
	    l->front.generation == front->generation;
}

static struct parent_lease **
find(const struct edge_peer *front, uint64_t conn)
{
	struct parent_lease **link = head_of(conn);

	while (*link != NULL && !is(*link, front, conn))
		link = &(*link)->next;
	return link;
}

struct parent_lease *
parent_lease_find(const struct edge_peer *front, uint64_t conn)
{
	return *find(front, conn);
}

unsigned
parent_lease_count(void)
{
	return count;
}

/* The lease ends; its session is told when it still lives. */
static void
drop(struct parent_lease **link)
{
	struct parent_lease *l = *link;

	*link = l->next;
	count--;
	if (l->worker != NULL && !IPC_SEND(l->worker->edge, WORKER_REVOKE, .session_no = l->session_no))
		log_event(LOG_WARN, NO_SESSION, "revoke-untold", LOG_NUM("account", l->account), LOG_END);
	free(l);
}

int
parent_lease_open(const struct edge_peer *front, uint64_t conn, uint64_t account, struct slice login, struct err *e)
{
	struct edge *edge = role_edge(front->role, front->instance);
	struct parent_lease *l;

	if (front->role != ROLE_IMAP_FRONT && front->role != ROLE_POP3_FRONT && front->role != ROLE_SUBMISSION)
		return err_set(e, ERR_PERM, ERR_CODE_DENIED, "not allowed", "a lease for role %d", (int)front->role);
	if (edge == NULL || edge_peer(edge)->generation != front->generation)
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "a lease for a front that has gone");
	if (parent_lease_find(front, conn) != NULL)
		return err_set(e, ERR_PERM, ERR_CODE_IN_USE, "internal error", "a second lease for one connection");
	if (count == PARENT_LEASES_MAX)
		return err_set(e, ERR_LIMIT, ERR_CODE_UNAVAILABLE, "too many sessions", NULL);
	l = MEM_NEW(struct parent_lease);
	l->front = *front;
	l->conn = conn;
	l->account = account;
	l->opened_ms = clock_ms();
	if (!slice_cstr(login, l->login, sizeof l->login))
		l->login[0] = '\0';
	l->next = *head_of(conn);
	*head_of(conn) = l;
	count++;
	return 0;
}

void
parent_lease_close(const struct edge_peer *front, uint64_t conn)
{
	struct parent_lease **link = find(front, conn);

	if (*link != NULL)
		drop(link);
}

void
parent_lease_revoke(uint64_t account)
{
	for (unsigned i = 0; i < HEADS; i++) {
		for (struct parent_lease **link = &heads[i]; *link != NULL;) {
			if ((*link)->account == account)
				drop(link);
			else
				link = &(*link)->next;
		}
	}
}

void
parent_lease_sweep(uint64_t now_ms)
{
	for (unsigned i = 0; i < HEADS; i++) {
		for (struct parent_lease **link = &heads[i]; *link != NULL;) {
			const struct parent_lease *l = *link;

			/* A submission's is used by deliver's questions alone, and lasts as long as its connection. */
			if (l->session_no == 0 && l->front.role != ROLE_SUBMISSION &&
			    now_ms - l->opened_ms > PARENT_LEASE_UNUSED_MS)
				drop(link);
			else
				link = &(*link)->next;
		}
	}
}

void
parent_lease_front_down(const struct edge_peer *front)
{
	for (unsigned i = 0; i < HEADS; i++) {
		for (struct parent_lease **link = &heads[i]; *link != NULL;) {
			if (is(*link, front, (*link)->conn))
				drop(link);
			else
				link = &(*link)->next;
		}
	}
}

void
parent_lease_session_end(struct parent_process *worker, uint64_t session_no)
{
	for (unsigned i = 0; i < HEADS; i++)
		for (struct parent_lease *l = heads[i]; l != NULL; l = l->next)
			if (l->worker == worker && l->session_no == session_no)
				l->worker = NULL;
}

void
parent_lease_worker_down(struct parent_process *worker)
{
	for (unsigned i = 0; i < HEADS; i++)
		for (struct parent_lease *l = heads[i]; l != NULL; l = l->next)
			if (l->worker == worker)
				l->worker = NULL;
}
