/*
 * Two passes over the segments: the first finds the sessions, the second takes
 * all of their events (an event of no session stands for itself). Events of
 * several processes arrive nearly in order; the answer is sorted by time in the end.
 */
#include "traced/query.h"

#include "common/log.h"
#include "common/mem.h"

#include <assert.h>

#define SEGMENT_READ_BYTES_MAX (2 * (size_t)JOURNAL_SEGMENT_BYTES_MAX)

struct found {
	uint64_t time_us;
	size_t at; /* in query.records */
	size_t n;
};

enum pass {
	PASS_SESSIONS,
	PASS_EVENTS,
	PASS_DONE,
};

struct query {
	struct journal *journal;
	enum pass pass;
	uint64_t next; /* segment */
	uint64_t last;
	uint64_t since_us;
	struct slice key;
	char *key_memory;
	char session[QUERY_SESSIONS_MAX][EVENT_SESSION_BYTES_MAX + 1];
	unsigned sessions;
	struct buf segment;
	struct buf records;
	struct found found[QUERY_EVENTS_MAX];
	unsigned n;
	unsigned told;
	bool cut;
};

struct query *
query_new(struct journal *j, struct slice key, uint64_t since_us)
{
	struct query *q = MEM_NEW(struct query);
	struct err e;

	if (journal_flush(j, &e) != 0)
		log_event(LOG_WARN, NO_SESSION, "trace-lost", LOG_ERR(&e), LOG_END);
	q->journal = j;
	q->next = journal_first(j);
	q->last = journal_last(j);
	q->since_us = since_us;
	q->key_memory = mem_copy_str(key.p, key.n);
	q->key = slice_of(q->key_memory, key.n);
	buf_init(&q->segment, SEGMENT_READ_BYTES_MAX);
	buf_init(&q->records, QUERY_BYTES_MAX);
	return q;
}

void
query_free(struct query **qp)
{
	struct query *q = *qp;

	if (q == NULL)
		return;
	buf_fini(&q->segment);
	buf_fini(&q->records);
	free(q->key_memory);
	MEM_FREE(qp);
}

static bool
session_known(const struct query *q, struct slice session)
{
	for (unsigned i = 0; i < q->sessions; i++) {
		if (slice_eq(session, slice_str(q->session[i])))
			return true;
	}
	return false;
}

static void
session_note(struct query *q, const struct event *v)
{
	if (v->session.n == 0 || session_known(q, v->session) || !event_mentions(v, q->key))
		return;
	if (q->sessions == QUERY_SESSIONS_MAX)
		q->cut = true;
	else if (slice_cstr(v->session, q->session[q->sessions], sizeof q->session[0]))
		q->sessions++;
}

static void
event_take(struct query *q, const struct event *v)
{
	size_t at = q->records.n;

	if (v->session.n > 0 ? !session_known(q, v->session) : !event_mentions(v, q->key))
		return;
	if (q->n == QUERY_EVENTS_MAX || !event_encode(v, &q->records)) {
		q->cut = true;
		return;
	}
	q->found[q->n++] = (struct found){v->time_us, at, q->records.n - at};
}

/* By time, and what arrived first of the same moment first. */
static int
compare_found(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->time_us != y->time_us)
		return x->time_us < y->time_us ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

static void
segment_scan(struct query *q)
{
	struct slice rest;
	struct event v;
	struct err e;

	if (journal_read(q->journal, q->next, q->since_us, &q->segment, &e) != 0) {
		log_event(LOG_WARN, NO_SESSION, "trace-unread", LOG_ERR(&e), LOG_END);
		return;
	}
	rest = buf_slice(&q->segment);
	while (event_decode(&rest, &v)) {
		if (v.time_us < q->since_us)
			continue;
		if (q->pass == PASS_SESSIONS)
			session_note(q, &v);
		else
			event_take(q, &v);
	}
}

bool
query_step(struct query *q)
{
	if (q->pass == PASS_DONE)
		return false;
	if (q->next <= q->last) {
		segment_scan(q);
		q->next++;
		return true;
	}
	q->next = journal_first(q->journal);
	if (q->pass == PASS_SESSIONS) {
		q->pass = PASS_EVENTS;
		return true;
	}
	q->pass = PASS_DONE;
	buf_fini(&q->segment);
	qsort(q->found, q->n, sizeof q->found[0], compare_found);
	return false;
}

bool
query_lines(struct query *q, size_t bytes_max, struct buf *b)
{
	assert(q->pass == PASS_DONE);
	buf_reset(b);
	for (; q->told < q->n; q->told++) {
		const struct found *f = &q->found[q->told];
		struct slice record = slice_sub(buf_slice(&q->records), f->at, f->at + f->n);
		size_t before = b->n;
		struct event v;
		bool ok = event_decode(&record, &v);

		assert(ok);
		if (event_json(&v, b) && b->n <= bytes_max)
			continue;
		b->n = before;
		if (before > 0)
			return true;
		/* A line that no page can hold: its octets all had to be escaped. */
		q->cut = true;
	}
	if (q->cut && buf_put_str(b, "{\"cut\":true}\n"))
		q->cut = false;
	return q->cut;
}
