/*
 * mailstead queue: messages that wait, for their turn, for another try or for an operator.
 */
#include "admin/command.h"
#include "admin/progress.h"
#include "admin/queue_select.h"

#include <stdio.h>
#include <string.h>

/* Takes the last row out when it is whole and not meant: of a long queue only what is meant is kept. */
static void
drop_unmeant(json_t *rows, const struct command_call *call)
{
	size_t n = json_array_size(rows);

	if (n > 0 && !queue_select(json_array_get(rows, n - 1), call->argc, call->argv))
		(void)json_array_remove(rows, n - 1);
}

/* Takes row over. A message that is longer than a page comes in parts, each with some of its recipients. */
static void
add_row(json_t *rows, json_t *row, const struct command_call *call)
{
	json_t *last = json_array_get(rows, json_array_size(rows) - 1);

	if (last && json_equal(json_object_get(last, "id"), json_object_get(row, "id"))) {
		(void)json_array_extend(json_object_get(last, "recipients"), json_object_get(row, "recipients"));
		json_decref(row);
	} else {
		drop_unmeant(rows, call);
		(void)json_array_append_new(rows, row);
	}
}

/* Appends the objects of one page, one a line, to rows. */
static enum command_status
add_page(json_t *rows, struct slice page, const struct command_call *call)
{
	struct slice line;

	while (slice_cut(&page, '\n', &line)) {
		if (line.n == 0)
			continue;
		json_t *row = command_parse_json(line);
		if (row == NULL)
			return COMMAND_UNREACHABLE;
		add_row(rows, row, call);
	}
	return COMMAND_OK;
}

/* Asks for one page behind `last` ("show": of that message), which it replaces; *more_r tells whether there are others. */
static enum command_status
ask_page(struct command_link *l, const struct command_call *call, const char *verb, json_t *rows, char last[64], bool *more_r)
{
	struct msg m;
	enum command_status status =
	    COMMAND_SEND(l, QUEUE_ADMIN, .id = command_id(), .verb = slice_str(verb), .arg = slice_str(last));

	if (status == COMMAND_OK)
		status = command_receive(l, MSG_QUEUE_ADMIN_REPLY, &m);
	if (status != COMMAND_OK)
		return status;
	const struct msg_QUEUE_ADMIN_REPLY *r = &m.u.QUEUE_ADMIN_REPLY;
	status = command_outcome(r->class, r->text);
	if (status == COMMAND_OK)
		status = add_page(rows, r->json, call);
	*more_r = r->more && slice_cstr(r->text, last, 64);
	return status;
}

/* All pages from `last` on. */
static enum command_status
ask_pages(struct command_link *l, const struct command_call *call, const char *verb, json_t *rows, const char *first)
{
	enum command_status status = COMMAND_OK;
	char last[64];
	bool more = true;

	(void)snprintf(last, sizeof last, "%s", first);
	while (status == COMMAND_OK && more)
		status = ask_page(l, call, verb, rows, last, &more);
	if (status == COMMAND_OK)
		drop_unmeant(rows, call);
	return status;
}

/* The word stands before that one, too. */
static bool
said_before(const struct command_call *call, int at)
{
	for (int i = 0; i < at; i++)
		if (strcmp(call->argv[i], call->argv[at]) == 0)
			return true;
	return false;
}

/* The messages that the words mean: those with the ids, or all of the queue are looked at. */
static enum command_status
fetch(const struct command_call *call, struct command_link *l, json_t *rows)
{
	const char *wrong = queue_select_check(call->argc, call->argv);
	enum command_status status = COMMAND_OK;
	bool ids = false;

	if (wrong)
		return command_usage(call, "\"%s\" is neither the id of a message nor a field with a pattern or value", wrong);
	for (int i = 0; i < call->argc && status == COMMAND_OK; i++)
		if (queue_select_is_id(call->argv[i])) {
			ids = true;
			if (!said_before(call, i))
				status = ask_pages(l, call, "show", rows, call->argv[i]);
		}
	return ids ? status : ask_pages(l, call, "list", rows, "");
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

/* "before", the value and "after", when there is one. */
static void
print_value(const char *before, json_t *row, const char *key, const char *after)
{
	const char *text = text_of(row, key);

	if (*text == '\0')
		return;
	fputs(before, stdout);
	command_print_text(text);
	fputs(after, stdout);
}

static void
print_recipient(json_t *r)
{
	json_t *told;
	size_t i;

	print_value("  ", r, "address", ": ");
	print_value("", r, "state", "");
	if (json_integer_value(json_object_get(r, "attempts")) > 0)
		printf(" after %lld tries", (long long)json_integer_value(json_object_get(r, "attempts")));
	print_value(", next ", r, "next", "");
	printf("%s\n", json_is_true(json_object_get(r, "unsure")) ? ", may have arrived already" : "");
	if (*text_of(r, "text")) {
		print_value("    ", r, "by", ":");
		print_value(*text_of(r, "by") ? " " : "    ", r, "status", "");
		print_value(" ", r, "text", "\n");
	}
	json_array_foreach(json_object_get(r, "told"), i, told)
		printf("    its sender is told of the %s\n", json_string_value(told));
}

static void
print_message(json_t *row)
{
	json_t *r;
	size_t i;

	print_value("", row, "id", " ");
	print_value("", row, "state", "\n");
	printf("  from <");
	print_value("", row, "sender", "");
	printf(">, %lld octets", (long long)json_integer_value(json_object_get(row, "bytes")));
	print_value(", since ", row, "added", "");
	print_value(", session ", row, "session", "");
	putchar('\n');
	print_value("  not before ", row, "release", "\n");
	print_value("  its sender is being told, by message ", row, "report", "\n");
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
		status = command_print_json(rows);
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

	if (text && call->json) {
		json_t *row = json_pack("{sO}", "result", text);

		(void)command_print_json(row);
		json_decref(row);
	} else if (text) {
		printf("%s\n", json_string_value(text));
	}
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
	"Messages are named by ids, or by FIELD=PATTERN with * and ? in it: id, state, sender, session, report, forward_from, bytes,\n" \
	"attempts, priority, added, next, release, requiretls, tls_optional (yes, no), and of a recipient to, domain, status, by,\n" \
	"text, recipient (pending, done, failed), here, forwarded, unsure (yes, no), told (delay, failure, success),\n" \
	"recipient.attempts, recipient.next. Numbers and times can be compared (mind the shell): 'bytes>10M', 'attempts>3',\n" \
	"'added<2d' (longer than two days ago), 'next>1h' (in more than an hour), 'added>2026-11-29'. All of it must hold.\n"

const struct command commands_queue[] = {
    {
	.name = "queue list",
	.args = "[ID | CONDITION]...",
	.help = "messages that wait",
	.more = "STATE is waiting, due, active (being delivered now), held, or scheduled (to be sent later). With --json each recipient\n"
		"is listed with its own state and the reason of the last failure.\n" SELECTION,
	.args_max = QUEUE_SELECT_WORDS_MAX,
	.needs_config = true,
	.run = queue_list,
    },
    {
	.name = "queue show",
	.args = "[ID | CONDITION]...",
	.help = "the same, with each recipient and what its last try came to",
	.more = SELECTION,
	.args_max = QUEUE_SELECT_WORDS_MAX,
	.needs_config = true,
	.run = queue_show,
    },
    {
	.name = "queue retry",
	.args = "[ID | CONDITION]...",
	.help = "try them now; without words everything that waits",
	.more = SELECTION,
	.args_max = QUEUE_SELECT_WORDS_MAX,
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
	.args = "ID | CONDITION...",
	.help = "keep them in the queue, untried, until they are released",
	.more = SELECTION,
	.args_min = 1,
	.args_max = QUEUE_SELECT_WORDS_MAX,
	.needs_config = true,
	.run = queue_change,
    },
    {
	.name = "queue release",
	.args = "ID | CONDITION...",
	.help = "try held ones again",
	.more = SELECTION,
	.args_min = 1,
	.args_max = QUEUE_SELECT_WORDS_MAX,
	.needs_config = true,
	.run = queue_change,
    },
    {
	.name = "queue discard",
	.args = "ID | CONDITION...",
	.help = "give them up, and tell their senders",
	.more = SELECTION,
	.args_min = 1,
	.args_max = QUEUE_SELECT_WORDS_MAX,
	.needs_config = true,
	.run = queue_change,
    },
    {
	.name = "queue delete",
	.args = "ID | CONDITION...",
	.help = "give them up, and tell nobody",
	.more = SELECTION,
	.args_min = 1,
	.args_max = QUEUE_SELECT_WORDS_MAX,
	.needs_config = true,
	.run = queue_change,
    },
    {.name = NULL},
};
