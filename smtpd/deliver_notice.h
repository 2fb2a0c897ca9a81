/*
 * deliver_notice: a message of this server to an account and to the postmaster of its domain, that what the account sends is held. It goes
 * the way of a report (smtpd/deliver_report.h), but the queue has not asked for it and hears nothing of it: when this process ends
 * before it is stored, there is none; what is held tells of itself (queue list), and so does the log.
 */
#ifndef SMTPD_DELIVER_NOTICE_H
#define SMTPD_DELIVER_NOTICE_H

#include "common/buf.h"

struct job;

#define NOTICE_BYTES_MAX 4096

/* Begins a notice about the account of j, which may write to so many new addresses a day. */
void deliver_notice_held(const struct job *j, uint32_t addresses);
/* Appends the message. False when b is full. */
bool deliver_notice_write(const struct job *j, struct buf *b);

#endif
