/*
 * mbox_import: mbox files into the mailboxes of an account.
 */
#ifndef ADMIN_MBOX_IMPORT_H
#define ADMIN_MBOX_IMPORT_H

#include "admin/import.h"

/* Files looked at below a directory; past it the import ends. */
#define MBOX_FILES_MAX 10000u

/*
 * path: a file, for mailbox or INBOX; or (mailbox NULL) a directory, whose files and those below it each go to the mailbox of
 * their name. Below a directory names with a "." in front, links, and files that do not begin with a From_ line are left aside.
 */
enum command_status mbox_import(struct import *im, const char *path, const char *mailbox);

#endif
