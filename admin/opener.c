#include "admin/opener.h"

#include "admin/packet.h"
#include "common/cursor.h"
#include "store/file.h"
#include "store/object.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* An answer: u32 errno, 0 with the descriptor. */
#define ANSWER_BYTES 4u

static void
answer(int link, const uint8_t id[STORE_OBJECT_ID_BYTES])
{
	int fd = object_open_any(".", id, NULL);
	uint32_t errnum = fd < 0 ? (uint32_t)errno : 0;
	uint8_t octets[ANSWER_BYTES] = {
	    (uint8_t)(errnum >> 24), (uint8_t)(errnum >> 16), (uint8_t)(errnum >> 8), (uint8_t)errnum};

	if (!packet_send(link, slice_of(octets, sizeof octets), &fd, fd >= 0))
		_exit(0);
	if (fd >= 0)
		(void)close(fd);
}

static void __attribute__((noreturn))
serve(int link, int dir)
{
	uint8_t id[STORE_OBJECT_ID_BYTES];

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || fchdir(dir) < 0)
		_exit(1);
	while (packet_receive(link, id, sizeof id, NULL) == (ssize_t)sizeof id)
		answer(link, id);
	_exit(0);
}

static enum command_status
failed(const char *what)
{
	command_error("%s: %s", what, strerror(errno));
	return COMMAND_REFUSED;
}

enum command_status
opener_begin(struct opener *o, const char *dir)
{
	char mail[FILE_PATH_BYTES_MAX];
	int pair[2], fd;

	*o = (struct opener){.fd = -1};
	file_path(mail, dir, "mail");
	if (access(mail, R_OK | X_OK) < 0)
		return failed(mail);
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return failed(dir);
	(void)fflush(NULL);
	pid_t pid = fork();

	if (pid == 0) {
		(void)close(pair[0]);
		serve(pair[1], fd);
	}
	(void)close(pair[1]);
	(void)close(fd);
	*o = (struct opener){.fd = pair[0], .pid = pid > 0 ? pid : 0};
	return pid > 0 ? COMMAND_OK : failed("fork");
}

void
opener_end(struct opener *o)
{
	if (o->pid == 0)
		return;
	(void)close(o->fd);
	while (waitpid(o->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	o->pid = 0;
}

int
opener_get(struct opener *o, const uint8_t id[STORE_OBJECT_ID_BYTES])
{
	uint8_t octets[ANSWER_BYTES];
	struct msg_fds fds = {.n = 0};

	if (!packet_send(o->fd, slice_of(id, STORE_OBJECT_ID_BYTES), NULL, 0) ||
	    packet_receive(o->fd, octets, sizeof octets, &fds) != (ssize_t)sizeof octets) {
		errno = EPIPE;
		return -1;
	}
	struct cursor c = cursor_of(slice_of(octets, sizeof octets));
	uint32_t errnum = cursor_u32(&c);

	if (errnum == 0 && fds.n == 1)
		return fds.fd[0];
	errno = errnum != 0 ? (int)errnum : EPROTO;
	return -1;
}
