/*
 * mailstead explain: what was decided about a message, by any id or address in
 * it: asks the recorder, and prints the time line of every session that mentions it.
 */
#include "admin/directory_request.h"
#include "admin/explain.h"
#include "admin/replay.h"

#include "common/loop.h"

#include <stdio.h>

#define SINCE_DEFAULT "7d"

static enum command_status
print(const struct command_call *call, const char *key, const json_t *rows, bool cut)
{
	if (cut)
		command_error(
		    "more is recorded than is shown: name one session, or less time with --since");
	if (call->json)
		return command_print_json(rows);
	if (json_array_size(rows) == 0) {
		command_error("nothing is recorded about %s", key);
		return COMMAND_REFUSED;
	}
	explain_print(rows);
	return command_output_end();
}

/* What was recorded must come to the same decision again. */
static enum command_status
judge_again(json_t *rows)
{
	size_t differ, count = replay(rows, &differ);

	if (count == 0)
		command_error("no decision is recorded there");
	if (differ > 0)
		command_error("%zu of %zu decisions come out otherwise: this version has another table, or the record is damaged",
		    differ, count);
	return count > 0 && differ == 0 ? COMMAND_OK : COMMAND_REFUSED;
}

static enum command_status
explain(const struct command_call *call)
{
	int argc = call->argc;
	bool again = option_flag(&argc, call->argv, "--replay");
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
	status = explain_fetch(call->config, call->argv[0], clock_wall_us() - seconds * 1000000, rows, &cut);
	enum command_status same = status == COMMAND_OK && again ? judge_again(rows) : COMMAND_OK;

	if (status == COMMAND_OK)
		status = print(call, call->argv[0], rows, cut);
	if (status == COMMAND_OK)
		status = same;
	json_decref(rows);
	return status;
}

const struct command commands_explain[] = {
    {
	.name = "explain",
	.args = "KEY [--since TIME] [--replay]",
	.help = "what happened to a message or a session, and why",
	.more = "KEY is a Message-ID, a queue id, a session id, or an address. Shown is every "
		"event of every session that\n"
		"mentions it, oldest first. TIME is how far back to look: 90s, 15m, 2h, 3d "
		"(default " SINCE_DEFAULT "). --replay runs SPF, DKIM, ARC and DMARC again on the DNS answers that were\n"
			"recorded, and decides again from everything that was; it says whether that comes to the same\n"
			"(exit status 1: not).\n",
		.args_min = 1,
	.args_max = 4,
	.needs_config = true,
	.run = explain,
    },
    {.name = NULL},
};
