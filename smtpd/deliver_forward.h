/*
 * deliver_forward: messages that are sent on to other servers, because an alias leads there, or because they are bounces to a reverse-path
 * of ours that was rewritten. The directory says where to and under which reverse-path (common/msg/auth.def, DIR_RESOLVE_REPLY). Such a
 * message goes on as it came, with trace fields before it; all of it goes to the queue first, like a submission that leaves.
 *
 * What would harm whoever gets it is not sent on (POLICY_FORWARD). Mailboxes here get it all the same; when there are none, the client is
 * told.
 */
#ifndef SMTPD_DELIVER_FORWARD_H
#define SMTPD_DELIVER_FORWARD_H

#include "common/ipc.h"
#include "smtpd/forward_mark.h"

struct job;
struct policy_decision;
struct policy_input;
struct target;

/* What a job that sends on has more; in the job's arena. */
struct forward {
	struct slice from;			    /* the reverse-path; may be empty */
	struct slice by[FORWARD_ADDRESSES_MAX]; /* recipients of the envelope that lead elsewhere */
	unsigned count;
	bool looped; /* the reverse-path says that it has been sent on from here too often */
};

/* The place of t (copied) among the job's targets, where it may be already: the same account, or address elsewhere. -1 at a limit of the
 * job. In deliver_resolve.c. */
int64_t deliver_target_add(struct job *j, const struct target *t);
/* Adds the addresses outside as targets of the recipient. False at a limit of the job. */
bool deliver_forward_take(struct job *j, const struct msg_DIR_RESOLVE_REPLY *m, uint32_t recipient);
/* Appends the marks of addresses that send the message on, for verify to look for (smtpd/facts.h). */
void deliver_forward_marks(const struct job *j, struct buf *b);
/* Appends the Delivered-To fields of a message that is sent on. False when b is full. */
bool deliver_forward_fields(const struct job *j, struct buf *b);
/* The verdict is there; taken: what the message was taken by. NULL: the message goes its way, perhaps without being sent on; else it is
 * refused, in these words. */
const struct policy_decision *deliver_forward_judge(struct job *j, const struct policy_input *taken);

#endif
