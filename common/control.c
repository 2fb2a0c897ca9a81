/*
 * The peer's identity is the kernel's word, taken at accept(). A generation is
 * given to each connection so that logs can tell them apart; nothing hangs on
 * it. When descriptors run out, accepting pauses for a moment: a level-triggered
 * listener would otherwise spin.
 */
#include "common/control.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_PAUSE_MS 200

struct control {
	struct loop *loop;
	int fd;
	enum role self;
	struct loop_io *io;
	struct loop_timer *pause;
	const struct ipc_dispatch *dispatch;
	control_gone_fn *gone;
	void *arg;
	struct edge *edges[CONTROL_EDGES_MAX];
	unsigned count;
	uint64_t generation;
};

static void
edge_forget(struct control *c, struct edge *e)
{
	for (unsigned i = 0; i < c->count; i++) {
		if (c->edges[i] == e) {
			c->edges[i] = c->edges[--c->count];
			return;
		}
	}
	assert(false); /* an edge of another control */
}

static void
on_edge_down(struct edge *e, void *arg)
{
	struct control *c = arg;

	edge_forget(c, e);
	if (c->gone != NULL)
		c->gone(e, c->arg);
	edge_free(&e);
}

/* Root and our own user may command this role. */
static bool
peer_allowed(int fd)
{
	struct ucred cred;
	socklen_t n = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0 || n != sizeof cred)
		return false;
	return cred.uid == 0 || cred.uid == geteuid();
}

static void
connection_add(struct control *c, int fd)
{
	static const struct edge_events events = {.on_down = on_edge_down};
	struct edge_peer peer = {.role = ROLE_ADMIN, .generation = ++c->generation};

	if (c->count == CONTROL_EDGES_MAX || !peer_allowed(fd)) {
		log_event(
		    LOG_WARN, NO_SESSION, "control-refused", LOG_NUM("open", c->count), LOG_END);
		(void)close(fd);
		return;
	}
	c->edges[c->count++] = edge_new(c->loop, fd, c->self, peer, c->dispatch, &events, c);
}

static void
on_acceptable(void *arg, int events)
{
	struct control *c = arg;
	int fd;

	(void)events;
	fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		connection_add(c, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		loop_io_set(c->io, 0);
		loop_timer_set(c->pause, ACCEPT_PAUSE_MS);
	}
}

static void
on_pause_over(void *arg)
{
	struct control *c = arg;

	if (c->io != NULL)
		loop_io_set(c->io, LOOP_READ);
}

struct control *
control_new(struct loop *l, int fd, enum role self, const struct ipc_dispatch *dispatch,
    control_gone_fn *gone, void *arg)
{
	struct control *c = MEM_NEW(struct control);

	assert(fd >= 0 && dispatch != NULL);
	c->loop = l;
	c->fd = fd;
	c->self = self;
	c->dispatch = dispatch;
	c->gone = gone;
	c->arg = arg;
	c->pause = loop_timer_new(l, on_pause_over, c);
	c->io = loop_io_new(l, fd, LOOP_READ, on_acceptable, c);
	return c;
}

void *
control_arg(const struct edge *e)
{
	const struct control *c = edge_arg(e);

	return c->arg;
}

void
control_stop(struct control *c)
{
	loop_io_free(&c->io);
	loop_timer_stop(c->pause);
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
}

void
control_free(struct control **cp)
{
	struct control *c = *cp;

	if (c == NULL)
		return;
	control_stop(c);
	while (c->count > 0) {
		struct edge *e = c->edges[--c->count];

		if (c->gone != NULL)
			c->gone(e, c->arg);
		edge_free(&e);
	}
	loop_timer_free(&c->pause);
	MEM_FREE(cp);
}
