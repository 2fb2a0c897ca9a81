/*
 * transport_body: a message on its way into DATA. Pure, but for transport_body_scan(), which reads a file.
 */
#ifndef SMTPD_TRANSPORT_BODY_H
#define SMTPD_TRANSPORT_BODY_H

#include "common/buf.h"
#include "common/slice.h"

enum transport_stuff_state {
	TRANSPORT_STUFF_START, /* at a line's start */
	TRANSPORT_STUFF_TEXT,
	TRANSPORT_STUFF_CR, /* behind a CR that is not put yet */
};

/* At most so many octets come of one. */
#define TRANSPORT_STUFF_GROWTH_MAX 3

/*
 * Appends in as it goes into DATA: a dot before each dot at a line's start (RFC 5321 4.5.2), and each CR or LF alone made CRLF, so
 * that no line can end where the remote sees an end and we see none. *state is TRANSPORT_STUFF_START at first, and goes from one
 * piece to the next. out must have room for TRANSPORT_STUFF_GROWTH_MAX octets for each of in, and 2 more.
 */
void transport_stuff(enum transport_stuff_state *state, struct slice in, struct buf *out);
/* Appends the end: CRLF unless the message ended with one, then "." CRLF. */
void transport_stuff_end(enum transport_stuff_state *state, struct buf *out);

struct transport_scan {
	bool eightbit; /* octets over 127 anywhere */
	bool header;   /* in the header */
};

/* Looks at the octets [from, to) of fd, a message. False when they cannot be read. Blocks on the file. */
bool transport_body_scan(int fd, uint64_t from, uint64_t to, struct transport_scan *scan_r);

#endif
