/*
 * front: role IMAP_FRONT, from the greeting to the login; then a connection is relayed to the
 * account's worker. It knows no account, no password once it was sent on, and no mailbox.
 */
#ifndef IMAPD_FRONT_H
#define IMAPD_FRONT_H

#include "common/err.h"

/* The role's init; the other hooks are those of common/login.h. -1 with *e when it cannot serve. */
int front_init(struct err *e);

#endif
