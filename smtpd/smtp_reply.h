/*
 * smtp_reply: the replies of an SMTP server (RFC 5321 4.2, enhanced codes of RFC 2034) and what its reply to EHLO offers, for the
 * client. Pure and resumable: fed in pieces of any size with the same result. A line ends in CRLF and in nothing else; a CR or LF
 * alone means that the two ends may not agree on replies any more. The text is kept in printable ASCII: what else stands in it
 * becomes "?".
 */
#ifndef SMTPD_SMTP_REPLY_H
#define SMTPD_SMTP_REPLY_H

#include "common/buf.h"
#include "common/slice.h"

#define SMTP_REPLY_LINE_BYTES_MAX 4096 /* RFC 5321 4.5.3.1.5 says 512; some servers write more */
#define SMTP_REPLY_LINES_MAX 256
#define SMTP_REPLY_TEXT_MAX 8192 /* octets of text that are kept; what is over it is read and dropped */
#define SMTP_REPLY_STATUS_MAX 12 /* "5.999.999" and NUL */

struct smtp_reply {
	unsigned code;			    /* 200 ... 599: of the last line */
	char status[SMTP_REPLY_STATUS_MAX]; /* "5.1.1", "" when the server gave none that goes with the code */
	size_t text_n;
	uint8_t text[SMTP_REPLY_TEXT_MAX]; /* the lines without codes, an LF between two */
};

enum smtp_reply_state {
	SMTP_REPLY_CODE, /* so many digits of a line's code are there */
	SMTP_REPLY_MARK, /* then SP, "-" or the end */
	SMTP_REPLY_LINE, /* the text */
	SMTP_REPLY_CR,	 /* LF must follow */
	SMTP_REPLY_ENDED,
	SMTP_REPLY_BROKEN,
};

struct smtp_reply_parser {
	struct smtp_reply reply; /* whole after smtp_reply_feed() gave 1 */
	const char *broken;	 /* what is wrong, after -1 */
	enum smtp_reply_state state;
	unsigned digits, code;
	unsigned lines;
	size_t line_bytes;
	bool more; /* the line at hand is not the last one */
};

/* For a new reply. */
void smtp_reply_reset(struct smtp_reply_parser *p);
/*
 * Takes octets of in up to the end of one reply and no further: 1 when it is whole, 0 when all of in was used and more is
 * needed, -1 when this is no reply (p->broken says why); then nothing more is taken until a reset.
 */
int smtp_reply_feed(struct smtp_reply_parser *p, struct slice in, size_t *used_r) __attribute__((warn_unused_result));

/*
 * The reply on one line, "550 5.1.1 no such user": its lines joined by spaces, the enhanced code of the further ones left out.
 * False, with part of it appended, when out is full.
 */
bool smtp_reply_print(const struct smtp_reply *r, struct buf *out);

/* What a server's EHLO reply offers (RFC 5321 4.1.1.1). */
struct smtp_offer {
	struct slice name; /* what the server calls itself: the first word of the first line; into the reply */
	bool starttls, pipelining, eightbit, smtputf8, chunking, binary, dsn, requiretls, priority, size;
	uint64_t size_max;  /* 0: no limit was told (RFC 1870 4) */
	/* RFC 9422: recipients of a transaction, and transactions of a session; 0: no limit was told. */
	uint64_t rcpt_max, mail_max;
	struct slice auth; /* the mechanisms, separated by spaces; into the reply */
};

/* Unknown keywords, and what is wrong with known ones, are passed over. offer_r points into r. */
void smtp_offer_parse(const struct smtp_reply *r, struct smtp_offer *offer_r);

#endif
