/*
 * targets: the messages that a command names, of the mailbox that its session has selected.
 */
#ifndef IMAPD_TARGETS_H
#define IMAPD_TARGETS_H

#include "imapd/session.h"

/* Messages named by a command, as ranges of indexes into s->uids (from included, to not). */
struct target_range {
	size_t from;
	size_t to;
};

struct targets {
	struct target_range *v;
	size_t n;
	size_t at;    /* range */
	size_t index; /* next message in it */
};

/*
 * Resolves a sequence-set or uid-set. False after BAD: a number that is not there, or the arena's cap. Absent UIDs are
 * left out (RFC 3501 6.4.8).
 */
bool session_targets(struct session *s, struct imap_set *set, bool uid, struct targets *targets_r);
/* The next message's index; false after the last. */
bool targets_next(struct targets *t, size_t *index_r);
/* Goes (back or on) to the first message at or after that index. */
void targets_seek(struct targets *t, size_t index);
/* Notes in expunge_issued whether a target is gone without the client knowing; rewinds. */
void session_look_expunged(struct session *s, struct targets *t);

/*
 * The targets as UIDs, added to set (which the caller frees): one range of UIDs for each range of messages, since between two
 * neighbours no message has ever a UID. False when they are too many ranges.
 */
bool session_target_uids(struct session *s, struct targets *t, struct uidset *set)
    __attribute__((warn_unused_result));

#endif
