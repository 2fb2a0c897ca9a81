/*
 * A hash table by connection number. A front's process is named by role, instance and generation, so that a successor, which
 * counts its connections from the start again, never inherits a lease.
 */
#include "store/lease.h"

#include "common/mem.h"

#include <stdlib.h>

#define BUCKETS 4096u

struct lease_table {
	struct lease *buckets[BUCKETS];
	unsigned count;
};

struct lease_table *
lease_table_new(void)
{
	return MEM_NEW(struct lease_table);
}

static bool
same_process(const struct edge_peer *a, const struct edge_peer *b)
{
	return a->role == b->role && a->instance == b->instance && a->generation == b->generation;
}

/* What lease_drop() looks for. */
struct lease_filter {
	const struct edge_peer *front; /* NULL: any */
	uint64_t account;	       /* 0: any */
	void (*ended)(const struct lease *l, void *arg);
	void *arg;
};

static void
drop_where(struct lease_table *t, const struct lease_filter *f)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct lease **at = &t->buckets[i]; *at;) {
			struct lease *l = *at;

			if ((f->front && !same_process(&l->front, f->front)) || (f->account && l->account != f->account)) {
				at = &l->next;
				continue;
			}
			*at = l->next;
			t->count--;
			if (f->ended)
				f->ended(l, f->arg);
			free(l);
		}
}

void
lease_table_free(struct lease_table **t)
{
	if (*t == NULL)
		return;
	drop_where(*t, &(struct lease_filter){0});
	MEM_FREE(t);
}

static struct lease **
place_of(struct lease_table *t, const struct edge_peer *front, uint64_t conn)
{
	struct lease **at = &t->buckets[conn % BUCKETS];

	while (*at && !((*at)->conn == conn && same_process(&(*at)->front, front)))
		at = &(*at)->next;
	return at;
}

struct lease *
lease_open(struct lease_table *t, const struct edge_peer *front, uint64_t conn, uint64_t account, struct slice login)
{
	lease_close(t, front, conn);
	if (t->count >= LEASES_MAX)
		return NULL;
	struct lease *l = MEM_NEW(struct lease);

	if (!slice_cstr(login, l->login, sizeof l->login)) {
		free(l);
		return NULL;
	}
	l->front = *front;
	l->conn = conn;
	l->account = account;
	l->next = t->buckets[conn % BUCKETS];
	t->buckets[conn % BUCKETS] = l;
	t->count++;
	return l;
}

struct lease *
lease_find(struct lease_table *t, const struct edge_peer *front, uint64_t conn)
{
	return *place_of(t, front, conn);
}

void
lease_close(struct lease_table *t, const struct edge_peer *front, uint64_t conn)
{
	struct lease **at = place_of(t, front, conn);
	struct lease *l = *at;

	if (l == NULL)
		return;
	*at = l->next;
	t->count--;
	free(l);
}

void
lease_close_front(struct lease_table *t, const struct edge_peer *front)
{
	drop_where(t, &(struct lease_filter){.front = front});
}

void
lease_revoke(struct lease_table *t, uint64_t account, void (*ended)(const struct lease *l, void *arg), void *arg)
{
	drop_where(t, &(struct lease_filter){.account = account, .ended = ended, .arg = arg});
}

unsigned
lease_count(const struct lease_table *t)
{
	return t->count;
}
