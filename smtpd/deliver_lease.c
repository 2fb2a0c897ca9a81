/*
 * Leases by (front, connection). They come from the directory alone, and only for the submission front as the
 * supervisor numbered it; a connection number is never used twice by one front.
 */
#include "smtpd/deliver.h"

#include "common/mem.h"

#include <stdlib.h>

#define BUCKETS 1024
#define LOGIN_BYTES_MAX 320

struct entry {
	struct entry *next;
	struct edge_peer front;
	uint64_t conn;
	uint64_t account;
	size_t login_bytes;
	uint8_t login[LOGIN_BYTES_MAX];
};

static struct entry *table[BUCKETS];
static unsigned count;

static bool
same_front(const struct edge_peer *a, const struct edge_peer *b)
{
	return a->role == b->role && a->instance == b->instance && a->generation == b->generation;
}

/* Where the entry's pointer stands, or the end of its chain. */
static struct entry **
find(const struct edge_peer *front, uint64_t conn)
{
	struct entry **at = &table[conn % BUCKETS];

	while (*at != NULL && !((*at)->conn == conn && same_front(&(*at)->front, front)))
		at = &(*at)->next;
	return at;
}

static void
drop(struct entry **at)
{
	struct entry *gone = *at;

	*at = gone->next;
	free(gone);
	count--;
}

/* Drops all that match; each test gives true for one to drop. */
static void
drop_all(bool (*test)(const struct entry *, const void *), const void *arg)
{
	for (unsigned b = 0; b < BUCKETS; b++) {
		struct entry **at = &table[b];
		while (*at != NULL) {
			if (test(*at, arg))
				drop(at);
			else
				at = &(*at)->next;
		}
	}
}

static enum err_class
open_lease(const struct msg_LEASE_OPEN *m)
{
	struct edge_peer front = {m->front_role, m->front_instance, m->front_generation};
	struct edge *e = m->front_role == ROLE_SUBMISSION ? role_edge(ROLE_SUBMISSION, m->front_instance) : NULL;
	struct entry **at;

	/* A front that has ended holds nothing, and nobody would ever close its leases. */
	if (e == NULL || !same_front(edge_peer(e), &front) || m->account == 0 ||
	    m->login.n > LOGIN_BYTES_MAX)
		return ERR_PERM;
	at = find(&front, m->conn);
	if (*at != NULL)
		drop(at);
	if (count == DELIVER_LEASES_MAX)
		return ERR_LIMIT;
	struct entry *fresh = MEM_NEW(struct entry);
	fresh->front = front;
	fresh->conn = m->conn;
	fresh->account = m->account;
	fresh->login_bytes = m->login.n;
	memcpy(fresh->login, m->login.p, m->login.n);
	fresh->next = table[m->conn % BUCKETS];
	table[m->conn % BUCKETS] = fresh;
	count++;
	return ERR_NONE;
}

void
deliver_lease_open(struct edge *e, struct msg_LEASE_OPEN *m)
{
	enum err_class class = open_lease(m);

	log_event(class == ERR_NONE ? LOG_DEBUG : LOG_WARN, NO_SESSION, "lease-open", LOG_NUM("conn", m->conn),
	    LOG_NUM("account", m->account), LOG_CSTR("class", err_class_name(class)), LOG_END);
	if (!IPC_SEND(e, LEASE_OPENED, .id = m->id, .class = class))
		log_event(LOG_WARN, NO_SESSION, "lease-answer-unsent", LOG_END);
}

void
deliver_lease_close(struct edge *e, struct msg_LEASE_CLOSE *m)
{
	struct entry **at = find(edge_peer(e), m->conn);

	if (*at != NULL)
		drop(at);
}

static bool
of_account(const struct entry *l, const void *arg)
{
	const uint64_t *account = arg;

	return l->account == *account;
}

void
deliver_lease_revoke(struct edge *e, struct msg_LEASE_REVOKE *m)
{
	(void)e;
	log_event(LOG_INFO, NO_SESSION, "lease-revoked", LOG_NUM("account", m->account), LOG_END);
	drop_all(of_account, &m->account);
}

static bool
of_front(const struct entry *l, const void *arg)
{
	return same_front(&l->front, arg);
}

void
deliver_lease_front_down(const struct edge_peer *front)
{
	drop_all(of_front, front);
}

bool
deliver_lease_find(const struct edge_peer *front, uint64_t conn, struct lease *lease_r)
{
	const struct entry *l = *find(front, conn);

	if (l == NULL)
		return false;
	*lease_r = (struct lease){l->account, slice_of(l->login, l->login_bytes)};
	return true;
}
