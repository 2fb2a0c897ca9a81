/*
 * mbox_export: mailboxes as mboxrd: a From_ line with the internal date (UTC), the marks as Status, X-Status, X-Keywords, X-UID and
 * X-IMAPbase, lines that begin with "From " behind any number of ">" with one ">" more. Fields of the message itself by
 * these names are left out, since they would be taken for marks.
 */
#ifndef ADMIN_MBOX_EXPORT_H
#define ADMIN_MBOX_EXPORT_H

#include "admin/export.h"

/* mailbox NULL: path, which must not be there or be an empty directory, gets NAME.mbox for each mailbox, with a directory for each level of
 * a name but the last; else path is the file. */
enum command_status mbox_export(struct export *x, const char *path, const char *mailbox);

#endif
