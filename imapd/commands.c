/*
 * Every command after login, once: in which states it may come, what it must not tell, and where its code is.
 */
#include "imapd/cmd.h"

#define ANY (SESSION_AUTHENTICATED | SESSION_SELECTED)
#define SELECTED SESSION_SELECTED

static const struct command_row rows[] = {
    {"APPEND", ANY, 0, cmd_append_start, cmd_append_run, append_free},
    {"CAPABILITY", ANY, 0, cmd_capability_start, NULL, NULL},
    {"CHECK", SELECTED, 0, cmd_check_start, NULL, NULL},
    {"CLOSE", SELECTED, 0, cmd_close_start, NULL, NULL},
    {"COPY", SELECTED, COMMAND_UID, cmd_copy_start, cmd_copy_run, NULL},
    {"CREATE", ANY, 0, cmd_create_start, NULL, NULL},
    {"DELETE", ANY, 0, cmd_delete_start, cmd_delete_run, NULL},
    {"ENABLE", SESSION_AUTHENTICATED, 0, cmd_enable_start, NULL, NULL},
    {"EXAMINE", ANY, 0, cmd_examine_start, cmd_select_run, NULL},
    {"EXPUNGE", SELECTED, COMMAND_UID, cmd_expunge_start, NULL, NULL},
    {"FETCH", SELECTED, COMMAND_UID | COMMAND_NO_EXPUNGE, cmd_fetch_start, cmd_fetch_run, cmd_fetch_end},
    {"ID", ANY, 0, cmd_id_start, NULL, NULL},
    {"IDLE", ANY, 0, cmd_idle_start, NULL, NULL},
    {"LIST", ANY, 0, cmd_list_start, cmd_list_run, cmd_list_end},
    {"LOGOUT", ANY, 0, cmd_logout_start, NULL, NULL},
    {"LSUB", ANY, 0, cmd_lsub_start, cmd_list_run, cmd_list_end},
    {"MOVE", SELECTED, COMMAND_UID, cmd_move_start, cmd_copy_run, NULL},
    {"NAMESPACE", ANY, 0, cmd_namespace_start, NULL, NULL},
    {"NOOP", ANY, 0, cmd_noop_start, NULL, NULL},
    {"RENAME", ANY, 0, cmd_rename_start, NULL, NULL},
    {"SEARCH", SELECTED, COMMAND_UID | COMMAND_NO_EXPUNGE, cmd_search_start, cmd_search_run,
	cmd_search_end},
    {"SELECT", ANY, 0, cmd_select_start, cmd_select_run, NULL},
    {"STATUS", ANY, 0, cmd_status_start, cmd_status_run, NULL},
    {"STORE", SELECTED, COMMAND_UID | COMMAND_NO_EXPUNGE, cmd_store_start, NULL, NULL},
    {"SUBSCRIBE", ANY, 0, cmd_subscribe_start, NULL, NULL},
    {"UNSELECT", SELECTED, 0, cmd_unselect_start, NULL, NULL},
    {"UNSUBSCRIBE", ANY, 0, cmd_unsubscribe_start, NULL, NULL},
};

const struct command_row *
command_find(struct slice name)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (slice_eq_nocase(name, slice_str(rows[i].name)))
			return &rows[i];
	return NULL;
}
