/*
 * keeper_retain: what the other files of the keeper see of keeper_retain.c: the
 * bounds of what is retained, and the requests about it.
 */
#ifndef STORE_KEEPER_RETAIN_H
#define STORE_KEEPER_RETAIN_H

#include "store/keeper_private.h"

/* One step of the purge when its time has come: 1 when there is more, 0, -1. */
int keeper_purge_due(struct err *e);
/* The disk has no room for new mail: what is over for good goes at once, though not more often than at the first time. */
void keeper_make_room(void);
/* keeper_mutation_begin() of a request that expunges: before it there is no more retained than may be. */
bool keeper_retain_begin(struct edge *e, struct slice origin, uint64_t sequence, struct msg *reply);

void keeper_on_retained_list(struct edge *e, struct msg_RETAINED_LIST *m);
void keeper_on_undelete_messages(struct edge *e, struct msg_UNDELETE_MESSAGES *m);
void keeper_on_undelete_mailbox(struct edge *e, struct msg_UNDELETE_MAILBOX *m);
void keeper_on_forget(struct edge *e, struct msg_RETAINED_FORGET *m);
/* keeper_later.c */
void keeper_later_UNDELETE_MESSAGES(struct edge *e, struct msg_UNDELETE_MESSAGES *m);
void keeper_later_UNDELETE_MAILBOX(struct edge *e, struct msg_UNDELETE_MAILBOX *m);
void keeper_later_RETAINED_FORGET(struct edge *e, struct msg_RETAINED_FORGET *m);

#endif
