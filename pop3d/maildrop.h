/*
 * maildrop: INBOX as it was when the session began (RFC 1939 4): numbers 1 to count, sizes,
 * unique-ids, and which messages are marked as deleted. No I/O.
 */
#ifndef POP3D_MAILDROP_H
#define POP3D_MAILDROP_H

#include "store/record.h"
#include "store/uidset.h"

/*
 * A unique-id and its NUL: 32 hexadecimal digits, for a second copy of the same message "." and its
 * UID (RFC 1939 7: 1 to 70).
 */
#define MAILDROP_UIDL_SIZE 48

struct maildrop_message {
	uint64_t size;
	uint32_t uid;
	bool deleted;
	bool copy; /* a message before it has the same object */
	bool as_is; /* sent as it is; else, maybe, its surrogate */
	uint8_t object_id[STORE_OBJECT_ID_BYTES];
};

struct maildrop {
	struct maildrop_message *messages;
	uint32_t count;
	uint32_t cap;
	/* Without those marked as deleted. */
	uint32_t left;
	uint64_t left_bytes;
	uint64_t bytes;
};

void maildrop_fini(struct maildrop *d);
/* Appends a message; the record's UID must be over that of the one before, else false. */
bool maildrop_add(struct maildrop *d, const struct store_record *r, bool as_is)
    __attribute__((warn_unused_result));
/* A message's size is another, before any is marked as deleted. */
void maildrop_resize(struct maildrop *d, struct maildrop_message *m, uint64_t size);
/* After the last one: finds the copies. */
void maildrop_complete(struct maildrop *d);
/* Message 1 ... count that is not deleted, or NULL. */
struct maildrop_message *maildrop_get(const struct maildrop *d, uint32_t number);
void maildrop_delete(struct maildrop *d, struct maildrop_message *m);
/* Takes all marks back. */
void maildrop_reset(struct maildrop *d);
void maildrop_uidl(const struct maildrop_message *m, char text_r[MAILDROP_UIDL_SIZE]);
/* The UIDs of the messages marked as deleted; false when they are too many for one set. */
bool maildrop_deleted(const struct maildrop *d, struct uidset *set_r)
    __attribute__((warn_unused_result));

#endif
