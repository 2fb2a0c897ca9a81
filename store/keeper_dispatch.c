/*
 * Who may ask the keeper for what, again and in code: deliver may append and
 * look at the table; a POP3 worker may list, read and delete (and only in
 * INBOX, which the handlers see to); an IMAP worker may do what IMAP can; the
 * command may look, import and export, and what only an operator does. What changes something waits for its step.
 */
#include "store/keeper_retain.h"

const struct ipc_dispatch keeper_from_deliver = {
    .MBOX_LIST = keeper_on_list,
    .MSG_APPEND = keeper_later_MSG_APPEND,
};

const struct ipc_dispatch keeper_from_imap = {
    .MBOX_LIST = keeper_on_list,
    .MBOX_CHANGE = keeper_later_MBOX_CHANGE,
    .MBOX_OPEN = keeper_on_open,
    .MBOX_FENCE = keeper_on_fence,
    .MBOX_CLOSE = keeper_on_close,
    .MBOX_RECENT = keeper_later_MBOX_RECENT,
    .MSG_FLAGS = keeper_later_MSG_FLAGS,
    .MSG_APPEND = keeper_later_MSG_APPEND,
    .MSG_COPY = keeper_later_MSG_COPY,
    .MSG_EXPUNGE = keeper_later_MSG_EXPUNGE,
    .MSG_FETCH = keeper_on_fetch,
    .MSG_SUMMARY = keeper_later_MSG_SUMMARY,
};

const struct ipc_dispatch keeper_from_pop3 = {
    .MBOX_LIST = keeper_on_list,
    .MBOX_OPEN = keeper_on_open,
    .MBOX_CLOSE = keeper_on_close,
    .MSG_EXPUNGE = keeper_later_MSG_EXPUNGE,
    .MSG_FETCH = keeper_on_fetch,
};

const struct ipc_dispatch keeper_from_admin = {
    .MBOX_LIST = keeper_on_list,
    .MBOX_CHANGE = keeper_later_MBOX_CHANGE,
    .MBOX_ADOPT = keeper_later_MBOX_ADOPT,
    .MBOX_OPEN = keeper_on_open,
    .MSG_APPEND = keeper_later_MSG_APPEND,
    .MSG_FETCH = keeper_on_fetch,
    .STORE_DUMP = keeper_on_dump,
    .STORE_CHECK = keeper_on_check,
    .STORE_OBJECTS = keeper_on_objects,
    .RETAINED_LIST = keeper_on_retained_list,
    .UNDELETE_MESSAGES = keeper_later_UNDELETE_MESSAGES,
    .UNDELETE_MAILBOX = keeper_later_UNDELETE_MAILBOX,
    .RETAINED_FORGET = keeper_later_RETAINED_FORGET,
};
