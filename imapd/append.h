/*
 * append: the message of an APPEND while it is read: octets go to a memory file and through the summary builder as they
 * come, never whole into this process's heap.
 */
#ifndef IMAPD_APPEND_H
#define IMAPD_APPEND_H

#include "common/err.h"
#include "common/slice.h"
#include "store/store.h"

struct session;

/*
 * A literal was announced at the end of the text read so far. True when it is an APPEND's message: then
 * it was answered for (taken, or refused with the command). False: it is another literal.
 */
bool append_literal(struct session *s, struct slice text);
/* The next octets of the message. */
void append_feed(struct session *s, struct slice octets);
/* What was read, ready for the keeper. The descriptors are the caller's. */
struct append_message {
	int message; /* sealed */
	int summary;
	uint64_t octets;
	uint8_t sha256[STORE_SHA256_BYTES];
	bool utf8_header; /* its own header has octets over 127 */
};

/* The message is whole: takes it out of s->append. -1 when it could not be kept. */
int append_take(struct session *s, struct append_message *message_r, struct err *e)
    __attribute__((warn_unused_result));
/* Forgets the message. */
void append_free(struct session *s);

#endif
