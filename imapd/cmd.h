/*
 * cmd: the commands' entries, one file each, for the table in commands.c. Contracts: struct command_row in session.h.
 */
#ifndef IMAPD_CMD_H
#define IMAPD_CMD_H

#include "imapd/targets.h"

void cmd_append_start(struct session *s, struct imap_scan *args);
void cmd_append_run(struct session *s);
void cmd_capability_start(struct session *s, struct imap_scan *args);
void cmd_check_start(struct session *s, struct imap_scan *args);
void cmd_close_start(struct session *s, struct imap_scan *args);
void cmd_copy_start(struct session *s, struct imap_scan *args);
void cmd_copy_run(struct session *s);
void cmd_create_start(struct session *s, struct imap_scan *args);
void cmd_delete_start(struct session *s, struct imap_scan *args);
void cmd_delete_run(struct session *s);
void cmd_enable_start(struct session *s, struct imap_scan *args);
void cmd_examine_start(struct session *s, struct imap_scan *args);
void cmd_expunge_start(struct session *s, struct imap_scan *args);
void cmd_fetch_start(struct session *s, struct imap_scan *args);
void cmd_fetch_run(struct session *s);
void cmd_fetch_end(struct session *s);
void cmd_id_start(struct session *s, struct imap_scan *args);
void cmd_idle_start(struct session *s, struct imap_scan *args);
void cmd_list_start(struct session *s, struct imap_scan *args);
void cmd_lsub_start(struct session *s, struct imap_scan *args);
void cmd_list_run(struct session *s);
void cmd_list_end(struct session *s);
void cmd_logout_start(struct session *s, struct imap_scan *args);
void cmd_move_start(struct session *s, struct imap_scan *args);
void cmd_namespace_start(struct session *s, struct imap_scan *args);
void cmd_noop_start(struct session *s, struct imap_scan *args);
void cmd_rename_start(struct session *s, struct imap_scan *args);
void cmd_search_start(struct session *s, struct imap_scan *args);
void cmd_search_run(struct session *s);
void cmd_search_end(struct session *s);
void cmd_select_start(struct session *s, struct imap_scan *args);
void cmd_select_run(struct session *s);
void cmd_status_start(struct session *s, struct imap_scan *args);
void cmd_status_run(struct session *s);
void cmd_store_start(struct session *s, struct imap_scan *args);
void cmd_subscribe_start(struct session *s, struct imap_scan *args);
void cmd_unsubscribe_start(struct session *s, struct imap_scan *args);
void cmd_unselect_start(struct session *s, struct imap_scan *args);

/* ---- shared by several commands ---- */

/* `* STATUS name (...)` with those IMAP_STATUS_ items. */
void cmd_put_status(struct session *s, const struct store_mailbox *m, uint32_t items);

/* A set of messages as a request has it. */
struct cmd_uids {
	struct buf buf;
	struct slice field;
	int fd;
};

/* Keywords as lines, in the arena; false after the command was answered. */
bool cmd_keyword_lines(struct session *s, const struct imap_flags *flags, struct slice *lines_r)
    __attribute__((warn_unused_result));
/* The targets' UIDs for a request: 0, or -1 after the command was answered. cmd_uids_free() after 0. */
int cmd_uids_field(struct session *s, struct targets *t, struct cmd_uids *u) __attribute__((warn_unused_result));
void cmd_uids_free(struct cmd_uids *u);

#endif
