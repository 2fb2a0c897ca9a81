/*
 * image: a whole account in memory, as load and salvage build it: what the index knows that does not follow from
 * something else. Its memory is in proportion to what was read.
 */
#ifndef STORE_IMAGE_H
#define STORE_IMAGE_H

#include "common/err.h"
#include "store/format.h"
#include "store/uidset.h"

/* UIDs expunged at that modseq. */
struct image_tombstone {
	uint64_t modseq;
	struct uid_range uids;
};

struct image_mailbox {
	struct format_mailbox m; /* counts follow from the messages; m.name points to name */
	char *name;
	struct buf keywords; /* one name and LF each */
	struct image_tombstone *tombstones;
	size_t tombstone_count;
	size_t tombstone_cap;
	struct format_message *messages; /* ascending by UID */
	size_t message_count;
	size_t message_cap;
};

/* A message that is kept for undelete. */
struct image_expunged {
	uint64_t time;
	uint32_t mailbox;
	struct format_message m;
};

struct image {
	struct format_account account; /* bytes and messages follow from the mailboxes */
	struct image_mailbox *mailboxes; /* ascending by number */
	size_t mailbox_count;
	size_t mailbox_cap;
	struct image_expunged *expunged; /* ascending by time */
	size_t expunged_count;
	size_t expunged_cap;
};

#define IMAGE_KEYWORDS_BYTES_MAX 16384u
/* What counts up for ever (serial, modseq, object) stays below this: RFC 7162 section 3 bounds modseqs to 63 bits. */
#define IMAGE_NUMBER_MAX (UINT64_MAX >> 1)

/* All zero is an empty image. */
void image_fini(struct image *im);
/* Adds a mailbox behind the others, with a copy of the name. Pointers to mailboxes are good until then. */
struct image_mailbox *image_add_mailbox(struct image *im, const struct format_mailbox *m);
/* NULL when there is none. */
struct image_mailbox *image_mailbox(const struct image *im, uint32_t number);
/* The one that exists with that name. */
struct image_mailbox *image_mailbox_named(const struct image *im, struct slice name);
void image_rename(struct image_mailbox *mb, struct slice name);
void image_add_message(struct image_mailbox *mb, const struct format_message *m);
void image_add_tombstone(struct image_mailbox *mb, uint64_t modseq, struct uid_range uids);
void image_add_expunged(struct image *im, const struct image_expunged *x);
/* The bit of that keyword, made when it is not there; -1 when there is no room or it is no keyword. */
int image_keyword(struct image_mailbox *mb, struct slice name);

struct index;

/*
 * The image is about to follow another state of the same account, whose index is ix (NULL: nobody knows what it was). A
 * mailbox that would give UIDs or modseqs again that it had there, or had in a state before, gets a new UIDVALIDITY, above
 * any that was given out.
 */
void image_outdate(struct image *im, const struct index *ix, uint64_t now);
/* A UIDVALIDITY that no mailbox had. */
uint32_t image_new_uidvalidity(struct image *im, uint64_t now);

/* Does every number fit the others, so that it can become an index? -1 with ERR_CODE_MALFORMED and the first that does not. */
int image_check(const struct image *im, struct err *e) __attribute__((warn_unused_result));

#endif
