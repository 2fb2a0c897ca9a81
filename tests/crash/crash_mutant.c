#include "tests/crash/crash_mutant.h"

#include "store/mutant.h"

#include <stddef.h>

#ifdef MAILSTEAD_TEST_MUTANTS

#undef MUTANT
#define MUTANT(NAME, what) {#NAME, what},
static const struct {
	const char *name;
	const char *what;
} rows[] = {
    {"", ""},
#include "store/mutants.def"
};
#undef MUTANT

enum mutant mutant_active;

unsigned
crash_mutant_count(void)
{
	return MUTANT_COUNT - 1;
}

const char *
crash_mutant_name(unsigned number)
{
	return rows[number].name;
}

const char *
crash_mutant_what(unsigned number)
{
	return rows[number].what;
}

void
crash_mutant_use(unsigned number)
{
	mutant_active = (enum mutant)number;
}

#else

unsigned
crash_mutant_count(void)
{
	return 0;
}

const char *
crash_mutant_name(unsigned number)
{
	(void)number;
	return NULL;
}

const char *
crash_mutant_what(unsigned number)
{
	(void)number;
	return NULL;
}

void
crash_mutant_use(unsigned number)
{
	(void)number;
}

#endif
