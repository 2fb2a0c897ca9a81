/*
 * pop3_command: the client's side of POP3's grammar (RFC 1939 3 and 9, RFC 2449 4): lines, and
 * commands in them. Pure: octets in, struct out. The front and the worker share it; each says which
 * commands it has.
 */
#ifndef POP3D_POP3_COMMAND_H
#define POP3D_POP3_COMMAND_H

#include "common/slice.h"

/* A command with its CRLF (RFC 2449 4). */
#define POP3_LINE_BYTES_MAX 255

enum pop3_frame {
	POP3_FRAME_MORE, /* no whole line yet */
	POP3_FRAME_LINE,
	POP3_FRAME_LONG, /* a line over the limit, whole now: refused as one */
	POP3_FRAME_BARE, /* a line that ends in LF alone, or has CR or NUL in it: refused */
};

/* Where the octets of an over-long line are dropped until its end; all zero at first. */
struct pop3_framer {
	bool dropping;
};

/*
 * Looks for a line of at most line_max octets (CRLF included). *used_r octets of in are done with,
 * in every case; with POP3_FRAME_LINE *line_r is the line without CRLF and points into in. Fed
 * octet by octet the result is the same.
 */
enum pop3_frame pop3_frame_next(
    struct pop3_framer *f, struct slice in, size_t line_max, size_t *used_r, struct slice *line_r);

enum pop3_verb {
	POP3_UNKNOWN,
	POP3_USER,
	POP3_PASS,
	POP3_AUTH,
	POP3_STLS,
	POP3_CAPA,
	POP3_QUIT,
	POP3_STAT,
	POP3_LIST,
	POP3_RETR,
	POP3_DELE,
	POP3_NOOP,
	POP3_RSET,
	POP3_UIDL,
	POP3_TOP,
	POP3_APOP,
	POP3_UTF8,
	POP3_LANG,
	POP3_VERB_COUNT
};

struct pop3_command {
	enum pop3_verb verb;
	/* USER, AUTH, LANG: words; PASS: all after the one space, spaces kept; others: not set. */
	struct slice arg[2];
	/* RETR, DELE, LIST, UIDL, TOP: numbers; a message number is at least 1. */
	uint32_t number[2];
	unsigned args; /* how many there are, of either kind */
};

/*
 * Parses a line. False when the verb is known but its arguments are not what it takes; cmd_r->verb
 * is set in any case (POP3_UNKNOWN for what is no command).
 *
 * command = keyword *(SP argument); keywords are 3 or 4 letters in any case
 */
bool pop3_command_parse(struct slice line, struct pop3_command *cmd_r)
    __attribute__((warn_unused_result));

#endif
