#include "tests/crash/crash_mutant.h"

#include "common/mutant.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	const char *what;
	bool tools; /* it is in what the commands do, not in what a keeper does */
} rows[] = {
    {"", "", false},
#ifdef MAILSTEAD_TEST_MUTANTS
#undef MUTANT
#define MUTANT(NAME, what) {#NAME, what, false},
#define TOOL_MUTANT(NAME, what) {#NAME, what, true},
#include MAILSTEAD_TEST_MUTANTS
#endif
};
#define ROWS (sizeof rows / sizeof rows[0])
#define CONTROL_STATES 100

#ifdef MAILSTEAD_TEST_MUTANTS
enum mutant mutant_active;

static void
use(size_t number)
{
	mutant_active = (enum mutant)number;
}
#else
static void
use(size_t number)
{
	(void)number;
}
#endif

void
crash_mutant_use(const char *name_or_null)
{
	size_t i = name_or_null != NULL ? ROWS - 1 : 0;

	while (i > 0 && strcmp(rows[i].name, name_or_null) != 0)
		i--;
	use(i);
}

/* What is wrong without a mutant says nothing of any: 0, or 1. */
static int
control(const struct crash_options *o, crash_explore_fn *explore)
{
	struct crash_options few = *o;

	few.states = o->states < CONTROL_STATES ? o->states : CONTROL_STATES;
	use(0);
	struct crash_outcome out = crash_run(&few, explore);

	if (out.wrong)
		printf("mutants: wrong without any after %u states: %s\n  again: %s\n", out.explored, out.why, out.replay);
	return out.wrong;
}

int
crash_mutant_try(const struct crash_options *o, crash_explore_fn *explore, const char *name)
{
	struct crash_options quiet = *o;
	unsigned caught = 0, tried = 0;

	quiet.quiet = true;
	if (control(&quiet, explore) != 0)
		return 1;
	for (size_t i = 1; i < ROWS; i++) {
		if (strcmp(name, "all") == 0 ? rows[i].tools != o->tools : strcmp(name, rows[i].name) != 0)
			continue;
		use(i);
		struct crash_outcome out = crash_run(&quiet, explore);

		tried++;
		caught += out.wrong;
		printf("mutant %s (%s): %s after %u states%s%s\n", rows[i].name, rows[i].what, out.wrong ? "caught" : "NOT CAUGHT",
		    out.explored, out.wrong ? ": " : "", out.why);
		if (out.wrong)
			printf("  again: %s\n", out.replay);
		(void)fflush(stdout);
	}
	use(0);
	printf("mutants: %u caught of %u\n", caught, tried);
	return tried == 0 || caught < tried;
}
