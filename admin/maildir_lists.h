/*
 * maildir_lists: the files in which a Maildir keeps its lists (dovecot-uidlist, dovecot-keywords, subscriptions), read by a confined
 * child (admin/confined.h), since they belong to somebody else.
 */
#ifndef ADMIN_MAILDIR_LISTS_H
#define ADMIN_MAILDIR_LISTS_H

#include "admin/confined.h"
#include "common/err.h"

enum maildir_list {
	MAILDIR_LIST_UIDS = 1,	     /* UIDVALIDITY, next UID, then each UID with its file's base name; none when it has no head */
	MAILDIR_LIST_KEYWORDS,	     /* number below MAILDIR_KEYWORDS_MAX, name */
	MAILDIR_LIST_SUBSCRIPTIONS,  /* names in UTF-8; levels are divided by "/" in the file */
	MAILDIR_LIST_SUBSCRIPTIONS_DOTTED, /* by "." */
};
/* Octets of a row's text. */
#define MAILDIR_ROW_BYTES_MAX 8192u

/* All zero to begin with; its child begins when it is needed. */
struct maildir_lists {
	struct confined child;
};

typedef void maildir_row_fn(void *arg, uint32_t number, struct slice text);

void maildir_lists_close(struct maildir_lists *l);
/* The rows of file fd, which stays the caller's, to fn. Their texts are any octets. -1 and e when there is no child to read it. */
int maildir_lists_read(struct maildir_lists *l, enum maildir_list which, int fd, maildir_row_fn *fn, void *arg, struct err *e)
    __attribute__((warn_unused_result));

#endif
