/*
 * account: the directory of an account as a whole.
 */
#ifndef STORE_ACCOUNT_H
#define STORE_ACCOUNT_H

#include "common/err.h"

/*
 * Takes the account's lock, which is held until the process ends: who has it is the only one at work in root. Waits some
 * seconds for one that is leaving. Blocks.
 */
int account_lock(const char *root, struct err *e) __attribute__((warn_unused_result));

/* Removes all that belongs to the account in root, but root itself and its lock. Not undoable; what a crash leaves is
 * removed by doing it again. Blocks on the disk. */
int account_remove(const char *root, struct err *e) __attribute__((warn_unused_result));

#endif
