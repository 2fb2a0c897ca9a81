/*
 * pop3_text: a message on its way into a multi-line response (RFC 1939 3): a dot before each line
 * that begins with one, and the part of it that TOP wants. Resumable: fed in pieces of any size
 * with the same result.
 */
#ifndef POP3D_POP3_TEXT_H
#define POP3D_POP3_TEXT_H

#include "common/buf.h"

struct pop3_text {
	bool top;	     /* only the header, the empty line and lines_left lines */
	uint32_t lines_left; /* of the body */
	bool in_body;
	bool any;	 /* there was an octet */
	bool done;	 /* TOP has what it wants */
	bool line_begun; /* octets of the present line have been seen */
	bool line_empty; /* they are only a CR so far */
	uint8_t last;	 /* the octets before the end: CR LF when the text ends a line */
	uint8_t before_last;
};

/* For RETR. */
void pop3_text_init(struct pop3_text *t);
/* For TOP. */
void pop3_text_init_top(struct pop3_text *t, uint32_t lines);
/*
 * Appends the piece to out, which needs room for 2 octets for each. False when out's maximum was
 * reached (our own fault). Once t->done is true the rest of the message is not wanted.
 */
bool pop3_text_put(struct pop3_text *t, struct slice piece, struct buf *out);
/* The end: a CRLF if the text did not end in one, then the line with the dot. */
bool pop3_text_end(struct pop3_text *t, struct buf *out);

#endif
