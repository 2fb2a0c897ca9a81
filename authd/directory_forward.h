/*
 * directory_forward: mail that the directory sends on to another server: under which reverse-path it leaves, and whose a bounce to
 * such a reverse-path is (authd/srs.h). The secret is made at its first use and kept in the directory's database, with the one before it:
 * no other process has them.
 */
#ifndef AUTHD_DIRECTORY_FORWARD_H
#define AUTHD_DIRECTORY_FORWARD_H

#include "authd/directory_resolve.h"

/* One recipient of one envelope. */
struct dir_envelope {
	struct slice sender; /* empty: the null reverse-path */
	struct slice recipient;
	const char *hostname; /* the server's own */
	uint64_t now;	      /* seconds since 1970 */
};

struct dir_forwarded {
	struct dir_resolved resolved;
	/* With outside addresses: the reverse-path for them, of the domain of the recipient, or of the sender's when that is ours, too. The
	 * null one stays, and so does one of ours that would come to have a local part longer than others take; another's that is too long
	 * to be rewritten becomes the null one. */
	char sender[SRS_ADDRESS_BYTES_MAX + 1];
	bool looped; /* it has been sent on from here SRS_TIMES_MAX times; sender is empty */
};

/*
 * directory_resolve() with what is sent on. A bounce (from the null reverse-path) to a reverse-path that we made goes to whom that is for:
 * DIR_LOCAL with one outside address, or where an address of ours leads. From anybody else it goes to the latter alone; else, and when it
 * is too old, there is no such address. One that we have not made is an address as any other. Never fails: DIR_TEMP, logged. Blocks for
 * disk reads, and one sync when the secret is made.
 */
void directory_forward(struct directory *d, const struct dir_envelope *envelope, struct dir_forwarded *r_r);

/* Times in seconds since 1970; 0: not known, or there is none. */
struct dir_srs_state {
	bool any;	      /* there is a secret: it was needed once */
	uint64_t since;	      /* which is as old as this */
	uint64_t older_until; /* until then the one before it is needed for addresses that were made with it */
};

/* 0, or -1 and e. */
int directory_srs_state(struct directory *d, struct dir_srs_state *s_r, struct err *e);
/*
 * A new secret makes addresses from now on; those of the last one stay good as long as they would have been, those of the one before
 * are none any more. That is refused (ERR_PERM) while some of them may be good, unless force is set. 0, durable; or -1 and e.
 */
int directory_srs_rotate(struct directory *d, uint64_t now, bool force, struct err *e);

#endif
