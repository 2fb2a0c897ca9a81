/*
 * directory_local: who a user of this machine is to us. The kernel says who is at the other end of a connection; the setting
 * submission.local says which account that user sends for. A front hands over the connection itself, so that it is not to be believed.
 */
#ifndef AUTHD_DIRECTORY_LOCAL_H
#define AUTHD_DIRECTORY_LOCAL_H

#include "common/slice.h"

#include <sys/types.h>

/*
 * Looks up the numbers of the users that text, the setting, names; run_dir: the directory of the socket. Before the sandbox closes: it
 * reads the system's users. Those that are not there are logged and left out. Blocks as getpwnam(3) does.
 */
void directory_local_init(struct slice text, const char *run_dir);

/* The address that the user sends for, until the process ends; NULL: none. */
const char *directory_local_address(uid_t user);

/* The user at the other end of a connection that was made to run_dir/submit. False for any other socket, whoever its peer is. */
bool directory_local_peer(int fd, uid_t *user_r) __attribute__((warn_unused_result));

#endif
