/*
 * deliver_account: the guard rails of accounts (smtpd/account_rate.h): each message that leaves is counted, and what passes a limit of the
 * settings is put off, or held in the queue, as POLICY_SUBMISSION says.
 */
#ifndef SMTPD_DELIVER_ACCOUNT_H
#define SMTPD_DELIVER_ACCOUNT_H

#include "smtpd/account_rate.h"

struct job;

void deliver_account_init(void);
/* Counts the job's message, once, when it is a submission with recipients of other servers, and says what that came to. */
enum account_spent deliver_account_count(struct job *j);

#endif
