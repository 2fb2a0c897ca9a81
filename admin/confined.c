#include "admin/confined.h"

#include "admin/packet.h"
#include "common/mem.h"
#include "common/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_NO_SANDBOX 99
/* Between the end of the link and that of the child. */
#define END_WAIT_MS 1000u

/* ---- the child ---- */

/* Nothing of the command's but the link: not the ways to the keeper, to the files it reads, to the terminal. */
static int
drop_descriptors(int link)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -1;
	for (int fd = 0; fd <= 2; fd++)
		if (fd != link && dup2(null, fd) < 0)
			return -1;
	if (link > 3 && close_range(3, (unsigned)link - 1, 0) < 0)
		return -1;
	return close_range(link > 2 ? (unsigned)link + 1 : 3, ~0u, 0);
}

static void __attribute__((noreturn))
be_child(int link, confined_fn *work, void *arg)
{
	struct sandbox_place place = {.role = ROLE_ADMIN, .own_user = geteuid() == 0};
	struct err e;

	if (drop_descriptors(link) < 0 || sandbox_prepare(&place, &e) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    sandbox_close(&place, &e) < 0)
		_exit(EXIT_NO_SANDBOX);
	work(link, arg);
	_exit(0);
}

bool
confined_take(int fd, struct slice *packet_r, struct msg_fds *fds_r)
{
	static uint8_t in[CONFINED_PACKET_BYTES_MAX];
	ssize_t n = packet_receive(fd, in, sizeof in, fds_r);

	*packet_r = slice_of(in, n > 0 ? (size_t)n : 0);
	return n > 0;
}

void
confined_give(int fd, struct slice packet)
{
	if (!packet_send(fd, packet, NULL, 0))
		_exit(0);
}

/* ---- the command ---- */

enum command_status
confined_begin(struct confined *c, confined_fn *work, void *arg)
{
	int pair[2];

	*c = (struct confined){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		command_error("socketpair: %s", strerror(errno));
		return COMMAND_TEMPORARY;
	}
	/* What waits to be printed is the command's to print. */
	(void)fflush(NULL);
	pid_t pid = fork();

	if (pid == 0)
		be_child(pair[1], work, arg);
	close(pair[1]);
	if (pid < 0) {
		command_error("fork: %s", strerror(errno));
		close(pair[0]);
		return COMMAND_TEMPORARY;
	}
	*c = (struct confined){.fd = pair[0], .pid = pid, .in = mem_new_array(CONFINED_PACKET_BYTES_MAX, 1)};
	return COMMAND_OK;
}

/* Its wait status. One that does not go by itself is killed after that time. */
static int
reap(struct confined *c, unsigned wait_ms)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	int status = 0;
	pid_t pid;

	if (c->pid == 0)
		return 0;
	close(c->fd);
	c->fd = -1;
	while ((pid = waitpid(c->pid, &status, WNOHANG)) == 0 && wait_ms-- > 0)
		(void)nanosleep(&pause, NULL);
	if (pid == 0 && kill(c->pid, SIGKILL) == 0)
		while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
			continue;
	c->pid = 0;
	return status;
}

void
confined_end(struct confined *c)
{
	(void)reap(c, 0);
	MEM_FREE(&c->in);
}

/* The link has ended before its time. */
static enum command_status
ended(struct confined *c)
{
	int status = reap(c, END_WAIT_MS);

	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_SANDBOX)
		command_error("the process that reads mail could not be confined");
	else if (WIFSIGNALED(status))
		command_error("the process that reads mail was ended by signal %d", WTERMSIG(status));
	else
		command_error("the process that reads mail ended before its time");
	return COMMAND_REFUSED;
}

enum command_status
confined_ask(struct confined *c, struct slice packet, const int *fds, unsigned n)
{
	if (c->pid == 0)
		return COMMAND_REFUSED;
	assert(packet.n > 0 && packet.n <= CONFINED_PACKET_BYTES_MAX);
	return packet_send(c->fd, packet, fds, n) ? COMMAND_OK : ended(c);
}

enum command_status
confined_answer(struct confined *c, struct slice *packet_r)
{
	struct pollfd wait = {.fd = c->fd, .events = POLLIN};
	ssize_t n;
	int ready;

	if (c->pid == 0)
		return COMMAND_REFUSED;
	do
		ready = poll(&wait, 1, CONFINED_WAIT_MS);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0) {
		command_error("the process that reads mail takes too long");
		(void)reap(c, 0);
		return COMMAND_TEMPORARY;
	}
	n = packet_receive(c->fd, c->in, CONFINED_PACKET_BYTES_MAX, NULL);
	if (n <= 0)
		return ended(c);
	*packet_r = slice_of(c->in, (size_t)n);
	return COMMAND_OK;
}

enum command_status
confined_nonsense(void)
{
	command_error("the process that reads mail answers nonsense");
	return COMMAND_REFUSED;
}
