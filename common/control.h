/*
 * control: a role's AF_UNIX SOCK_SEQPACKET socket for the mailstead command. A
 * role calls control_new() from on_listener("control", fd); every connection
 * becomes an edge whose peer is ROLE_ADMIN, with the dispatch given here. Only
 * root and the user that this process runs as are let in (SO_PEERCRED), besides
 * the socket's mode 0600.
 */
#ifndef COMMON_CONTROL_H
#define COMMON_CONTROL_H

#include "common/ipc.h"

struct control;

/* Connections at once; what comes above is accepted and closed. */
#define CONTROL_EDGES_MAX 32

/* An edge is about to be freed: forget it. Its pending requests have failed already. */
typedef void control_gone_fn(struct edge *e, void *arg);

/*
 * Accepts on fd (listening, non-blocking), which it owns from now on. self is this
 * process's role; dispatch must outlive the control; gone may be NULL. edge_arg() of the edges is
 * the control's own: do not change it.
 */
struct control *control_new(struct loop *l, int fd, enum role self,
    const struct ipc_dispatch *dispatch, control_gone_fn *gone, void *arg);

/* The arg that was given to the control of this edge, for the handlers of its messages. */
void *control_arg(const struct edge *e);

/* Closes the socket and all of its edges (gone is called for each). NULL is fine. */
void control_free(struct control **c);

/* Takes no new connections; those that are there go on. */
void control_stop(struct control *c);

#endif
