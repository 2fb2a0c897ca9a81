/*
 * mailstead mailbox: what an account holds, as its keeper has it.
 */
#include "admin/account_mailbox.h"

static json_t *
mailbox_json(const struct store_mailbox *m)
{
	return json_pack("{ss% so sI sI sI sI sI sI sb sb}", "mailbox", (const char *)m->name.p, m->name.n, "special_use",
	    account_mailbox_uses(m->special_use), "messages", (json_int_t)m->messages, "unseen", (json_int_t)m->unseen, "bytes",
	    (json_int_t)m->bytes, "uidvalidity", (json_int_t)m->uidvalidity, "uidnext", (json_int_t)m->uidnext,
	    "highestmodseq", (json_int_t)m->highestmodseq, "subscribed", m->subscribed, "selectable", m->selectable);
}

static enum command_status
ask_rows(struct command_link *keeper, json_t *rows)
{
	struct store_mailbox m;
	struct buf table;
	enum command_status status;

	buf_init(&table, STORE_LIST_BYTES_MAX);
	status = account_mailboxes(keeper, &table);
	struct cursor c = cursor_of(buf_slice(&table));

	while (status == COMMAND_OK && store_mailbox_next(&c, &m)) {
		json_t *row = mailbox_json(&m);

		if (row != NULL)
			(void)json_array_append_new(rows, row);
	}
	buf_fini(&table);
	return status;
}

static enum command_status
mailbox_list(const struct command_call *call)
{
	static const struct command_column columns[] = {{"mailbox", "MAILBOX"}, {"special_use", "USE"},
	    {"messages", "MESSAGES"}, {"unseen", "UNSEEN"}, {"bytes", "OCTETS"}, {"uidvalidity", "UIDVALIDITY"},
	    {"uidnext", "UIDNEXT"}, {NULL, NULL}};
	struct command_link *keeper;
	json_t *rows = json_array();
	enum command_status status = account_keeper(call, call->argv[0], NULL, &keeper);

	if (status == COMMAND_OK)
		status = ask_rows(keeper, rows);
	if (status == COMMAND_OK)
		status = command_print_list(call, rows, columns);
	command_disconnect(&keeper);
	json_decref(rows);
	return status;
}

const struct command commands_mailbox[] = {
    {
	.name = "mailbox list",
	.args = "ADDRESS",
	.help = "the mailboxes of an account with their figures",
	.more = "The server must be running. Names that exist only as subscriptions or superiors are listed too.\n",
	.args_min = 1,
	.args_max = 1,
	.needs_config = true,
	.run = mailbox_list,
    },
    {.name = NULL},
};
