/*
 * crash_steps: a seeded history of an account: steps (requests, batches of
 * them, housekeeping), and what the account was after each transaction. A step is made
 * once, while the account is looked at, and does the same whenever it is done from the
 * same state: so an account that lost its last steps can go on from where it is, and must
 * come by the same states again. Or it goes another way from there: histories form a tree.
 */
#ifndef TESTS_CRASH_CRASH_STEPS_H
#define TESTS_CRASH_CRASH_STEPS_H

#include "store/index_private.h"

/* Forgets the old history. */
void crash_steps_begin(uint64_t seed);
/* The account (keeper open) leaves the way that it went before: what is made from now on is another history after the same
 * beginning. Gives the branch's number; the first one's is 0. */
size_t crash_steps_fork(uint64_t seed);
/* An account of that branch was opened and is at that serial: what follows is about its branch, or about the one that this one left, when
 * it is not yet where they part. Gives that branch. */
size_t crash_steps_enter(size_t branch, uint64_t serial);
/* All branches and steps that were made since the mark are forgotten. */
struct crash_steps_mark {
	size_t branches, steps;
};
struct crash_steps_mark crash_steps_mark(void);
void crash_steps_back(struct crash_steps_mark mark);

/* Makes one more step for the account as it is now (keeper open), at the end of its branch. */
void crash_steps_make(void);
/* It can: no branch was made after it. */
bool crash_steps_can_make(void);
/* The steps of the branch from the account's creation on. */
size_t crash_steps_count(void);
/* Does a step. false: the keeper could not be opened again (e). */
bool crash_steps_do(size_t step, const char *root, struct err *e);
/* The step with which an account at that serial goes on; the last one when it has done them all. */
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
