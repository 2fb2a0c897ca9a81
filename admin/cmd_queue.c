/*
 * mailstead queue: messages that wait for another try, or have failed.
 */
#include "admin/command.h"

#include <stdio.h>

/* Appends the objects of one page, one a line, to rows. */
static enum command_status
add_page(json_t *rows, struct slice page)
{
	struct slice line;

	while (slice_cut(&page, '\n', &line)) {
		if (line.n == 0)
			continue;
		json_t *row = command_parse_json(line);
		if (row == NULL)
			return COMMAND_UNREACHABLE;
		(void)json_array_append_new(rows, row);
	}
	return COMMAND_OK;
}

/* Asks for one page behind `last`, which it replaces; *more_r tells whether there are others. */
static enum command_status
ask_page(struct command_link *l, json_t *rows, char last[64], bool *more_r)
{
	struct msg m;
	enum command_status status =
	    COMMAND_SEND(l, QUEUE_ADMIN, .id = command_id(), .verb = SLICE("list"), .arg = slice_str(last));

	if (status == COMMAND_OK)
		status = command_receive(l, MSG_QUEUE_ADMIN_REPLY, &m);
	if (status != COMMAND_OK)
		return status;
	const struct msg_QUEUE_ADMIN_REPLY *r = &m.u.QUEUE_ADMIN_REPLY;
	status = command_outcome(r->class, r->text);
	if (status == COMMAND_OK)
		status = add_page(rows, r->json);
	*more_r = r->more && slice_cstr(r->text, last, 64);
	return status;
}

static enum command_status
fetch(const struct command_call *call, json_t *rows)
{
	struct command_link *l = command_connect(call->config, ROLE_QUEUE);
	enum command_status status = l ? COMMAND_OK : COMMAND_UNREACHABLE;
	char last[64] = "";
	bool more = true;

	while (status == COMMAND_OK && more)
		status = ask_page(l, rows, last, &more);
	command_disconnect(&l);
	return status;
}

/* For the table: the addresses of a message as one list of texts. */
static void
add_addresses(json_t *row)
{
	json_t *to = json_array();
	json_t *r;
	size_t i;

	json_array_foreach(json_object_get(row, "recipients"), i, r)
		(void)json_array_append(to, json_object_get(r, "address"));
	(void)json_object_set_new(row, "to", to);
}

static enum command_status
queue_list(const struct command_call *call)
{
	static const struct command_column columns[] = {{"id", "ID"}, {"state", "STATE"}, {"attempts", "TRIES"},
	    {"bytes", "BYTES"}, {"added", "SINCE"}, {"next", "NEXT"}, {"sender", "FROM"}, {"to", "TO"}, {NULL, NULL}};
	json_t *rows = json_array();
	enum command_status status = fetch(call, rows);
	json_t *row;
	size_t i;

	if (status == COMMAND_OK && !call->json)
		json_array_foreach(rows, i, row)
			add_addresses(row);
	if (status == COMMAND_OK)
		status = command_print_list(call, rows, columns);
	json_decref(rows);
	return status;
}

static enum command_status
queue_retry(const struct command_call *call)
{
	struct command_link *l = command_connect(call->config, ROLE_QUEUE);
	enum command_status status;
	struct msg m;

	if (l == NULL)
		return COMMAND_UNREACHABLE;
	status = COMMAND_SEND(l, QUEUE_ADMIN, .id = command_id(), .verb = SLICE("retry"));
	if (status == COMMAND_OK)
		status = command_receive(l, MSG_QUEUE_ADMIN_REPLY, &m);
	if (status == COMMAND_OK) {
		status = command_outcome(m.u.QUEUE_ADMIN_REPLY.class, m.u.QUEUE_ADMIN_REPLY.text);
		if (status == COMMAND_OK)
			printf("%.*s\n", SLICE_ARG(m.u.QUEUE_ADMIN_REPLY.text));
	}
	command_disconnect(&l);
	return status;
}

const struct command commands_queue[] = {
    {
	.name = "queue list",
	.args = "",
	.help = "messages that wait for another try, or have failed",
	.more = "STATE is waiting, due, active (being delivered now) or failed. With --json each recipient is listed with its own\n"
		"state and the reason of the last failure.\n",
	.needs_config = true,
	.run = queue_list,
    },
    {
	.name = "queue retry",
	.args = "",
	.help = "try everything that waits now",
	.needs_config = true,
	.run = queue_retry,
    },
    {.name = NULL},
};
