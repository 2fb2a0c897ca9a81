/*
 * keeper_link: a worker's edge to its account's keeper, which may die and come back while sessions go on. A
 * request outlives the edge: it is sent again to the next keeper, with the same {origin, sequence}, so a
 * mutation is done once and answered at least once. After KEEPER_TRIES_MAX keepers or KEEPER_REQUEST_MS
 * without an answer it fails as ERR_TEMP; a mutation that was sent and never answered as ERR_CODE_UNCERTAIN.
 */
#ifndef IMAPD_KEEPER_LINK_H
#define IMAPD_KEEPER_LINK_H

#include "common/err.h"
#include "common/ipc.h"

#define KEEPER_REQUEST_MS 30000
#define KEEPER_TRIES_MAX 3
/* Requests of one worker that wait at once; past it keeper_ask() fails them as ERR_TEMP. */
#define KEEPER_REQUESTS_MAX 4096

struct keeper_link;
struct keeper_request;

struct keeper_link_events {
	/* Get a new edge (STORE_CONNECT) and call keeper_link_up(), or keeper_link_refused(). */
	void (*wanted)(void *arg);
	/* A keeper is there (again): open views anew. Called before waiting requests are sent. */
	void (*up)(void *arg);
};

/*
 * The one call with the end of a request. reply is the struct msg_..._REPLY of what was asked (its descriptors may be
 * taken by setting the field to -1), or NULL and e says why not. The request is gone after it. A reply whose class is
 * not ERR_NONE comes as e with its class, code and text.
 */
typedef void keeper_done_fn(void *owner, void *reply, const struct err *e);

struct keeper_link *keeper_link_new(struct loop *l, const struct keeper_link_events *ev, void *arg);
void keeper_link_free(struct keeper_link **k);
/* The edge is the caller's, who tells keeper_link_down() when it ends (after its pending requests failed). again: there
 * are views to keep true, so another one is wanted even without requests. */
void keeper_link_up(struct keeper_link *k, struct edge *e);
void keeper_link_down(struct keeper_link *k, const struct edge *e, bool again);
/* No keeper could be had: try again a little later. */
void keeper_link_refused(struct keeper_link *k);
/* The present edge, or NULL. */
struct edge *keeper_link_edge(const struct keeper_link *k);

/*
 * Sends m, one of the keeper's requests; its id is filled in, its octets are copied and its descriptors duplicated. A
 * mutation gets this process's origin and the next sequence. Never NULL; done is called later, from the loop.
 */
struct keeper_request *keeper_ask(struct keeper_link *k, struct msg *m, keeper_done_fn *done, void *owner);
/* The owner is going away: done is not called. Sets *r to NULL; NULL is fine. */
void keeper_forget(struct keeper_request **r);
/* For the dispatch: an answer came over e. reply as for keeper_done_fn; text may be empty. */
void keeper_answered(struct edge *e, uint64_t id, void *reply, uint32_t class, uint32_t code,
    struct slice text);

#endif
