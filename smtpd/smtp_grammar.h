/*
 * smtp_grammar: the command lines of SMTP (RFC 5321 4.1.1 to 4.1.3, ESMTP
 * parameters of RFC 1870, 3030, 3461, 4954, 6152, 6531 and 8689) as structs. Pure and strict:
 * slices in, slices into the line or the caller's arena out, no I/O. A line is
 * given without its CRLF.
 */
#ifndef SMTPD_SMTP_GRAMMAR_H
#define SMTPD_SMTP_GRAMMAR_H

#include "common/arena.h"
#include "common/buf.h"
#include "common/slice.h"

#define SMTP_LOCAL_BYTES_MAX 64	   /* RFC 5321 4.5.3.1.1; a rewritten sender ("SRS0=...", authd/srs.h) may be longer */
#define SMTP_DOMAIN_BYTES_MAX 255  /* RFC 5321 4.5.3.1.2 */
#define SMTP_MAILBOX_BYTES_MAX 254 /* RFC 5321 4.5.3.1.3: 256 with its angle brackets */
#define SMTP_ROUTE_HOSTS_MAX 64	   /* hosts in a source route, all of them ignored */
#define SMTP_PARAMS_MAX 16	   /* ESMTP parameters of one command */
#define SMTP_LABEL_BYTES_MAX 63	   /* RFC 1035 2.3.4; of a U-label this bounds the A-label (RFC 5890 2.3.2.1) */

/* What a grammar function says; each has one reply (smtp_syntax_reply()). */
enum smtp_syntax {
	SMTP_SYNTAX_OK,
	SMTP_SYNTAX_BAD_ARGS,	   /* 501 5.5.4: no argument where one is needed, or too many */
	SMTP_SYNTAX_BAD_SENDER,	   /* 501 5.1.7 */
	SMTP_SYNTAX_BAD_RECIPIENT, /* 501 5.1.3 */
	SMTP_SYNTAX_BAD_PARAM,	   /* 501 5.5.4: a known parameter with a wrong value, or twice */
	SMTP_SYNTAX_UNKNOWN_PARAM, /* 555 5.5.4 (RFC 5321 4.1.1.11) */
	SMTP_SYNTAX_NON_ASCII,	   /* 553 5.6.7: UTF-8 in a recipient's address without SMTPUTF8 (RFC 6531 3.5) */
	SMTP_SYNTAX_NON_ASCII_SENDER, /* 550 5.6.7: in the sender's */
};

struct smtp_reply_words {
	unsigned code;
	const char *enhanced;
	const char *text;
};

/* The reply for a result other than SMTP_SYNTAX_OK. Static. */
const struct smtp_reply_words *smtp_syntax_reply(enum smtp_syntax s);

/* A command line cut in two: the verb (1*ALPHA) and what follows the spaces after it. Trailing white
 * space is removed first (RFC 5321 4.1.1). False when the line does not begin so. */
bool smtp_command_split(struct slice line, struct slice *verb_r, struct slice *args_r);

struct smtp_path {
	bool null;	     /* "<>" */
	bool postmaster;     /* "<Postmaster>" without a domain (RFC 5321 4.1.1.3) */
	bool literal;	     /* domain is an address literal, with its brackets */
	struct slice local;  /* unquoted, in the arena when it was quoted */
	struct slice domain; /* as written */
};

enum smtp_body { SMTP_BODY_7BIT, SMTP_BODY_8BITMIME, SMTP_BODY_BINARYMIME };
/* "7bit" and so on, for the time line. */
const char *smtp_body_name(enum smtp_body b);

/* What is to be reported of a message that fails, and when (RFC 3461 4.1, 4.3). Stable numbers: they are on disk. */
enum smtp_ret { SMTP_RET_NONE = 0, SMTP_RET_FULL = 1, SMTP_RET_HDRS = 2, SMTP_RET_LAST = SMTP_RET_HDRS };
enum smtp_notify { SMTP_NOTIFY_SUCCESS = 1, SMTP_NOTIFY_FAILURE = 2, SMTP_NOTIFY_DELAY = 4, SMTP_NOTIFY_NEVER = 8, SMTP_NOTIFY_ALL = 15,
	SMTP_NOTIFY_DEFAULT = SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY, /* of who says nothing */
};
#define SMTP_ENVID_CHARS_MAX 100 /* RFC 3461 4.4 */
#define SMTP_ORCPT_CHARS_MAX 500 /* RFC 3461 4.2 */
#define SMTP_HOLD_FOR_MAX 999999999 /* RFC 4865 */
#define SMTP_PRIORITY_MIN (-9) /* RFC 6710 */
#define SMTP_PRIORITY_MAX 9

struct smtp_mail {
	struct smtp_path path;
	enum smtp_ret ret;
	struct slice envid; /* as written, in xtext; empty: none */
	bool has_size;
	uint64_t size; /* octets announced (RFC 1870) */
	enum smtp_body body;
	bool smtputf8;
	bool requiretls; /* RFC 8689 */
	bool has_auth; /* AUTH= was given (RFC 4954 5); its value is checked and ignored */
	/* Of future release (RFC 4865) at most one is given. */
	uint32_t hold_for;   /* seconds; 0: not given */
	int64_t hold_until; /* seconds since 1970; 0: not given */
	int8_t priority;    /* RFC 6710; 0 when it is not given */
};

struct smtp_rcpt {
	struct smtp_path path;
	unsigned notify;    /* bits of enum smtp_notify; 0: not given */
	struct slice orcpt; /* as written, addr-type ";" xtext (or what RFC 6533 3 has for "utf-8"); empty: none */
};

/* Which parameters the EHLO reply has offered. */
struct smtp_offered {
	bool size;
	bool eightbit;
	bool binary;
	bool smtputf8;
	bool auth;
	bool dsn;
	bool requiretls;
	bool future_release;
	bool priority;
};

/*
 * args of MAIL: "FROM:" Reverse-path [SP Mail-parameters], of RCPT: "TO:" Forward-path [SP Rcpt-parameters].
 * Source routes are accepted and forgotten. UTF-8 in addresses needs utf8 (RCPT) or the SMTPUTF8
 * parameter, when offered (MAIL). Arena a holds unquoted local parts.
 */
enum smtp_syntax smtp_mail_parse(struct slice args, const struct smtp_offered *offered, struct arena *a,
    struct smtp_mail *mail_r) __attribute__((warn_unused_result));
enum smtp_syntax smtp_rcpt_parse(struct slice args, const struct smtp_offered *offered, bool utf8, struct arena *a,
    struct smtp_rcpt *rcpt_r) __attribute__((warn_unused_result));

/* args of BDAT: chunk-size [SP "LAST"] (RFC 3030 2). A number over 64 bits is UINT64_MAX. */
enum smtp_syntax smtp_bdat_parse(struct slice args, uint64_t *bytes_r, bool *last_r)
    __attribute__((warn_unused_result));

/* The argument of EHLO and HELO: Domain / address-literal, at most SMTP_DOMAIN_BYTES_MAX octets. */
bool smtp_helo_valid(struct slice args) __attribute__((warn_unused_result));
/* The same for programs of users (RFC 6409 asks nothing more): any printable ASCII without white space. */
bool smtp_helo_valid_lax(struct slice args) __attribute__((warn_unused_result));

/* Appends what xtext stands for (RFC 3461 4). False, with part of it appended, when it is none or out is full. */
bool smtp_xtext_decode(struct slice xtext, struct buf *out) __attribute__((warn_unused_result));

/* A domain name of RFC 5321 4.1.2, at most SMTP_DOMAIN_BYTES_MAX octets; utf8 also lets U-labels pass. */
bool smtp_domain_valid(struct slice domain, bool utf8) __attribute__((warn_unused_result));
/* "[192.0.2.1]", "[IPv6:2001:db8::1]", "[Tag:...]" (RFC 5321 4.1.3). */
bool smtp_literal_valid(struct slice literal) __attribute__((warn_unused_result));

/*
 * A mailbox as local-part "@" domain alone, e.g. a stored address; utf8 as above.
 */
bool smtp_mailbox_parse(struct slice text, bool utf8, struct arena *a, struct smtp_path *path_r)
    __attribute__((warn_unused_result));

/*
 * Appends the mailbox in its canonical form: the local part quoted only where it must be (RFC 5321 4.1.2: all
 * quoted forms are the same mailbox), the domain in lower case (ASCII). Nothing for a null path;
 * "postmaster" for the bare form. False when out is full.
 */
bool smtp_path_print(const struct smtp_path *path, struct buf *out);

#endif
