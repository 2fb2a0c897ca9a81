/*
 * transport_sts: asking the sts role for a domain's MTA-STS policy (RFC 8461).
 */
#ifndef SMTPD_TRANSPORT_STS_H
#define SMTPD_TRANSPORT_STS_H

#include "common/ipc.h"
#include "smtpd/sts_policy.h"

/* Past a fetch's longest time, so that the answer is the sts role's own. */
#define TRANSPORT_STS_MS 90000

struct transport_sts;

/* policy: NULL when there is none to follow. known is false when that cannot be said now: the domain is to be tried later. why: for the
 * time line. All is valid during the call. */
typedef void transport_sts_fn(void *arg, bool known, const struct sts_policy *policy, const char *why);

/* domain in A-labels. done is called once, never from inside this call; the question has ended then. NULL: it cannot be asked now, and
 * done is not called. */
struct transport_sts *transport_sts_ask(struct slice domain, transport_sts_fn *done, void *arg);
/* done is not called any more. */
void transport_sts_cancel(struct transport_sts **q);
/* The handler of STS_POLICY. */
void transport_sts_answer(struct edge *e, struct msg_STS_POLICY *m);

#endif
