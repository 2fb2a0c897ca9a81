/*
 * mailstead srs: the secrets with which senders are rewritten when mail is sent on.
 */
#include "admin/directory_request.h"

static enum command_status
srs_list(const struct command_call *call)
{
	static const struct command_column columns[] = {{"secret", "SECRET"}, {"since", "SINCE"}, {"until", "UNTIL"}, {NULL, NULL}};
	enum command_status status = option_end(call, call->argc, call->argv, 0, 0);

	return status != COMMAND_OK ? status : directory_list(call, "srs-list", "", columns);
}

static enum command_status
srs_rotate(const struct command_call *call)
{
	int argc = call->argc;
	bool force = option_flag(&argc, call->argv, "--force");
	enum command_status status = option_end(call, argc, call->argv, 0, 0);

	return status != COMMAND_OK ? status : directory_change(call, "srs-rotate", "", force ? SLICE("force") : SLICE(""), "");
}

const struct command commands_srs[] = {
    {
	.name = "srs list",
	.args = "",
	.help = "the secrets that rewritten senders are made with",
	.more = "The newest makes the reverse-paths of mail that is sent on; bounces are taken for those of the older one as\n"
		"well, until the time that is shown. The secrets themselves are never shown. None: nothing was sent on yet.\n",
	.args_max = 1,
	.needs_config = true,
	.run = srs_list,
    },
    {
	.name = "srs rotate",
	.args = "[--force]",
	.help = "make rewritten senders with a new secret",
	.more = "Refused while the one before the newest is still needed (srs list); with --force bounces to what was made\n"
		"with that are refused from now on.\n",
	.args_max = 1,
	.needs_config = true,
	.run = srs_rotate,
    },
    {.name = NULL},
};
