#include "admin/explain.h"

#include "admin/event_row.h"

#include <stdio.h>

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

enum command_status
explain_fetch(const struct config *config, const char *key, uint64_t since_us, json_t *rows, bool *cut_r)
{
	static struct msg reply;
	struct command_link *l = command_connect(config, ROLE_RECORDER);
	enum command_status status;

	if (l == NULL)
		return COMMAND_UNREACHABLE;
	status = COMMAND_SEND(
	    l, TRACE_QUERY, .id = command_id(), .key = slice_str(key), .since_us = since_us);
	for (bool more = true; status == COMMAND_OK && more;) {
		status = command_receive(l, MSG_TRACE_LINES, &reply);
		if (status == COMMAND_OK)
			status = part_parse(reply.u.TRACE_LINES.json, rows, cut_r);
		more = reply.u.TRACE_LINES.more != 0;
	}
	command_disconnect(&l);
	return status;
}

/* ---- printing ---- */

static void
print_again(json_t *again)
{
	const char *key;
	json_t *value;

	if (again == NULL)
		return;
	if (json_object_get(again, "same") == NULL)
		printf("    not judged again:");
	else
		printf("    judged again: %s", json_is_true(json_object_get(again, "same")) ? "the same" : "OTHERWISE");
	json_object_foreach(again, key, value)
	{
		const char *text = json_string_value(value);

		if (text == NULL)
			continue;
		printf(" %s=", key);
		command_print_text(text);
	}
	(void)putchar('\n');
}

static void
print_event(const json_t *row)
{
	json_t *fields = json_object_get(row, "fields");
	const char *key;
	json_t *value;

	printf("%s  %-11s  ", event_row_text(row, "time"), event_row_text(row, "role"));
	command_print_text(event_row_text(row, "session"));
	printf("  ");
	command_print_text(event_row_text(row, "event"));
	json_object_foreach(fields, key, value)
	{
		const char *text = json_string_value(value);

		(void)putchar(' ');
		command_print_text(key);
		(void)putchar('=');
		command_print_text(text != NULL ? text : "");
	}
	(void)putchar('\n');
	print_again(json_object_get(row, "again"));
}

void
explain_print(const json_t *rows)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) print_event(row);
}
