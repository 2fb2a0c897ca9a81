#include "admin/explain.h"

#include "smtpd/policy.h"

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

static const char *
text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text != NULL ? text : "";
}

/* ---- decisions again ---- */

static json_t *
judge_again(const json_t *fields)
{
	static const struct policy_decision unreadable = {.rule = "unreadable"};
	const struct policy_decision *d = &unreadable;
	enum policy_table table;
	struct policy_input in;
	char code[16];

	if (policy_table_named(slice_str(text_of(fields, "table")), &table) &&
	    policy_input_parse(slice_str(text_of(fields, "inputs")), &in))
		d = policy_decide(table, &in);
	(void)snprintf(code, sizeof code, "%u", d->reply.code);
	bool same = d != &unreadable && strcmp(d->rule, text_of(fields, "rule")) == 0 &&
	    strcmp(policy_action_name(d->action), text_of(fields, "action")) == 0 && strcmp(code, text_of(fields, "code")) == 0;

	return json_pack("{s:s, s:s, s:s, s:b}", "rule", d->rule, "action", d != &unreadable ? policy_action_name(d->action) : "", "code",
	    code, "same", same);
}

size_t
explain_replay(json_t *rows, size_t *differ_r)
{
	size_t i, count = 0;
	json_t *row;

	*differ_r = 0;
	json_array_foreach(rows, i, row)
	{
		json_t *again;

		if (strcmp(text_of(row, "event"), "decision") != 0)
			continue;
		again = judge_again(json_object_get(row, "fields"));
		count++;
		*differ_r += !json_is_true(json_object_get(again, "same"));
		(void)json_object_set_new(row, "again", again);
	}
	return count;
}

/* ---- printing ---- */

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
	json_t *again = json_object_get(row, "again");

	if (again != NULL)
		printf("    judged again: %s (rule=%s action=%s code=%s)\n",
		    json_is_true(json_object_get(again, "same")) ? "the same" : "OTHERWISE", text_of(again, "rule"),
		    text_of(again, "action"), text_of(again, "code"));
}

void
explain_print(const json_t *rows)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) print_event(row);
}
