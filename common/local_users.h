/*
 * local_users: the setting submission.local: words USER=ADDRESS separated by spaces: which account of this server a user of this
 * machine sends for. USER may be "*": everybody else. Pure.
 */
#ifndef COMMON_LOCAL_USERS_H
#define COMMON_LOCAL_USERS_H

#include "common/slice.h"

#define LOCAL_USERS_MAX 256
#define LOCAL_USER_BYTES_MAX 32	    /* of a user's name (useradd(8)) */
#define LOCAL_USER_ADDRESS_BYTES_MAX 318

struct local_user {
	struct slice word; /* all of it */
	struct slice user;
	struct slice address;
};

/* Takes the next word of *text. 1, 0 at the end, -1 for a word that is none: then only user_r->word is set. */
int local_user_next(struct slice *text, struct local_user *user_r) __attribute__((warn_unused_result));

/* Every word is one, and there are at most LOCAL_USERS_MAX. */
bool local_users_valid(struct slice text);

/* Where the submission front listens for them, below run.directory. */
#define LOCAL_SOCKET_NAME "submit"

#endif
