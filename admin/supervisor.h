/*
 * supervisor: the root of the process tree (`mailstead run`). Starts every role, joins them by
 * edges, replaces what dies, reloads and drains. It reads its configuration file and messages of
 * its own children, nothing from outside.
 */
#ifndef ADMIN_SUPERVISOR_H
#define ADMIN_SUPERVISOR_H

#include "common/config.h"
#include "common/err.h"

struct supervisor_options {
	const char *config_path;
	bool demo;
	/* Called in a process of its own, once all roles are ready; its exit status is the
	 * function's result. NULL for nothing. */
	int (*when_ready)(const struct config *config, void *arg);
	/* Called in the supervisor after that succeeded, and after sd_notify READY. May be NULL. */
	void (*announce)(const struct config *config, void *arg);
	void *arg;
};

/* Runs until SIGTERM or SIGINT; gives the exit status of `mailstead run`. config is copied. */
int supervisor_run(const struct config *config, const struct supervisor_options *options);

#endif
