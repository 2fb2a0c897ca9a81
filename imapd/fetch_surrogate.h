/*
 * fetch_surrogate: what a client without UTF8=ACCEPT is shown of a message whose headers are not ASCII (RFC 6855 7): its
 * surrogate, in every item of FETCH. The last one that was made is kept with the session, so that reading it part by part
 * does not make it again.
 */
#ifndef IMAPD_FETCH_SURROGATE_H
#define IMAPD_FETCH_SURROGATE_H

#include "imapd/fetch_batch.h"

struct session;

/* Octets of surrogates that the sessions of a worker keep between commands; what would pass it is made again. */
#define FETCH_SURROGATES_BYTES_MAX (UINT64_C(64) << 20)

/*
 * Puts the surrogate in the place of m, a message of the selected mailbox with its summary and object, when it needs one:
 * valid until the next one, and as long as the mailbox is selected. -1 and e when it cannot be made.
 */
int fetch_surrogate(struct session *s, struct fetch_message *m, struct err *e) __attribute__((warn_unused_result));
/* The command is over. */
void fetch_surrogate_keep(struct session *s);
void fetch_surrogate_forget(struct session *s);

#endif
