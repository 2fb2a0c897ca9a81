/*
 * mailstead domain: the domains whose mail is taken here.
 */
#include "admin/directory_request.h"

#include "common/mem.h"

#define DOMAIN_WORDS_MAX 3
#define RULES_WORDS_MAX 7
#define RULES_BYTES_MAX 4096 /* of DIR_ADMIN's field */

static enum command_status
domain_add(const struct command_call *call)
{
	enum command_status status = option_end(call, call->argc, call->argv, 1, 1);

	return status != COMMAND_OK
		   ? status
		   : directory_change(call, "domain-add", call->argv[0], SLICE(""), "");
}

static enum command_status
domain_delete(const struct command_call *call)
{
	int argc = call->argc;
	bool all = option_flag(&argc, call->argv, "--with-accounts");
	enum command_status status = option_end(call, argc, call->argv, 1, 1);

	return status != COMMAND_OK ? status
				    : directory_change(call, "domain-delete", call->argv[0],
					  all ? SLICE("with-accounts") : SLICE(""), "");
}

/* Options as lines of domain-set; false when a value is missing or none is there. */
static bool
rules_take(int *argc, char **argv, struct buf *lines)
{
	static const char *const names[] = {"separators", "case", "dots"};
	char option[16];
	const char *value;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		(void)snprintf(option, sizeof option, "--%s", names[i]);
		if (!option_value(argc, argv, option, &value) || (value != NULL && strchr(value, '\n') != NULL))
			return false;
		if (value != NULL)
			(void)buf_putf(lines, "%s=%s\n", names[i], value);
	}
	return lines->n > 0 && !lines->failed;
}

static enum command_status
domain_set(const struct command_call *call)
{
	int argc = call->argc;
	struct buf lines;
	enum command_status status;

	buf_init(&lines, RULES_BYTES_MAX);
	if (rules_take(&argc, call->argv, &lines))
		status = option_end(call, argc, call->argv, 1, 1);
	else
		status = command_usage(call, "say what is to change, and how");
	if (status == COMMAND_OK)
		status = directory_change(call, "domain-set", call->argv[0], buf_slice(&lines), "");
	buf_fini(&lines);
	return status;
}

static enum command_status
domain_list(const struct command_call *call)
{
	static const struct command_column columns[] = {
	    {"domain", "DOMAIN"}, {"created", "CREATED"}, {"separators", "SEPARATORS"}, {"case", "CASE"}, {"dots", "DOTS"},
	    {NULL, NULL}};
	enum command_status status = option_end(call, call->argc, call->argv, 0, 0);

	return status != COMMAND_OK ? status : directory_list(call, "domain-list", "", columns);
}

const struct command commands_domain[] = {
    {
	.name = "domain add",
	.args = "DOMAIN",
	.help = "take mail for a domain",
	.more = "An internationalised name may be given as it is written; it is listed in its xn-- "
		"form.\n"
		"postmaster@ and abuse@ of it go to its oldest account unless there is an alias "
		"for them.\n",
	.args_min = 1,
	.args_max = 1,
	.needs_config = true,
	.run = domain_add,
    },
    {
	.name = "domain delete",
	.args = "DOMAIN [--with-accounts]",
	.help = "take no more mail for a domain",
	.more = "Refused while the domain has accounts or aliases. With --with-accounts they are "
		"deleted too, and with\n"
		"the accounts all of their mail.\n",
	.args_min = 1,
	.args_max = DOMAIN_WORDS_MAX,
	.needs_config = true,
	.run = domain_delete,
    },
    {
	.name = "domain set",
	.args = "DOMAIN [--separators CHARS] [--case ascii|unicode] [--dots keep|ignore]",
	.help = "which addresses of a domain are the same",
	.more = "separators: signs (+ when nothing is set) behind which an address may have a detail: user+anything@\n"
		"is user@. '' allows no details. A name that contains a separator itself comes first.\n"
		"case: letters of ASCII always compare without case; unicode: all others, too.\n"
		"dots: with ignore, a.b@ and ab@ are the same.\n"
		"Refused when two accounts or aliases would become the same.\n",
	.args_min = 1,
	.args_max = RULES_WORDS_MAX,
	.needs_config = true,
	.run = domain_set,
    },
    {
	.name = "domain list",
	.args = "",
	.help = "the domains",
	.args_max = 0,
	.needs_config = true,
	.run = domain_list,
    },
    {.name = NULL},
};
