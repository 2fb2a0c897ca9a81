/*
 * crash_same: makes a seed do the same in each process: Berkeley DB takes the
 * time, the process's number, inode numbers and the places of variables into
 * its files, and so their lengths and the order of its calls depend on them.
 */
#ifndef TESTS_CRASH_CRASH_SAME_H
#define TESTS_CRASH_CRASH_SAME_H

/* To be called first by main(): starts the program again with its memory at the usual places, unless it has it there. */
void crash_same_places(char **argv);
/* From now on this process sees the same time, number and inodes always. */
void crash_same_begin(void);

#endif
