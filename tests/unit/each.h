/*
 * each_assert(x) is ck_assert(x) for what holds a hundred thousand times: Check
 * writes a record of every assertion that it passes, which would take longer
 * than what is tested.
 */
#ifndef TESTS_UNIT_EACH_H
#define TESTS_UNIT_EACH_H

#include <check.h>

#define each_assert(x)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg("Assertion '%s' failed", #x);                                 \
	} while (0)

#endif
