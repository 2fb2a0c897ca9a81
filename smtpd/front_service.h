/* front_service: what a front's main() gives to role_main(), the same in both roles. */
#ifndef SMTPD_FRONT_SERVICE_H
#define SMTPD_FRONT_SERVICE_H

#include "common/ipc.h"

/* Hooks of struct role_spec. */
int smtpd_init(struct err *e);
void smtpd_on_listener(const char *name, int fd);
void smtpd_on_edge_up(struct edge *e);
void smtpd_on_edge_down(struct edge *e);
void smtpd_on_reload(void);
void smtpd_on_drain(void);
/* What the peers of each role may send here. */
extern const struct ipc_dispatch smtpd_from_port25_directory;
extern const struct ipc_dispatch smtpd_from_directory;
extern const struct ipc_dispatch smtpd_from_store;
extern const struct ipc_dispatch smtpd_from_deliver;
extern const struct ipc_dispatch smtpd_from_queue;
extern const struct ipc_dispatch smtpd_from_verifier;
extern const struct ipc_dispatch smtpd_from_resolver;
extern const struct ipc_dispatch smtpd_from_nobody;

#endif
