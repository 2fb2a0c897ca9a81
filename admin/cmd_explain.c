/*
 * mailstead explain: what was decided about a message, by any id or address in
 * it: asks the recorder, and prints the time line of every session that mentions it.
 */
#include "admin/directory_request.h"

#include "common/loop.h"

#include <stdio.h>

#define SINCE_DEFAULT "7d"

/* Adds the events of one part of the answer to rows; {"cut": true} sets *cut. */
static enum command_status
part_parse(struct slice part, json_t *rows, bool *cut)
{
	struct slice line;

	while (slice_cut(&part, '\n', &line)) {
		json_t *row = line.n > 0 ? command_parse_json(line) : NULL;

		if (line.n == 0)
			continue;
		if (row == NULL)
			return COMMAND_TEMPORARY;
		if (json_is_true(json_object_get(row, "cut"))) {
			*cut = true;
			json_decref(row);
		} else if (json_array_append_new(rows, row) != 0) {
			return COMMAND_TEMPORARY;
		}
	}
	return COMMAND_OK;
}

static enum command_status
fetch(const struct command_call *call, const char *key, uint64_t since_us, json_t *rows, bool *cut)
{
	static struct msg reply;
	struct command_link *l = command_connect(call->config, ROLE_RECORDER);
	enum command_status status;

	if (l == NULL)
		return COMMAND_UNREACHABLE;
	status = COMMAND_SEND(
	    l, TRACE_QUERY, .id = command_id(), .key = slice_str(key), .since_us = since_us);
	for (bool more = true; status == COMMAND_OK && more;) {
		status = command_receive(l, MSG_TRACE_LINES, &reply);
		if (status == COMMAND_OK)
			status = part_parse(reply.u.TRACE_LINES.json, rows, cut);
		more = reply.u.TRACE_LINES.more != 0;
	}
	command_disconnect(&l);
	return status;
}

static const char *
text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text != NULL ? text : "";
}

/* What a peer put into a field must not play with the terminal. */
static void
print_clean(const char *text)
{
	for (; *text != '\0'; text++)
		(void)putchar((uint8_t)*text < ' ' || *text == 0x7f ? '?' : *text);
}

static void
print_event(const json_t *row)
{
	json_t *fields = json_object_get(row, "fields");
	const char *key;
	json_t *value;

	printf("%s  %-11s  ", text_of(row, "time"), text_of(row, "role"));
	print_clean(text_of(row, "session"));
	printf("  ");
	print_clean(text_of(row, "event"));
	json_object_foreach(fields, key, value)
	{
		const char *text = json_string_value(value);

		(void)putchar(' ');
		print_clean(key);
		(void)putchar('=');
		print_clean(text != NULL ? text : "");
	}
	(void)putchar('\n');
}

static enum command_status
print(const struct command_call *call, const char *key, const json_t *rows, bool cut)
{
	json_t *row;
	size_t i;

	if (cut)
		command_error(
		    "more is recorded than is shown: name one session, or less time with --since");
	if (call->json)
		return command_print_json(rows);
	if (json_array_size(rows) == 0) {
		command_error("nothing is recorded about %s", key);
		return COMMAND_REFUSED;
	}
	json_array_foreach(rows, i, row) print_event(row);
	if (fflush(stdout) != 0)
		return COMMAND_TEMPORARY;
	return COMMAND_OK;
}

static enum command_status
explain(const struct command_call *call)
{
	int argc = call->argc;
	const char *since = NULL;
	bool known = option_value(&argc, call->argv, "--since", &since);
	enum command_status status;
	uint64_t seconds;
	json_t *rows;
	bool cut = false;

	if (!known || !command_duration(since != NULL ? since : SINCE_DEFAULT, &seconds))
		return command_usage(call, "--since takes a time as 90s, 15m, 2h or 3d");
	status = option_end(call, argc, call->argv, 1, 1);
	if (status != COMMAND_OK)
		return status;
	rows = json_array();
	status = fetch(call, call->argv[0], clock_wall_us() - seconds * 1000000, rows, &cut);
	if (status == COMMAND_OK)
		status = print(call, call->argv[0], rows, cut);
	json_decref(rows);
	return status;
}

const struct command commands_explain[] = {
    {
	.name = "explain",
	.args = "KEY [--since TIME]",
	.help = "what happened to a message or a session, and why",
	.more = "KEY is a Message-ID, a queue id, a session id, or an address. Shown is every "
		"event of every session that\n"
		"mentions it, oldest first. TIME is how far back to look: 90s, 15m, 2h, 3d "
		"(default " SINCE_DEFAULT ").\n",
	.args_min = 1,
	.args_max = 3,
	.needs_config = true,
	.run = explain,
    },
    {.name = NULL},
};
