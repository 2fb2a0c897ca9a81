/*
 * view: a mailbox as a worker has it: the entries of all messages by UID,
 * taken from MBOX_OPEN_REPLY and kept true by the events that follow on the
 * same edge. One view serves all sessions of the worker that have the mailbox
 * selected; what a session has been told of (sequence numbers) is the session's own.
 *
 * The entries lie in the keeper's sealed file, mapped privately: all that have the same file share its memory, and an
 * event costs memory for the pages that it changes.
 *
 * Events come in order and each makes the view what the mailbox was right
 * after it. One that does not fit (a UID unknown, out of order) gives false: the view is
 * no longer true; open the mailbox again.
 */
#ifndef STORE_VIEW_H
#define STORE_VIEW_H

#include "common/err.h"
#include "common/memfd.h"
#include "common/msg.h"
#include "store/entry.h"

struct store_view {
	uint32_t mailbox;
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint32_t recent_uid; /* where the \Recent mark was at the open */
	uint64_t highestmodseq;
	struct store_entry *entries; /* ascending by UID */
	size_t count;
	size_t cap;
	struct memfd_private map; /* what holds entries; none: the heap does */
	struct buf keywords; /* one name and LF each, in the order of their bits */
};

/* Octets of keyword names of one mailbox. */
#define STORE_KEYWORDS_BYTES_MAX 16384u

/* What MBOX_OPEN_REPLY's changes are made of, in order: kind (1), u32 length, and octets as the event of that kind has them. */
enum store_change_kind {
	STORE_CHANGE_NEW = 1,	  /* entries */
	STORE_CHANGE_FLAGS = 2,	  /* entries */
	STORE_CHANGE_EXPUNGE = 3, /* a set of UIDs */
};
#define STORE_CHANGE_HEADER_BYTES 5u
#define STORE_CHANGES_BYTES_MAX (4u << 20)

/* Reads the reply of a successful MBOX_OPEN into v (not initialised before). m's descriptors stay the caller's.
 * -1 when the file is not what it should be; v is empty then. Ends with store_view_close(). */
int store_view_open(struct store_view *v, const struct msg_MBOX_OPEN_REPLY *m, struct err *e)
    __attribute__((warn_unused_result));
void store_view_close(struct store_view *v);

/* The events; the mailbox must be the view's. */
bool store_view_new(struct store_view *v, const struct msg_EVENT_NEW *m) __attribute__((warn_unused_result));
bool store_view_flags(struct store_view *v, const struct msg_EVENT_FLAGS *m) __attribute__((warn_unused_result));
bool store_view_expunge(struct store_view *v, const struct msg_EVENT_EXPUNGE *m)
    __attribute__((warn_unused_result));

/* Index of the first entry with a UID >= uid; v->count when there is none. */
size_t store_view_seek(const struct store_view *v, uint32_t uid);
/* The entry of that UID, or NULL; valid until the next event. */
const struct store_entry *store_view_find(const struct store_view *v, uint32_t uid);

#endif
