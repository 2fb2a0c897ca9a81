/*
 * deliver_report: reports to senders (smtpd/dsn.h) about a message that the queue has. The report is a message of its own, whose queue id
 * the queue has fixed: a report that is made again has the same id, so mailboxes take it once. It is written from the item, read by
 * verify, stored at the sender's mailbox here or handed to the queue, with the null reverse-path and NOTIFY=NEVER (RFC 3461 6.1).
 * That it came about, or never will, is the answer to the queue.
 *
 * About a report nobody is told (RFC 5321 6.1): when its address does not exist, its end is an event of the time line, and a
 * line in the log.
 */
#ifndef SMTPD_DELIVER_REPORT_H
#define SMTPD_DELIVER_REPORT_H

#include "smtpd/deliver.h"
#include "smtpd/dsn.h"

struct report {
	char of[SMTP_QUEUE_ID_CHARS + 1]; /* the message that it is about */
	struct dsn_report dsn;
	struct slice domain; /* of ours, that the first recipient is in or is sent on from; empty: in none */
	bool notice;	      /* deliver_notice.h: nobody has asked for it */
	uint32_t addresses;   /* what that tells of */
	bool utf8_way;	      /* the message came with SMTPUTF8 */
	enum err_class class; /* what the queue is told */
};

/* Begins the report that an item of the queue asks for: j is a new job. False when the item cannot be used. */
bool deliver_report_begin(struct job *j, struct msg_QUEUE_ITEM *m) __attribute__((warn_unused_result));
/* It is known where the sender is: writes the report, then verify reads it. */
void deliver_report_write(struct job *j);
/* Verify has read it: stores it, or has it signed and hands it to the queue. */
void deliver_report_judged(struct job *j);
/* The signatures are there. */
void deliver_report_signed(struct job *j);
/* All mailboxes have answered. */
void deliver_report_decide(struct job *j);
/* The queue has it. */
void deliver_report_done(struct job *j);
/* It could not be made: for good with a code of 5yz. */
void deliver_report_failed(struct job *j, unsigned code, const char *text);

#endif
