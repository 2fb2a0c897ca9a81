/*
 * fault_fs: a file layer in which one call fails, or every call from one on.
 * Calls are counted from 1, only those that the kind of failure can hit, so that
 * a loop over their number meets each. Berkeley DB's read(2), which has no hook, is caught by a
 * read() of this file's own that stands before the C library's.
 *
 * Of a file whose sync failed, and of a directory whose sync failed, what was
 * done since the last good sync counts as lost: fault_die() takes it back.
 */
#ifndef TESTS_FAULT_FAULT_FS_H
#define TESTS_FAULT_FAULT_FS_H

#include "store/file.h"

enum fault_kind {
	FAULT_EIO,    /* any call */
	FAULT_ENOSPC, /* what needs room; a write takes half of its octets first */
	FAULT_EDQUOT, /* the same */
	FAULT_EMFILE, /* what needs a descriptor */
	FAULT_EINTR,  /* open, reads and writes; only once */
	FAULT_SHORT,  /* reads and writes that do half */
	FAULT_SYNC,   /* syncs, with EIO, ENOSPC or EDQUOT in turn */
	FAULT_SECTOR, /* a read, with EIO, and every other one of that place until fault_die() */
	FAULT_KINDS
};

const char *fault_kind_name(enum fault_kind kind);
/* It has no "from then on". */
bool fault_only_once(enum fault_kind kind);
/* Of how many calls one is tried, when it is one of `every` in general: those of few calls are tried more often. */
unsigned fault_stride(enum fault_kind kind, unsigned every);
/* FAULT_KINDS when there is none of that name. */
enum fault_kind fault_kind_of(const char *name);

/* What of all runs a program does: each every-th call; of those, each shares-th from the share-th on. */
struct fault_part {
	unsigned every;
	unsigned share;
	unsigned shares;
	char kind[16]; /* "": every one */
};
/* From the words "--every N", "--share K/N" and "--kind NAME"; all when there are none. False for any other word. */
bool fault_part_parse(int argc, char **argv, struct fault_part *part_r);
/* Is it of that part? */
bool fault_part_has(const struct fault_part *p, const char *kind_name);

/* This process ends by a signal when it has taken so much of the processor, or when TIME_LIMIT_TIMES as much has gone by on the clock: the
 * machine may be busy with other things. */
#define TIME_LIMIT_TIMES 20
void fault_time_limit(unsigned seconds);

/* The calls below root fail from now on as said. */
void fault_start(const char *root, enum fault_kind kind, unsigned at, bool from_then_on);
/* While paused nothing fails or is counted. */
void fault_pause(bool paused);
/* Did anything fail? Which call was the first, as text; how many calls were counted, and how many of them were read()s. */
bool fault_fired(void);
const char *fault_where(void);
unsigned fault_calls(void);
unsigned fault_reads(void);
/* Descriptors below root that are open. */
unsigned fault_open_count(void);
/* The process is at its end: what failed syncs lost is taken back. True when a sync failed. */
bool fault_die(void);
/* Were the files of this directory evicted from the page cache before any of them was read? */
bool fault_evicted(const char *dir);

#endif
