/*
 * crash_run: runs an explorer over many seeds: each seed in a process of its
 * own, as many at a time as there are processors; says how far it is, and how to see a failure again.
 */
#ifndef TESTS_CRASH_CRASH_RUN_H
#define TESTS_CRASH_CRASH_RUN_H

#include <stdbool.h>
#include <stdint.h>

/* Octets of the name of a directory. */
#define CRASH_DIR_BYTES 128

struct crash_options {
	const char *name;
	unsigned states; /* to explore in all */
	unsigned whole;	 /* so many histories in place of them, each at every moment; 0: states that are chosen */
	uint64_t seed;	 /* the first one */
	unsigned jobs;
	bool quiet;
	bool tools; /* of the mutants those of the commands */
};

/* Explores the states of one seed, in a process of its own; gives the process's exit status: 0 all were right. */
typedef int crash_explore_fn(uint64_t seed);
/* To be called by it: before a state is looked at, with what replays it, and when it was found to be right. */
void crash_run_at(const char *replay);
void crash_run_good(void);
/* It is wrong. */
void crash_run_wrong(const char *why);

struct crash_outcome {
	unsigned explored;
	bool wrong;
	char why[1024]; /* of the first one */
	char replay[256];
};
/* Ends with the first seed that is wrong, or when enough states were explored, or all histories. */
struct crash_outcome crash_run(const struct crash_options *o, crash_explore_fn *explore);

/* The same, and prints what came of it; the exit status of main(). */
int crash_run_main(const struct crash_options *o, const char *program, crash_explore_fn *explore);

/* A new directory, in memory where the machine has it; all that is left of them goes when crash_run() ends. */
void crash_dir_make(char path_r[CRASH_DIR_BYTES]);
void crash_dir_remove(const char *path);

#endif
