/*
 * Put into a keeper or the queue (tests/tests.mk), with fault_fs.c below its files: when the process begins and finds a file
 * "fault" in its directory, "KIND AT THEN" (fault_fs.h), it removes that file, and calls of its file layer fail so; with the word
 * "later" behind these they begin to fail at SIGUSR1. When it ends, what a failed sync lost is taken back, as a disk would, and
 * it says on stderr what failed. From when the file is gone SIGTERM ends it so, between two things that it does: what exit() calls may
 * need a lock that is held in the middle of one.
 */
#include "common/role.h"
#include "tests/fault/fault_fs.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void __real_file_hook_db(void);
void __wrap_file_hook_db(void);

static char what[64];

static void
at_end(void)
{
	bool fired = fault_fired();
	bool lost = fault_die();

	fprintf(stderr, "fault: %s fired=%s lost=%s\n", what, fired ? fault_where() : "no", lost ? "yes" : "no");
}

#define LOOK_MS 10

static volatile sig_atomic_t ending;
static struct loop_timer *looking;

static void
on_end(int number)
{
	ending = number;
}

static void
look(void *arg)
{
	(void)arg;
	if (ending != 0)
		exit(ending);
	loop_timer_set(looking, LOOK_MS);
}

static void
on_time(int number)
{
	(void)number;
	fault_pause(false);
}

static void
begin(const char *dir)
{
	char path[FILE_PATH_BYTES_MAX], kind[16], when[8] = "";
	unsigned at, then;

	file_path(path, dir, "fault");
	FILE *f = fopen(path, "r");

	if (f == NULL)
		return;
	if (fgets(what, sizeof what, f) == NULL || sscanf(what, "%15s %u %u %7s", kind, &at, &then, when) < 3)
		abort();
	what[strcspn(what, "\n")] = '\0';
	(void)fclose(f);
	fault_start(dir, fault_kind_of(kind), at, then != 0);
	fault_pause(strcmp(when, "later") == 0);
	looking = loop_timer_new(role_loop(), look, NULL);
	look(NULL);
	if (atexit(at_end) != 0 || signal(SIGTERM, on_end) == SIG_ERR || signal(SIGUSR1, on_time) == SIG_ERR)
		abort();
	(void)unlink(path);
}

void
__wrap_file_hook_db(void)
{
	char dir[FILE_PATH_BYTES_MAX];

	__real_file_hook_db();
	/* A keeper is in its account's directory. */
	if (role_self()->role == ROLE_KEEPER)
		(void)snprintf(dir, sizeof dir, ".");
	else
		file_path(dir, role_state_dir(), "queue");
	begin(dir);
}
