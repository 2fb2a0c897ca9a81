/*
 * mailstead status, reload: asked of the running supervisor.
 */
#include "admin/command.h"

#include <stdio.h>

static void
print_head(const json_t *all)
{
	printf("mailstead %s is %s: pid %lld, up %lld s, %lld processes\n\n",
	    json_string_value(json_object_get(all, "version")),
	    json_string_value(json_object_get(all, "state")),
	    (long long)json_integer_value(json_object_get(all, "pid")),
	    (long long)json_integer_value(json_object_get(all, "uptime_s")),
	    (long long)json_array_size(json_object_get(all, "roles")) +
		(long long)json_integer_value(json_object_get(all, "left_out")));
}

static enum command_status
print_status(const struct command_call *call, const json_t *all)
{
	static const struct command_column columns[] = {{"role", "ROLE"}, {"instance", "NO"},
	    {"account", "ACCOUNT"}, {"state", "STATE"}, {"pid", "PID"}, {"uptime_s", "UP S"},
	    {"restarts", "RESTARTS"}, {"rss_kb", "RSS KB"}, {NULL, NULL}};

	if (call->json)
		return command_print_json(all);
	print_head(all);
	return command_print_list(call, json_object_get(all, "roles"), columns);
}

static enum command_status
status(const struct command_call *call)
{
	static struct msg reply;
	struct command_link *l = command_connect(call->config, ROLE_SUPERVISOR);

	if (l == NULL)
		return COMMAND_UNREACHABLE;
	enum command_status rc = COMMAND_SEND(l, SUP_STATUS, .id = command_id());

	if (rc == COMMAND_OK)
		rc = command_receive(l, MSG_SUP_STATUS_REPLY, &reply);
	if (rc == COMMAND_OK) {
		json_t *all = command_parse_json(reply.u.SUP_STATUS_REPLY.json);

		rc = json_is_object(all) ? print_status(call, all) : COMMAND_TEMPORARY;
		json_decref(all);
	}
	command_disconnect(&l);
	return rc;
}

static enum command_status
reload(const struct command_call *call)
{
	static struct msg reply;
	struct command_link *l = command_connect(call->config, ROLE_SUPERVISOR);

	if (l == NULL)
		return COMMAND_UNREACHABLE;
	enum command_status rc = COMMAND_SEND(l, SUP_RELOAD, .id = command_id());

	if (rc == COMMAND_OK)
		rc = command_receive(l, MSG_SUP_REPLY, &reply);
	if (rc == COMMAND_OK)
		rc = command_outcome(reply.u.SUP_REPLY.class, reply.u.SUP_REPLY.text);
	if (rc == COMMAND_OK)
		printf("%.*s\n", SLICE_ARG(reply.u.SUP_REPLY.text));
	command_disconnect(&l);
	return rc;
}

const struct command commands_server[] = {
    {
	.name = "status",
	.args = "",
	.help = "every process with its state, restarts and memory",
	.needs_config = true,
	.run = status,
    },
    {
	.name = "reload",
	.args = "",
	.help = "read the configuration file again and put it into effect",
	.more = "What needs a restart is named and stays as it is.\n",
	.needs_config = true,
	.run = reload,
    },
    {.name = NULL},
};
