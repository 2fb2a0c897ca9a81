/*
 * front_policy: what the tables of smtpd/policy.h make of a client's dialogue.
 */
#ifndef SMTPD_FRONT_POLICY_H
#define SMTPD_FRONT_POLICY_H

#include "common/listener.h"
#include "smtpd/policy.h"

struct front;

/* What the table makes of it: the words to refuse with, static, or NULL. A row that refuses is told to the recorder. */
const struct smtp_reply_words *smtpd_judge(struct front *f, enum policy_table t, const struct policy_input *in);
/* The same of a client that has no session. */
const struct smtp_reply_words *smtpd_judge_client(const struct client_address *a, const struct policy_input *in);

#endif
