/*
 * dsn: a delivery status notification (RFC 3464) as octets: multipart/report (RFC 6522) of a text for the person who sent the
 * message, the fields for programs, and the header of the message or all of it. Pure and deterministic: the
 * same struct gives the same octets, so that a report that is made again is the same report.
 *
 * Hostile are the addresses, the replies, ORCPT, ENVID and the original; whatever they hold, out is a well-formed message with
 * lines of at most 998 octets.
 *
 * dsn.c        the message and its parts
 * dsn_text.c   the text for the person
 * dsn_fields.c the fields for programs
 * dsn_words.c  what a status and a reply mean
 */
#ifndef SMTPD_DSN_H
#define SMTPD_DSN_H

#include "common/arena.h"
#include "common/buf.h"
#include "common/slice.h"
#include "smtpd/smtp_grammar.h"

/* Of the original. A longer header is cut before a field; a longer message is returned as its header alone (RFC 3461 6.2). */
#define DSN_HEADER_BYTES_MAX (32u * 1024)
#define DSN_FULL_BYTES_MAX (256u * 1024)
#define DSN_TEXT_RECIPIENTS_MAX 50 /* told about one by one in the text; all of them are in the fields */
#define DSN_ARENA_BYTES_MAX (256u * 1024)
/* A report never passes this: it fits a memory file. */
#define DSN_BYTES_MAX (2u << 20)

/* RFC 3464 2.3.3 */
enum dsn_action {
	DSN_NONE, /* nothing to tell */
	DSN_FAILED,
	DSN_DELAYED,
	DSN_DELIVERED,
	DSN_RELAYED,
	DSN_EXPANDED,
	DSN_ACTION_LAST = DSN_EXPANDED,
};

/* "failed" and so on; DSN_NONE is "none". */
const char *dsn_action_name(enum dsn_action a);

struct dsn_recipient {
	enum dsn_action action; /* not DSN_NONE */
	bool unsure;		/* of a failed one: the message may have arrived all the same */
	bool forwarded;		/* address is one of ours that sends messages on, or "undisclosed" */
	struct slice address;	/* as the envelope had it when it came here */
	struct slice orcpt;	/* as written, in xtext; empty: none */
	struct slice status;	/* what is no fitting status becomes 2.0.0, 4.0.0 or 5.0.0 */
	struct slice mta;	/* who spoke: "mx.example[192.0.2.1]"; empty: nobody but us */
	struct slice text;	/* the remote server's reply, with its code, or our own words */
};

struct dsn_report {
	struct slice id;	 /* the report's queue id: letters and digits */
	struct slice hostname;	 /* ours */
	struct slice postmaster; /* an address of ours, in From */
	struct slice mail_from;	 /* of the message that is reported about: to whom the report goes */
	struct slice envid;	 /* as written, in xtext; empty: none */
	enum smtp_ret ret;
	bool requiretls; /* of the message: RET=FULL does not count (RFC 8689 5) */
	bool eightbit;	 /* the way to mail_from takes 8-bit content and UTF-8 (RFC 6533 4.5); else the report is ASCII but for the
			    address itself */
	/* seconds since 1970 */
	int64_t now;	      /* the time of the report itself */
	int64_t arrived;      /* the message came here */
	int64_t last_attempt; /* 0: not known */
	int64_t until;	      /* when trying will end: of DSN_DELAYED; 0: not known */
	int64_t release;      /* not to be sent before (RFC 4865); 0: nothing was asked for */
	uint32_t hold_for;    /* that was asked for as so many seconds; 0: as a time */
	struct slice original; /* the message from its first octet on, as much of it as there is at hand */
	bool original_whole;   /* that is all of it */
	const struct dsn_recipient *recipients;
	uint32_t count; /* at least 1 */
};

/*
 * Appends the message, from its first field (Return-Path is not one) to its end; out is of DSN_BYTES_MAX or more. a: scratch, of
 * DSN_ARENA_BYTES_MAX. *utf8_r: the header has UTF-8 (RFC 6532), *eightbit_r: something has octets over 127. False when
 * mail_from is no address (the null reverse-path is none: RFC 5321 4.5.5), or out or a is full.
 */
bool dsn_write(const struct dsn_report *r, struct arena *a, struct buf *out, bool *utf8_r, bool *eightbit_r)
    __attribute__((warn_unused_result));

#endif
