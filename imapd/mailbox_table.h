/*
 * mailbox_table: the account's mailboxes as the worker knows them. EVENT_MAILBOXES makes it stale; who needs
 * it asks, and the keeper is asked at most once at a time. Events of a change come before its reply, so a session
 * that has created a mailbox always finds it.
 */
#ifndef IMAPD_MAILBOX_TABLE_H
#define IMAPD_MAILBOX_TABLE_H

#include "imapd/keeper_link.h"
#include "store/mailbox_list.h"

/* One state of the table; it does not change while a reference is held. */
struct mailbox_list {
	unsigned refs;
	struct store_mailbox *v; /* ascending by name */
	size_t n;
	struct buf octets; /* what the names point into */
};

struct mailbox_table;
struct mailbox_wait;

/* list is NULL when e says why. Take a reference to keep it. */
typedef void mailbox_list_fn(void *owner, struct mailbox_list *list, const struct err *e);

struct mailbox_table *mailbox_table_new(struct keeper_link *k);
void mailbox_table_free(struct mailbox_table **t);
/* What is known is old. */
void mailbox_table_stale(struct mailbox_table *t);
/* The present list, or NULL when it has to be asked for: then fn is called later, and *wait_r is set until then. */
struct mailbox_list *mailbox_table_get(struct mailbox_table *t, mailbox_list_fn *fn, void *owner,
    struct mailbox_wait **wait_r);
/* Whatever is known now, stale or not; NULL when nothing is. */
struct mailbox_list *mailbox_table_peek(struct mailbox_table *t);
bool mailbox_table_is_stale(const struct mailbox_table *t);
/* The owner is going away. NULL is fine. */
void mailbox_wait_forget(struct mailbox_wait **w);

void mailbox_list_ref(struct mailbox_list *l);
void mailbox_list_unref(struct mailbox_list **l);
/* The mailbox of that name (UTF-8; "INBOX" in any case), or NULL. */
const struct store_mailbox *mailbox_list_find(const struct mailbox_list *l, struct slice name);

#endif
