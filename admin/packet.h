/*
 * packet: one packet with descriptors over a SOCK_SEQPACKET socket, for the command, which waits for its peers.
 */
#ifndef ADMIN_PACKET_H
#define ADMIN_PACKET_H

#include "common/msg.h"
#include "common/slice.h"

#include <sys/types.h>

/* n descriptors (at most MSG_FDS_MAX) go with it; they stay the caller's. False and errno. */
bool packet_send(int to, struct slice packet, const int *fds, unsigned n);
/* Waits. Its octets, at most room; 0 at the end; -1 and errno. fds_r NULL: descriptors that come are closed, else they are the caller's. */
ssize_t packet_receive(int from, void *in, size_t room, struct msg_fds *fds_r);

#endif
