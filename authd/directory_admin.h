/*
 * directory_admin: the requests of the mailstead command to the directory
 * (DIR_ADMIN). One row a verb in the .c file. Whoever reaches the control socket may do all of it.
 */
#ifndef AUTHD_DIRECTORY_ADMIN_H
#define AUTHD_DIRECTORY_ADMIN_H

#include "authd/directory.h"
#include "common/msg.h"

/* Octets of one page of a list; the rest is asked for with `text` as the next request's value. */
#define DIR_ADMIN_PAGE_BYTES_MAX 60000
#define DIR_ADMIN_TEXT_BYTES_MAX 512

/* What the store is to be told after a change (authd/directory_quota.h). account 0: of the domain. */
struct dir_quota_row {
	uint64_t account;
	uint64_t domain; /* its number, struct dir_domain's order; 0: there is nothing to tell */
	struct quota limit;
};

struct dir_admin_reply {
	enum err_class class;
	enum err_code code;
	struct buf text; /* words for the administrator, or where the next page begins */
	bool more;
	struct buf json; /* one object a line */
	struct dir_quota_row row;
	bool wait; /* the change is to be in force before it is answered */
};

void dir_admin_reply_init(struct dir_admin_reply *r);
void dir_admin_reply_fini(struct dir_admin_reply *r);

/* Does what is asked; the answer is in r (reset first). A change is durable then. now: seconds
 * since 1970; outside: aliases may lead to other servers. */
void directory_admin(struct directory *d, const struct msg_DIR_ADMIN *m, uint64_t now, bool outside, struct dir_admin_reply *r);

#endif
