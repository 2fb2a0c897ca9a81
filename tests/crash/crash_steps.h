/*
 * crash_steps: a seeded history of an account: steps (requests, batches of
 * them, housekeeping), and what the account was after each transaction. A step is made
 * once, while the account is looked at, and does the same whenever it is done from the
 * same state: so an account that lost its last steps can go on from where it is, and must
 * come by the same states again.
 */
#ifndef TESTS_CRASH_CRASH_STEPS_H
#define TESTS_CRASH_CRASH_STEPS_H

#include "store/index_private.h"

/* Forgets the old history. */
void crash_steps_begin(uint64_t seed);
/* Makes one more step for the account as it is now (keeper open). */
void crash_steps_make(void);
size_t crash_steps_count(void);
/* Does a step. false: the keeper could not be opened again (e). */
bool crash_steps_do(size_t step, const char *root, struct err *e);
/* The step with which an account at that serial goes on; the count when there is none. */
size_t crash_steps_after(uint64_t serial);

/* To be called after each commit and once after the creation: remembers the state, or compares. */
void crash_steps_committed(struct index *ix);
/* A difference that was found since the last call, or NULL. */
const char *crash_steps_wrong(void);
/* Is the account in the state that it was in after the transaction index_serial()? NULL: yes, and its objects are whole. */
const char *crash_steps_compare(struct index *ix, struct err *e);
/* Asks some requests again, most of them young ones. NULL: each was answered as before, and none was done twice. */
const char *crash_steps_ask_again(unsigned count, uint64_t seed);

/* The time of the account's creation. */
#define CRASH_NOW UINT64_C(1700000000)

extern bool crash_verbose; /* differences are printed record by record */
extern const struct crash_keeper_events *crash_steps_events;

#endif
