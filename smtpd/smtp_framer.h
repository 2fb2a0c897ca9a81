/*
 * smtp_framer: octets of a connection to command lines and to message data.
 * Strict: a line ends in CRLF and in nothing else; a CR or LF alone, and NUL,
 * are errors (RFC 5321 2.3.8, 4.1.1.4). Pure and resumable: fed in pieces of any size
 * with the same result.
 */
#ifndef SMTPD_SMTP_FRAMER_H
#define SMTPD_SMTP_FRAMER_H

#include "common/slice.h"

/* ---- command lines ---- */

enum smtp_frame {
	SMTP_FRAME_MORE, /* no whole line yet */
	SMTP_FRAME_LINE, /* a line; the bytes used include its CRLF */
	SMTP_FRAME_LONG, /* a line over the maximum has ended; all of it was used */
	SMTP_FRAME_BAD,	 /* CR or LF alone, or NUL: the two ends may not agree on lines any more, so that
			    the connection is to be closed */
};

/* Zeroed at first and after each line. */
struct smtp_line_framer {
	size_t scanned;	 /* octets of the input already looked at */
	uint64_t thrown; /* octets of an over-long line used so far; 0: the line is not too long yet */
	bool cr;	 /* the last octet looked at was CR */
};

/*
 * Looks at in, all unused input so far (what was passed before and not used comes first again). *used_r
 * octets are to be consumed, also with SMTP_FRAME_MORE, when an over-long line is being thrown away. line_bytes_max
 * counts the CRLF. *line_r (without CRLF) points into in.
 */
enum smtp_frame smtp_line_next(struct smtp_line_framer *f, struct slice in, size_t line_bytes_max,
    struct slice *line_r, size_t *used_r) __attribute__((warn_unused_result));

/* ---- message data ---- */

/* What is done with CR or LF alone in message data. */
enum smtp_bare {
	SMTP_BARE_REFUSE, /* mail from other servers: noted, the message must be refused */
	SMTP_BARE_FIX,	  /* mail from users: becomes CRLF (RFC 6409 8) */
};

enum smtp_data_state {
	SMTP_DATA_LINE_START, /* after CRLF, or at the beginning */
	SMTP_DATA_TEXT,
	SMTP_DATA_CR,	  /* CR in text: LF makes it a line's end */
	SMTP_DATA_DOT,	  /* CRLF "." */
	SMTP_DATA_DOT_CR, /* CRLF "." CR */
	SMTP_DATA_END,	  /* CRLF "." CRLF was seen */
};

struct smtp_data_framer {
	enum smtp_data_state state;
	enum smtp_bare bare_rule;
	bool bare; /* CR or LF alone was seen */
	bool nul;  /* NUL was seen: the message must be refused */
};

void smtp_data_init(struct smtp_data_framer *f, enum smtp_bare rule);

/*
 * The one function that decides where message data ends: at the octets CRLF "." CRLF and nowhere else
 * (the CRLF of the DATA command counts as the first). Takes octets of in and gives the message's own octets: a part of in or a
 * literal, without the dot that stuffing put at a line's start (RFC 5321 4.5.2). Call it again with the rest
 * of in until *used_r is in.n or state is SMTP_DATA_END; each call gives or takes at least one octet of a non-empty in.
 * Nothing behind the end is ever taken.
 */
struct slice smtp_data_next(struct smtp_data_framer *f, struct slice in, size_t *used_r)
    __attribute__((warn_unused_result));

#endif
