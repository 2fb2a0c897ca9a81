/*
 * crash_mutant: the mutants of a .def file (common/mutant.h) in the build that has them; there are none in the other one.
 */
#ifndef TESTS_CRASH_CRASH_MUTANT_H
#define TESTS_CRASH_CRASH_MUTANT_H

#include "tests/crash/crash_run.h"

/* The one of that name from now on; NULL: none. */
void crash_mutant_use(const char *name_or_null);
/*
 * Each mutant until it is caught, or for o->states states; name: that one, or "all". Prints what came of each, and their number. The
 * exit status of main(): 0 when there were some and all were caught. Before them some states without any, which must be right.
 */
int crash_mutant_try(const struct crash_options *o, crash_explore_fn *explore, const char *name);

#endif
