/*
 * mailstead queue: messages that wait, for their turn, for another try or for an operator.
 */
#include "admin/command.h"
#include "admin/progress.h"
#include "admin/queue_select.h"

#include <stdio.h>
#include <string.h>

/* Takes row over. A message that is longer than a page comes in parts, each with some of its recipients. */
static void
add_row(json_t *rows, json_t *row)
{
	json_t *last = json_array_get(rows, json_array_size(rows) - 1);

	if (last && json_equal(json_object_get(last, "id"), json_object_get(row, "id"))) {
		(void)json_array_extend(json_object_get(last, "recipients"), json_object_get(row, "recipients"));
		json_decref(row);
	} else {
		(void)json_array_append_new(rows, row);
	}
}

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
		add_row(rows, row);
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

/* Takes those out that the words do not mean. */
static void
keep_selected(json_t *rows, const struct command_call *call)
{
	for (size_t i = json_array_size(rows); i > 0; i--)
		if (!queue_select(json_array_get(rows, i - 1), call->argc, call->argv))
			(void)json_array_remove(rows, i - 1);
}

/* The messages that the words mean; with words that name no message it is COMMAND_REFUSED. */
static enum command_status
fetch(const struct command_call *call, struct command_link *l, json_t *rows)
{
	const char *wrong = queue_select_check(call->argc, call->argv);
	enum command_status status = COMMAND_OK;
	char last[64] = "";
	bool more = true;

	if (wrong)
		return command_usage(call, "\"%s\" is neither the id of a message nor FIELD=PATTERN", wrong);
	while (status == COMMAND_OK && more)
		status = ask_page(l, rows, last, &more);
	keep_selected(rows, call);
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
	struct command_link *l = command_connect(call->config, ROLE_QUEUE);
	json_t *rows = json_array();
	enum command_status status = l ? fetch(call, l, rows) : COMMAND_UNREACHABLE;
	json_t *row;
	size_t i;

	command_disconnect(&l);
	if (status == COMMAND_OK && !call->json)
		json_array_foreach(rows, i, row)
			add_addresses(row);
	if (status == COMMAND_OK)
		status = command_print_list(call, rows, columns);
	json_decref(rows);
	return status;
}

static const char *
text_of(json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text ? text : "";
}

static void
print_recipient(json_t *r)
{
	const char *next = text_of(r, "next");
	json_t *told;
	size_t i;

	printf("  %s: %s", text_of(r, "address"), text_of(r, "state"));
	if (json_integer_value(json_object_get(r, "attempts")) > 0)
		printf(" after %lld tries", (long long)json_integer_value(json_object_get(r, "attempts")));
	if (*next)
		printf(", next %s", next);
	printf("%s\n", json_is_true(json_object_get(r, "unsure")) ? ", may have arrived already" : "");
	if (*text_of(r, "text"))
		printf("    %s%s%s %s\n", text_of(r, "by"), *text_of(r, "by") ? ": " : "", text_of(r, "status"), text_of(r, "text"));
	json_array_foreach(json_object_get(r, "told"), i, told)
		printf("    its sender is told of the %s\n", json_string_value(told));
}

static void
print_message(json_t *row)
{
	json_t *r;
	size_t i;

	printf("%s %s\n", text_of(row, "id"), text_of(row, "state"));
	printf("  from <%s>, %lld octets, since %s, session %s\n", text_of(row, "sender"),
	    (long long)json_integer_value(json_object_get(row, "bytes")), text_of(row, "added"), text_of(row, "session"));
	if (*text_of(row, "release"))
		printf("  not before %s\n", text_of(row, "release"));
	if (*text_of(row, "report"))
		printf("  its sender is being told, by message %s\n", text_of(row, "report"));
	json_array_foreach(json_object_get(row, "recipients"), i, r)
		print_recipient(r);
}

static enum command_status
queue_show(const struct command_call *call)
{
	struct command_link *l = command_connect(call->config, ROLE_QUEUE);
	json_t *rows = json_array();
	enum command_status status = l ? fetch(call, l, rows) : COMMAND_UNREACHABLE;
	json_t *row;
	size_t i;

	command_disconnect(&l);
	if (status == COMMAND_OK && json_array_size(rows) == 0) {
		command_error("no such message in the queue");
		status = COMMAND_REFUSED;
	}
	if (status == COMMAND_OK && call->json)
		(void)command_print_json(rows);
	else if (status == COMMAND_OK)
		json_array_foreach(rows, i, row)
			print_message(row);
	json_decref(rows);
	return status;
}

/* ---- changes ---- */

/* Asks for verb on one message (id empty: on all), and puts what was answered into *text_r, the caller's. */
static enum command_status
ask_change(struct command_link *l, const char *verb, const char *id, json_t **text_r)
{
	struct msg m;
	enum command_status status =
	    COMMAND_SEND(l, QUEUE_ADMIN, .id = command_id(), .verb = slice_str(verb), .arg = slice_str(id));

	if (status == COMMAND_OK)
		status = command_receive(l, MSG_QUEUE_ADMIN_REPLY, &m);
	if (status != COMMAND_OK)
		return status;
	const struct msg_QUEUE_ADMIN_REPLY *r = &m.u.QUEUE_ADMIN_REPLY;
	*text_r = json_stringn((const char *)r->text.p, r->text.n);
	if (r->class == ERR_NONE)
		return COMMAND_OK;
	return r->class == ERR_PERM ? COMMAND_REFUSED : COMMAND_TEMPORARY;
}

/* All of the rows, one after the other; each gets a "result". One that has gone meanwhile is no reason to stop. */
static enum command_status
change_all(const struct command_call *call, struct command_link *l, const char *verb, json_t *rows)
{
	struct progress p;
	enum command_status worst = COMMAND_OK;
	json_t *row;
	size_t i;

	progress_begin(&p, call);
	json_array_foreach(rows, i, row) {
		json_t *text = NULL;
		enum command_status status = ask_change(l, verb, text_of(row, "id"), &text);
		if (text)
			(void)json_object_set_new(row, "result", text);
		if (status != COMMAND_OK)
			worst = status;
		if (status == COMMAND_UNREACHABLE)
			break;
		progress_step(&p, "messages", i + 1, json_array_size(rows));
	}
	progress_end(&p);
	return worst;
}

/* "queue hold": the verb is the subcommand's second word. */
static enum command_status
queue_change(const struct command_call *call)
{
	static const struct command_column columns[] = {{"id", "ID"}, {"sender", "FROM"}, {"to", "TO"}, {"result", "RESULT"}, {NULL, NULL}};
	const char *verb = strchr(call->command->name, ' ') + 1;
	struct command_link *l = command_connect(call->config, ROLE_QUEUE);
	json_t *rows = json_array();
	enum command_status status = l ? fetch(call, l, rows) : COMMAND_UNREACHABLE;
	json_t *row;
	size_t i;

	if (status == COMMAND_OK && json_array_size(rows) == 0) {
		command_error("no such message in the queue");
		status = COMMAND_REFUSED;
	} else if (status == COMMAND_OK) {
		status = change_all(call, l, verb, rows);
		json_array_foreach(rows, i, row)
			add_addresses(row);
		if (status != COMMAND_UNREACHABLE)
			(void)command_print_list(call, rows, columns);
	}
	command_disconnect(&l);
	json_decref(rows);
	return status;
}

static enum command_status
queue_flush(const struct command_call *call)
{
	struct command_link *l = command_connect(call->config, ROLE_QUEUE);
	json_t *text = NULL;
	enum command_status status = l ? ask_change(l, "retry", "", &text) : COMMAND_UNREACHABLE;

	if (text)
		printf("%s\n", json_string_value(text));
	json_decref(text);
	command_disconnect(&l);
	return status;
}

static enum command_status
queue_retry(const struct command_call *call)
{
	return call->argc > 0 ? queue_change(call) : queue_flush(call);
}

#define SELECTION \
	"Messages are named by ids, or by FIELD=PATTERN with * and ? in it: id, state, sender, session, report, and of a recipient\n" \
	"to, domain, status, by, text, recipient (pending, done, failed). All fields must match.\n"
#define WORDS_MAX 1000

const struct command commands_queue[] = {
    {
	.name = "queue list",
	.args = "[ID | FIELD=PATTERN]...",
	.help = "messages that wait",
	.more = "STATE is waiting, due, active (being delivered now) or held. With --json each recipient is listed with its own\n"
		"state and the reason of the last failure.\n" SELECTION,
	.args_max = WORDS_MAX,
	.needs_config = true,
	.run = queue_list,
    },
    {
	.name = "queue show",
	.args = "[ID | FIELD=PATTERN]...",
	.help = "the same, with each recipient and what its last try came to",
	.more = SELECTION,
	.args_max = WORDS_MAX,
	.needs_config = true,
	.run = queue_show,
    },
    {
	.name = "queue retry",
	.args = "[ID | FIELD=PATTERN]...",
	.help = "try them now; without words everything that waits",
	.more = SELECTION,
	.args_max = WORDS_MAX,
	.needs_config = true,
	.run = queue_retry,
    },
    {
	.name = "queue flush",
	.args = "",
	.help = "try everything that waits now, but for what is to be sent later",
	.needs_config = true,
	.run = queue_flush,
    },
    {
	.name = "queue hold",
	.args = "ID | FIELD=PATTERN...",
	.help = "keep them in the queue, untried, until they are released",
	.more = SELECTION,
	.args_min = 1,
	.args_max = WORDS_MAX,
	.needs_config = true,
	.run = queue_change,
    },
    {
	.name = "queue release",
	.args = "ID | FIELD=PATTERN...",
	.help = "try held ones again",
	.more = SELECTION,
	.args_min = 1,
	.args_max = WORDS_MAX,
	.needs_config = true,
	.run = queue_change,
    },
    {
	.name = "queue discard",
	.args = "ID | FIELD=PATTERN...",
	.help = "give them up, and tell their senders",
	.more = SELECTION,
	.args_min = 1,
	.args_max = WORDS_MAX,
	.needs_config = true,
	.run = queue_change,
    },
    {
	.name = "queue delete",
	.args = "ID | FIELD=PATTERN...",
	.help = "give them up, and tell nobody",
	.more = SELECTION,
	.args_min = 1,
	.args_max = WORDS_MAX,
	.needs_config = true,
	.run = queue_change,
    },
    {.name = NULL},
};
