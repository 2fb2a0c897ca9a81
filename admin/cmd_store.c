/*
 * mailstead store: work on accounts as they lie on the disk.
 */
#include "admin/cmd_store.h"

#include "common/loop.h"
#include "store/file.h"
#include "store/index.h"
#include "store/rebuild.h"

#include <stdio.h>

#define US_PER_SECOND 1000000u

enum command_status
store_usage_print(const struct command_call *call, const char *what, struct quota usage)
{
	enum command_status status = COMMAND_OK;

	if (call->json) {
		json_t *row = json_pack("{sI sI}", "messages", (json_int_t)usage.messages, "bytes", (json_int_t)usage.bytes);

		status = command_print_json(row);
		json_decref(row);
	} else {
		printf("%s%llu messages, %llu octets\n", what, (unsigned long long)usage.messages, (unsigned long long)usage.bytes);
	}
	return status;
}

/* In the account's directory, with nobody else at work: marks the index and opens it, which makes it anew. */
static enum command_status
rebuild_here(const struct command_call *call)
{
	struct index *ix;
	struct err e;

	file_hook_db();
	rebuild_mark(".");
	if (index_open(".", clock_wall_us() / US_PER_SECOND, &ix, &e) < 0) {
		command_error("the index could not be made anew: %s (%s)", e.client, e.detail);
		return COMMAND_REFUSED;
	}
	int failed = index_check(ix, &e);

	if (failed)
		command_error("it was made anew and contradicts the messages: %s", e.detail);
	struct quota usage = index_usage(ix);

	index_close(&ix);
	return failed ? COMMAND_REFUSED : store_usage_print(call, "made anew: ", usage);
}

static enum command_status
store_rebuild(const struct command_call *call)
{
	struct command_link *hold;
	enum command_status status = account_hold(call, call->argv[0], &hold);

	if (status == COMMAND_OK)
		status = rebuild_here(call);
	command_disconnect(&hold);
	return status;
}

const struct command commands_store[] = {
    {
	.name = "store rebuild",
	.args = "ADDRESS",
	.help = "make an account's index anew from its base copy and log, and check it",
	.more = "A keeper does this by itself when it meets a damaged page. The account's sessions end, and mail for it waits\n"
		"meanwhile. When the server does not run, ADDRESS is the account's number.\n",
	.args_min = 1,
	.args_max = 1,
	.needs_config = true,
	.run = store_rebuild,
    },
    {
	.name = "store check",
	.args = "ADDRESS|--all [--deep]",
	.help = "compare all that an account has with itself, and say every contradiction",
	.more = "The account stays in use. --deep also reads every message and compares its hash, and looks for files that nothing\n"
		"refers to. Exit status 1: there are contradictions. When the server does not run, ADDRESS is the account's number.\n",
	.args_min = 1,
	.args_max = 2,
	.needs_config = true,
	.run = store_check,
    },
    {
	.name = "store salvage",
	.args = "ADDRESS",
	.help = "make a damaged account anew from whatever is left of it",
	.more = "Every message whose file is intact is in the account afterwards; those that nobody knows are in the mailbox\n"
		"Recovered. Losses are said. Nothing is removed: what was damaged is in damaged.N in the account's directory. The\n"
		"account's sessions end, and mail for it waits meanwhile. When the server does not run, ADDRESS is the account's\n"
		"number. Exit status 1: something was lost or is not known for sure.\n",
	.args_min = 1,
	.args_max = 1,
	.needs_config = true,
	.run = store_salvage,
    },
    {
	.name = "store dump",
	.args = "ADDRESS [FILE] [--with-messages DIR]",
	.help = "write an account's index as plain text",
	.more = "The account stays in use; the text is of one moment. Without FILE it goes to standard output. --with-messages\n"
		"also copies the messages to DIR/mail, one file each. When the server does not run, ADDRESS is the account's number.\n",
	.args_min = 1,
	.args_max = 4,
	.needs_config = true,
	.run = store_dump,
    },
    {
	.name = "store load",
	.args = "ADDRESS FILE [--messages DIR] [--replace]",
	.help = "make an account from a dump",
	.more = "Into an account that never had a message; --replace puts it in the place of what is there. --messages takes\n"
		"messages that the account lacks from DIR/mail, as store dump --with-messages or a backup left them there. The\n"
		"account's sessions end, and mail for it waits meanwhile. When the server does not run, ADDRESS is the account's\n"
		"number.\n",
	.args_min = 2,
	.args_max = 5,
	.needs_config = true,
	.run = store_load,
    },
    {.name = NULL},
};
