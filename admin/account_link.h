/*
 * account_link: the commands' ways to one account's store: by its keeper, while it is in use; or by its directory, with
 * nobody else at work in it. Both block, say on stderr what went wrong, and give the exit status.
 */
#ifndef ADMIN_ACCOUNT_LINK_H
#define ADMIN_ACCOUNT_LINK_H

#include "admin/command.h"

/* An edge to the keeper of that address's account, whose requests are those of keeper_from_admin (store/keeper_dispatch.c).
 * *id_r, which may be NULL, is the account's number. End it with command_disconnect(). */
enum command_status account_keeper(const struct command_call *call, const char *address, uint64_t *id_r,
    struct command_link **link_r);

/* The time for which a hold waits for the keeper to write what it has. */
#define ACCOUNT_HOLD_WAIT_MS 60000

/*
 * Takes the account out of use until this process ends or *link_r is disconnected: its sessions end, mail for it waits.
 * Then this process works in its directory ("."), holds its lock, and, when it was root, has become the directory's owner
 * for good: open other files before. A server that does not run holds nothing: then address must be the account's number.
 */
enum command_status account_hold(const struct command_call *call, const char *address, struct command_link **link_r);

#endif
