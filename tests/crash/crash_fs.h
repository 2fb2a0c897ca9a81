/*
 * crash_fs: a file layer that records what processes do to a directory, and
 * can make the directory that a power cut would have left at any moment.
 *
 * The model. A file's octets are durable up to its last sync. Of the writes
 * since, each multiple of 512 octets may be there as it was after any of them:
 * so writes are lost, torn and reordered; a file may have grown without its
 * octets (then they are zeros). The entries of a directory are durable up to
 * its last sync; of the changes since, any may be there, but a change of a name never
 * without the earlier ones of that name, and a rename never in half. Everything that
 * was not synced may also simply be there.
 *
 * A sync that failed has written any part of what it covered. The page cache
 * shows all of it nevertheless, as clean, and no later sync writes it; only
 * evicting the file shows what the disk has. For a directory: nothing became durable, and a later sync may do it.
 *
 * A process that is killed leaves everything that it did to the next one, and nothing of it is more durable for that.
 */
#ifndef TESTS_CRASH_CRASH_FS_H
#define TESTS_CRASH_CRASH_FS_H

#include "store/file.h"

struct crash_record;

/* Starts recording below root, an existing directory; what is in it already is durable. file_use() is called. One
 * record at a time is being made. */
struct crash_record *crash_record_start(const char *root);
/* Ends it; the record stays. What is done from now on is neither recorded nor synced. */
void crash_record_stop(void);
/* Calls are done and neither recorded nor synced: for looking at a state. */
void crash_fs_plain(void);
void crash_record_free(struct crash_record **r);
/* Number of operations recorded so far. */
size_t crash_record_count(const struct crash_record *r);
/* Called after each operation that was recorded, before its caller goes on. */
void crash_record_watch(struct crash_record *r, void (*fn)(void *arg), void *arg);

/* The n-th sync from now on fails (1: the next); seed: what of it is done all the same. 0: none. */
void crash_record_fail_sync(struct crash_record *r, unsigned n, uint64_t seed);
/* After n more operations the process is dead: every further call fails and does nothing, until the next process begins. */
void crash_record_kill(struct crash_record *r, size_t n);
/* The same, at a seeded moment: the n-th operation of a sort (what is done, to which sort of file) ends it with a chance of one
 * to n * odds. So what is done once in a while is met as often as what is done all the time. Of a sync before or after it. */
void crash_record_kill_by_sort(struct crash_record *r, unsigned odds, uint64_t seed);
/* The same, at the n-th operation of a few sorts that the seed chooses among all: an operation that is done once, late, is met as
 * often as one that every opening begins with. */
void crash_record_kill_at_sort(struct crash_record *r, unsigned nth, uint64_t seed);
/* The same, right behind the n-th change of a name that is not a message's, before the sync that is to make it durable. */
void crash_record_kill_at_name(struct crash_record *r, unsigned nth);
bool crash_record_died(const struct crash_record *r);
/* The sync that was to fail has failed. */
bool crash_record_failed(const struct crash_record *r);
/* The next process, on the same running machine. */
void crash_record_revive(struct crash_record *r);

/* Makes a file of its own of one that crash_record_make() has linked. */
void crash_fs_unshare(const char *path);

enum crash_mode {
	CRASH_ALL,    /* all that was done is there */
	CRASH_NONE,   /* only what was synced is there */
	CRASH_RANDOM, /* a seeded choice */
};

/*
 * Makes in target (an existing empty directory) what a cut after the first `count` operations leaves. Cheap when count
 * is not less than in the call before. Files that are as they were may be links: they are copied when they are opened for writing.
 */
void crash_record_make(struct crash_record *r, size_t count, enum crash_mode mode, uint64_t seed, const char *target);
/* Does a cut after the first `count` operations leave the same as one before the last of them, with all that was done (CRASH_ALL) or
 * with only what was synced (CRASH_NONE)? */
bool crash_record_is_same(const struct crash_record *r, size_t count, enum crash_mode mode);
/* A moment between two others, before or after an operation of a sort that is chosen among all that there are. */
size_t crash_record_moment_by_sort(const struct crash_record *r, size_t first, size_t last, uint64_t seed);
/* Did a sync of a file fail among so many operations? */
bool crash_record_has_failure(const struct crash_record *r, size_t count);
/* Was the last of so many operations a write of zeros only? Logs are full of them, and one cut among them is like another. */
bool crash_record_is_filler(const struct crash_record *r, size_t count);
/* Says in one line what the operation before that moment was. */
void crash_record_describe(const struct crash_record *r, size_t count, char *text_r, size_t size);

#endif
