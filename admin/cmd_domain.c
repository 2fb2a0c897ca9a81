/*
 * mailstead domain: the domains whose mail is taken here.
 */
#include "admin/directory_request.h"

#define DOMAIN_WORDS_MAX 3

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

static enum command_status
domain_list(const struct command_call *call)
{
	static const struct command_column columns[] = {
	    {"domain", "DOMAIN"}, {"created", "CREATED"}, {NULL, NULL}};
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
	.name = "domain list",
	.args = "",
	.help = "the domains",
	.args_max = 0,
	.needs_config = true,
	.run = domain_list,
    },
    {.name = NULL},
};
