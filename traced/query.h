/*
 * query: one question to the journal: which sessions mention a key, and what
 * happened in them. Answered in steps of one segment each, so that events go on
 * being recorded meanwhile.
 */
#ifndef TRACED_QUERY_H
#define TRACED_QUERY_H

#include "traced/journal.h"

#define QUERY_SESSIONS_MAX 64
/* Events and octets of an answer; past either it is cut, oldest kept, and says so. */
#define QUERY_EVENTS_MAX 5000
#define QUERY_BYTES_MAX (2u << 20)
#define QUERY_KEY_BYTES_MAX 1024

struct query;

/* Asks about what was recorded up to now (the journal is flushed) and not before since_us. */
struct query *query_new(struct journal *j, struct slice key, uint64_t since_us);
void query_free(struct query **q);

/* Looks at one more segment: true when there is more to do. */
bool query_step(struct query *q);

/*
 * After the last step: the next lines of JSON (traced/event.h), oldest event first, at most
 * bytes_max octets of whole lines, into b (reset first). True when more are left. The last line of
 * an answer that was cut is {"cut": true}.
 */
bool query_lines(struct query *q, size_t bytes_max, struct buf *b);

#endif
