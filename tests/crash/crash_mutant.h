/*
 * crash_mutant: the mutants of store/mutants.def in the build that has them; there are none in the other one.
 */
#ifndef TESTS_CRASH_CRASH_MUTANT_H
#define TESTS_CRASH_CRASH_MUTANT_H

/* Numbers from 1. */
unsigned crash_mutant_count(void);
const char *crash_mutant_name(unsigned number);
const char *crash_mutant_what(unsigned number);
/* 0: none. */
void crash_mutant_use(unsigned number);

#endif
