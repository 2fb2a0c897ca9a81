/*
 * The session's side of a stream and its one working function, stream_run(). Everything else only
 * notes what is wanted and has stream_run() called: by the loop when the socket is ready, or by a
 * kick (a timer of 0 ms) after a call from outside. So a session is never called from inside its
 * own call, and frees its stream wherever it likes: the memory lives until stream_run() has
 * returned.
 *
 * One timer serves kicks and timeouts. It is re-armed lazily: progress only notes the time, and a
 * timer that fires early looks again.
 *
 * Closing: output leaves, then our direction is shut, then input is read and dropped until the peer
 * closes too. A plain close() with unread input would make the kernel send a reset, which can
 * destroy our last words at the peer.
 */
#include "common/stream_private.h"

#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void
io_ready(void *arg, int events)
{
	struct stream *s = arg;

	/* TLS may want either event for either direction. */
	if (events & s->read_want)
		s->readable = true;
	if (events & s->write_want)
		s->write_blocked = false;
	stream_run(s);
}

/*
 * What may go on without the peer doing anything has no timeout: only a peer that we wait for can
 * be late.
 */
static bool
waits_for_peer(const struct stream *s)
{
	switch (s->state) {
	case STREAM_STATE_CONNECTING:
		return true;
	case STREAM_STATE_OPEN:
		return (!s->read_off && stream_input_room(s) > 0) || !out_queue_empty(&s->out) ||
		       s->eof;
	case STREAM_STATE_HANDSHAKE:
		return s->read_want != 0;
	case STREAM_STATE_TLS_FLUSH:
	case STREAM_STATE_CLOSING:
	case STREAM_STATE_LINGER:
		return true;
	case STREAM_STATE_RELAY:
		return s->relay->from_done;
	case STREAM_STATE_ENDED:
		break;
	}
	return false;
}

/* The time without progress that ends the stream in its present state; 0: none. */
static uint64_t
timeout_now(const struct stream *s)
{
	if (!waits_for_peer(s))
		return 0;
	if (s->state == STREAM_STATE_CLOSING || s->state == STREAM_STATE_LINGER ||
	    s->state == STREAM_STATE_RELAY)
		return STREAM_CLOSE_MS;
	if (s->eof && (s->timeout_ms == 0 || s->timeout_ms > STREAM_EOF_MS))
		return STREAM_EOF_MS;
	return s->timeout_ms;
}

static void
arm_timer(struct stream *s)
{
	uint64_t limit = timeout_now(s);

	if (s->kicked || limit == 0)
		return;
	uint64_t now = clock_ms(), due = s->progress_at + limit;

	if (due <= now)
		due = now + 1;
	if (s->timer_at != 0 && s->timer_at <= due)
		return;
	s->timer_at = due;
	loop_timer_set(s->timer, due - now);
}

static void
timed_out(struct stream *s)
{
	if (s->state == STREAM_STATE_LINGER ||
	    (s->state == STREAM_STATE_RELAY && out_queue_empty(&s->out)))
		stream_end(s, s->state == STREAM_STATE_LINGER ? STREAM_CLOSED : STREAM_EOF, NULL);
	else if (s->eof && s->state == STREAM_STATE_OPEN)
		stream_end(s, STREAM_EOF, NULL);
	else
		stream_end(s, STREAM_TIMEOUT, "the peer made no progress in time");
}

static void
timer_ready(void *arg)
{
	struct stream *s = arg;

	s->timer_at = 0;
	s->kicked = false;
	if (s->state != STREAM_STATE_ENDED) {
		uint64_t limit = timeout_now(s);

		if (limit != 0 && clock_ms() >= s->progress_at + limit)
			timed_out(s);
	}
	stream_run(s);
}

struct stream *
stream_new(struct loop *l, int fd, size_t in_max, const struct stream_events *ev, void *arg)
{
	struct stream *s = MEM_NEW(struct stream);
	const int on = 1;

	assert(fd >= 0 && in_max > 0 && ev->on_ready != NULL && ev->on_end != NULL);
	s->loop = l;
	s->fd = fd;
	s->in_max = in_max;
	s->ev = ev;
	s->arg = arg;
	s->transport = &stream_clear;
	s->read_want = LOOP_READ;
	s->write_want = LOOP_WRITE;
	s->error = "";
	/* in_max bounds it; it may be lowered later. */
	buf_init(&s->in, SIZE_MAX / 2);
	/*
	 * Replies are written whole: waiting for more of them only costs time. Fails on AF_UNIX,
	 * where it means nothing.
	 */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	s->io = loop_io_new(l, fd, LOOP_READ, io_ready, s);
	s->timer = loop_timer_new(l, timer_ready, s);
	stream_progress(s);
	return s;
}

/* Gives everything back but the struct itself. */
static void
release(struct stream *s)
{
	stream_relay_free(s);
	s->transport->free(s);
	s->transport = &stream_clear;
	loop_io_free(&s->io);
	loop_timer_free(&s->timer);
	out_queue_clear(&s->out);
	out_queue_clear(&s->clear);
	buf_fini(&s->in);
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
}

void
stream_free(struct stream **sp)
{
	struct stream *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	assert(!s->freed);
	s->freed = true;
	s->state = STREAM_STATE_ENDED;
	release(s);
	if (!s->running)
		free(s);
}

void
stream_connecting(struct stream *s)
{
	s->state = STREAM_STATE_CONNECTING;
	s->write_blocked = true;
	loop_io_set(s->io, LOOP_WRITE);
}

/* A socket that is connected can be written to; SO_ERROR says why one that is not can be, too. */
static void
turn_connecting(struct stream *s)
{
	int error = 0;
	socklen_t n = sizeof error;

	if (s->write_blocked)
		return;
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
		error = errno;
	if (error != 0) {
		stream_end(s, STREAM_ERROR, strerrordesc_np(error));
		return;
	}
	s->state = STREAM_STATE_OPEN;
	s->ready = true;
	stream_progress(s);
}

void
stream_progress(struct stream *s)
{
	s->progress_at = clock_ms();
}

void
stream_kick(struct stream *s)
{
	if (s->kicked || s->freed)
		return;
	s->kicked = true;
	s->timer_at = 0;
	loop_timer_set(s->timer, 0);
}

void
stream_end(struct stream *s, enum stream_end why, const char *error)
{
	if (s->state == STREAM_STATE_ENDED)
		return;
	if (error != NULL)
		s->error = error;
	s->state = STREAM_STATE_ENDED;
	s->why = why;
	if (!s->running)
		stream_kick(s);
}

/* A call from outside changed something that stream_run() must look at. */
static void
changed(struct stream *s)
{
	if (!s->running)
		stream_kick(s);
}

struct slice
stream_input(const struct stream *s)
{
	if (s->in.n == s->in_head)
		return slice_of(NULL, 0);
	return slice_of(s->in.p + s->in_head, s->in.n - s->in_head);
}

bool
stream_eof(const struct stream *s)
{
	return s->eof;
}

void
stream_consume(struct stream *s, size_t n)
{
	assert(n <= s->in.n - s->in_head);
	if (n == 0)
		return;
	s->in_head += n;
	if (s->in_head == s->in.n)
		s->in_head = s->in.n = 0;
	stream_progress(s);
	changed(s);
}

void
stream_consume_secret(struct stream *s, size_t n)
{
	assert(n <= s->in.n - s->in_head);
	if (n == 0)
		return;
	mem_wipe(s->in.p + s->in_head, n);
	mem_wipe(stream_scratch(), STREAM_SCRATCH_BYTES);
	stream_consume(s, n);
}

void
stream_read_enable(struct stream *s, bool on)
{
	if (s->read_off == !on)
		return;
	s->read_off = !on;
	stream_progress(s);
	changed(s);
}

void
stream_set_input_max(struct stream *s, size_t in_max)
{
	assert(in_max > 0);
	s->in_max = in_max;
	changed(s);
}

static bool
takes_output(const struct stream *s)
{
	return s->state == STREAM_STATE_OPEN || s->state == STREAM_STATE_TLS_FLUSH ||
	       s->state == STREAM_STATE_HANDSHAKE;
}

void
stream_write(struct stream *s, struct slice data)
{
	if (!takes_output(s) || slice_empty(data))
		return;
	if (out_queue_empty(&s->out))
		stream_progress(s);
	if (!out_queue_put(&s->out, data))
		stream_end(s, STREAM_ERROR, "the peer does not read its output");
	s->was_full = s->was_full || stream_full(s);
	changed(s);
}

void
stream_write_str(struct stream *s, const char *text)
{
	stream_write(s, slice_str(text));
}

void
stream_write_file(struct stream *s, int fd, uint64_t offset, uint64_t len)
{
	assert(fd >= 0 && offset <= INT64_MAX && len <= INT64_MAX - offset);
	if (!takes_output(s))
		return;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own < 0)
		stream_end(s, STREAM_ERROR, "no descriptor left for a file to be sent");
	else
		out_queue_put_file(&s->out, own, offset, len);
	s->was_full = true;
	stream_progress(s);
	changed(s);
}

bool
stream_full(const struct stream *s)
{
	return s->out.files > 0 || s->out.mem_bytes > STREAM_OUT_HIGH;
}

void
stream_set_timeout(struct stream *s, uint64_t ms)
{
	s->timeout_ms = ms;
	stream_progress(s);
	changed(s);
}

void
stream_flush_now(struct stream *s)
{
	if (s->state == STREAM_STATE_OPEN || s->state == STREAM_STATE_CLOSING)
		(void)stream_flush(s, &s->out);
}

const char *
stream_error(const struct stream *s)
{
	return s->error;
}

static void
drop_input(struct stream *s)
{
	buf_fini(&s->in);
	s->in_head = 0;
}

void
stream_close(struct stream *s)
{
	if (!takes_output(s))
		return;
	/* What was to be sent under TLS is never sent in clear. */
	if (s->state != STREAM_STATE_OPEN)
		out_queue_clear(&s->out);
	out_queue_clear(&s->clear);
	s->state = STREAM_STATE_CLOSING;
	s->read_want = LOOP_READ;
	s->read_off = false;
	drop_input(s);
	stream_progress(s);
	changed(s);
}

/* What else has come, so that the close is no reset, which could overtake the alert that says why. */
static void
drain(struct stream *s)
{
	size_t n = 0;
	int want = 0;

	(void)!stream_clear.read(s, stream_scratch(), STREAM_SCRATCH_BYTES, &n, &want);
}

/* The handshake's turn. */
static void
turn_handshake(struct stream *s)
{
	int want = 0;

	switch (s->transport->handshake(s, &want)) {
	case XFER_OK:
		s->state = STREAM_STATE_OPEN;
		s->read_want = LOOP_READ;
		s->write_want = LOOP_WRITE;
		s->write_blocked = false;
		s->readable = s->transport->pending(s);
		s->ready = true;
		stream_progress(s);
		break;
	case XFER_AGAIN:
		s->read_want = (uint8_t)want;
		break;
	case XFER_EOF:
	case XFER_ERROR:
		drain(s);
		stream_end(s, STREAM_ERROR, s->error);
		break;
	}
}

static void
turn_open(struct stream *s)
{
	(void)stream_flush(s, &s->out);
	if (s->was_full && !stream_full(s)) {
		s->was_full = false;
		s->ready = true;
	}
	if (s->state == STREAM_STATE_OPEN && s->readable && !s->read_off && !s->eof)
		(void)stream_fill(s);
	if (s->state == STREAM_STATE_OPEN && s->eof && s->in.n == 0 && out_queue_empty(&s->out))
		stream_end(s, STREAM_EOF, NULL);
}

static void
turn_closing(struct stream *s)
{
	if (s->state == STREAM_STATE_CLOSING && stream_flush(s, &s->out)) {
		s->transport->finish(s);
		(void)shutdown(s->fd, SHUT_WR);
		s->state = STREAM_STATE_LINGER;
		stream_progress(s);
	}
	if (s->state == STREAM_STATE_ENDED)
		return;
	/* Input is dropped as it is, TLS or not; it is no progress. */
	int want = 0;
	size_t n = 0;

	if (s->readable && !s->eof) {
		switch (stream_clear.read(s, stream_scratch(), STREAM_SCRATCH_BYTES, &n, &want)) {
		case XFER_OK:
			s->dropped += n;
			break;
		case XFER_AGAIN:
			s->readable = false;
			break;
		case XFER_EOF:
		case XFER_ERROR:
			s->eof = true;
		}
	}
	if (s->dropped > STREAM_DROPPED_BYTES_MAX)
		stream_end(s, STREAM_CLOSED, NULL);
	if (s->eof && s->state == STREAM_STATE_LINGER)
		stream_end(s, STREAM_CLOSED, NULL);
}

/* One turn; true when another at once may find more to do. */
static bool
turn(struct stream *s)
{
	switch (s->state) {
	case STREAM_STATE_CONNECTING:
		turn_connecting(s);
		break;
	case STREAM_STATE_OPEN:
		turn_open(s);
		break;
	case STREAM_STATE_TLS_FLUSH:
		if (stream_flush(s, &s->clear)) {
			s->state = STREAM_STATE_HANDSHAKE;
			s->read_want = LOOP_READ;
			turn_handshake(s);
		}
		break;
	case STREAM_STATE_HANDSHAKE:
		turn_handshake(s);
		break;
	case STREAM_STATE_RELAY:
		return stream_relay_turn(s);
	case STREAM_STATE_CLOSING:
	case STREAM_STATE_LINGER:
		turn_closing(s);
		return s->readable && s->state != STREAM_STATE_ENDED;
	case STREAM_STATE_ENDED:
		break;
	}
	return s->ready;
}

/* Sets what the loop watches, and gives back buffers that hold nothing. */
static void
settle(struct stream *s)
{
	int want = 0;

	if (s->in.n == 0 && s->in.cap)
		drop_input(s);
	switch (s->state) {
	case STREAM_STATE_OPEN:
	case STREAM_STATE_RELAY:
		if (!s->read_off && !s->eof && stream_input_room(s) > 0)
			want |= s->read_want;
		break;
	case STREAM_STATE_HANDSHAKE:
		want |= s->read_want;
		break;
	case STREAM_STATE_CLOSING:
	case STREAM_STATE_LINGER:
		if (!s->eof)
			want |= LOOP_READ;
		break;
	case STREAM_STATE_CONNECTING:
	case STREAM_STATE_TLS_FLUSH:
	case STREAM_STATE_ENDED:
		break;
	}
	if (s->write_blocked && s->state != STREAM_STATE_HANDSHAKE &&
	    s->state != STREAM_STATE_ENDED)
		want |= s->write_want;
	loop_io_set(s->io, want);
	if (s->relay)
		stream_relay_wants(s);
	arm_timer(s);
}

void
stream_run(struct stream *s)
{
	bool more = true;

	assert(!s->running && !s->freed);
	s->running = true;
	for (int i = 0; more && i < STREAM_TURNS_PER_WAKE && !s->freed; i++) {
		more = turn(s);
		if (s->state == STREAM_STATE_ENDED)
			break;
		if (!s->ready)
			continue;
		s->ready = false;
		if (s->state == STREAM_STATE_OPEN) {
			s->ev->on_ready(s, s->arg);
			if (s->freed)
				break;
		}
	}
	if (!s->freed && s->state == STREAM_STATE_ENDED && !s->end_told) {
		s->end_told = true;
		loop_io_set(s->io, 0);
		s->ev->on_end(s, s->arg, s->why);
	}
	s->running = false;
	if (s->freed) {
		free(s);
		return;
	}
	if (more && s->state != STREAM_STATE_ENDED)
		stream_kick(s);
	settle(s);
}
