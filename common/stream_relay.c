/*
 * A relay: the peer (by the stream's transport) on one side, a plain stream socket on the other.
 * What the peer sends passes through the stream's input buffer, what the other side sends through
 * its output queue; both stay empty as long as everybody reads, and each bounds what is taken from
 * the side that sends. An end of one direction is passed on as a half close; when the other side
 * has ended, the peer has STREAM_CLOSE_MS to end too.
 */
#include "common/stream_private.h"

#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static void
other_ready(void *arg, int events)
{
	struct stream *s = arg;

	if (events & LOOP_READ)
		s->relay->readable = true;
	if (events & LOOP_WRITE)
		s->relay->write_blocked = false;
	stream_run(s);
}

void
stream_relay(struct stream *s, int fd)
{
	assert(fd >= 0);
	if (s->state != STREAM_STATE_OPEN) {
		(void)close(fd);
		return;
	}
	s->relay = MEM_NEW(struct stream_relay);
	s->relay->fd = fd;
	s->relay->io = loop_io_new(s->loop, fd, LOOP_READ, other_ready, s);
	s->state = STREAM_STATE_RELAY;
	s->read_off = false;
	s->in_max = STREAM_SCRATCH_BYTES;
	if (!s->running)
		stream_kick(s);
}

void
stream_relay_free(struct stream *s)
{
	if (s->relay == NULL)
		return;
	loop_io_free(&s->relay->io);
	(void)close(s->relay->fd);
	MEM_FREE(&s->relay);
}

/* The other side is gone for what the peer sends: drop it from now on. */
static void
to_other_failed(struct stream *s)
{
	s->in_head = s->in.n = 0;
	s->relay->to_done = true;
}

/* Input of the peer goes to the other side. */
static void
push_to_other(struct stream *s)
{
	struct stream_relay *r = s->relay;

	while (s->in.n > s->in_head && !r->write_blocked && !r->to_done) {
		ssize_t n = send(r->fd, s->in.p + s->in_head, s->in.n - s->in_head, MSG_NOSIGNAL);

		if (n > 0) {
			s->in_head += (size_t)n;
			if (s->in_head == s->in.n)
				s->in_head = s->in.n = 0;
		} else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			r->write_blocked = true;
		} else if (n < 0 && errno != EINTR) {
			to_other_failed(s);
		}
	}
	if (r->to_done)
		s->in_head = s->in.n = 0;
	if (s->eof && s->in.n == 0 && !r->to_done) {
		(void)shutdown(r->fd, SHUT_WR);
		r->to_done = true;
	}
}

static void
other_ended(struct stream *s)
{
	s->relay->from_done = true;
	stream_progress(s);
}

/* Output of the other side goes to the peer: more is read only when the last of it has gone. */
static bool
pull_from_other(struct stream *s)
{
	struct stream_relay *r = s->relay;

	if (!r->readable || r->from_done || !out_queue_empty(&s->out))
		return false;
	ssize_t n = recv(r->fd, stream_scratch(), STREAM_SCRATCH_BYTES, 0);

	r->readable = n == STREAM_SCRATCH_BYTES;
	if (n > 0) {
		bool fits = out_queue_put(&s->out, slice_of(stream_scratch(), (size_t)n));

		assert(fits);
		(void)stream_flush(s, &s->out);
		return r->readable;
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return false;
	other_ended(s);
	return true;
}

bool
stream_relay_turn(struct stream *s)
{
	struct stream_relay *r = s->relay;
	bool more = false;

	push_to_other(s);
	if (s->readable && !s->eof && stream_input_room(s) > 0) {
		more = stream_fill(s);
		if (s->state == STREAM_STATE_ENDED)
			return false;
		push_to_other(s);
	}
	(void)stream_flush(s, &s->out);
	if (s->state == STREAM_STATE_RELAY)
		more = pull_from_other(s) || more;
	s->ready = false;
	if (s->state == STREAM_STATE_ENDED || !r->from_done || !out_queue_empty(&s->out))
		return more && s->state == STREAM_STATE_RELAY;
	if (!r->peer_told) {
		r->peer_told = true;
		s->transport->finish(s);
		(void)shutdown(s->fd, SHUT_WR);
		stream_progress(s);
	}
	if (r->to_done && s->eof)
		stream_end(s, STREAM_EOF, NULL);
	return more && s->state == STREAM_STATE_RELAY;
}

void
stream_relay_wants(struct stream *s)
{
	struct stream_relay *r = s->relay;
	int want = 0;

	if (s->state == STREAM_STATE_RELAY) {
		if (!r->from_done && out_queue_empty(&s->out))
			want |= LOOP_READ;
		if (r->write_blocked && !r->to_done)
			want |= LOOP_WRITE;
	}
	loop_io_set(r->io, want);
}
