/*
 * mailstead alias: addresses that lead to accounts of this server, or to other servers.
 * mailstead sender: who else may send as an address.
 */
#include "admin/directory_request.h"

#include "common/mem.h"

#define TARGETS_MAX 100
/* Of DIR_ADMIN's field. */
#define VALUE_BYTES_MAX 4096

/* The words behind the first as lines. */
static bool
lines_of(int argc, char **argv, struct buf *b)
{
	for (int i = 1; i < argc; i++) {
		if (strchr(argv[i], '\n') != NULL)
			return false;
		(void)buf_put_str(b, argv[i]);
		(void)buf_put_u8(b, '\n');
	}
	return !b->failed;
}

static enum command_status
targets_change(const struct command_call *call, const char *verb, int words_least)
{
	enum command_status status = option_end(
	    call, call->argc, call->argv, words_least, 1 + TARGETS_MAX);
	struct buf b;

	if (status != COMMAND_OK)
		return status;
	buf_init(&b, VALUE_BYTES_MAX);
	if (lines_of(call->argc, call->argv, &b))
		status = directory_change(call, verb, call->argv[0], buf_slice(&b), "");
	else
		status = command_usage(call, "too many for one call: name them in several");
	buf_fini(&b);
	return status;
}

static enum command_status
alias_add(const struct command_call *call)
{
	return targets_change(call, "alias-add", 2);
}

static enum command_status
alias_delete(const struct command_call *call)
{
	return targets_change(call, "alias-delete", 1);
}

static enum command_status
sender_grant(const struct command_call *call)
{
	return targets_change(call, "sender-grant", 2);
}

static enum command_status
sender_revoke(const struct command_call *call)
{
	return targets_change(call, "sender-revoke", 1);
}

static enum command_status
sender_list(const struct command_call *call)
{
	static const struct command_column columns[] = {
	    {"address", "ADDRESS"}, {"targets", "WHO ELSE MAY SEND AS IT"}, {NULL, NULL}};
	enum command_status status = option_end(call, call->argc, call->argv, 0, 1);

	return status != COMMAND_OK ? status : directory_list(call, "sender-list", call->argc > 0 ? call->argv[0] : "", columns);
}

static enum command_status
alias_list(const struct command_call *call)
{
	static const struct command_column columns[] = {
	    {"address", "ADDRESS"}, {"targets", "LEADS TO"}, {NULL, NULL}};
	enum command_status status = option_end(call, call->argc, call->argv, 0, 1);

	return status != COMMAND_OK ? status
				    : directory_list(call, "alias-list",
					  call->argc > 0 ? call->argv[0] : "", columns);
}

static enum command_status
alias_resolve(const struct command_call *call)
{
	static const struct command_column columns[] = {
	    {"address", "ADDRESS"}, {"answer", "ANSWER"}, {"accounts", "ACCOUNTS"}, {"outside", "ELSEWHERE"},
	    {"detail", "DETAIL"}, {NULL, NULL}};
	enum command_status status = option_end(call, call->argc, call->argv, 1, 1);

	return status != COMMAND_OK ? status : directory_list(call, "alias-resolve", call->argv[0], columns);
}

const struct command commands_alias[] = {
    {
	.name = "alias add",
	.args = "ADDRESS TARGET...",
	.help = "lead an address to accounts, or to other servers",
	.more = "ADDRESS may be @DOMAIN: what no other name of that domain takes. A target is an "
		"account or an alias of this\n"
		"server or, with transport.enabled, an address on another one. Targets are added to those that the alias has already.\n",
	.args_min = 2,
	.args_max = 1 + TARGETS_MAX,
	.needs_config = true,
	.run = alias_add,
    },
    {
	.name = "alias delete",
	.args = "ADDRESS [TARGET...]",
	.help = "delete an alias, or some of its targets",
	.args_min = 1,
	.args_max = 1 + TARGETS_MAX,
	.needs_config = true,
	.run = alias_delete,
    },
    {
	.name = "alias resolve",
	.args = "ADDRESS",
	.help = "where mail for an address goes",
	.more = "What a RCPT command with this address is answered by, and the accounts that get the message.\n",
	.args_min = 1,
	.args_max = 1,
	.needs_config = true,
	.run = alias_resolve,
    },
    {
	.name = "alias list",
	.args = "[DOMAIN]",
	.help = "the aliases and where they lead",
	.args_max = 1,
	.needs_config = true,
	.run = alias_list,
    },
    {.name = NULL},
};

const struct command commands_sender[] = {
    {
	.name = "sender grant",
	.args = "ADDRESS ACCOUNT...",
	.help = "let others send as an address",
	.more = "ADDRESS is an account or alias as it stands in the list; @DOMAIN is what the alias of that name takes. Its own account,\n"
		"or those that an alias leads to, may send as it anyway. ACCOUNT may be an alias, for all that it leads to.\n"
		"They are added to those who may already.\n",
	.args_min = 2,
	.args_max = 1 + TARGETS_MAX,
	.needs_config = true,
	.run = sender_grant,
    },
    {
	.name = "sender revoke",
	.args = "ADDRESS [ACCOUNT...]",
	.help = "let nobody else send as an address, or those not",
	.args_min = 1,
	.args_max = 1 + TARGETS_MAX,
	.needs_config = true,
	.run = sender_revoke,
    },
    {
	.name = "sender list",
	.args = "[DOMAIN]",
	.help = "addresses that others may send as",
	.args_max = 1,
	.needs_config = true,
	.run = sender_list,
    },
    {.name = NULL},
};
