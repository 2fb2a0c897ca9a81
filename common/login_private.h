/* login_private: between login_conn.c and login.c only. */
#ifndef COMMON_LOGIN_PRIVATE_H
#define COMMON_LOGIN_PRIVATE_H

#include "common/login.h"

/* The only writer of a state after the first; one that may not follow is our own fault. */
void login_set_state(struct login_conn *c, enum login_state state);
/* Forgets what was asked of others for this connection. */
void login_forget(struct login_conn *c);
/* Gives its lease back, if it has one. */
void login_lease_close(struct login_conn *c);

#endif
