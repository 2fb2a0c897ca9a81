/*
 * lease: who may reach which account. A lease is opened by the directory alone and held by one connection of one front
 * process; it lasts until the connection ends, the front's process ends, or it is revoked.
 */
#ifndef STORE_LEASE_H
#define STORE_LEASE_H

#include "common/ipc.h"

#define LEASES_MAX 65536
#define LEASE_SERVICE_BYTES_MAX 16
#define LEASE_LOGIN_BYTES_MAX 320

struct lease_table;

struct lease {
	struct lease *next; /* in its bucket */
	struct edge_peer front;
	uint64_t conn;
	uint64_t account;
	uint64_t session_no; /* of the worker's session once attached, else 0 */
	char login[LEASE_LOGIN_BYTES_MAX + 1];
};

struct lease_table *lease_table_new(void);
void lease_table_free(struct lease_table **t);

/* A new lease; the same connection's older one is replaced. NULL when LEASES_MAX are open or login is too long or has a NUL. */
struct lease *lease_open(struct lease_table *t, const struct edge_peer *front, uint64_t conn, uint64_t account,
    struct slice login);
/* The lease of that connection of exactly that process, or NULL. */
struct lease *lease_find(struct lease_table *t, const struct edge_peer *front, uint64_t conn);
/* Ends it if it is there. */
void lease_close(struct lease_table *t, const struct edge_peer *front, uint64_t conn);
/* Ends all leases of that process (its edge went down). */
void lease_close_front(struct lease_table *t, const struct edge_peer *front);
/* Ends all leases of the account, after calling ended for each. */
void lease_revoke(struct lease_table *t, uint64_t account, void (*ended)(const struct lease *l, void *arg), void *arg);
unsigned lease_count(const struct lease_table *t);

#endif
