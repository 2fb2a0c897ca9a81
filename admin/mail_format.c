#include "admin/mail_format.h"

#include "admin/directory_request.h"

enum command_status
mail_format_words(const struct command_call *call, enum mail_format *format_r, const char **mailbox_r,
    uint64_t *account_r, struct command_link **keeper_r)
{
	static const char *const names[] = {[MAIL_FORMAT_MAILDIR] = "maildir", [MAIL_FORMAT_MBOX] = "mbox"};
	int argc = call->argc;

	*keeper_r = NULL;
	*format_r = MAIL_FORMAT_COUNT;
	if (!option_value(&argc, call->argv, "--mailbox", mailbox_r))
		return command_usage(call, "--mailbox takes the name of a mailbox");
	enum command_status status = option_end(call, argc, call->argv, 3, 3);

	if (status != COMMAND_OK)
		return status;
	for (unsigned i = 0; i < MAIL_FORMAT_COUNT; i++)
		if (strcmp(names[i], call->argv[1]) == 0)
			*format_r = (enum mail_format)i;
	if (*format_r == MAIL_FORMAT_COUNT)
		return command_usage(call, "%s: not a format that is known", call->argv[1]);
	return account_keeper(call, call->argv[0], account_r, keeper_r);
}
