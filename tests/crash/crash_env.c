#include "tests/crash/crash_env.h"
#include "tests/crash/crash_fs.h"

#include "store/env.h"
#include "store/logfile.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define STATES 60
#define OBJECT 7
#define KEY SLICE("key")
#define VALUE SLICE("value")
#define SUMMARY SLICE("summary")

/* After so many operations it was told that something is durable. */
static struct {
	size_t record;
	size_t checkpoint; /* with the summary */
} told;

/* One transaction, made durable, and a checkpoint behind it. */
static int
work(const char *root, const struct crash_record *record, struct err *e)
{
	const struct redo_pages none = {0, 0};
	struct env *env;
	int failed = -1;

	if (env_open(root, true, &none, &env, e) < 0)
		return -1;
	if (env_begin(env, 1, e) == 0 && env_put(env, KEY, VALUE, slice_of(NULL, 0), e) == 0 &&
	    env_summary_put(env, OBJECT, SUMMARY, e) == 0 && env_commit(env, e) == 0 && env_flush(env, e) == 0) {
		told.record = crash_record_count(record);
		failed = env_checkpoint(env, e);
		told.checkpoint = crash_record_count(record);
	}
	env_close(&env);
	return failed;
}

/* NULL when all that was told is there. */
static const char *
look(const char *root, size_t cut, struct err *e)
{
	struct redo_durable durable = {0, 0, 0};
	struct redo_pages pages;
	const char *why = NULL;
	struct env *env;
	struct buf b;

	if (env_log_check(root, &pages, e) < 0 || logfile_durable(root, &durable, e) < 0)
		return "its log is damaged";
	if (cut >= told.checkpoint && (durable.serial != 1 || pages.index == 0 || pages.summary == 0))
		return "the log does not tell of the checkpoint";
	if (env_open(root, true, &pages, &env, e) < 0)
		return "it does not open";
	buf_init(&b, FORMAT_VALUE_BYTES_MAX);
	if (cut >= told.record && (env_get(env, KEY, &b, e) != 1 || !slice_eq(buf_slice(&b), VALUE)))
		why = "a record is lost";
	else if (cut >= told.checkpoint && (env_summary_get(env, OBJECT, &b, e) != 1 || !slice_eq(buf_slice(&b), SUMMARY)))
		why = "a summary is lost";
	buf_fini(&b);
	env_close(&env);
	return why;
}

static bool
try_state(struct crash_record *record, uint64_t seed, struct crash_env_moment m)
{
	enum crash_mode mode = m.variant == 0 ? CRASH_ALL : CRASH_NONE;
	char target[CRASH_DIR_BYTES], what[256], text[1024];
	struct err e = {0};

	(void)snprintf(text, sizeof text, "%llu:%zu.%u", (unsigned long long)seed, m.cut, m.variant);
	crash_run_at(text);
	crash_dir_make(target);
	crash_record_make(record, m.cut, mode, seed * 1000003 + m.cut * 131 + m.variant, target);
	crash_record_describe(record, m.cut, what, sizeof what);
	const char *why = look(target, m.cut, &e);

	crash_dir_remove(target);
	if (why != NULL) {
		(void)snprintf(text, sizeof text, "environment, cut after \"%s\": %s (%s)", what, why, e.detail);
		crash_run_wrong(text);
		return false;
	}
	crash_run_good();
	return true;
}

int
crash_env_explore(uint64_t seed, const struct crash_env_moment *moment)
{
	struct crash_record *record;
	char root[CRASH_DIR_BYTES];
	struct err e = {0};
	bool good = true;

	crash_dir_make(root);
	record = crash_record_start(root);
	int failed = work(root, record, &e);

	crash_record_stop();
	crash_fs_plain();
	if (failed)
		crash_run_wrong(e.detail);
	size_t n = crash_record_count(record);

	if (moment != NULL)
		good = try_state(record, seed, *moment);
	for (size_t i = 0; i < STATES && good && !failed && moment == NULL; i++) {
		struct crash_env_moment m = {.cut = n * i / STATES + (size_t)(seed % (1 + n / STATES)), .variant = i % 4 != 0};

		/* Of the end all that is told has to be there. */
		if (i + 1 == STATES)
			m = (struct crash_env_moment){.cut = n, .variant = 1};
		good = try_state(record, seed, m);
	}
	crash_record_free(&record);
	crash_dir_remove(root);
	return good && !failed ? 0 : 1;
}
