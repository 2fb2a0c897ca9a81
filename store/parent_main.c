/*
 * Role STORE: the parent of keepers and workers. All of its state is in memory:
 * when it dies, its keepers finish and leave, its workers end, and clients log in again.
 */
#include "common/control.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/role.h"
#include "store/parent_quota.h"

#include <string.h>
#include <unistd.h>

static struct control *control;
static struct loop_timer *sweep_timer;

static void
on_sweep(void *arg)
{
	(void)arg;
	parent_lease_sweep(clock_ms());
	loop_timer_set(sweep_timer, PARENT_LEASE_UNUSED_MS);
}

static int
start(struct err *e)
{
	(void)e;
	sweep_timer = loop_timer_new(role_loop(), on_sweep, NULL);
	loop_timer_set(sweep_timer, PARENT_LEASE_UNUSED_MS);
	return 0;
}

static void
on_listener(const char *name, int fd)
{
	if (strcmp(name, "control") == 0 && control == NULL)
		control = control_new(role_loop(), fd, ROLE_STORE, &parent_from_admin, parent_admin_gone, NULL);
	else
		(void)close(fd);
}

static void
on_spawn_exit(uint64_t id, uint32_t status)
{
	parent_process_exit(id, status);
	if (status != 0)
		log_event(LOG_WARN, NO_SESSION, "process-ended", LOG_NUM("generation", id), LOG_NUM("status", status), LOG_END);
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch nothing = {.TRACE_EVENT = NULL};
	static const struct role_spec spec = {
	    .role = ROLE_STORE,
	    .dispatch = {[ROLE_DIRECTORY] = &parent_from_directory,
		[ROLE_IMAP_FRONT] = &parent_from_front,
		[ROLE_POP3_FRONT] = &parent_from_front,
		[ROLE_SMTP_FRONT] = &parent_from_smtp,
		[ROLE_SUBMISSION] = &parent_from_submission,
		[ROLE_DELIVER] = &parent_from_deliver,
		[ROLE_IMAP_WORKER] = &parent_from_worker,
		[ROLE_POP3_WORKER] = &parent_from_worker,
		[ROLE_KEEPER] = &parent_from_keeper,
		[ROLE_RECORDER] = &nothing},
	    .start = start,
	    .on_listener = on_listener,
	    .on_edge_down = parent_edge_down,
	    .on_reload = parent_quota_reload,
	    .on_spawn_exit = on_spawn_exit,
	};

	return role_main(argc, argv, &spec);
}
