#include "tests/crash/crash_run.h"
#include "tests/unit/tree.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STATE_SECONDS_MAX 60 /* of the processor */
#define JOBS_MAX 16
#define TELL_SECONDS 10.0

/* What a process says of itself; shared, so that it stays when the process ends badly. */
struct job {
	pid_t pid;
	uint64_t seed;
	volatile unsigned explored;
	char why[1024];
	char replay[256];
};

static struct job *mine;
static char base[64]; /* all directories are made in it */
static volatile sig_atomic_t stopped;

/* ---- directories ---- */

void
crash_dir_remove(const char *path)
{
	(void)tree_remove(path);
}

void
crash_dir_make(char path_r[CRASH_DIR_BYTES])
{
	const char *in = base[0] ? base : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	(void)snprintf(path_r, CRASH_DIR_BYTES, "%s/mailstead-crash-XXXXXX", in);
	char *made = mkdtemp(path_r);

	assert(made != NULL);
}

/* ---- processes ---- */

static void
on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static double
now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A state that takes more of the processor than any can, walks in circles. */
static void
limit_state(void)
{
	const struct itimerval most = {.it_value.tv_sec = STATE_SECONDS_MAX};

	(void)setitimer(ITIMER_PROF, &most, NULL);
}

void
crash_run_at(const char *replay)
{
	limit_state();
	if (mine != NULL)
		(void)snprintf(mine->replay, sizeof mine->replay, "%s", replay);
}

void
crash_run_good(void)
{
	if (mine != NULL)
		mine->explored++;
}

void
crash_run_wrong(const char *why)
{
	if (mine != NULL)
		(void)snprintf(mine->why, sizeof mine->why, "%s", why);
	else
		fprintf(stderr, "%s\n", why);
}

static void
start(struct job *job, uint64_t seed, crash_explore_fn *explore)
{
	*job = (struct job){.seed = seed};
	(void)fflush(NULL);
	pid_t pid = fork();

	assert(pid >= 0);
	if (pid == 0) {
		(void)signal(SIGINT, SIG_DFL);
		(void)signal(SIGTERM, SIG_DFL);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)setpgid(0, 0);
		mine = job;
		_exit(explore(seed));
	}
	(void)setpgid(pid, pid);
	job->pid = pid;
}

static unsigned
total(const struct job *jobs, unsigned done)
{
	for (unsigned i = 0; i < JOBS_MAX; i++)
		done += jobs[i].explored;
	return done;
}

/* A process ended. */
static void
collect(struct job *job, int status, struct crash_outcome *out)
{
	out->explored += job->explored;
	if (status != 0 && !out->wrong) {
		out->wrong = true;
		memcpy(out->why, job->why, sizeof out->why);
		memcpy(out->replay, job->replay, sizeof out->replay);
		if (WIFSIGNALED(status))
			(void)snprintf(out->why, sizeof out->why, "signal %d ended it%s", WTERMSIG(status),
			    WTERMSIG(status) == SIGPROF ? ": it did not come to an end" : "");
		else if (job->why[0] == '\0')
			(void)snprintf(out->why, sizeof out->why, "exit status %d", WEXITSTATUS(status));
	}
	*job = (struct job){.pid = 0};
}

static void
end_all(struct job *jobs)
{
	for (unsigned i = 0; i < JOBS_MAX; i++) {
		if (jobs[i].pid <= 0)
			continue;
		/* With those that it began: nothing of them goes on in directories that are being removed. */
		(void)kill(-jobs[i].pid, SIGKILL);
		(void)waitpid(jobs[i].pid, NULL, 0);
	}
}

static bool
is_running(const struct job *jobs)
{
	bool any = false;

	for (unsigned i = 0; i < JOBS_MAX; i++)
		any = any || jobs[i].pid != 0;
	return any;
}

/* Is there a seed to begin? */
static bool
has_more(const struct crash_options *o, uint64_t seed)
{
	return o->whole == 0 || seed - o->seed < o->whole;
}

static void
tell(const struct crash_options *o, uint64_t begun, unsigned states, double seconds)
{
	if (o->whole > 0)
		printf("%s: %u states, %u of %u histories begun, %.0f a second\n", o->name, states, (unsigned)begun, o->whole,
		    states / seconds);
	else
		printf("%s: %u of %u states, %.0f a second\n", o->name, states, o->states, states / seconds);
	(void)fflush(stdout);
}

struct crash_outcome
crash_run(const struct crash_options *o, crash_explore_fn *explore)
{
	struct job *jobs =
	    mmap(NULL, JOBS_MAX * sizeof *jobs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct crash_outcome out = {.explored = 0};
	double began = now(), told = began;
	uint64_t seed = o->seed;
	char dir[CRASH_DIR_BYTES];

	crash_dir_make(dir);
	assert(strlen(dir) < sizeof base);
	memcpy(base, dir, strlen(dir) + 1);
	(void)signal(SIGINT, on_signal);
	(void)signal(SIGTERM, on_signal);
	assert(jobs != MAP_FAILED && o->jobs >= 1 && o->jobs <= JOBS_MAX);
	while (!out.wrong && !stopped &&
	    (o->whole > 0 ? has_more(o, seed) || is_running(jobs) : total(jobs, out.explored) < o->states)) {
		for (unsigned i = 0; i < o->jobs; i++)
			if (jobs[i].pid == 0 && has_more(o, seed))
				start(&jobs[i], seed++, explore);
		for (unsigned i = 0; i < o->jobs; i++) {
			int status;

			if (jobs[i].pid != 0 && waitpid(jobs[i].pid, &status, WNOHANG) == jobs[i].pid)
				collect(&jobs[i], status, &out);
		}
		(void)usleep(2000);
		if (!o->quiet && now() - told > TELL_SECONDS) {
			told = now();
			tell(o, seed - o->seed, total(jobs, out.explored), told - began);
		}
	}
	out.explored = total(jobs, out.explored);
	end_all(jobs);
	base[0] = '\0';
	crash_dir_remove(dir);
	if (stopped)
		exit(130);
	(void)munmap(jobs, JOBS_MAX * sizeof *jobs);
	return out;
}

int
crash_run_main(const struct crash_options *o, const char *program, crash_explore_fn *explore)
{
	struct crash_outcome out = crash_run(o, explore);

	if (out.wrong)
		printf("%s: %s\n  again: %s --replay %s\n", o->name, out.why, program, out.replay);
	printf("%s: %u states explored", o->name, out.explored);
	if (o->whole > 0 && !out.wrong)
		printf(", every moment of %u histories", o->whole);
	printf("%s\n", out.wrong ? ", the last one wrong" : ", all right");
	return out.wrong;
}
