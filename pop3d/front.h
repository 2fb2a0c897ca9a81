/*
 * front: role POP3_FRONT, in the AUTHORIZATION state (RFC 1939 4); then a connection is relayed to
 * the account's worker. It knows no account, no password once it was sent on, and no message.
 */
#ifndef POP3D_FRONT_H
#define POP3D_FRONT_H

#include "common/err.h"

/* The role's init; the other hooks are those of common/login.h. -1 with *e when it cannot serve. */
int front_init(struct err *e);

#endif
