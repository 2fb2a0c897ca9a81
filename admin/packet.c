#include "admin/packet.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

bool
packet_send(int to, struct slice packet, const int *fds, unsigned n)
{
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(MSG_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)packet.p, .iov_len = packet.n};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	assert(n <= MSG_FDS_MAX);
	memset(&control, 0, sizeof control);
	if (n > 0) {
		h.msg_control = control.room;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	do
		sent = sendmsg(to, &h, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent >= 0;
}

ssize_t
packet_receive(int from, void *in, size_t room, struct msg_fds *fds_r)
{
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(MSG_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = in, .iov_len = room};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	/* Without room for them the kernel keeps them. */
	if (fds_r != NULL) {
		fds_r->n = 0;
		h.msg_control = control.room;
		h.msg_controllen = sizeof control.room;
	}
	do
		n = recvmsg(from, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 || fds_r == NULL)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c != NULL; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		fds_r->n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds_r->fd, CMSG_DATA(c), fds_r->n * sizeof(int));
	}
	return n;
}
