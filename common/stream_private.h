/*
 * The inside of a stream, for stream.c (the session's side), stream_io.c (moving octets),
 * stream_relay.c, stream_connect.c and stream_tls.c. Only stream_tls.c and its two sides (stream_tls_server.c,
 * stream_tls_client.c) know OpenSSL, and are linked only where TLS is begun.
 */
#ifndef COMMON_STREAM_PRIVATE_H
#define COMMON_STREAM_PRIVATE_H

#include "common/buf.h"
#include "common/stream.h"

/* No progress for so long ends a stream that is being closed. */
#define STREAM_CLOSE_MS 5000
/* Nor do so many octets come from a peer that has not noticed: more than the buffers of both kernels hold. */
#define STREAM_DROPPED_BYTES_MAX (16u << 20)
/*
 * A peer that has closed and whose last input nobody takes: the safety net for a forgetful session.
 */
#define STREAM_EOF_MS (5u * 60 * 1000)
/* Octets moved at a time, through one buffer shared by all streams of the process. */
#define STREAM_SCRATCH_BYTES (64u * 1024)
/* Turns of reading and answering in one wake-up, so that one busy peer cannot starve the others. */
#define STREAM_TURNS_PER_WAKE 8

enum stream_state {
	STREAM_STATE_OPEN,
	STREAM_STATE_CONNECTING, /* stream_connect(): not there yet */
	STREAM_STATE_TLS_FLUSH, /* the last clear output is leaving */
	STREAM_STATE_HANDSHAKE,
	STREAM_STATE_RELAY,
	STREAM_STATE_CLOSING, /* output is leaving, input is dropped */
	STREAM_STATE_LINGER,  /* our direction is closed: wait for the peer's end */
	STREAM_STATE_ENDED,
};

enum xfer {
	XFER_OK,
	XFER_AGAIN, /* *want_r: the events to wait for; 0: somebody calls stream_kick() */
	XFER_EOF,
	XFER_ERROR, /* s->error says what */
};

/* How octets reach the peer. */
struct stream_transport {
	size_t write_max; /* octets worth giving to one write() */
	enum xfer (*read)(struct stream *s, void *p, size_t n, size_t *n_r, int *want_r);
	enum xfer (*write)(
	    struct stream *s, const void *p, size_t n, bool more, size_t *n_r, int *want_r);
	enum xfer (*handshake)(struct stream *s, int *want_r);
	/* Octets were received that no event of the socket will announce. */
	bool (*pending)(struct stream *s);
	/* Tells the peer that nothing more comes; best effort. */
	void (*finish)(struct stream *s);
	void (*free)(struct stream *s);
};

/* Output in order: octets, or a part of a file (fd >= 0). */
struct out_seg {
	struct out_seg *next;
	struct buf mem;
	size_t head;
	int fd;
	uint64_t offset;
	uint64_t left;
};

struct out_queue {
	struct out_seg *first;
	struct out_seg *last;
	size_t mem_bytes;
	unsigned files;
};

struct stream_relay {
	int fd;
	struct loop_io *io;
	bool readable;
	bool write_blocked;
	bool from_done; /* the other side closed; told to the peer once all is written */
	bool peer_told; /* of that end */
	bool to_done;	/* the peer closed, and the other side was told, or takes nothing more */
};

struct stream {
	struct loop *loop;
	int fd;
	struct loop_io *io;
	struct loop_timer *timer;
	const struct stream_transport *transport;
	void *tls; /* of stream_tls.c */
	struct stream_relay *relay;
	const struct stream_events *ev;
	void *arg;
	const char *error;

	struct buf in;
	size_t in_head;
	size_t in_max;
	struct out_queue out;
	struct out_queue clear; /* what was queued before stream_starttls() */

	size_t dropped; /* octets read and thrown away while closing */
	uint64_t timeout_ms;
	uint64_t progress_at; /* clock_ms() of the last progress */
	uint64_t timer_at;    /* what the timer is armed for; 0: not armed */
	uint8_t read_want;
	uint8_t write_want;
	enum stream_state state;
	enum stream_end why;
	bool readable;
	bool read_off;
	bool write_blocked;
	bool eof;
	bool was_full;
	bool ready; /* on_ready is due */
	bool running;
	bool kicked;
	bool end_told;
	bool freed;
};

/* Makes the loop call stream_run() soon; nothing when it runs now. */
void stream_kick(struct stream *s);
/* Does all that can be done now, then calls the session. s may be freed afterwards. */
void stream_run(struct stream *s);
/* Makes a stream that is to be connected wait for that. */
void stream_connecting(struct stream *s);
/* The stream is over; told to the owner by stream_run(). error may be NULL. */
void stream_end(struct stream *s, enum stream_end why, const char *error);
/* Counts as progress for the timeout. */
void stream_progress(struct stream *s);

extern const struct stream_transport stream_clear;
/* The shared buffer, STREAM_SCRATCH_BYTES long; its content is good until the next call out. */
uint8_t *stream_scratch(void);
size_t stream_input_room(const struct stream *s);
/* Reads once from the peer into the input buffer. True when there may be more at once. */
bool stream_fill(struct stream *s);
/* Writes what the peer takes; true when the queue is empty. */
bool stream_flush(struct stream *s, struct out_queue *q);
void out_queue_clear(struct out_queue *q);
bool out_queue_put(struct out_queue *q, struct slice data);
void out_queue_put_file(struct out_queue *q, int fd, uint64_t offset, uint64_t len);
static inline bool
out_queue_empty(const struct out_queue *q)
{
	return q->first == NULL;
}

/* One turn of the relay. True when another turn at once may move more. */
bool stream_relay_turn(struct stream *s);
/* Sets what the relay's other side waits for. */
void stream_relay_wants(struct stream *s);
void stream_relay_free(struct stream *s);

#endif
