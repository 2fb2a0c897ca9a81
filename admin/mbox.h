/*
 * mbox: reading an mbox, message by message, from anything that can be read at an offset. A message begins with a line
 * "From ADDRESS DATE" at the start or behind an empty line, and ends before the next such line; with a Content-Length that is
 * true (right behind that many octets is such a line, or the end) it ends there whatever it contains.
 *
 * What the message itself is, is octets to this reader; it looks at the From_ line and at the header fields that mail
 * programs keep their own marks in (Status, X-Status, X-Keywords, X-UID, X-IMAP, X-IMAPbase, Content-Length; Thunderbird's
 * X-Mozilla-Status, X-Mozilla-Status2 and X-Mozilla-Keys), and leaves these out. A line that begins with ">" and "From "
 * loses one ">" (mboxrd), except in a message with a true length.
 */
#ifndef ADMIN_MBOX_H
#define ADMIN_MBOX_H

#include "common/buf.h"
#include "common/date.h"
#include "common/err.h"

/* Octets of a From_ line; a longer line is none. */
#define MBOX_FROM_BYTES_MAX 1024u
/* Octets of one of our header fields that are looked at; the rest of it is left aside. */
#define MBOX_FIELD_BYTES_MAX 8192u
/* Octets of keyword names of one message, each with LF; past them names are lost. */
#define MBOX_KEYWORDS_BYTES_MAX 8192u

/* Up to n octets at offset at; less only at the end; -1 when it cannot be read. */
typedef int64_t mbox_read_fn(void *arg, uint64_t at, void *p, size_t n);
/* The next octets of the message, as they are to be stored but for their line ends. */
typedef void mbox_octets_fn(void *arg, struct slice octets);

#define MBOX_WINDOW_BYTES (64u * 1024)

struct mbox {
	mbox_read_fn *read;
	void *arg;
	uint64_t at; /* where the next octet to be looked at lies */
	uint64_t window_at;
	size_t window_n;
	bool failed; /* read() failed */
	bool first;  /* no message was read yet */
	uint32_t uidvalidity; /* of X-IMAPbase or X-IMAP in the first message; 0: none */
	uint32_t last_uid;
	uint8_t window[MBOX_WINDOW_BYTES];
};

struct mbox_message {
	struct date_time date; /* of the From_ line */
	uint32_t flags;	       /* STORE_FLAG_* */
	uint32_t uid;	       /* 0: none */
	struct buf keywords;   /* names, each with LF */
	unsigned keywords_lost;
	bool internal; /* not a message but data of a mail program (X-IMAP): to be left aside */
};

void mbox_init(struct mbox *m, mbox_read_fn *read, void *arg);
/*
 * The next message: its octets to out, its marks into msg_r, whose keywords the caller has initialised. 1; 0 at the end; -1 and e when it
 * cannot be read or is no mbox.
 */
int mbox_next(struct mbox *m, struct mbox_message *msg_r, mbox_octets_fn *out, void *out_arg, struct err *e)
    __attribute__((warn_unused_result));

/* A From_ line, without its line end: "From ", anything, and a date as ctime(3) writes it, with or without seconds and zone. */
bool mbox_from_parse(struct slice line, struct date_time *date_r) __attribute__((warn_unused_result));
/* Is this field, by its name, one of those that are left out? */
bool mbox_field_is_ours(struct slice name);

#endif
