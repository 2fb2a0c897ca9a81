/*
 * Lets every call of the file layer fail in turn, once and from then on, below
 * an account's keeper: messages in, answers out. Whatever fails,
 *   - nothing leaves the keeper that is not durable;
 *   - the keeper goes on, or says that it has to end;
 *   - its successor, another process that finds what failed syncs lost, shows one of the states that were, not
 *     before the last one that anybody was told of; it answers again as before, and goes on.
 *
 *   keeper_fault [--every N] [--share K/N]       each N-th call (1: all); the K-th of N parts, from 0 on
 *   keeper_fault --replay SEED:KIND:CALL:once|on  one run again
 */
#include "tests/crash/crash_keeper.h"
#include "tests/crash/crash_steps.h"
#include "tests/fault/fault_fs.h"
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define STEPS 24
#define SEEDS 3
#define FAILURES_SHOWN 8
#define RUN_SECONDS_MAX 60

/* In shared memory. */
struct told {
	bool fired;
	unsigned calls;
	bool broken; /* the keeper said that it has to end */
	char where[FILE_PATH_BYTES_MAX + 32];
	char complaint[512];
};

static struct told *told;
static uint64_t committed, acked; /* serials */

static void
complain(const char *why, const struct err *e)
{
	if (told->complaint[0] == '\0')
		(void)snprintf(told->complaint, sizeof told->complaint, "%s (%s)", why, e != NULL ? e->detail : "");
}

static void
on_committed(struct index *ix)
{
	committed = index_serial(ix);
	fault_pause(true);
	crash_steps_committed(ix);
	fault_pause(false);
}

static void
on_told(void)
{
	acked = committed;
}

static const struct crash_keeper_events events = {.committed = on_committed, .told = on_told};

static void
note_wrong(void)
{
	const char *why = crash_steps_wrong();

	if (why != NULL)
		complain(why, NULL);
}

/* The history until its end, or the keeper's. */
static void
live(const char *root, uint64_t seed)
{
	struct err e = {0};

	crash_steps_begin(seed);
	file_reserve(root);
	if (crash_keeper_open(root, CRASH_NOW, &events, &e) < 0) {
		if (e.class != ERR_TEMP)
			complain("opening fails for good", &e);
		return;
	}
	on_committed(crash_keeper_index());
	on_told();
	for (size_t i = 0; i < STEPS && !crash_keeper_broken(); i++) {
		crash_steps_make();
		/* It is opened again as one of the steps. */
		if (!crash_steps_do(i, root, &e))
			break;
		note_wrong();
	}
	if (crash_keeper_index() != NULL)
		told->broken = crash_keeper_broken();
}

/* The successor, with what the kernel makes of it. */
static void
look(const char *root, uint64_t seed)
{
	struct err e = {0};
	const char *why = NULL;

	if (crash_keeper_open(root, CRASH_NOW, &events, &e) < 0) {
		complain("it does not open afterwards", &e);
		return;
	}
	struct index *ix = crash_keeper_index();
	uint64_t serial = index_serial(ix);

	if (serial < acked)
		why = "a transaction that somebody was told of is lost";
	else if (serial > committed + 1)
		why = "a transaction that was never begun";
	else if (serial > committed)
		/* Its commit failed, so nobody saw what it made. */
		why = index_check(ix, &e) < 0 ? "it contradicts itself" : NULL;
	else if (acked > 0)
		why = crash_steps_compare(ix, &e);
	if (why == NULL)
		why = crash_steps_ask_again(4, seed);
	if (why != NULL)
		complain(why, &e);
	struct msg m = {.type = MSG_MBOX_CHANGE, .u.MBOX_CHANGE = {.id = 999999, .sequence = 999999, .verb = MBOX_CREATE,
	    .name = SLICE("afterwards"), .origin = SLICE("0123456789abcdef")}};

	crash_keeper_ask(ROLE_IMAP_WORKER, &m);
	crash_keeper_flush();
	if (crash_keeper_broken() || crash_request(999999)->answers != 1)
		complain("it does not go on afterwards", NULL);
	crash_keeper_close(true);
}

static void
in_process(void (*fn)(const char *root, uint64_t seed), const char *root, uint64_t seed)
{
	int status;
	pid_t pid = fork();

	assert(pid >= 0);
	if (pid == 0) {
		fault_time_limit(RUN_SECONDS_MAX);
		fn(root, seed);
		(void)fflush(NULL);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		assert(errno == EINTR);
	if (status != 0 && told->complaint[0] == '\0')
		(void)snprintf(told->complaint, sizeof told->complaint, "a process ended with status %d", status);
}

static enum fault_kind kind;
static unsigned at;
static bool on;

/* Lives with the failure, dies, and has a successor, which knows what it knew. */
static void
failing(const char *root, uint64_t seed)
{
	fault_start(root, kind, at, on);
	live(root, seed);
	told->fired = fault_fired();
	told->calls = fault_calls();
	(void)snprintf(told->where, sizeof told->where, "%s", fault_where());
	if (crash_keeper_index() != NULL)
		crash_keeper_close(false);
	if (fault_open_count() > 0)
		complain("descriptors are left open", NULL);
	(void)fault_die();
	file_use(NULL);
	file_lost_reset();
	in_process(look, root, seed);
}

static bool
run_one(uint64_t seed)
{
	char root[64];

	fixture_dir(root);
	memset(told, 0, sizeof *told);
	in_process(failing, root, seed);
	(void)tree_remove(root);
	if (told->complaint[0] == '\0')
		return true;
	fprintf(stderr, "keeper_fault: %s\n  at: %s\n  again: --replay %llu:%s:%u:%s\n", told->complaint, told->where,
	    (unsigned long long)seed, fault_kind_name(kind), at, on ? "on" : "once");
	return false;
}

static int
explore(const struct fault_part *p)
{
	unsigned runs[FAULT_KINDS] = {0}, wrong = 0, total = 0, broken = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		for (kind = 0; kind < FAULT_KINDS; kind++)
			for (unsigned mode = 0; fault_part_has(p, fault_kind_name(kind)) && mode < (fault_only_once(kind) ? 1u : 2u); mode++) {
				unsigned stride = fault_stride(kind, p->every);

				on = mode == 1;
				told->fired = true;
				for (at = 1 + (unsigned)(kind * 37 + seed * 11 + mode * 5) % stride + p->share * stride;
				     told->fired && wrong < FAILURES_SHOWN; at += p->shares * stride) {
					wrong += !run_one(seed);
					runs[kind] += told->fired;
					broken += told->broken;
				}
			}
	printf("keeper_fault: ");
	for (kind = 0; kind < FAULT_KINDS; kind++) {
		printf("%s %u, ", fault_kind_name(kind), runs[kind]);
		total += runs[kind];
	}
	printf("%u runs of %u histories, %u ended the keeper, %u wrong\n", total, SEEDS, broken, wrong);
	return wrong != 0 || total == 0 || broken == 0;
}

static int
replay(const char *text)
{
	unsigned long long seed;
	char name[16], mode[8];

	if (sscanf(text, "%llu:%15[^:]:%u:%7s", &seed, name, &at, mode) != 4 || fault_kind_of(name) == FAULT_KINDS)
		return 2;
	kind = fault_kind_of(name);
	on = strcmp(mode, "on") == 0;
	log_init("keeper_fault", LOG_DEBUG);
	crash_verbose = true;
	return run_one(seed) ? 0 : 1;
}

int
main(int argc, char **argv)
{
	struct rlimit limit;
	struct fault_part part;

	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(told != MAP_FAILED);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	log_init("keeper_fault", LOG_BUG);
	file_hook_db();
	crash_steps_events = &events;
	if (argc == 3 && strcmp(argv[1], "--replay") == 0)
		return replay(argv[2]);
	return fault_part_parse(argc, argv, &part) ? explore(&part) : 2;
}
