/*
 * Moving octets between the socket, the queues and files. Buffers exist only while they hold
 * something: an idle stream has none, and reading goes through one scratch buffer of the process.
 */
#include "common/stream_private.h"

#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

uint8_t *
stream_scratch(void)
{
	static uint8_t scratch[STREAM_SCRATCH_BYTES];

	return scratch;
}

static enum xfer
clear_result(struct stream *s, ssize_t n, size_t *n_r, int want, int *want_r)
{
	*n_r = 0;
	if (n > 0) {
		*n_r = (size_t)n;
		return XFER_OK;
	}
	if (n == 0)
		return XFER_EOF;
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
		*want_r = want;
		return XFER_AGAIN;
	}
	s->error = strerrordesc_np(errno);
	return XFER_ERROR;
}

static enum xfer
clear_read(struct stream *s, void *p, size_t n, size_t *n_r, int *want_r)
{
	return clear_result(s, recv(s->fd, p, n, 0), n_r, LOOP_READ, want_r);
}

static enum xfer
clear_write(struct stream *s, const void *p, size_t n, bool more, size_t *n_r, int *want_r)
{
	int flags = MSG_NOSIGNAL | (more ? MSG_MORE : 0);

	return clear_result(s, send(s->fd, p, n, flags), n_r, LOOP_WRITE, want_r);
}

static bool
clear_pending(struct stream *s)
{
	(void)s;
	return false;
}

static void
clear_nothing(struct stream *s)
{
	(void)s;
}

const struct stream_transport stream_clear = {
    .write_max = STREAM_SCRATCH_BYTES,
    .read = clear_read,
    .write = clear_write,
    .pending = clear_pending,
    .finish = clear_nothing,
    .free = clear_nothing,
};

size_t
stream_input_room(const struct stream *s)
{
	size_t held = s->in.n - s->in_head;

	return held < s->in_max ? s->in_max - held : 0;
}

/* Appends to the input; what was consumed makes room first. */
static void
input_put(struct stream *s, const uint8_t *p, size_t n)
{
	if (s->in_head && s->in.n + n > s->in.cap) {
		buf_drop(&s->in, s->in_head);
		s->in_head = 0;
	}
	bool fits = buf_put(&s->in, p, n);

	assert(fits);
}

bool
stream_fill(struct stream *s)
{
	size_t room = stream_input_room(s), n;
	size_t ask = room < STREAM_SCRATCH_BYTES ? room : STREAM_SCRATCH_BYTES;
	int want = LOOP_READ;

	if (ask == 0)
		return false;
	s->readable = false;
	switch (s->transport->read(s, stream_scratch(), ask, &n, &want)) {
	case XFER_OK:
		input_put(s, stream_scratch(), n);
		s->ready = true;
		/*
		 * A relay that only waits for the peer's end does not wait longer for one that
		 * talks on.
		 */
		if (s->relay == NULL || !s->relay->peer_told)
			stream_progress(s);
		s->read_want = LOOP_READ;
		s->readable = s->transport->pending(s) ||
			      (n == ask && s->transport == &stream_clear);
		return s->readable;
	case XFER_AGAIN:
		s->read_want = (uint8_t)want;
		return false;
	case XFER_EOF:
		s->eof = true;
		s->ready = true;
		return false;
	case XFER_ERROR:
		break;
	}
	/* A client that was told the end and does not read it any more resets: that is its end. */
	if (s->relay && s->relay->peer_told)
		s->eof = true;
	else
		stream_end(s, STREAM_ERROR, s->error);
	return false;
}

static struct out_seg *
seg_new(struct out_queue *q)
{
	struct out_seg *seg = MEM_NEW(struct out_seg);

	buf_init(&seg->mem, STREAM_OUT_MAX);
	seg->fd = -1;
	if (q->last)
		q->last->next = seg;
	else
		q->first = seg;
	q->last = seg;
	return seg;
}

static void
seg_drop_first(struct out_queue *q)
{
	struct out_seg *seg = q->first;

	q->first = seg->next;
	if (q->first == NULL)
		q->last = NULL;
	if (seg->fd >= 0) {
		(void)close(seg->fd);
		q->files--;
	}
	q->mem_bytes -= seg->mem.n - seg->head;
	buf_fini(&seg->mem);
	free(seg);
}

void
out_queue_clear(struct out_queue *q)
{
	while (q->first)
		seg_drop_first(q);
}

bool
out_queue_put(struct out_queue *q, struct slice data)
{
	if (data.n > STREAM_OUT_MAX - q->mem_bytes)
		return false;
	struct out_seg *seg = q->last;

	if (seg && seg->fd < 0 && seg->head && seg->mem.n + data.n > seg->mem.cap) {
		buf_drop(&seg->mem, seg->head);
		seg->head = 0;
	}
	if (seg == NULL || seg->fd >= 0)
		seg = seg_new(q);
	q->mem_bytes += data.n;
	return buf_put_slice(&seg->mem, data);
}

void
out_queue_put_file(struct out_queue *q, int fd, uint64_t offset, uint64_t len)
{
	struct out_seg *seg = seg_new(q);

	assert(fd >= 0);
	seg->fd = fd;
	seg->offset = offset;
	seg->left = len;
	q->files++;
}

/* The next octets of a segment; NULL when its file ends too soon or cannot be read. */
static const uint8_t *
seg_octets(struct stream *s, struct out_seg *seg, size_t *n_r)
{
	if (seg->fd < 0) {
		*n_r = seg->mem.n - seg->head;
		return seg->mem.p + seg->head;
	}
	size_t ask = s->transport->write_max;
	ssize_t n;

	if (seg->left < ask)
		ask = (size_t)seg->left;
	do
		n = pread(seg->fd, stream_scratch(), ask, (off_t)seg->offset);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		s->error = n == 0 ? "the file to be sent is too short" : strerrordesc_np(errno);
		return NULL;
	}
	*n_r = (size_t)n;
	return stream_scratch();
}

static bool
seg_sent(struct out_queue *q, struct out_seg *seg, size_t n)
{
	if (seg->fd < 0) {
		seg->head += n;
		q->mem_bytes -= n;
		return seg->head == seg->mem.n;
	}
	seg->offset += n;
	seg->left -= n;
	return seg->left == 0;
}

bool
stream_flush(struct stream *s, struct out_queue *q)
{
	/* A file of any length must not hold the loop: so many octets per wake-up. */
	size_t budget = STREAM_TURNS_PER_WAKE * STREAM_SCRATCH_BYTES;

	while (q->first && !s->write_blocked && s->state != STREAM_STATE_ENDED) {
		struct out_seg *seg = q->first;
		size_t n = 0, sent = 0;
		int want = LOOP_WRITE;

		if (budget == 0) {
			stream_kick(s);
			return false;
		}
		if (seg->fd >= 0 && seg->left == 0) {
			seg_drop_first(q);
			continue;
		}
		const uint8_t *p = seg_octets(s, seg, &n);

		if (p == NULL) {
			stream_end(s, STREAM_ERROR, s->error);
			return false;
		}
		switch (s->transport->write(s, p, n, seg->next != NULL, &sent, &want)) {
		case XFER_OK:
			stream_progress(s);
			budget -= sent < budget ? sent : budget;
			if (seg_sent(q, seg, sent))
				seg_drop_first(q);
			break;
		case XFER_AGAIN:
			s->write_blocked = true;
			s->write_want = (uint8_t)want;
			break;
		case XFER_EOF:
		case XFER_ERROR:
			stream_end(s, STREAM_ERROR, s->error);
			return false;
		}
	}
	return q->first == NULL;
}
