/*
 * directory_quota: tells the store's parent which limits accounts and domains
 * have. All of them when the edge to the store comes up, page by page, each
 * when the one before was taken; one row when it changes.
 */
#ifndef AUTHD_DIRECTORY_QUOTA_H
#define AUTHD_DIRECTORY_QUOTA_H

#include "authd/directory_admin.h"
#include "common/ipc.h"

/* How long a change of a limit waits for the store before the one who made it is told that it is not yet in force. */
#define DIRECTORY_QUOTA_MS 5000

/* The change was asked for by that request of the command; NULL: nobody waits. in_force: all keepers concerned know it. */
typedef void directory_quota_done(struct edge *admin, uint64_t id, bool in_force);

/* Before the first edge comes up. d is borrowed. */
void directory_quota_init(struct directory *d, directory_quota_done *done);
/* The edge to the store is there: tells everything. */
void directory_quota_tell_all(void);
/* Tells a row that changed. done comes later, or at once when the store is away; not at all when admin is NULL. */
void directory_quota_tell(const struct dir_quota_row *row, struct edge *admin, uint64_t id);
/* That connection has gone: nobody waits there. */
void directory_quota_admin_gone(struct edge *admin);
/* Handler. */
void directory_quota_taken(struct edge *e, struct msg_QUOTA_TAKEN *m);

#endif
