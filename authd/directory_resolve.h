/*
 * directory_resolve: from an address in an envelope to the accounts that get the
 * message. Looked up in this order: the exact name (account or alias), a name that the domain's rules call the same, the
 * longest name without a detail behind one of the domain's separators, postmaster and abuse (the domain's oldest account when
 * nothing else has that name), the domain's catch-all alias. Names behind an
 * alias are looked up the same way, without catch-all. An alias may also have targets on other servers: the message is sent on to
 * them (authd/directory_forward.h).
 */
#ifndef AUTHD_DIRECTORY_RESOLVE_H
#define AUTHD_DIRECTORY_RESOLVE_H

#include "authd/directory.h"
#include "common/auth_proto.h"

/* Alias behind alias: how deep, and how many names in all. Past either the answer is DIR_TEMP and a
 * log line. */
#define DIR_ALIAS_DEPTH_MAX 10
#define DIR_EXPANSION_NAMES_MAX 100

#define DIR_OUTSIDE_BYTES_MAX (DIR_EXPANSION_NAMES_MAX * (4 + ADDRESS_BYTES_MAX))

struct dir_resolved {
	enum dir_status status;
	/* DIR_LOCAL: the active accounts, each once. DIR_DISABLED: none. */
	uint64_t account[DIR_EXPANSION_NAMES_MAX];
	unsigned n;
	/* DIR_LOCAL: addresses on other servers, each once; there may be no accounts then. Each a slice of common/cursor.h. */
	uint8_t outside[DIR_OUTSIDE_BYTES_MAX];
	uint32_t outside_bytes;
	unsigned outside_n;
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1]; /* of the address itself, when it is ours; else empty */
	char detail[ADDRESS_LOCAL_BYTES_MAX + 1]; /* of the address itself */
};

/*
 * Resolves address; hostname is the server's own, for the bare "postmaster" of RFC 5321 4.5.1.
 * Never fails: what goes wrong is DIR_TEMP, logged. Blocks for disk reads at most.
 */
void directory_resolve(
    struct directory *d, struct slice address, const char *hostname, struct dir_resolved *r_r);

/*
 * May the account send as address: is it among those who get what is sent there (1), or among those to whom the name that takes the
 * address was delegated (2)? 0: no; -1 and e when it cannot be said. An address that nobody's name takes but for postmaster and
 * abuse, which exist without one, is delegated to nobody.
 */
int directory_may_send(struct directory *d, uint64_t account, struct slice address,
    const char *hostname, struct err *e) __attribute__((warn_unused_result));

/* One more address on another server; all fit that an expansion can find. */
void directory_resolved_outside(struct dir_resolved *r, const char *address);

/*
 * Checks an alias before it is set: every target must be an address that we have or, with outside, be on another server; no way
 * may lead back to name, and the whole must be within the limits above. -1 and e with words for the
 * administrator.
 */
int directory_alias_check(struct directory *d, const struct address_name *name,
    const struct dir_alias *alias, bool outside, struct err *e) __attribute__((warn_unused_result));

/* The same before name is delegated: it must be an account or alias of ours as it stands, and every target one of ours. */
int directory_sender_check(struct directory *d, const struct address_name *name, const struct dir_alias *targets, struct err *e)
    __attribute__((warn_unused_result));

#endif
