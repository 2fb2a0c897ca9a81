/*
 * maildir: reading a Maildir on the disk: which folders it has, which messages a folder has, and their files. It may
 * be another user's and may change meanwhile, and the reader may be root: every file is opened from its directory's descriptor,
 * links are never followed (only PATH itself may be one), and what is no regular file is no message.
 */
#ifndef ADMIN_MAILDIR_H
#define ADMIN_MAILDIR_H

#include "admin/maildir_lists.h"
#include "admin/maildir_parse.h"
#include "common/err.h"

/* Messages of one folder, and folders of a Maildir; past them reading it is refused. */
#define MAILDIR_MESSAGES_MAX 4000000u
#define MAILDIR_FOLDERS_MAX 10000u
/* Octets of dovecot-keywords and subscriptions, which are left aside when they are longer, and of names of folders. */
#define MAILDIR_FILE_BYTES_MAX (1u << 20)

struct maildir_message {
	char *name;	/* of its file */
	uint32_t uid;	/* of dovecot-uidlist, 0 when not there */
	bool in_new;	/* in new/, else in cur/ */
	int64_t date;	/* the earlier of the file's time and the seconds of its name */
};

struct maildir {
	int fd; /* of the directory; fd_cur and fd_new are -1 when there is none */
	int fd_cur;
	int fd_new;
	struct maildir_message *messages; /* by UID, those without one behind them by date and name */
	size_t count;
	size_t cap;
	uint32_t uidvalidity; /* 0: no dovecot-uidlist */
	uint32_t uidnext;
	char *keyword[MAILDIR_KEYWORDS_MAX]; /* of dovecot-keywords; NULL: none */
};

/* Opens the Maildir at path, relative to the directory at (AT_FDCWD: as the operator names it). -1 and e; d is closed then. */
int maildir_open(struct maildir *d, int at, const char *path, struct maildir_lists *lists, struct err *e)
    __attribute__((warn_unused_result));
void maildir_close(struct maildir *d);
/* A descriptor of the message's file for reading; -1 and e when it is no regular file or has gone. */
int maildir_message_open(const struct maildir *d, const struct maildir_message *m, struct err *e)
    __attribute__((warn_unused_result));

struct maildir_folder {
	char *path;	/* below the Maildir; "." is itself, INBOX */
	char *mailbox;	/* its name in UTF-8 */
};
struct maildir_folders {
	struct maildir_folder *folders; /* by name of mailbox, INBOX first */
	size_t count;
	size_t cap;
	bool dotted;	       /* Maildir++: levels are divided by "." (in subscriptions too) */
	struct buf left_aside; /* directories that can be no mailboxes: the path below the Maildir, NUL, why, NUL */
	struct buf subscriptions; /* names in UTF-8, each with LF */
};

/* Finds the folders: Maildir++ (".Sub.Folder") and nested directories, by what is there. -1 and e. */
int maildir_folders_open(struct maildir_folders *f, const char *path, struct maildir_lists *lists, struct err *e)
    __attribute__((warn_unused_result));
void maildir_folders_close(struct maildir_folders *f);

#endif
