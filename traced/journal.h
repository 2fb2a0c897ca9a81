/*
 * journal: the recorder's files: append-only segments "NNNNNNNNNNNN.trace" in
 * one directory, each beginning with JOURNAL_MAGIC and followed by records
 * (traced/event.h). Bounded by octets and by age; the oldest go first. Nothing is
 * synced: a crash of the process loses up to JOURNAL_FLUSH_MS of events, one of the
 * machine what the kernel had not written. Nobody's mail depends on it.
 *
 * Calls block for ordinary writes and reads of local files.
 */
#ifndef TRACED_JOURNAL_H
#define TRACED_JOURNAL_H

#include "common/err.h"
#include "traced/event.h"

#define JOURNAL_MAGIC "MSTRACE1"
#define JOURNAL_FLUSH_MS 250
/* A segment is 1/16 of the whole, within these; it is what is removed, and read, at once. */
#define JOURNAL_SEGMENT_BYTES_MIN (64u << 10)
#define JOURNAL_SEGMENT_BYTES_MAX (8u << 20)
/* Octets that wait to be written at most; past it events are dropped and counted. */
#define JOURNAL_PENDING_BYTES_MAX (1u << 20)

struct journal;

struct journal_limits {
	uint64_t bytes_max;
	uint64_t age_us_max;
};

/* Opens the directory (it must exist); a torn end of the last segment is cut off. */
int journal_open(const char *path, struct journal_limits limits, struct journal **j_r,
    struct err *e) __attribute__((warn_unused_result));
/* Flushes. NULL is fine. */
void journal_close(struct journal **j);
void journal_set_limits(struct journal *j, struct journal_limits limits);

/* Takes an event into memory; writes by itself when much is pending. False when it was dropped. */
bool journal_add(struct journal *j, const struct event *v);
/* Writes what is pending. -1 and e when it could not: it is dropped. */
int journal_flush(struct journal *j, struct err *e);
bool journal_pending(const struct journal *j);
/* Events dropped since it was opened. */
uint64_t journal_dropped(const struct journal *j);
/* Removes segments that are over the limits; now in microseconds since 1970. */
void journal_expire(struct journal *j, uint64_t now_us);

/* Octets in all segments. */
uint64_t journal_bytes(const struct journal *j);
unsigned journal_segments(const struct journal *j);
/* The number of the oldest segment, and of the one being written; flush first. */
uint64_t journal_first(const struct journal *j);
uint64_t journal_last(const struct journal *j);
/*
 * The records of a segment into b (reset first). A segment that is gone is empty. When nothing in
 * it is as late as since_us, it is not read.
 */
int journal_read(struct journal *j, uint64_t number, uint64_t since_us, struct buf *b,
    struct err *e) __attribute__((warn_unused_result));

#endif
