/*
 * mailstead mailbox: what an account holds, as its keeper has it.
 */
#include "admin/account_link.h"

#include "common/memfd.h"
#include "store/mailbox_list.h"

#include <unistd.h>

/* RFC 6154 section 2, RFC 8457: the names of the special uses, as one text. */
static json_t *
uses_text(uint32_t uses)
{
	static const struct {
		uint32_t use;
		const char *name;
	} rows[] = {{STORE_USE_ALL, "\\All"}, {STORE_USE_ARCHIVE, "\\Archive"}, {STORE_USE_DRAFTS, "\\Drafts"},
	    {STORE_USE_FLAGGED, "\\Flagged"}, {STORE_USE_JUNK, "\\Junk"}, {STORE_USE_SENT, "\\Sent"},
	    {STORE_USE_TRASH, "\\Trash"}, {STORE_USE_IMPORTANT, "\\Important"}};
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (uses & rows[i].use)
			(void)json_array_append_new(list, json_string(rows[i].name));
	return list;
}

static json_t *
mailbox_json(const struct store_mailbox *m)
{
	return json_pack("{ss% so sI sI sI sI sI sI sb sb}", "mailbox", (const char *)m->name.p, m->name.n, "special_use",
	    uses_text(m->special_use), "messages", (json_int_t)m->messages, "unseen", (json_int_t)m->unseen, "bytes",
	    (json_int_t)m->bytes, "uidvalidity", (json_int_t)m->uidvalidity, "uidnext", (json_int_t)m->uidnext,
	    "highestmodseq", (json_int_t)m->highestmodseq, "subscribed", m->subscribed, "selectable", m->selectable);
}

static enum command_status
rows_of(const struct msg_MBOX_LIST_REPLY *r, json_t *rows)
{
	struct memfd_map map;
	struct store_mailbox m;
	struct err e;

	if (memfd_map(r->table, r->bytes, STORE_LIST_BYTES_MAX, &map, &e) < 0)
		return command_outcome(e.class, slice_str(e.detail));
	struct cursor c = cursor_of(map.octets);

	while (store_mailbox_next(&c, &m)) {
		json_t *row = mailbox_json(&m);

		if (row != NULL)
			(void)json_array_append_new(rows, row);
	}
	memfd_unmap(&map);
	return COMMAND_OK;
}

static enum command_status
ask_table(struct command_link *keeper, json_t *rows)
{
	static struct msg reply;
	struct msg_MBOX_LIST_REPLY *r = &reply.u.MBOX_LIST_REPLY;
	enum command_status status = COMMAND_SEND(keeper, MBOX_LIST, .id = command_id());

	if (status == COMMAND_OK)
		status = command_receive_fds(keeper, MSG_MBOX_LIST_REPLY, &reply);
	if (status != COMMAND_OK)
		return status;
	status = command_outcome(r->class, SLICE("the table of mailboxes cannot be read; the log says why"));
	if (status == COMMAND_OK)
		status = rows_of(r, rows);
	if (r->table >= 0)
		(void)close(r->table);
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
		status = ask_table(keeper, rows);
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
