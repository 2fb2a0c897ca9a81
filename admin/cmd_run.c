/*
 * mailstead run: the supervisor in the foreground, for a configuration file or for the demo.
 */
#include "admin/command.h"
#include "admin/config_file.h"
#include "admin/demo.h"
#include "admin/supervisor.h"

static enum command_status
run_configured(const struct command_call *call)
{
	struct supervisor_options options = {.config_path = call->config_path};
	struct config *config;
	struct err e;

	if (config_file_load(call->config_path, &config, &e) < 0) {
		command_error("%s", e.detail);
		return COMMAND_REFUSED;
	}
	int status = supervisor_run(config, &options);

	config_free(&config);
	return status == 0 ? COMMAND_OK : COMMAND_REFUSED;
}

static enum command_status
run_demo(const char *directory, unsigned port_offset)
{
	struct demo demo;
	struct supervisor_options options = {
	    .config_path = demo.config_path,
	    .demo = true,
	    .when_ready = demo_accounts,
	    .announce = demo_announce,
	    .arg = &demo,
	};
	struct config *config;
	struct err e;

	if (demo_prepare(&demo, directory, port_offset, &e) < 0 ||
	    config_file_load(demo.config_path, &config, &e) < 0) {
		command_error("%s", e.detail);
		return COMMAND_REFUSED;
	}
	int status = supervisor_run(config, &options);

	config_free(&config);
	return status == 0 ? COMMAND_OK : COMMAND_REFUSED;
}

static enum command_status
run(const struct command_call *call)
{
	const char *demo = NULL;
	uint64_t offset = 0;

	for (int i = 0; i < call->argc; i += 2) {
		const char *value = i + 1 < call->argc ? call->argv[i + 1] : NULL;

		if (value && strcmp(call->argv[i], "--demo") == 0)
			demo = value;
		else if (!value || strcmp(call->argv[i], "--port-offset") != 0 ||
			 !slice_u64(slice_str(value), DEMO_PORT_OFFSET_MAX, &offset))
			return command_usage(call, "%s: not understood", call->argv[i]);
	}
	if (demo)
		return run_demo(demo, (unsigned)offset);
	if (call->argc)
		return command_usage(call, "--port-offset goes with --demo");
	return run_configured(call);
}

const struct command commands_run[] = {
    {
	.name = "run",
	.args = "[--demo DIRECTORY [--port-offset N]]",
	.help = "run the whole server in the foreground",
	.more = "Starts every process, restarts what dies, and ends them all in order on SIGTERM "
		"or Ctrl-C; SIGHUP reloads.\n"
		"With --demo it runs as any user on 127.0.0.1, ports 2525 (SMTP), 2587, 2465 "
		"(submission), 2143, 2993 (IMAP),\n"
		"2110, 2995 (POP3), each plus N, with the domain demo.test and the accounts alice "
		"and bob; all it needs is made\n"
		"in DIRECTORY, and found there again at the next start.\n",
	.args_max = 4,
	.run = run,
    },
    {.name = NULL},
};
