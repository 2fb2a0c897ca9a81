/*
 * Both ends of an edge follow the same few rules:
 * - One message is one packet, so there is no framing to get wrong: a packet that was cut (MSG_TRUNC),
 *   that carries more descriptors than a message may (MSG_CTRUNC), that does not decode, or that has
 *   no handler here is garbage.
 * - Nothing calls back from inside ipc_send(): a write that fails is noticed by the loop, which
 *   reads what the peer had still said and then reports the end.
 * - Handlers may free their own edge: the memory stays until the last frame of this file that uses
 *   it has returned (`busy`).
 * - What a handler puts back is copied out of that buffer and is the next thing to be handled; until then the
 *   socket is not read, so that the kernel holds the peer's further messages back, and in order.
 * - A packet is looked at (MSG_PEEK) before it is taken. Its descriptors are this process's only when there is room for
 *   all of them; as long as there is not, it stays in the kernel, with what the peer says after it, and is looked at
 *   again after a pause: being short of descriptors loses no message and ends no edge.
 * - Packets are received into and encoded in one static buffer each: the process has one thread and
 *   handlers do not nest.
 */
#include "common/ipc.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/pending.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Kernel memory of the socket: one message of the greatest size and then some. Linux doubles the
 * figure for its own bookkeeping; 212992 is what an unprivileged process gets everywhere. */
#define SOCKET_BYTES 212992
/* What a queued message costs besides its octets. */
#define QUEUED_OVERHEAD_BYTES 256u
/* Pause before another try when the kernel is short of memory or of descriptors in flight, or this process of its own. */
#define SHORTAGE_PAUSE_MS 20u

struct queued {
	struct queued *next;
	struct msg_fds fds; /* duplicates, ours */
	bool secret;
	size_t n;
	uint8_t octets[];
};

struct edge {
	struct loop *loop;
	struct loop_io *io;
	struct loop_timer *timer;
	int fd;
	enum role self;
	struct edge_peer peer;
	const struct ipc_dispatch *dispatch;
	struct edge_events events;
	void *arg;
	struct queued *head;
	struct queued **tail;
	size_t queue_bytes;
	unsigned queue_fds;
	struct queued *kept; /* a message that was put back */
	bool put_back;	     /* set by the handler that is at work */
	struct pending *pending;
	unsigned busy; /* frames of this file that still use the edge */
	bool was_full; /* a message was refused since the queue was last empty */
	bool stalled;  /* kernel shortage: the timer tries again */
	bool starved;  /* no room for the next message's descriptors: the timer looks again */
	bool broken;   /* a write failed; the timer reports it */
	bool down;     /* on_down was or is being called */
	bool garbage;
	bool freed;
};

/* Every message must fit its packet: the sum of its fields' maxima is checked by the compiler. */
#define U8(name) +1
#define U16(name) +2
#define U32(name) +4
#define U64(name) +8
#define STR(name, max) +4 + (max)
#define BLOB(name, max) +4 + (max)
#define SECRET(name, max) +4 + (max)
#define FD(name) +1
#define FDS(name, max) +1
#define MSG(NAME, from, to, fields)                                                                \
	_Static_assert(2 fields <= MSG_BYTES_MAX, #NAME " does not fit a packet");
#include "common/messages.def"
#include "common/msg/undef.def"
_Static_assert(MSG_BYTES_MAX <= SOCKET_BYTES - 4096, "the socket cannot take the greatest message");

/* Frames of handlers: ipc_retry() must not be among them, since they share one buffer. */
static unsigned handling;

/* Which messages carry a secret. */
#define U8(name)
#define U16(name)
#define U32(name)
#define U64(name)
#define STR(name, max)
#define BLOB(name, max)
#define SECRET(name, max) || true
#define FD(name)
#define FDS(name, max)
static const bool has_secret[MSG_TYPE_COUNT] = {
#define MSG(NAME, from, to, fields) [MSG_##NAME] = false fields,
#include "common/messages.def"
#undef MSG
};
#undef SECRET
#undef FD
#undef FDS

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
close_fds(struct msg_fds *fds)
{
	for (unsigned i = 0; i < fds->n && i < MSG_FDS_MAX; i++)
		close_fd(&fds->fd[i]);
	fds->n = 0;
}

/* Closes what a handler left in its message. */
#define SECRET(name, max)
#define FD(name) close_fd(&m->name);
#define FDS(name, max) close_fds(&m->name);
#define MSG(NAME, from, to, fields)                                                                \
	static void close_rest_##NAME(struct msg_##NAME *m)                                        \
	{                                                                                          \
		(void)m;                                                                           \
		fields                                                                             \
	}
#include "common/messages.def"
#include "common/msg/undef.def"

/* Calls the handler of m's type and closes what it left; false, with nothing closed, when there is
 * none. */
static bool
call_handler(struct edge *e, struct msg *m)
{
	const struct ipc_dispatch *d = e->dispatch;

	switch (m->type) {
#define MSG(NAME, from, to, fields)                                                                \
	case MSG_##NAME:                                                                           \
		if (d->NAME == NULL)                                                               \
			return false;                                                              \
		d->NAME(e, &m->u.NAME);                                                            \
		if (!e->put_back)                                                                  \
			close_rest_##NAME(&m->u.NAME);                                             \
		return true;
#include "common/messages.def"
#undef MSG
	default:
		return false;
	}
}

/* ---- the life of an edge ---- */

static void on_io(void *arg, int events);
static void on_timer(void *arg);

struct edge *
edge_new(struct loop *l, int fd, enum role self, struct edge_peer peer,
    const struct ipc_dispatch *dispatch, const struct edge_events *events, void *arg)
{
	struct edge *e = MEM_NEW(struct edge);
	int bytes = SOCKET_BYTES;
	int flags = fcntl(fd, F_GETFL);

	assert(dispatch && events && events->on_down);
	if (flags >= 0)
		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	/* A kernel that gives less still works for smaller messages; ipc_send() then says so. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	e->loop = l;
	e->fd = fd;
	e->self = self;
	e->peer = peer;
	e->dispatch = dispatch;
	e->events = *events;
	e->arg = arg;
	e->tail = &e->head;
	e->pending = pending_new(IPC_PENDING_MAX);
	e->timer = loop_timer_new(l, on_timer, e);
	e->io = loop_io_new(l, fd, LOOP_READ, on_io, e);
	return e;
}

static void
queued_free(struct queued *q)
{
	close_fds(&q->fds);
	if (q->secret)
		mem_wipe(q->octets, q->n);
	free(q);
}

static struct queued *
queued_new(struct slice octets, bool secret)
{
	struct queued *q = mem_new_array(1, size_add(sizeof *q, octets.n));

	q->n = octets.n;
	q->secret = secret;
	memcpy(q->octets, octets.p, octets.n);
	return q;
}

static void
queue_pop(struct edge *e)
{
	struct queued *q = e->head;

	e->head = q->next;
	if (e->head == NULL)
		e->tail = &e->head;
	e->queue_bytes -= q->n + QUEUED_OVERHEAD_BYTES;
	e->queue_fds -= q->fds.n;
	queued_free(q);
}

static void
fail_pending(struct edge *e)
{
	struct pending_entry entry;
	struct err why;

	err_set(&why, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure",
	    "the %s ended before it answered", role_info(e->peer.role)->name);
	while (pending_take_due(e->pending, UINT64_MAX, &entry))
		entry.gone(entry.obj, &why);
}

/* Gives back all but the struct itself, which frames below may still look at. */
static void
shut(struct edge *e)
{
	loop_io_free(&e->io);
	loop_timer_free(&e->timer);
	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
	while (e->head)
		queue_pop(e);
	if (e->kept != NULL)
		queued_free(e->kept);
	e->kept = NULL;
}

static void
leave(struct edge *e)
{
	assert(e->busy > 0);
	if (--e->busy == 0 && e->freed) {
		pending_free(&e->pending);
		free(e);
	}
}

void
edge_free(struct edge **ep)
{
	struct edge *e = *ep;

	if (e == NULL)
		return;
	assert(!e->freed);
	*ep = NULL;
	e->busy++;
	e->down = true;
	e->freed = true;
	shut(e);
	fail_pending(e);
	leave(e);
}

const struct edge_peer *
edge_peer(const struct edge *e)
{
	return &e->peer;
}

void *
edge_arg(const struct edge *e)
{
	return e->arg;
}

void
edge_set_arg(struct edge *e, void *arg)
{
	e->arg = arg;
}

bool
edge_sent_garbage(const struct edge *e)
{
	return e->garbage;
}

/* on_down tells of it, or has told. */
static bool
has_ended(const struct edge *e)
{
	return e->down || e->broken;
}

/* Ends the edge from the loop; the caller holds `busy`. */
static void
go_down(struct edge *e)
{
	if (e->down)
		return;
	e->down = true;
	shut(e);
	fail_pending(e);
	if (!e->freed)
		e->events.on_down(e, e->arg);
}

static void
on_garbage(struct edge *e, const char *why)
{
	e->garbage = true;
	log_event(LOG_ERROR, NO_SESSION, "ipc-garbage",
	    LOG_CSTR("peer", role_info(e->peer.role)->name), LOG_NUM("instance", e->peer.instance),
	    LOG_CSTR("why", why), LOG_END);
	go_down(e);
}

/* ---- reading ---- */

union fds_control {
	struct cmsghdr align;
	uint8_t room[CMSG_SPACE(sizeof(int) * MSG_FDS_MAX)];
};

static void
collect_fds(struct msghdr *h, struct msg_fds *fds_r)
{
	fds_r->n = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (fds_r->n < MSG_FDS_MAX)
				fds_r->fd[fds_r->n++] = fd;
			else
				close(fd);
		}
	}
}

/* The kernel also cuts the descriptors when this process may hold no more: then the peer is not to
 * blame. Asked while those that did fit are held. */
static bool
out_of_descriptors(const struct edge *e)
{
	int fd = fcntl(e->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return true;
	close(fd);
	return false;
}

static void
watch(struct edge *e, bool room_wanted)
{
	if (e->io != NULL)
		loop_io_set(e->io, (e->kept == NULL && !e->starved ? LOOP_READ : 0) |
				       (room_wanted ? LOOP_WRITE : 0));
}

/* As call_handler(), and keeps what is put back, with its descriptors. */
static bool
hand_over(struct edge *e, struct msg *m, struct slice in, const struct msg_fds *fds)
{
	e->put_back = false;
	handling++;
	bool handled = call_handler(e, m);

	handling--;
	if (!e->put_back)
		return handled;
	e->put_back = false;
	e->kept = queued_new(in, has_secret[m->type]);
	e->kept->fds = *fds;
	if (e->freed || e->down) {
		queued_free(e->kept);
		e->kept = NULL;
	}
	watch(e, e->head != NULL);
	return true;
}

/* Judges one packet and handles it. False when the edge has ended. */
static bool
take_packet(struct edge *e, struct slice in, struct msg_fds *fds, int flags)
{
	static struct msg m;
	const char *why = NULL;

	if (flags & (MSG_TRUNC | MSG_CTRUNC))
		why = "a packet too big";
	else if (!msg_decode(in, fds, &m))
		why = "a message that does not decode";
	else if (!msg_allowed(m.type, e->peer.role, e->self))
		why = "a message that this role may not send here";
	else if (!hand_over(e, &m, in, fds))
		why = "a message without a handler here";
	if (why) {
		close_fds(fds);
		on_garbage(e, why);
	}
	return !e->freed && !e->down;
}

static void set_timer(struct edge *e);

static void
starve(struct edge *e, bool starved)
{
	if (e->starved == starved)
		return;
	if (starved)
		log_event(LOG_WARN, NO_SESSION, "descriptors-spent",
		    LOG_CSTR("peer", role_info(e->peer.role)->name), LOG_END);
	e->starved = starved;
	watch(e, e->head != NULL);
	set_timer(e);
}

/* The next packet and its descriptors, which stays in the socket: its size as recvmsg(2) has it. */
static ssize_t
look(const struct edge *e, struct iovec to, struct msg_fds *fds_r, int *flags_r)
{
	union fds_control control;
	struct msghdr h = {.msg_iov = &to,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof control};
	ssize_t n = recvmsg(e->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_PEEK);

	fds_r->n = 0;
	if (n > 0)
		collect_fds(&h, fds_r);
	*flags_r = h.msg_flags;
	return n;
}

/* One packet from the socket. False when none can be taken now, or the edge has ended. */
static bool
read_packet(struct edge *e)
{
	static uint8_t octets[MSG_BYTES_MAX];
	struct msg_fds fds;
	int flags;
	bool more = false;
	ssize_t n = look(e, (struct iovec){octets, sizeof octets}, &fds, &flags);

	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOMEM || errno == ENOBUFS))
		return false;
	if (n <= 0) {
		go_down(e);
		return false;
	}
	unsigned type = n >= 2 ? (unsigned)octets[0] << 8 | octets[1] : MSG_NONE;

	if ((flags & MSG_CTRUNC) && out_of_descriptors(e)) {
		close_fds(&fds);
		starve(e, true);
	} else if (recv(e->fd, NULL, 0, MSG_DONTWAIT) < 0) {
		close_fds(&fds);
		go_down(e);
	} else {
		starve(e, false);
		more = take_packet(e, slice_of(octets, (size_t)n), &fds, flags);
	}
	if (type >= MSG_TYPE_COUNT || has_secret[type])
		mem_wipe(octets, (size_t)n);
	return more;
}

static void
read_some(struct edge *e)
{
	for (unsigned i = 0; i < IPC_MESSAGES_PER_WAKE; i++)
		if (e->freed || e->down || e->kept != NULL || !read_packet(e))
			return;
}

/* All that a peer which has gone has left in the socket. One that lives might go on for ever. */
static void
read_rest(struct edge *e)
{
	for (unsigned i = 0; i < IPC_REST_MESSAGES_MAX; i++)
		if (e->freed || e->down || e->kept != NULL || !read_packet(e))
			return;
}

void
edge_take_rest(struct edge *e)
{
	assert(handling == 0);
	e->busy++;
	read_rest(e);
	leave(e);
}

void
ipc_put_back(struct edge *e)
{
	assert(handling > 0 && e->kept == NULL);
	e->put_back = true;
}

bool
ipc_is_put_back(const struct edge *e)
{
	return e->kept != NULL;
}

void
ipc_retry(struct edge *e)
{
	struct queued *q = e->kept;

	assert(handling == 0);
	if (q == NULL)
		return;
	e->busy++;
	e->kept = NULL;
	struct msg_fds fds = q->fds;

	q->fds.n = 0;
	(void)take_packet(e, slice_of(q->octets, q->n), &fds, 0);
	queued_free(q);
	watch(e, e->head != NULL);
	leave(e);
}

/* ---- writing ---- */

enum wrote { WROTE, WROTE_LATER, WROTE_SHORTAGE, WROTE_FAILED };

static enum wrote
write_packet(struct edge *e, struct slice octets, const struct msg_fds *fds)
{
	union fds_control control;
	struct iovec iov = {(void *)(uintptr_t)octets.p, octets.n};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fds->n) {
		memset(&control, 0, sizeof control);
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(sizeof(int) * fds->n);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fds->n);
		memcpy(CMSG_DATA(c), fds->fd, sizeof(int) * fds->n);
	}
	if (sendmsg(e->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return WROTE;
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return WROTE_LATER;
	case ENOBUFS:
	case ENOMEM:
	case ETOOMANYREFS:
		return WROTE_SHORTAGE;
	default:
		return WROTE_FAILED;
	}
}

/* The timer serves the first of: a broken edge (at once), a shortage, the next deadline. */
static void
set_timer(struct edge *e)
{
	uint64_t due = pending_next_deadline(e->pending), now = clock_ms();
	uint64_t wait = due == UINT64_MAX ? UINT64_MAX : due > now ? due - now : 0;

	if (e->down)
		return;
	if (e->broken)
		wait = 0;
	else if ((e->stalled || e->starved) && wait > SHORTAGE_PAUSE_MS)
		wait = SHORTAGE_PAUSE_MS;
	if (wait == UINT64_MAX)
		loop_timer_stop(e->timer);
	else
		loop_timer_set(e->timer, wait);
}

/* What a try to write means for the edge; true when the packet has gone. */
static bool
after_write(struct edge *e, enum wrote w)
{
	bool broken = e->broken, stalled = e->stalled;

	e->broken = e->broken || w == WROTE_FAILED;
	e->stalled = w == WROTE_SHORTAGE;
	if (e->broken != broken || e->stalled != stalled)
		set_timer(e);
	watch(e, w == WROTE_LATER);
	return w == WROTE;
}

static void
write_queue(struct edge *e)
{
	while (e->head) {
		struct queued *q = e->head;

		if (!after_write(e, write_packet(e, slice_of(q->octets, q->n), &q->fds)))
			return;
		queue_pop(e);
	}
	watch(e, false);
	if (e->was_full) {
		e->was_full = false;
		if (e->events.on_drained)
			e->events.on_drained(e, e->arg);
	}
}

static bool
queue_push(struct edge *e, struct slice octets, const struct msg_fds *fds, bool secret)
{
	if (e->queue_bytes + octets.n + QUEUED_OVERHEAD_BYTES > IPC_QUEUE_BYTES_MAX ||
	    e->queue_fds + fds->n > IPC_QUEUE_FDS_MAX) {
		e->was_full = true;
		return false;
	}
	struct queued *q = queued_new(octets, secret);

	for (unsigned i = 0; i < fds->n; i++) {
		q->fds.fd[i] = fcntl(fds->fd[i], F_DUPFD_CLOEXEC, 0);
		if (q->fds.fd[i] < 0) {
			queued_free(q);
			e->was_full = true;
			return false;
		}
		q->fds.n++;
	}
	*e->tail = q;
	e->tail = &q->next;
	e->queue_bytes += q->n + QUEUED_OVERHEAD_BYTES;
	e->queue_fds += q->fds.n;
	return true;
}

bool
ipc_send(struct edge *e, const struct msg *m)
{
	static struct buf packet;
	struct msg_fds fds;

	assert(!e->freed);
	assert(msg_allowed(m->type, e->self, e->peer.role));
	if (has_ended(e))
		return false;
	if (packet.p == NULL) {
		/* All its memory at once: growing would leave copies of secrets behind. */
		buf_init(&packet, MSG_BYTES_MAX);
		(void)buf_room(&packet, MSG_BYTES_MAX);
	}
	if (!msg_encode(m, &packet, &fds)) {
		log_event(LOG_BUG, NO_SESSION, "ipc-field-too-long",
		    LOG_CSTR("message", msg_info(m->type)->name), LOG_END);
		return false;
	}
	bool sent = e->head == NULL && after_write(e, write_packet(e, buf_slice(&packet), &fds));

	if (!sent && !e->broken)
		sent = queue_push(e, buf_slice(&packet), &fds, has_secret[m->type]);
	if (has_secret[m->type])
		mem_wipe(packet.p, packet.n);
	return sent;
}

bool
ipc_tell(struct edge *e, const struct msg *m)
{
	if (e == NULL || ipc_send(e, m))
		return e != NULL;
	if (!has_ended(e))
		log_event(LOG_WARN, NO_SESSION, "message-unsent", LOG_CSTR("message", msg_info(m->type)->name),
		    LOG_CSTR("peer", role_info(e->peer.role)->name), LOG_END);
	return false;
}

/* ---- events ---- */

static void
on_io(void *arg, int events)
{
	struct edge *e = arg;

	e->busy++;
	if ((events & LOOP_WRITE) && !e->broken)
		write_queue(e);
	if (events & LOOP_READ)
		read_some(e);
	leave(e);
}

static void
on_timer(void *arg)
{
	struct edge *e = arg;
	struct pending_entry entry;
	struct err late;

	e->busy++;
	err_set(&late, ERR_TEMP, ERR_CODE_TIMEOUT, "temporary failure",
	    "the %s did not answer in time", role_info(e->peer.role)->name);
	if (e->stalled && !e->broken) {
		e->stalled = false;
		write_queue(e);
	}
	if (e->broken)
		read_rest(e);
	else if (e->starved)
		read_some(e);
	if (e->broken)
		go_down(e);
	while (!e->down && pending_take_due(e->pending, clock_ms(), &entry))
		entry.gone(entry.obj, &late);
	set_timer(e);
	leave(e);
}

/* ---- requests ---- */

uint64_t
ipc_expect(struct edge *e, uint32_t deadline_ms, ipc_gone_fn *gone, void *obj)
{
	if (e->down)
		return 0;
	uint64_t due = clock_ms() + deadline_ms;
	bool first = due < pending_next_deadline(e->pending);
	uint64_t id = pending_add(e->pending, due, (struct pending_entry){gone, obj});

	if (first)
		set_timer(e);
	return id;
}

void *
ipc_answered(struct edge *e, uint64_t id)
{
	struct pending_entry entry;

	return pending_take(e->pending, id, &entry) ? entry.obj : NULL;
}

void *
ipc_waits(const struct edge *e, uint64_t id)
{
	return pending_find(e->pending, id);
}

void
ipc_forget(struct edge *e, uint64_t id)
{
	struct pending_entry entry;

	(void)pending_take(e->pending, id, &entry);
}
