/*
 * maildir_export: an account as a Maildir that Dovecot opens with the same UIDs, flags, keywords and dates.
 */
#ifndef ADMIN_MAILDIR_EXPORT_H
#define ADMIN_MAILDIR_EXPORT_H

#include "admin/export.h"

/* path must not be there, or be an empty directory. mailbox NULL: Maildir++ with all mailboxes, INBOX being path itself; else
 * path is that mailbox. */
enum command_status maildir_export(struct export *x, const char *path, const char *mailbox);

#endif
