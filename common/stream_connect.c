/*
 * Streams that begin here. A connection that comes about or fails at once (the loopback, no route) is told of from the loop all the
 * same, so that the caller's callbacks never run inside the call.
 */
#include "common/stream_private.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UNSENT_BYTES_MAX 131072

union socket_address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static socklen_t
fill(const struct stream_address *a, union socket_address *s)
{
	memset(s, 0, sizeof *s);
	if (a->ip6) {
		s->in6.sin6_family = AF_INET6;
		s->in6.sin6_port = htons(a->port);
		memcpy(&s->in6.sin6_addr, a->ip, 16);
		return sizeof s->in6;
	}
	s->in.sin_family = AF_INET;
	s->in.sin_port = htons(a->port);
	memcpy(&s->in.sin_addr, a->ip, 4);
	return sizeof s->in;
}

static int
connect_socket(const struct stream_address *to, const struct stream_address *from)
{
	static const int unsent = UNSENT_BYTES_MAX;
	union socket_address local, remote;
	int fd = socket(to->ip6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	/* What a slow peer has not taken stays here, where it shows: the kernel alone would hold megabytes. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
	socklen_t n = from != NULL ? fill(from, &local) : 0;

	if ((from == NULL || bind(fd, &local.any, n) == 0) &&
	    (connect(fd, &remote.any, fill(to, &remote)) == 0 || errno == EINPROGRESS))
		return fd;
	int error = errno;

	(void)close(fd);
	errno = error;
	return -1;
}

struct stream *
stream_connect(struct loop *l, const struct stream_address *to, const struct stream_address *from, size_t in_max,
    const struct stream_events *ev, void *arg, const char **error_r)
{
	assert(from == NULL || from->ip6 == to->ip6);
	int fd = connect_socket(to, from);

	if (fd < 0) {
		*error_r = strerrordesc_np(errno);
		return NULL;
	}
	struct stream *s = stream_new(l, fd, in_max, ev, arg);

	stream_connecting(s);
	return s;
}
