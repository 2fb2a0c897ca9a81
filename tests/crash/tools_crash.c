/*
 * Power cuts at moments of the commands that work on an account without its keeper (tests/fault/store_tools.h), seeded ones or
 * with --whole N every one of N commands, once with all that was not synced and once with nothing of it: the
 * directory is made as a cut would have left it, and
 *   - the account is what it was before or what it is afterwards, each of its messages whole; the second once the command was at
 *     its end;
 *   - no file of a message that it had is gone, but may lie in damaged.N, nor what was left of a damaged index;
 *   - the command, run again, does all of it.
 * A load of what was changed is refused. And an environment without a base copy beside it is cut (crash_env.h).
 *
 *   tools_crash [--states N] [--seed S]                    explores
 *   tools_crash --replay SEED:CUT.VARIANT                  one state again
 *   tools_crash_mutants --mutant NAME|all [--states N]     each mutant until it is caught, N states at most
 * With --replay, --mutant NAME is the mutant to use.
 */
#include "tests/crash/crash_env.h"
#include "tests/crash/crash_fs.h"
#include "tests/crash/crash_mutant.h"
#include "tests/crash/crash_run.h"
#include "tests/fault/store_tools.h"

#include "common/log.h"

#define STATES_PER_SEED 60
#define ACCOUNT "accounts/1"
#define WHY_BYTES 4096

static struct crash_record *record;
static const struct tool *tool;
static struct damage_account place;
static struct damage_account beside; /* of the place, what is not in the account */
static char *before, *after;
static char root[CRASH_DIR_BYTES];

static void
die(const char *what)
{
	fprintf(stderr, "tools_crash: %s\n", what);
	exit(2);
}

/* ---- in processes of their own, whose answer is a file ---- */

typedef void apart_fn(const char *dir, FILE *answer);

static char *
apart(apart_fn *fn, const char *dir)
{
	FILE *answer = tmpfile();
	char room[1 << 16];
	int status;

	if (answer == NULL)
		die("no temporary file");
	(void)fflush(NULL);
	pid_t pid = fork();

	if (pid == 0) {
		fn(dir, answer);
		(void)fflush(answer);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	if (status != 0)
		fprintf(answer, "a process ended with status %d", status);
	rewind(answer);
	room[fread(room, 1, sizeof room - 1, answer)] = '\0';
	(void)fclose(answer);
	return strdup(room);
}

static void
look(const char *dir, FILE *answer)
{
	struct err e;
	char *text = store_tools_look(dir, &e);

	fprintf(answer, "%s", text != NULL ? text : "");
	free(text);
}

static void
run_plainly(const char *dir, FILE *answer)
{
	fprintf(answer, "%d", (int)store_tools_run(tool, dir, NULL));
}

/* ---- the run that is cut ---- */

static void
entered(void)
{
	record = crash_record_start(".");
}

/* Runs it in a directory of its own. after_r: the account as text. */
static enum command_status
run_whole(const struct damage_account *a, char **after_r)
{
	char dir[CRASH_DIR_BYTES], *status, *end;

	crash_dir_make(dir);
	damage_write(a, dir);
	status = apart(run_plainly, dir);
	*after_r = apart(look, dir);
	crash_dir_remove(dir);
	/* Or what ended it. */
	unsigned long number = strtoul(status, &end, 10);
	bool ended = end == status || *end != '\0';

	free(status);
	return ended ? COMMAND_TEMPORARY : (enum command_status)number;
}

/* Is a load refused when an octet of the dump or of a message is another one? */
static bool
refuses_changes(void)
{
	bool good = true;

	for (unsigned i = 0; i < 2 && good; i++) {
		struct damage_account changed;
		char *text;

		damage_copy(&changed, &place);
		store_tools_alter(&changed, i == 0);
		good = run_whole(&changed, &text) == COMMAND_REFUSED && strcmp(text, before) == 0;
		if (!good)
			crash_run_wrong(i == 0 ? "a changed dump is loaded" : "a changed message is loaded");
		free(text);
		damage_copy_free(&changed);
	}
	return good;
}

/* What it does when nothing cuts it. */
static bool
expect(void)
{
	char dir[CRASH_DIR_BYTES];
	enum command_status status;

	store_tools_prepare(tool, &place);
	for (size_t i = 0; i < place.n; i++)
		if (strncmp(place.files[i].name, ACCOUNT "/", sizeof ACCOUNT) != 0)
			beside.files[beside.n++] = place.files[i];
	crash_dir_make(dir);
	damage_write(&place, dir);
	if (!tool->damaged)
		before = apart(look, dir);
	crash_dir_remove(dir);
	status = run_whole(&place, &after);
	if (after[0] == '\0' || (before != NULL && before[0] == '\0'))
		die("it cannot be done without a cut");
	if (status == (tool->loses ? COMMAND_REFUSED : COMMAND_OK))
		return !tool->loads || refuses_changes();
	crash_run_wrong(tool->loses ? "a loss is not told" : "a loss is told, or it is refused");
	return false;
}

static void
run_recorded(void)
{
	int out = dup(1), err = dup(2);

	crash_dir_make(root);
	damage_write(&place, root);
	(void)store_tools_run(tool, root, entered);
	crash_record_stop();
	crash_fs_plain();
	if (out < 0 || err < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		die("dup");
	(void)close(out);
	(void)close(err);
}

/* ---- one state ---- */

static bool at_end;

static const char *
find_missing(const char *dir)
{
	const char *missing = tool->replaces ? NULL : store_tools_missing(&place, dir);

	return missing == NULL && tool->loses ? store_tools_index_missing(&place, dir) : missing;
}

/* What lies beside the index, once that is what it is to be. */
static void
judge_rest(const char *dir, bool done, FILE *answer)
{
	const char *torn = done && tool->damaged ? store_tools_torn(&place, dir) : NULL;
	struct err e = {0};
	int copied = tool->copies ? store_tools_copy(dir, &e) : done;

	if (torn != NULL)
		fprintf(answer, "%s is not in damaged.N", torn);
	else if (copied < 0)
		fprintf(answer, "account.dump is damaged: %s", e.detail);
	else if (done && !copied)
		fprintf(answer, "there is no account.dump");
	else if (store_tools_objects(dir, &e) < 0)
		fprintf(answer, "a message: %s", e.detail);
}

/* In the next process; what is wrong, or nothing. */
static void
judge(const char *dir, FILE *answer)
{
	const char *missing = find_missing(dir);
	struct err e = {0};
	char *text = NULL;

	if (missing != NULL)
		fprintf(answer, "%s is gone", missing);
	else if (tool->damaged && !at_end)
		return;
	else if ((text = store_tools_look(dir, &e)) == NULL)
		fprintf(answer, "it does not open: %s", e.detail);
	else if (!store_tools_same(tool, text, after) && (at_end || before == NULL || !store_tools_same(tool, text, before)))
		fprintf(answer, "it is half done%s: %s", at_end ? " at the end" : "", text);
	else
		judge_rest(dir, at_end, answer);
	free(text);
}

static void
run_again(const char *dir, FILE *answer)
{
	enum command_status status = store_tools_run(tool, dir, NULL);
	char *said = store_tools_file(dir, "said");

	/* A salvage that has nothing to do is content; a load that was done refuses. */
	if (status != COMMAND_OK && status != COMMAND_REFUSED)
		fprintf(answer, "done again: exit status %d: %s", (int)status, said);
	free(said);
}

static void
judge_again(const char *dir, FILE *answer)
{
	const char *missing = find_missing(dir);
	struct err e = {0};
	char *text = store_tools_look(dir, &e);

	if (missing != NULL)
		fprintf(answer, "done again: %s is gone", missing);
	else if (text == NULL)
		fprintf(answer, "done again it does not open: %s", e.detail);
	else if (!store_tools_same(tool, text, after))
		fprintf(answer, "done again it is something else: %s\n-- not --%s", text, after);
	else
		judge_rest(dir, true, answer);
	free(text);
}

static bool
try_state(uint64_t seed, size_t cut, unsigned variant)
{
	static apart_fn *const steps[] = {judge, run_again, judge_again};
	enum crash_mode mode = variant == 0 ? CRASH_ALL : variant == 1 ? CRASH_NONE : CRASH_RANDOM;
	char target[CRASH_DIR_BYTES], account[CRASH_DIR_BYTES + 16], what[256], text[WHY_BYTES];
	bool good = true;

	(void)snprintf(text, sizeof text, "%llu:%zu.%u", (unsigned long long)seed, cut, variant);
	crash_run_at(text);
	crash_dir_make(target);
	damage_write(&beside, target);
	(void)snprintf(account, sizeof account, "%s/accounts", target);
	if (mkdir(account, 0700) < 0)
		die("mkdir");
	(void)snprintf(account, sizeof account, "%s/" ACCOUNT, target);
	if (mkdir(account, 0700) < 0)
		die("mkdir");
	crash_record_make(record, cut, mode, seed * 1000003 + cut * 131 + variant, account);
	at_end = cut == crash_record_count(record);
	crash_record_describe(record, cut, what, sizeof what);
	for (size_t i = 0; good && i < sizeof steps / sizeof steps[0]; i++) {
		char *why = apart(steps[i], target);

		good = why[0] == '\0';
		if (!good) {
			(void)snprintf(text, sizeof text, "%s, cut after \"%s\": %.3500s", tool->name, what, why);
			crash_run_wrong(text);
		}
		free(why);
	}
	crash_dir_remove(target);
	if (good)
		crash_run_good();
	return good;
}

static size_t wanted_cut;
static unsigned wanted_variant;
static bool is_replay;
static bool whole;

/* Every moment, with all that was done and with only what was synced; what would be the same as a moment before is not tried
 * again, but at the end more is asked of it. */
static bool
explore_whole(uint64_t seed)
{
	static const enum crash_mode modes[] = {CRASH_ALL, CRASH_NONE};
	size_t n = crash_record_count(record);
	bool good = true;

	for (size_t cut = 0; cut <= n; cut++)
		for (unsigned variant = 0; variant < 2 && good; variant++)
			if (cut == n || !crash_record_is_same(record, cut, modes[variant]))
				good = try_state(seed, cut, variant);
	return good;
}

static bool
explore_some(uint64_t seed)
{
	uint64_t random_state = seed;
	bool good = true;

	for (unsigned i = 0; i < STATES_PER_SEED && good; i++) {
		size_t n = crash_record_count(record), cut;

		random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		cut = n * i / STATES_PER_SEED + (size_t)(random_state >> 33) % (2 + n / STATES_PER_SEED);
		/* Every second one by the sort of operation. */
		if (i % 2)
			cut = crash_record_moment_by_sort(record, 0, n, random_state >> 20);
		if (i + 1 == STATES_PER_SEED)
			cut = n;
		while (cut < n && crash_record_is_filler(record, cut))
			cut++;
		good = try_state(seed, cut < n ? cut : n, i + 1 == STATES_PER_SEED ? 1 : i / 2 % 8);
	}
	return good;
}

static int
explore(uint64_t seed)
{
	char place_text[64];
	bool good;

	/* The dump works beside the account: in its place there is an environment. */
	tool = &store_tools[seed % store_tools_count];
	if (strcmp(tool->name, "dump") == 0)
		return crash_env_explore(seed, is_replay ? &(struct crash_env_moment){wanted_cut, wanted_variant} : NULL);
	(void)snprintf(place_text, sizeof place_text, "%llu:0.0", (unsigned long long)seed);
	crash_run_at(place_text);
	if (!expect())
		return 1;
	run_recorded();
	if (is_replay)
		good = try_state(seed, wanted_cut, wanted_variant);
	else
		good = whole ? explore_whole(seed) : explore_some(seed);
	crash_record_free(&record);
	crash_dir_remove(root);
	damage_free(&place);
	free(before);
	free(after);
	return good ? 0 : 1;
}

int
main(int argc, char **argv)
{
	struct crash_options o = {.name = "tools_crash", .states = 200, .seed = 1, .jobs = 2, .tools = true};
	const char *again = NULL, *mutant = NULL;
	unsigned long long seed;

	log_init("tools_crash", LOG_BUG);
	file_hook_db();
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--replay") == 0)
			again = argv[i + 1];
		else if (strcmp(argv[i], "--mutant") == 0)
			mutant = argv[i + 1];
		else if (strcmp(argv[i], "--states") == 0)
			o.states = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0)
			o.seed = strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--whole") == 0)
			o.whole = (unsigned)strtoul(argv[i + 1], NULL, 10);
	}
	whole = o.whole > 0;
	if (whole)
		o.name = "tools_crash_whole";
	if (again != NULL) {
		is_replay = sscanf(again, "%llu:%zu.%u", &seed, &wanted_cut, &wanted_variant) == 3;
		crash_mutant_use(mutant);
		return is_replay ? explore(seed) : 2;
	}
	if (mutant != NULL)
		return crash_mutant_try(&o, explore, mutant);
	return crash_run_main(&o, argv[0], explore);
}
