/*
 * dsn_item: of whom in a queue's item the sender is to be told (RFC 3461 5.2), and the item as the beginning of a report. Pure.
 */
#ifndef SMTPD_DSN_ITEM_H
#define SMTPD_DSN_ITEM_H

#include "smtpd/dsn.h"
#include "smtpd/queue_item.h"

/*
 * What the sender is to be told of recipient i now, and has not been told yet. late: the message has waited so long that a delay
 * is to be reported. Never anything for the null reverse-path. Of several mailboxes behind one address (RFC 3461 5.2.7.3 c) the
 * first success is DSN_EXPANDED and the others are nothing. Linear in the recipients for a success, else constant.
 */
enum dsn_action dsn_due(const struct queue_item *item, uint16_t i, bool late);
/* The bit of enum queue_recipient_flags that says that it was told; 0 of DSN_NONE. */
uint8_t dsn_told_flag(enum dsn_action a);

/*
 * Fills the part of a report that the item says: mail_from, envid, ret, requiretls, arrived, and the recipients with
 * QUEUE_IN_REPORT, in a; the slices are the item's. False when there are none, or at a's cap.
 */
bool dsn_report_begin(const struct queue_item *item, struct arena *a, struct dsn_report *report_r) __attribute__((warn_unused_result));

#endif
