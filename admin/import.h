/*
 * import: messages from anywhere into an account, by its keeper, many at once on their way. The message is not looked into:
 * whoever wants its summary makes it.
 *
 * It can be run again. What a mailbox held when it was opened here is not put in once more: messages are compared by
 * length and the first octets of their SHA-256 (which object ids hold), and counted, so that what is in the source twice is in
 * the mailbox twice. An earlier run that was killed may have left up to IMPORT_FLIGHT_MAX appends on their
 * way to the keeper; it takes IPC_MESSAGES_PER_WAKE from each edge at a time and forgets what waits when the edge has ended, so it is
 * done with them before the answers to the requests about the table and the mailbox that come before the comparison.
 */
#ifndef ADMIN_IMPORT_H
#define ADMIN_IMPORT_H

#include "admin/account_mailbox.h"
#include "admin/import_spool.h"
#include "admin/progress.h"

#define IMPORT_FLIGHT_MAX 64u
/* Octets of messages on their way at once; a longer one goes alone. */
#define IMPORT_FLIGHT_BYTES_MAX (32u << 20)
#define IMPORT_LABEL_SIZE 160

struct import_counts {
	uint64_t mailboxes; /* opened */
	uint64_t messages;  /* put in */
	uint64_t bytes;
	uint64_t present;   /* were there already */
	uint64_t failed;
	uint64_t keywords_lost; /* there was no room for the name, or it is no keyword */
	uint64_t uids_kept;	/* mailboxes that have the UIDs and the UIDVALIDITY of the source */
};

/* A message that a mailbox had before. */
struct import_known {
	uint64_t hash; /* the first octets of its SHA-256 */
	uint64_t size;
	uint64_t left; /* how many of them are not accounted for */
};

struct import_flight {
	uint64_t id;
	uint64_t bytes;
	uint32_t uid; /* that it must get; 0: any */
	char label[IMPORT_LABEL_SIZE];
};

struct import {
	struct command_link *keeper;
	struct progress *progress;
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t sequence;
	struct buf table; /* of mailboxes */
	/* The present mailbox. */
	uint32_t mailbox;
	char *place; /* the name of the mailbox whose place it takes when all is in it; NULL: none */
	uint32_t uidvalidity; /* of the source; 0: its UIDs are not kept */
	uint32_t uidnext;
	bool uids_true; /* all got the UID that they have in the source */
	struct buf keywords; /* names, each with LF, those of this run too */
	struct import_known *known; /* by hash and size */
	size_t known_count;
	/* On their way, in the order that they are answered in. */
	struct import_flight flight[IMPORT_FLIGHT_MAX];
	unsigned flight_first;
	unsigned flight_count;
	uint64_t flight_bytes;
	struct import_spool spool;
	struct import_counts counts;
};

struct import_message {
	const char *label; /* for what is said of it; any octets */
	uint32_t flags;
	struct slice keywords; /* names, each with LF */
	int64_t date;
	int16_t zone_minutes;
	uint32_t uid; /* in the source, ascending; 0: it has none */
};

/* keeper stays the caller's. Else than COMMAND_OK it was said why, here and below, and the import is at its end. */
enum command_status import_open(struct import *im, struct command_link *keeper, struct progress *p);
void import_close(struct import *im);
/*
 * From now on messages go to that mailbox, which is made when there is none, for the use that its name says. When it
 * cannot be had (it is no name), that is said and counted, and im->mailbox is 0: no message may follow.
 *
 * uidvalidity, uidnext: of the source, 0 when it has none. A mailbox that never had a message is to get them: the messages go to another
 * mailbox first, NAME IMPORT_SUFFIX, which an import that is interrupted leaves behind, and which import_mailbox_end() puts in
 * the mailbox's place; only so nobody ever sees UIDs that are not the final ones.
 */
#define IMPORT_SUFFIX " (being imported)"
enum command_status import_mailbox(struct import *im, struct slice name, uint32_t uidvalidity, uint32_t uidnext);
/* All messages of the mailbox are in. Waits for what is on its way. */
enum command_status import_mailbox_end(struct import *im);
/* Takes the message that im->spool has. A message that cannot be had, or is refused, is counted and said. */
enum command_status import_message(struct import *im, const struct import_message *m);
/* A message, or a folder, that could not be read: says so and counts it. */
void import_failed(struct import *im, const char *label, const char *why);
/* Subscribes to a mailbox that exists. */
enum command_status import_subscribe(struct import *im, struct slice name);
/* Waits for all that is on its way. */
enum command_status import_flush(struct import *im);

#endif
