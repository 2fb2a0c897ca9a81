/*
 * deliver_sign: the stage of a job (smtpd/deliver.h) between the author's check and the writing of the message, for a submission that
 * leaves: DKIM-Signature fields of the sign role, or none when the author's domain has no key. Nothing here blocks.
 */
#ifndef SMTPD_DELIVER_SIGN_H
#define SMTPD_DELIVER_SIGN_H

#include "common/ipc.h"

struct job;
struct loop;

/* The longest wait for an answer, and for a process to ask; then the client is told 451. */
#define DELIVER_SIGN_MS 15000
#define DELIVER_SIGNATURES_BYTES_MAX 8192 /* as SIGN_REPLY has them */
#define DELIVER_SIGN_TRIES_MAX 2 /* a message that ends two processes is deferred */

void deliver_sign_init(struct loop *l);
/* Asks, fills job->signatures, calls deliver_compose() (of a report: deliver_report_signed()); or replies, which ends the job. */
void deliver_sign(struct job *j);
void deliver_on_signed(struct edge *e, struct msg_SIGN_REPLY *m);
/* The edge to sign came up. */
void deliver_sign_up(void);

#endif
