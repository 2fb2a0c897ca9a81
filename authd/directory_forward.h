/*
 * directory_forward: mail that the directory sends on to another server: under which reverse-path it leaves, and whose a bounce to
 * such a reverse-path is (authd/srs.h). The secret is made at its first use and kept in the directory's database: no other
 * process has it.
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
	/* With outside addresses: the reverse-path for them. The null one stays, and so does a sender of a domain of ours, whose SPF is
	 * for us to have right; what is too long to be rewritten becomes the null one. */
	char sender[SRS_ADDRESS_BYTES_MAX + 1];
};

/*
 * directory_resolve() with what is sent on. A bounce (from the null reverse-path) to a reverse-path that we made goes to whom that is for:
 * DIR_LOCAL with one outside address, or where an address of ours leads. From anybody else, or when it is too old, there is no such
 * address. One that we have not made is an address as any other. Never fails: DIR_TEMP, logged. Blocks for disk reads, and one sync
 * when the secret is made.
 */
void directory_forward(struct directory *d, const struct dir_envelope *envelope, struct dir_forwarded *r_r);

#endif
