/*
 * account_mailbox: the requests about mailboxes that several commands put to an account's keeper. Each blocks, says on stderr
 * what went wrong, and gives the exit status.
 */
#ifndef ADMIN_ACCOUNT_MAILBOX_H
#define ADMIN_ACCOUNT_MAILBOX_H

#include "admin/account_link.h"
#include "store/mailbox_list.h"

/* The table of mailboxes, as store/mailbox_list.h encodes it, into table (reset first; of STORE_LIST_BYTES_MAX). */
enum command_status account_mailboxes(struct command_link *keeper, struct buf *table);
/* As the store has it: INBOX may be written as anybody likes (RFC 9051 5.1). */
struct slice account_mailbox_name(struct slice name);
/* The mailbox of that name in such a table; false when it is not there as one that can be opened. The name points into it. */
bool account_mailbox_find(struct slice table, struct slice name, struct store_mailbox *mailbox_r);
/* Its special uses as their names, RFC 6154 section 2 and RFC 8457: a new array. */
json_t *account_mailbox_uses(uint32_t uses);

/*
 * One MSG_FETCH of a mailbox from uid on, to the last. On COMMAND_OK records holds the records (reset first; at most
 * STORE_RECORDS_BYTES_MAX), next_r where to go on (0: that was all), and with STORE_WANT_OBJECT fds_r the descriptors in the
 * same order, which are the caller's.
 */
enum command_status account_fetch(struct command_link *keeper, uint32_t mailbox, uint32_t uid, uint8_t want,
    struct buf *records, uint32_t *next_r, struct msg_fds *fds_r);

#endif
