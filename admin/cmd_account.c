/*
 * mailstead account: the people with a mailbox. Passwords come from a prompt or
 * stdin, and only their hashes are sent on.
 */
#include "admin/directory_request.h"

#include "common/password.h"

#include <stdio.h>
#include <unistd.h>

#define ACCOUNT_WORDS_MAX 4

static const char password_help[] =
    "The password is asked for twice; when stdin is no terminal, it is the first line of stdin. It "
    "is never taken\n"
    "from the command line. --password-stdin makes sure that nothing is asked.\n";

/* Scripts that say --password-stdin must not hang at a prompt. */
static enum command_status
password_from_stdin(const struct command_call *call, bool wanted)
{
	if (wanted && isatty(STDIN_FILENO))
		return command_usage(call, "--password-stdin: stdin is a terminal");
	return COMMAND_OK;
}

static enum command_status
account_add(const struct command_call *call)
{
	char hash[PASSWORD_HASH_SIZE];
	const char *name;
	int argc = call->argc;
	bool from_stdin = option_flag(&argc, call->argv, "--password-stdin");
	enum command_status status;

	if (!option_value(&argc, call->argv, "--name", &name))
		return command_usage(call, "--name takes a name");
	status = option_end(call, argc, call->argv, 1, 1);
	if (status == COMMAND_OK)
		status = password_from_stdin(call, from_stdin);
	if (status == COMMAND_OK)
		status = directory_new_password(hash);
	if (status == COMMAND_OK)
		status = directory_change(
		    call, "account-add", call->argv[0], slice_str(name), hash);
	return status;
}

static enum command_status
account_passwd(const struct command_call *call)
{
	char hash[PASSWORD_HASH_SIZE];
	int argc = call->argc;
	bool from_stdin = option_flag(&argc, call->argv, "--password-stdin");
	enum command_status status = option_end(call, argc, call->argv, 1, 1);

	if (status == COMMAND_OK)
		status = password_from_stdin(call, from_stdin);
	if (status == COMMAND_OK)
		status = directory_new_password(hash);
	if (status == COMMAND_OK)
		status = directory_change(call, "account-passwd", call->argv[0], SLICE(""), hash);
	return status;
}

static enum command_status
account_change(const struct command_call *call, const char *verb)
{
	enum command_status status = option_end(call, call->argc, call->argv, 1, 1);

	return status != COMMAND_OK ? status
				    : directory_change(call, verb, call->argv[0], SLICE(""), "");
}

static enum command_status
account_delete(const struct command_call *call)
{
	return account_change(call, "account-delete");
}

static enum command_status
account_suspend(const struct command_call *call)
{
	return account_change(call, "account-suspend");
}

static enum command_status
account_resume(const struct command_call *call)
{
	return account_change(call, "account-resume");
}

static enum command_status
account_list(const struct command_call *call)
{
	static const struct command_column columns[] = {{"address", "ADDRESS"}, {"id", "ID"},
	    {"state", "STATE"}, {"created", "CREATED"}, {"name", "NAME"}, {NULL, NULL}};
	enum command_status status = option_end(call, call->argc, call->argv, 0, 1);

	return status != COMMAND_OK ? status
				    : directory_list(call, "account-list",
					  call->argc > 0 ? call->argv[0] : "", columns);
}

const struct command commands_account[] = {
    {
	.name = "account add",
	.args = "ADDRESS [--name NAME] [--password-stdin]",
	.help = "make an account; its address is also its login",
	.more = password_help,
	.args_min = 1,
	.args_max = ACCOUNT_WORDS_MAX,
	.needs_config = true,
	.run = account_add,
    },
    {
	.name = "account passwd",
	.args = "ADDRESS [--password-stdin]",
	.help = "give an account a new password and end its sessions",
	.more = password_help,
	.args_min = 1,
	.args_max = ACCOUNT_WORDS_MAX,
	.needs_config = true,
	.run = account_passwd,
    },
    {
	.name = "account suspend",
	.args = "ADDRESS",
	.help = "refuse logins and mail for an account, keep its mail, end its sessions",
	.args_min = 1,
	.args_max = 1,
	.needs_config = true,
	.run = account_suspend,
    },
    {
	.name = "account resume",
	.args = "ADDRESS",
	.help = "undo a suspension",
	.args_min = 1,
	.args_max = 1,
	.needs_config = true,
	.run = account_resume,
    },
    {
	.name = "account delete",
	.args = "ADDRESS",
	.help = "delete an account with all of its mail",
	.more = "Asks nothing. Aliases that lead to it stay and lead nowhere.\n",
	.args_min = 1,
	.args_max = 1,
	.needs_config = true,
	.run = account_delete,
    },
    {
	.name = "account list",
	.args = "[DOMAIN]",
	.help = "the accounts",
	.args_max = 1,
	.needs_config = true,
	.run = account_list,
    },
    {.name = NULL},
};
