/*
 * imap_framer: octets from a client to whole commands (RFC 3501 2.2, 4.3, RFC 7888). A command is its
 * lines and literals as they came, put together in one buffer without the last CRLF; imap_scan reads that.
 * Resumable at every octet; bounded by the limits whatever comes; no I/O.
 *
 *   while (in.n > 0) {
 *           switch (imap_framer_feed(&f, in, &used)) ...
 *           in = slice_sub(in, used, in.n);
 *   }
 *
 * Lines end in CRLF only: a bare LF ends the line too, but makes it an error, as do NUL and a bare CR.
 */
#ifndef IMAPD_IMAP_FRAMER_H
#define IMAPD_IMAP_FRAMER_H

#include "common/buf.h"

struct imap_framer_limits {
	size_t line_bytes;    /* of one line, its CRLF included */
	size_t command_bytes; /* of all lines and literals of a command */
	uint64_t drop_bytes;  /* of a refused non-synchronising literal, which is read and dropped; a longer one
				 ends the session */
};

enum imap_frame {
	IMAP_FRAME_MORE,    /* all input is used */
	IMAP_FRAME_LITERAL, /* the line ended in {n} or {n+}: answer by one of the verbs below */
	IMAP_FRAME_SPOOL,   /* f->spool has octets of a literal taken by imap_framer_spool() */
	IMAP_FRAME_COMMAND, /* imap_framer_command() is whole; then imap_framer_next() */
	IMAP_FRAME_ERROR,   /* f->why; the command has been read to its end; imap_framer_command() has its
			       beginning (for the tag); then imap_framer_next() */
	IMAP_FRAME_FATAL,   /* f->why: what follows cannot be told from commands: say BYE */
};

enum imap_framer_state {
	IMAP_FRAMER_LINE,
	IMAP_FRAMER_LITERAL,
	IMAP_FRAMER_INLINE,
	IMAP_FRAMER_SPOOLING,
	IMAP_FRAMER_DROPPING,
	IMAP_FRAMER_DONE,
};

struct imap_framer {
	struct imap_framer_limits limits;
	enum imap_framer_state state;
	struct buf text;
	size_t line_start; /* of the line being read, in text */
	size_t line_bytes; /* of it, those not kept included */
	bool cr;	   /* the last octet was CR */
	bool plain;	   /* lines of data: no literals */
	bool bad;	   /* the command will be refused: read on to its end */
	bool answered;	   /* it is: its end is no event */
	const char *why;
	uint64_t literal_octets; /* announced */
	uint64_t literal_left;
	bool literal_sync;
	struct slice spool;
};

void imap_framer_init(struct imap_framer *f, struct imap_framer_limits limits);
void imap_framer_fini(struct imap_framer *f);
/* New limits, from the next command on. */
void imap_framer_limits(struct imap_framer *f, struct imap_framer_limits limits);
/* On: the next lines are base64 or DONE, in which "{5}" is no literal. */
void imap_framer_plain(struct imap_framer *f, bool on);

/* Takes octets of in up to the next event; *used_r are done with, at least one unless in is empty. */
enum imap_frame imap_framer_feed(struct imap_framer *f, struct slice in, size_t *used_r);

/* After LITERAL: it becomes part of the command's text. The caller sends the continuation when it is
 * synchronising. False (and refused) when it does not fit in the command's limit. */
bool imap_framer_accept(struct imap_framer *f);
/* After LITERAL: its octets are given as SPOOL events; the text has only its head. */
void imap_framer_spool(struct imap_framer *f);
/*
 * After LITERAL: the caller has answered the command NO or BAD. A synchronising literal will not be sent, so
 * the next octet begins a command (RFC 3501 7.5); a non-synchronising one is read and dropped with the rest of
 * its command. False when it is too long for that: say BYE.
 */
bool imap_framer_refuse(struct imap_framer *f);

/* The command's text, without the last CRLF; valid until imap_framer_next(). */
struct slice imap_framer_command(const struct imap_framer *f);
/* Begins the next command. */
void imap_framer_next(struct imap_framer *f);
/* True when nothing of a next command has been read. */
bool imap_framer_idle(const struct imap_framer *f);

#endif
