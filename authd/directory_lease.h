/*
 * directory_lease: the directory's side of leases. One is opened after a
 * verifier has checked a password against a hash that still is the account's; all of an
 * account's are revoked when that hash or the account's state changes.
 */
#ifndef AUTHD_DIRECTORY_LEASE_H
#define AUTHD_DIRECTORY_LEASE_H

#include "authd/directory.h"
#include "common/ipc.h"

/* Before the first edge comes up. d is borrowed. */
void directory_lease_init(struct directory *d);

/* Handlers of messages. */
void directory_lease_authenticated(struct edge *e, struct msg_DIR_AUTHENTICATED *m);
void directory_lease_local(struct edge *e, struct msg_DIR_LOCAL *m);
void directory_lease_opened(struct edge *e, struct msg_LEASE_OPENED *m);
void directory_lease_account_deleted(struct edge *e, struct msg_STORE_ACCOUNT_REPLY *m);

/*
 * Tells the store and deliver what changes oblige us to tell (directory_effect_each); what cannot
 * be told now is told later. Called after every change, when an edge comes up, and from a timer of
 * its own.
 */
void directory_lease_effects(void);

#endif
