/*
 * stream: one client connection (or relay end) with bounded buffers, in clear
 * or TLS. Callbacks only tell that something changed; the session does its work
 * in one step function that reads stream_input() until it can go no further.
 * Nothing here blocks.
 */
#ifndef COMMON_STREAM_H
#define COMMON_STREAM_H

#include "common/loop.h"
#include "common/slice.h"

struct stream;
struct tls_server;

enum stream_end {
	STREAM_EOF, /* the peer closed cleanly, all its input was consumed and all output is gone */
	STREAM_TIMEOUT, /* no octet from the peer for the time set, or none taken */
	STREAM_ERROR,	/* reset, TLS failure (stream_error() has words for the log) */
	STREAM_CLOSED,	/* our own stream_close() has flushed */
};

struct stream_events {
	/*
	 * Input arrived, or room in a full output came free: run the session's step. Also called
	 * once after a TLS handshake completed. Never called from inside a stream_ function.
	 */
	void (*on_ready)(struct stream *s, void *arg);
	/*
	 * It is over; the owner calls stream_free(), here or later. Called once, never from inside
	 * a stream_ function.
	 */
	void (*on_end)(struct stream *s, void *arg, enum stream_end why);
};

/* Queued output over this makes stream_full() true. */
#define STREAM_OUT_HIGH (64u * 1024)
/*
 * Output that a peer does not read may never pass this; stream_write() then ends the stream with
 * STREAM_ERROR.
 */
#define STREAM_OUT_MAX (4u << 20)

/* Owns fd (non-blocking). in_max: input octets held unread. Never NULL. */
struct stream *stream_new(
    struct loop *l, int fd, size_t in_max, const struct stream_events *ev, void *arg);
void stream_free(struct stream **s);

/* Where a connection is to go. */
struct stream_address {
	bool ip6;
	uint8_t ip[16]; /* the first 4 of an IPv4 address */
	uint16_t port;
};
/*
 * A stream over a new TCP connection to that address, from the address `from` (its port 0: any) or from any when NULL. on_ready
 * tells that it has come about, on_end(STREAM_ERROR or, with a timeout set, STREAM_TIMEOUT) that it has not; until then
 * nothing is to be written. NULL, with *error_r saying why, and errno, when there is no descriptor or no way there at all. Does not block.
 */
struct stream *stream_connect(struct loop *l, const struct stream_address *to, const struct stream_address *from, size_t in_max,
    const struct stream_events *ev, void *arg, const char **error_r);

/*
 * The octets received and not yet consumed. eof is true when the peer will send nothing more: a
 * session that has no use for what is left then (half a line) consumes it, and gets
 * on_end(STREAM_EOF). With reading disabled the end is not noticed.
 */
struct slice stream_input(const struct stream *s);
bool stream_eof(const struct stream *s);
void stream_consume(struct stream *s, size_t n);
/* The same, and overwrites what was consumed, for octets with a password in them. */
void stream_consume_secret(struct stream *s, size_t n);
/* Off: stop reading from the peer (back-pressure). On by default. */
void stream_read_enable(struct stream *s, bool on);
/* Changes in_max (e.g. larger for DATA, smaller before login); takes effect for further reads. */
void stream_set_input_max(struct stream *s, size_t in_max);

/*
 * Queues octets; written at the end of the loop round or at once. Nothing happens after the
 * stream's end.
 */
void stream_write(struct stream *s, struct slice data);
void stream_write_str(struct stream *s, const char *text);
/*
 * Queues len octets of file fd from offset, read as the peer takes them (never held in memory
 * whole); fd is duplicated. A file shorter than promised ends the stream with STREAM_ERROR.
 * on_ready comes when it has gone.
 */
void stream_write_file(struct stream *s, int fd, uint64_t offset, uint64_t len);
/*
 * Queued output is over STREAM_OUT_HIGH (a queued file counts as that): the step stops until
 * on_ready.
 */
bool stream_full(const struct stream *s);

/*
 * Ends the stream with STREAM_TIMEOUT after ms without progress by the peer; 0: no limit. Counts
 * only while the stream waits for the peer (input wanted, output queued, TLS handshake); a relay
 * has none.
 */
void stream_set_timeout(struct stream *s, uint64_t ms);
/*
 * Flushes, sends TLS close_notify, closes: then on_end(STREAM_CLOSED). Input is discarded meanwhile
 * (bounded in time: 5 s, and in octets: 16 MiB).
 */
void stream_close(struct stream *s);
/* Writes what the peer takes at once of the queued output, for who frees the stream without waiting. */
void stream_flush_now(struct stream *s);
const char *stream_error(const struct stream *s);

/*
 * Begins the server's side of TLS. Input already buffered in clear is DISCARDED (RFC 3207 4.2, RFC
 * 3501 6.2.1, RFC 2595 4), after queued output was flushed in clear. on_ready follows when the
 * handshake is done; failure ends the stream.
 */
void stream_starttls(struct stream *s, struct tls_server *tls);
/* Whether TLS is on, by stream_starttls() or common/tls_client.h. */
bool stream_is_tls(const struct stream *s);
/* "TLS1.3 TLS_AES_256_GCM_SHA384" and the SNI name (or ""); valid until the stream is freed. */
const char *stream_tls_text(const struct stream *s);
const char *stream_tls_sni(const struct stream *s);

/*
 * Relays everything between s and fd (a stream socket, owned from now on) until either side ends;
 * buffered input goes first. The session's on_ready is not called any more; on_end is, once, when
 * both directions are finished. Half-close is passed on. An idle relay holds no buffers.
 */
void stream_relay(struct stream *s, int fd);

#endif
