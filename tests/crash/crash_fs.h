/*
 * crash_fs: a file layer that records what a program does to its directory, and
 * can make the directory that a power cut would have left at any moment.
 *
 * The model: a file's octets are durable up to its last sync; of the writes
 * since, any may be there, be missing, or be torn at a multiple of 512
 * octets. The entries of a directory are durable up to its last sync; of the
 * changes since, any number from the first on may be there. Everything that
 * was not synced may also simply be there.
 */
#ifndef TESTS_CRASH_CRASH_FS_H
#define TESTS_CRASH_CRASH_FS_H

#include "store/file.h"

/* Starts recording below root, an existing empty directory; file_use() is called. */
void crash_fs_start(const char *root);
/* Ends it; the record stays. */
void crash_fs_stop(void);
/* Number of operations recorded so far. */
size_t crash_fs_count(void);
/* A sync from the n-th on (counted from 1, over the whole record) fails with EIO; 0: none. */
void crash_fs_fail_sync(unsigned n);

enum crash_mode {
	CRASH_ALL,    /* all that was done is there */
	CRASH_NONE,   /* only what was synced is there */
	CRASH_RANDOM, /* a seeded choice */
};

/* Makes in target (an existing empty directory) what a cut after the first `count` operations leaves. */
void crash_fs_make(size_t count, enum crash_mode mode, uint64_t seed, const char *target);
/* Was the last of so many operations a write of zeros only? Logs are full of them, and one cut among them is like another. */
bool crash_fs_is_filler(size_t count);
/* Says in one line what the operation before that moment was. */
void crash_fs_describe(size_t count, char *text_r, size_t size);

#endif
