/*
 * parent_quota: limits of accounts and domains as the directory tells them, and
 * the room of a domain, which its accounts share (docs/architecture.md, "Quotas").
 */
#ifndef STORE_PARENT_QUOTA_H
#define STORE_PARENT_QUOTA_H

#include "store/parent.h"

/* Keepers started at once only to learn what their accounts use. */
#define PARENT_SURVEY_MAX 8u
/* With a grant goes this part of the room that is left, up to these amounts, so that not every message asks. */
#define PARENT_GRANT_SHARE 8u
#define PARENT_GRANT_BYTES_MAX (64u << 20)
#define PARENT_GRANT_MESSAGES_MAX 4096u

/* The settings have changed. */
void parent_quota_reload(void);

/* A keeper was started: it gets its limits before any peer, if they are known. */
void parent_quota_keeper_up(struct parent_process *keeper);
/* It was told to leave: what it wants is void. */
void parent_quota_keeper_leaves(struct parent_process *keeper);
/* Its edge ended. It is no longer its account's. */
void parent_quota_keeper_down(struct parent_process *keeper);
/* Its usage has changed. */
void parent_quota_used(struct parent_process *keeper, struct quota usage);
/* All of the account's messages are gone for good. */
void parent_quota_account_gone(struct parent_account *a);
/* Somebody else worked in the account's directory. */
void parent_quota_unsure(struct parent_account *a);

void parent_quota_on_rows(struct edge *e, struct msg_QUOTA_ROWS *m);
void parent_quota_on_ceiling(struct edge *e, struct msg_KEEPER_CEILING *m);
void parent_quota_on_want(struct edge *e, struct msg_KEEPER_WANT *m);
void parent_quota_on_usage(struct edge *e, struct msg_STORE_USAGE *m);
void parent_quota_on_question(struct edge *e, struct msg_STORE_QUOTA *m);

#endif
