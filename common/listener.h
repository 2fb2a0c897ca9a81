/*
 * listener: accepts connections from a listening socket within limits: in all, and per client
 * network (IPv4 address, IPv6 /64). At the limit in all a session of the least use makes room, or
 * accepting pauses, as it does when descriptors run short; past the per-network limit the
 * connection is given to on_refused, to be told the protocol's words and closed.
 */
#ifndef COMMON_LISTENER_H
#define COMMON_LISTENER_H

#include "common/loop.h"

#include <netinet/in.h>

struct listener;

struct client_address {
	struct sockaddr_in6 peer; /* IPv4 as v4-mapped; of a Unix socket :: and port 0 */
	struct sockaddr_in6 local;
	char text[64]; /* "192.0.2.1" or "2001:db8::1"; "local" of a Unix socket */
	char local_text[64];
};

struct listener_limits {
	unsigned total_max;
	unsigned per_network_max;
};

/*
 * fd is non-blocking and owned by the session; call listener_done() with the same address when it
 * ends.
 */
typedef void listener_accept_fn(void *arg, int fd, const struct client_address *a);

/*
 * Several listening sockets of one service may share a group of limits. Counters live in the group.
 */
struct listener_group;
struct listener_group *listener_group_new(struct loop *l, struct listener_limits limits);
void listener_group_limits(struct listener_group *g, struct listener_limits limits);
struct listener *listener_new(struct listener_group *g, int fd, listener_accept_fn *accepted,
    listener_accept_fn *refused, void *arg);
/* Stops accepting and closes the socket (drain). */
void listener_free(struct listener **ln);
/*
 * A session accepted from this group has ended. (A refused connection does not count and needs no
 * call.)
 */
void listener_done(struct listener_group *g, const struct client_address *a);
/* The session is another client's than its address said (a proxy told): counts it there. False, and it counts nowhere, when there
 * are too many of that network. */
bool listener_moved(struct listener_group *g, const struct client_address *from, const struct client_address *to)
    __attribute__((warn_unused_result));
unsigned listener_group_count(const struct listener_group *g);

/*
 * A client waits while total_max are there: the function ends the session with the greatest burden
 * of those that may be ended, listener_done() included, and returns true; or false, and accepting
 * pauses for LISTENER_PAUSE_MS. Without one it pauses until a session has ended.
 */
#define LISTENER_PAUSE_MS 200
typedef bool listener_room_fn(void);
void listener_group_on_full(struct listener_group *g, listener_room_fn *make_room);
/*
 * What a session costs the others: the milliseconds it has been waited for, times the connections
 * of its network. Silent ones in crowds come first, then old ones. 0: it is not to be ended, since it is young and its
 * network has at most half of what networks have on the average.
 */
#define LISTENER_YOUNG_MS 500
uint64_t listener_burden(const struct listener_group *g, const struct client_address *a, uint64_t waited_ms);
/* Every octet received counts as a millisecond of waiting less: a client that sends so much is never old. */
#define LISTENER_OCTETS_PER_MS 1

#endif
