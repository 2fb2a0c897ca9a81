/*
 * sendmail: what mailstead-sendmail is made of: the words of its command line, the message it reads, and the dialogue with the
 * submission front on the Unix socket of this machine. The program has no rights of its own: it does what its user could do with that
 * socket by hand.
 *
 * sendmail_main.c    the command line
 * sendmail_message.c the message: line ends, addresses without a domain, recipients, Bcc. Pure
 * sendmail_client.c  the dialogue
 */
#ifndef ADMIN_SENDMAIL_H
#define ADMIN_SENDMAIL_H

#include "common/arena.h"
#include "common/buf.h"
#include "common/slice.h"

#include <sysexits.h>

#define SENDMAIL_RECIPIENTS_MAX 2000
#define SENDMAIL_ADDRESS_BYTES_MAX 320
#define SENDMAIL_MESSAGE_BYTES_MAX (1u << 30) /* the largest that smtp.message_bytes can let through */
#define SENDMAIL_WORD_BYTES_MAX 500	      /* -N, -R, -V */

/* What the command line asks for; the texts are its own. */
struct sendmail_wish {
	bool from_header;	/* -t: recipients from To, Cc and Bcc, too */
	bool dots_are_text;	/* -i: a line with a dot alone does not end the message */
	const char *sender;	/* -f, -r; NULL: the account's address */
	const char *full_name;	/* -F, for a From field that is added */
	const char *notify, *ret, *envid; /* -N, -R, -V (RFC 3461); NULL: nothing */
	char **recipients;
	int recipient_count;
};

/* Who sends: what an address without a domain means. */
struct sendmail_user {
	struct slice name;    /* of this machine; may be empty */
	struct slice account; /* the address that the server says is his */
};

struct sendmail_envelope {
	struct slice sender; /* empty: the null reverse-path */
	struct slice recipients[SENDMAIL_RECIPIENTS_MAX]; /* each once */
	unsigned recipient_count;
	bool eight_bit; /* anywhere in the message */
	bool utf8;	/* addresses, or a header in UTF-8, beyond ASCII (RFC 6531) */
};

/*
 * Makes of raw, what came on standard input, the message as it is submitted (CRLF, all addresses with a domain, no Bcc; a From field if
 * there is none), appended to message_r, and its envelope, in a. Fields without an address that had to be changed stay octet for octet.
 * 0, or an exit status with why_r (static).
 */
int sendmail_message_make(const struct sendmail_wish *wish, const struct sendmail_user *user, struct slice raw, struct arena *a,
    struct buf *message_r, struct sendmail_envelope *envelope_r, const char **why_r);

/* A connection. Every function that talks waits as long as the server says nothing. */
struct sendmail_client;

/* Connects to path and greets: 0, or an exit status after saying why on standard error. */
int sendmail_client_open(const char *path, struct sendmail_client **c_r);
void sendmail_client_close(struct sendmail_client **c);
/* The address that the user sends for. */
struct slice sendmail_client_account(const struct sendmail_client *c);
/*
 * Submits the message, in as many transactions as the number of recipients takes. Recipients that are refused are told on standard
 * error; the others get it. The exit status, of the first thing that went wrong.
 */
int sendmail_client_submit(struct sendmail_client *c, const struct sendmail_wish *wish, const struct sendmail_envelope *envelope,
    struct slice message);
/* -bs: standard input and output speak SMTP to the server themselves. */
int sendmail_client_relay(const char *path);

#endif
