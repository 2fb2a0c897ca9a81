/*
 * mutant: places where the crash proof (tests/crash) takes a sync, an order or a
 * test of a checksum out, to see that it notices. In production MUTANT(NAME) is
 * the constant false; in the proof's build one of them at a time is true. MAILSTEAD_TEST_MUTANTS is then the file that lists them, in
 * quotes: that of the store or that of the queue.
 */
#ifndef COMMON_MUTANT_H
#define COMMON_MUTANT_H

#ifdef MAILSTEAD_TEST_MUTANTS
enum mutant {
	MUTANT_NONE,
#define MUTANT(NAME, what) MUTANT_##NAME,
#define TOOL_MUTANT MUTANT
#include MAILSTEAD_TEST_MUTANTS
#undef TOOL_MUTANT
#undef MUTANT
	MUTANT_COUNT
};
extern enum mutant mutant_active;
#define MUTANT(NAME) (mutant_active == MUTANT_##NAME)
#else
#define MUTANT(NAME) false
#endif

#endif
