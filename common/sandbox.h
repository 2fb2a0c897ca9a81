/*
 * sandbox: what each role is confined to, from the one table common/sandbox_table.c. In two steps,
 * so that a role can open what it needs in between, as its own user already but before the walls
 * close: sandbox_prepare(): resource limits, no_new_privs, the role's own user (when started as
 * root, not in the demo); sandbox_close(): root directory, Landlock, seccomp. Nothing can be undone
 * after it.
 */
#ifndef COMMON_SANDBOX_H
#define COMMON_SANDBOX_H

#include "common/err.h"
#include "common/roles.h"

#include <stdbool.h>
#include <sys/types.h>

struct sandbox_place {
	enum role role;
	uint64_t account;      /* of a keeper or worker */
	const char *state_dir; /* absolute; NULL: a role without a directory of its own keeps the root directory that it has */
	bool own_user;	       /* switch to the role's user: started as root, and not a demo */
};

/* 0, or -1 and e: the process must not go on. Blocks for the user data base. */
int sandbox_prepare(const struct sandbox_place *place, struct err *e)
    __attribute__((warn_unused_result));
/* 0, or -1 and e: the process must not go on. A kernel without Landlock is
 * no failure: the supervisor warns of it once. */
int sandbox_close(const struct sandbox_place *place, struct err *e)
    __attribute__((warn_unused_result));

/*
 * For the supervisor: the user and group that a role runs as when own_user is set. -1 and e when
 * there is no such user.
 */
int sandbox_user(enum role role, uid_t *uid_r, gid_t *gid_r, struct err *e)
    __attribute__((warn_unused_result));
/* For the supervisor: a role's directory below the state directory ("queue"), "" when it has none
 * of its own. */
const char *sandbox_directory(enum role role);

/* Version of the kernel's Landlock, 0 when it has none. */
int sandbox_landlock_abi(void);

#endif
