/*
 * replay: what was recorded of a message, judged again: SPF, DKIM, ARC and DMARC on the DNS answers that they were given, then the table
 * of policy with what comes of it. Of signatures the message's hashes are taken from the record, and what the fronts counted.
 */
#ifndef ADMIN_REPLAY_H
#define ADMIN_REPLAY_H

#include "admin/command.h"

/*
 * rows: an array of events, oldest first (admin/explain.h). Each that is judged again gets a member "again", with what comes out
 * and "same"; with "why" instead when something it needs is not recorded. Gives how many decisions there are; *differ_r: how
 * many of them come out otherwise, they or a check that led to them, or cannot be read. Blocks.
 */
size_t replay(json_t *rows, size_t *differ_r);

#endif
