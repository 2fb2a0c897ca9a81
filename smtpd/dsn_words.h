/*
 * dsn_words: what a status (RFC 3463) and a server's reply mean: to the person who sent the message, as a sentence about what happened and
 * one about what can be done; and to transport, whether it is this host that was refused. One table, read from the top. Pure.
 */
#ifndef SMTPD_DSN_WORDS_H
#define SMTPD_DSN_WORDS_H

#include "common/slice.h"

#define DSN_WORDS_REPLY_BYTES_MAX 1000 /* of a reply, as far as it is looked at */

struct dsn_words {
	const char *name;   /* of the kind: "unknown-address" */
	const char *what;   /* happened: a clause that goes on after a colon, without its full stop */
	const char *advice; /* what the reader can do: whole sentences */
	bool ask;	    /* the postmaster has to do something: the reader is to tell him */
};

/* status-code of RFC 3464 2.3.4 whose class is 2, 4 or 5. */
bool dsn_status_valid(struct slice status);
/*
 * status: "5.1.1", or anything else: then the reply alone is looked at. reply: what the server answered, or our own words; both
 * are hostile. Never NULL; static.
 */
const struct dsn_words *dsn_words_of(struct slice status, struct slice reply);
/*
 * Whether that reply refuses this host for what is known of its network address, and not the message, its sender or its recipient: the kind
 * "reputation" of the table. Words of a server that can be read either way may count as such; our own must not be given.
 */
bool dsn_words_reputation(struct slice status, struct slice reply);
/* The rows of the table, for tests and documentation; NULL behind the last. */
const struct dsn_words *dsn_words_at(unsigned i);

#endif
