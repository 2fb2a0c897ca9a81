/*
 * crash_env: power cuts at every moment of an environment (store/env.h) without a base copy beside it, as the queue has one: nothing
 * but Berkeley DB's own files can give back what was told to be durable. It cannot mend a page that was torn, which is what base
 * copies are for: here a state has all of what was not synced, or nothing of it.
 */
#ifndef TESTS_CRASH_CRASH_ENV_H
#define TESTS_CRASH_CRASH_ENV_H

#include "tests/crash/crash_run.h"

/* The states of one seed; or only one of them, when moment is not NULL. 0 when all were right. */
struct crash_env_moment {
	size_t cut;
	unsigned variant;
};
int crash_env_explore(uint64_t seed, const struct crash_env_moment *moment);

#endif
