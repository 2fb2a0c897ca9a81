/*
 * mail_format: the forms in which mail comes from elsewhere and goes there, and the words that import and export share.
 */
#ifndef ADMIN_MAIL_FORMAT_H
#define ADMIN_MAIL_FORMAT_H

#include "admin/account_link.h"

enum mail_format {
	MAIL_FORMAT_MAILDIR,
	MAIL_FORMAT_MBOX,
	MAIL_FORMAT_COUNT,
};

/*
 * Reads ADDRESS FORMAT PATH [--mailbox NAME] and connects to that account's keeper; ADDRESS, FORMAT and PATH are then the first
 * three words of call. *mailbox_r is NULL without --mailbox; *account_r (or NULL) is its number; *keeper_r is the caller's. Blocks; says
 * what went wrong.
 */
enum command_status mail_format_words(const struct command_call *call, enum mail_format *format_r, const char **mailbox_r,
    uint64_t *account_r, struct command_link **keeper_r);

#endif
