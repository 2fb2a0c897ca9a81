/*
 * deliver_keeper: edges of the role DELIVER (smtpd/deliver.h) to keepers, at most DELIVER_KEEPERS_MAX of them at once.
 */
#ifndef SMTPD_DELIVER_KEEPER_H
#define SMTPD_DELIVER_KEEPER_H

#include "common/ipc.h"

struct loop;

/*
 * Finds or makes an edge to the account's keeper, then calls ready once: later, or before this returns; keeper is NULL
 * with e set when there is none. The edge stays open until deliver_keeper_release() was called as often.
 */
typedef void keeper_ready_fn(void *arg, struct edge *keeper, const struct err *e);
void deliver_keeper_want(uint64_t account, keeper_ready_fn *ready, void *arg);
void deliver_keeper_release(uint64_t account);
void deliver_on_connected(struct edge *e, struct msg_STORE_CONNECTED *m);
void deliver_keeper_down(const struct edge *e);
void deliver_keeper_init(struct loop *l);

#endif
