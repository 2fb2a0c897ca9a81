/*
 * deliver_account: the guard rails of accounts (smtpd/account_rate.h): each message that leaves is counted, and what passes a limit of the
 * settings is put off, or held in the queue, as POLICY_SUBMISSION says. What is known is kept on disk
 * (smtpd/account_rate_file.h) within DELIVER_ACCOUNT_KEEP_MS, at once when an account is held, and when the process ends in order; what
 * cannot be kept is counted all the same, told once and tried again.
 */
#ifndef SMTPD_DELIVER_ACCOUNT_H
#define SMTPD_DELIVER_ACCOUNT_H

#include "common/err.h"
#include "smtpd/account_rate.h"

struct job;

#define DELIVER_ACCOUNT_KEEP_MS 30000

/* Before the sandbox closes: opens the files. */
void deliver_account_init(void);
/* The process is about to end. */
void deliver_account_fini(void);
/* Counts the job's message, once, when it is a submission with recipients of other servers, and says what that came to. */
enum account_spent deliver_account_count(struct job *j);

#endif
