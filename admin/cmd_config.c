/*
 * mailstead config: the settings as they are, as they could be, and whether the file is right.
 */
#include "admin/command.h"
#include "admin/config_file.h"

#include <stdio.h>

static enum command_status
check(const struct command_call *call)
{
	printf("%s is right\n", call->config_path);
	return COMMAND_OK;
}

static json_t *
option_json(const struct config *c, enum option o)
{
	const struct option_info *info = option_info(o);

	return json_pack("{s:s, s:s, s:s, s:b, s:s}", "name", info->name, "value",
	    config_string(c, o), "default", info->def, "reload", info->reload, "help", info->help);
}

static enum command_status
print_settings(const struct command_call *call, const struct config *c, bool explained)
{
	if (!call->json) {
		config_file_print(c, explained, stdout);
		return COMMAND_OK;
	}
	json_t *rows = json_array();

	for (unsigned o = 0; o < OPTION_COUNT; o++)
		json_array_append_new(rows, option_json(c, o));
	enum command_status rc = command_print_json(rows);

	json_decref(rows);
	return rc;
}

static enum command_status
show(const struct command_call *call)
{
	return print_settings(call, call->config, false);
}

static enum command_status
defaults(const struct command_call *call)
{
	struct config *c = config_new();
	enum command_status rc = print_settings(call, c, true);

	config_free(&c);
	return rc;
}

static enum command_status
man(const struct command_call *call)
{
	(void)call;
	config_file_man(stdout);
	return COMMAND_OK;
}

const struct command commands_config[] = {
    {
	.name = "config check",
	.args = "",
	.help = "check the configuration file",
	.needs_config = true,
	.run = check,
    },
    {
	.name = "config show",
	.args = "",
	.help = "print all settings in effect for the file",
	.needs_config = true,
	.run = show,
    },
    {
	.name = "config defaults",
	.args = "",
	.help = "print a sample file: every setting explained, at its default",
	.run = defaults,
    },
    {
	.name = "config man",
	.args = "",
	.help = "print the manual page mailstead.conf(5)",
	.run = man,
    },
    {.name = NULL},
};
