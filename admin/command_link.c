/*
 * The command's end of a control socket: the same packets as any edge, but one at a time and
 * waiting. The server is more trusted than the command, but what comes is decoded all the same.
 */
#include "admin/command.h"

#include "admin/packet.h"
#include "common/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct command_link {
	int fd;
	enum role role;
	struct msg_fds fds; /* of the message received last */
	uint8_t in[MSG_BYTES_MAX];
};

void
command_error(const char *fmt, ...)
{
	va_list ap;

	fputs("mailstead: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static int
connect_to(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	int saved = errno;

	close(fd);
	errno = saved;
	return -1;
}

struct command_link *
command_connect(const struct config *config, enum role role)
{
	char path[sizeof((struct sockaddr_un *)0)->sun_path];
	int n = snprintf(
	    path, sizeof path, "%s/%s", config_string(config, OPT_RUN_DIR), role_info(role)->name);

	if (n < 0 || (size_t)n >= sizeof path) {
		command_error("run.directory is too long for a socket's name");
		return NULL;
	}
	int fd = connect_to(path);

	if (fd < 0) {
		if (errno == EACCES)
			command_error("%s: only root may do this", path);
		else
			command_error("the server does not run (%s: %s)", path, strerror(errno));
		return NULL;
	}
	return command_link_over(fd, role);
}

struct command_link *
command_link_over(int fd, enum role role)
{
	struct command_link *l = MEM_NEW(struct command_link);

	l->fd = fd;
	l->role = role;
	return l;
}

void
command_disconnect(struct command_link **l)
{
	if (*l == NULL)
		return;
	close((*l)->fd);
	MEM_FREE(l);
}

uint64_t
command_id(void)
{
	static uint64_t last;

	return ++last;
}

enum command_status
command_send(struct command_link *l, const struct msg *m)
{
	struct buf b;
	struct msg_fds fds;
	enum command_status status = COMMAND_OK;

	buf_init(&b, MSG_BYTES_MAX);
	(void)buf_room(&b, MSG_BYTES_MAX);
	if (!msg_encode(m, &b, &fds)) {
		command_error("an argument is too long");
		status = COMMAND_REFUSED;
	} else if (!packet_send(l->fd, buf_slice(&b), fds.fd, fds.n)) {
		command_error(
		    "the %s does not listen: %s", role_info(l->role)->name, strerror(errno));
		status = COMMAND_UNREACHABLE;
	}
	mem_wipe(b.p, b.n);
	buf_fini(&b);
	return status;
}

static enum command_status
no_answer(const struct command_link *l, const char *why)
{
	command_error("no answer from the %s: %s", role_info(l->role)->name, why);
	return COMMAND_UNREACHABLE;
}

static void
close_all(const struct msg_fds *fds)
{
	for (unsigned i = 0; i < fds->n; i++)
		close(fds->fd[i]);
}

enum command_status
command_receive_any(struct command_link *l, int wait_ms, struct msg *m_r)
{
	struct pollfd wait = {.fd = l->fd, .events = POLLIN};
	int ready;

	do
		ready = poll(&wait, 1, wait_ms);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return no_answer(l, "it took too long");
	ssize_t n = packet_receive(l->fd, l->in, sizeof l->in, &l->fds);

	if (n < 0)
		return no_answer(l, strerror(errno));
	if (n == 0)
		return no_answer(l, "it ended the connection");
	if (msg_decode(slice_of(l->in, (size_t)n), &l->fds, m_r))
		return COMMAND_OK;
	close_all(&l->fds);
	return no_answer(l, "it speaks another version; is this mailstead the one that runs?");
}

enum command_status
command_receive_fds(struct command_link *l, enum msg_type type, struct msg *m_r)
{
	enum command_status status = command_receive_any(l, COMMAND_WAIT_MS, m_r);

	if (status != COMMAND_OK || m_r->type == type)
		return status;
	close_all(&l->fds);
	return no_answer(l, "it speaks another version; is this mailstead the one that runs?");
}

enum command_status
command_receive(struct command_link *l, enum msg_type type, struct msg *m_r)
{
	enum command_status status = command_receive_fds(l, type, m_r);

	if (status == COMMAND_OK)
		close_all(&l->fds);
	return status;
}

enum command_status
command_outcome(uint32_t class, struct slice text)
{
	if (class == ERR_NONE)
		return COMMAND_OK;
	command_error("%.*s", SLICE_ARG(text));
	return class == ERR_TEMP ? COMMAND_TEMPORARY : COMMAND_REFUSED;
}
