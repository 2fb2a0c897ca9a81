/*
 * export: an account's mailboxes, message by message, to whoever writes them down. It goes by the account's keeper, while the account is
 * in use: what comes or goes meanwhile may be in it or not.
 */
#ifndef ADMIN_EXPORT_H
#define ADMIN_EXPORT_H

#include "admin/account_mailbox.h"
#include "admin/export_file.h"
#include "admin/progress.h"
#include "store/record.h"

#define EXPORT_NAME_SIZE 160

struct export_counts {
	uint64_t mailboxes;
	uint64_t messages;
	uint64_t bytes; /* of the messages as the account has them */
	uint64_t failed;
	uint64_t keywords_lost; /* the format has no room for them */
};

/* The mailbox that is being written. */
struct export_mailbox {
	struct slice name;
	uint32_t uidvalidity;
	uint32_t uidnext;   /* past all UIDs that were given out */
	struct slice keywords; /* names, each with LF, in the order of their bits */
};

struct export {
	struct command_link *keeper;
	struct progress *progress;
	struct export_counts counts;
	struct export_mailbox mailbox;
	struct buf keywords;
	void *arg; /* the writer's */
};

/* Each gives 0, or -1 and e: the mailbox, or the message, is counted as failed then, and the rest goes on. */
struct export_writer {
	int (*begin)(struct export *x, struct err *e);
	/* fd: of the message, for reading at any offset; it stays the caller's. */
	int (*message)(struct export *x, const struct store_record *r, int fd, struct err *e);
	/* mailbox.uidnext is past the last one now. Called when begin() gave 0. */
	int (*end)(struct export *x, struct err *e);
};

/* All mailboxes, or the one of that name (not NULL). Else than COMMAND_OK it was said why. */
enum command_status export_run(struct export *x, const struct export_writer *w, const char *mailbox);
/* Names that are subscribed to, each with LF, appended to out. */
enum command_status export_subscriptions(struct export *x, struct buf *out);
/* Says it and counts it. what: any octets. */
void export_failed(struct export *x, struct slice what, const char *why);
/* The octets of a message, in pieces, to put. -1 and e when it cannot be read. */
typedef void export_put_fn(void *arg, struct slice octets);
int export_octets(int fd, export_put_fn *put, void *arg, struct err *e) __attribute__((warn_unused_result));

#endif
