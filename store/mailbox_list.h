/*
 * mailbox_list: the table of mailboxes that MBOX_LIST answers, in ascending
 * byte order of name. Integers are big-endian; see store_mailbox_put() for the order
 * of fields. Names that do not exist but are subscribed or have inferiors are in it too.
 */
#ifndef STORE_MAILBOX_LIST_H
#define STORE_MAILBOX_LIST_H

#include "common/cursor.h"
#include "store/store.h"

struct store_mailbox {
	uint32_t number; /* never reused in an account; 0 is no mailbox */
	uint32_t special_use;
	bool subscribed;
	bool selectable; /* false: only a name (\Noselect, \NonExistent) */
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint32_t messages;
	uint32_t unseen;
	uint32_t deleted;    /* messages with \Deleted (RFC 9051 STATUS DELETED) */
	uint32_t recent;     /* messages that no session has claimed as \Recent */
	uint32_t recent_uid; /* the first UID that is unclaimed */
	uint64_t highestmodseq;
	uint64_t bytes;
	struct slice name;
};

bool store_mailbox_put(struct buf *b, const struct store_mailbox *m);
/* The next one; false at the end or when the octets are no entry (then c->bad). name points into the input. */
bool store_mailbox_next(struct cursor *c, struct store_mailbox *mailbox_r) __attribute__((warn_unused_result));

#endif
