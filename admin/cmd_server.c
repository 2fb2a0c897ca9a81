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
print_accounts(const struct command_call *call, const json_t *rows)
{
	static const struct command_column columns[] = {{"account", "ACCOUNT"},
	    {"imap_sessions", "IMAP"}, {"pop3_sessions", "POP3"}, {"messages", "MESSAGES"},
	    {"bytes", "OCTETS"}, {"set_aside", "SET ASIDE"}, {NULL, NULL}};

	if (json_array_size(rows) == 0)
		return COMMAND_OK;
	puts("\nAccounts in use:");
	return command_print_list(call, rows, columns);
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
	enum command_status rc = command_print_list(call, json_object_get(all, "roles"), columns);

	if (rc == COMMAND_OK)
		rc = print_accounts(
		    call, json_object_get(json_object_get(all, "store"), "accounts"));
	return rc;
}

/* What the supervisor tells: every process. NULL after saying why not. */
static json_t *
ask_supervisor(const struct command_call *call, enum command_status *status_r)
{
	static struct msg reply;
	struct command_link *l = command_connect(call->config, ROLE_SUPERVISOR);
	json_t *all = NULL;

	*status_r = COMMAND_UNREACHABLE;
	if (l)
		*status_r = COMMAND_SEND(l, SUP_STATUS, .id = command_id());
	if (*status_r == COMMAND_OK)
		*status_r = command_receive(l, MSG_SUP_STATUS_REPLY, &reply);
	if (*status_r == COMMAND_OK)
		all = command_parse_json(reply.u.SUP_STATUS_REPLY.json);
	command_disconnect(&l);
	return all;
}

/* What the store's parent tells of leases and accounts in use; NULL when it cannot be asked just
 * now. */
static json_t *
ask_store(const struct command_call *call)
{
	static struct msg reply;
	struct command_link *l = command_connect(call->config, ROLE_STORE);
	json_t *figures = NULL;

	if (l && COMMAND_SEND(l, STORE_STATUS, .id = command_id()) == COMMAND_OK &&
	    command_receive(l, MSG_STORE_STATUS_REPLY, &reply) == COMMAND_OK)
		figures = command_parse_json(reply.u.STORE_STATUS_REPLY.json);
	command_disconnect(&l);
	return figures;
}

static enum command_status
status(const struct command_call *call)
{
	enum command_status rc;
	json_t *all = ask_supervisor(call, &rc);

	if (all == NULL)
		return rc == COMMAND_OK ? COMMAND_TEMPORARY : rc;
	json_t *store = ask_store(call);

	if (store)
		json_object_set_new(all, "store", store);
	rc = json_is_object(all) ? print_status(call, all) : COMMAND_TEMPORARY;
	json_decref(all);
	return rc;
}

enum command_status
command_reload(const struct command_call *call, bool print)
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
	if (rc == COMMAND_OK && print)
		printf("%.*s\n", SLICE_ARG(reply.u.SUP_REPLY.text));
	command_disconnect(&l);
	return rc;
}

static enum command_status
reload(const struct command_call *call)
{
	return command_reload(call, true);
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
