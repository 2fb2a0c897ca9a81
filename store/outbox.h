/*
 * outbox: messages that must not leave before what they tell is durable. They are kept in order, encoded, and sent all at once
 * after the sync; what waits for an edge that ended is dropped.
 */
#ifndef STORE_OUTBOX_H
#define STORE_OUTBOX_H

#include "common/ipc.h"

struct outbox;

struct outbox *outbox_new(void);
void outbox_free(struct outbox **o);
/* Keeps a copy of m and duplicates of its descriptors. False when a field is too long or descriptors run short. */
bool outbox_put(struct outbox *o, struct edge *e, const struct msg *m) __attribute__((warn_unused_result));
/* Sends everything. failed is called for an edge that did not take a message; what waited behind that for the same edge is
 * dropped. It may free the edge. */
void outbox_send(struct outbox *o, void (*failed)(struct edge *e, enum msg_type type));
/* The edge is about to be freed. */
void outbox_forget(struct outbox *o, const struct edge *e);
bool outbox_empty(const struct outbox *o);

#endif
