/*
 * entry: what a view holds of each message, 24 octets in the byte order of the
 * machine: it only passes between processes of one build on one machine
 * (checked by the hash of the message table). In MBOX_OPEN_REPLY's memory file
 * and in the entries of EVENT_NEW and EVENT_FLAGS they follow each other
 * without gaps, in ascending order of UID, which is never 0.
 */
#ifndef STORE_ENTRY_H
#define STORE_ENTRY_H

#include "common/buf.h"

struct store_entry {
	uint32_t uid;
	uint32_t flags;	   /* STORE_FLAG_* */
	uint64_t keywords; /* bit i: the mailbox's i-th keyword */
	uint64_t modseq;
};

#define STORE_ENTRY_BYTES 24u
_Static_assert(sizeof(struct store_entry) == STORE_ENTRY_BYTES, "entries are passed without gaps");
/* Entries in one EVENT_NEW or EVENT_FLAGS. */
#define STORE_EVENT_ENTRIES_MAX (49152u / STORE_ENTRY_BYTES)

/* Appends n entries to b; false past b's maximum. */
bool store_entries_put(struct buf *b, const struct store_entry *entries, size_t n);
/* Number of entries in s when it is a whole number of them with ascending UIDs from 1 on; false otherwise. */
bool store_entries_check(struct slice s, size_t *count_r) __attribute__((warn_unused_result));
/* The i-th entry of a checked s. */
struct store_entry store_entries_get(struct slice s, size_t i);

/*
 * Keywords of a mailbox cross edges as text, one name and LF each, in the order
 * of their bits. Names compare without regard to ASCII case (RFC 9051 2.3.2).
 */
/* The bit of that name, or -1. */
int store_keyword_find(struct slice lines, struct slice name);
/* The name of that bit; empty when there is none. */
struct slice store_keyword_name(struct slice lines, unsigned bit);

#endif
