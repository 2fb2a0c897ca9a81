/*
 * front_login: who submits, by a password (front_auth.c) or because the kernel says so (front_local.c).
 */
#ifndef SMTPD_FRONT_LOGIN_H
#define SMTPD_FRONT_LOGIN_H

#include "common/ipc.h"

struct front;

/* ---- front_auth.c ---- */

void smtpd_auth(struct front *f, struct slice args);
void smtpd_auth_line(struct front *f, struct slice line);
void smtpd_on_auth(struct edge *e, struct msg_AUTH_RESULT *m);
/* Forgets an exchange that has not ended, and the lease. */
void smtpd_auth_end(struct front *f);

/* ---- front_local.c ---- */

/* Asks who is at the other end of fd, the stream's; the greeting waits for that. */
void smtpd_local_begin(struct front *f, int fd);
void smtpd_on_local(struct edge *e, struct msg_DIR_LOCAL_REPLY *m);

#endif
