/*
 * maildir_import: a Maildir's messages into the mailboxes of an account.
 */
#ifndef ADMIN_MAILDIR_IMPORT_H
#define ADMIN_MAILDIR_IMPORT_H

#include "admin/import.h"

/*
 * mailbox NULL: all folders of the Maildir at path, each into the mailbox of its name, and its subscriptions; else the
 * messages of that one directory into that mailbox.
 */
enum command_status maildir_import(struct import *im, const char *path, const char *mailbox);

#endif
