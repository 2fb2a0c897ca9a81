/*
 * The recorder role: it writes down what every role reports of its decisions,
 * and answers `mailstead explain`. Nobody waits for it: events come without an
 * answer, are gathered in memory and written in batches, never synced.
 */
#include "common/control.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"
#include "traced/query.h"

#include <assert.h>
#include <limits.h>

#define EXPIRE_MS 60000
/* Questions that wait; one is worked on at a time. */
#define QUESTIONS_MAX 32
/* Of TRACE_LINES' 65536. */
#define PAGE_BYTES_MAX 60000

struct question {
	struct edge *asker;
	uint64_t id;
	struct query *query;
};

static struct {
	struct journal *journal;
	struct control *control;
	struct loop_timer *flush;
	struct loop_timer *expire;
	struct loop_timer *work;
	bool flush_armed;
	uint64_t dropped_told;
	struct question question[QUESTIONS_MAX]; /* the first one is worked on */
	unsigned questions;
	struct buf page;
} me;

/* ---- events ---- */

static void
flush_now(void)
{
	struct err e;

	if (journal_flush(me.journal, &e) != 0 && journal_dropped(me.journal) != me.dropped_told) {
		log_event(LOG_ERROR, NO_SESSION, "trace-lost",
		    LOG_NUM("events", journal_dropped(me.journal) - me.dropped_told), LOG_ERR(&e),
		    LOG_END);
		me.dropped_told = journal_dropped(me.journal);
	}
}

static void
on_flush(void *arg)
{
	(void)arg;
	me.flush_armed = false;
	flush_now();
}

static void
on_event(struct edge *e, struct msg_TRACE_EVENT *m)
{
	const struct edge_peer *peer = edge_peer(e);
	struct event v = {m->time_us, peer->role, peer->instance, m->session, m->event, m->fields};

	(void)journal_add(me.journal, &v);
	if (!me.flush_armed && journal_pending(me.journal)) {
		me.flush_armed = true;
		loop_timer_set(me.flush, JOURNAL_FLUSH_MS);
	}
}

static void
on_expire(void *arg)
{
	(void)arg;
	journal_expire(me.journal, clock_wall_us());
	loop_timer_set(me.expire, EXPIRE_MS);
}

/* ---- questions ---- */

static void
question_remove(unsigned i)
{
	assert(i < me.questions);
	query_free(&me.question[i].query);
	me.questions--;
	memmove(&me.question[i], &me.question[i + 1], (me.questions - i) * sizeof me.question[0]);
}

/* The lines of the first question, page by page: they fit into the edge's queue (QUERY_BYTES_MAX is
 * below it). */
static void
first_answer(void)
{
	struct question *q = &me.question[0];
	bool more;

	do {
		more = query_lines(q->query, PAGE_BYTES_MAX, &me.page);
		if (!IPC_TELL(q->asker, TRACE_LINES, .id = q->id, .more = more, .json = buf_slice(&me.page)))
			return;
	} while (more);
}

static void
on_work(void *arg)
{
	(void)arg;
	if (me.questions == 0)
		return;
	if (!query_step(me.question[0].query)) {
		first_answer();
		question_remove(0);
	}
	if (me.questions > 0)
		loop_timer_set(me.work, 0);
}

static void
on_query(struct edge *e, struct msg_TRACE_QUERY *m)
{
	if (me.questions == QUESTIONS_MAX) {
		bool sent = IPC_SEND(
		    e, TRACE_LINES, .id = m->id, .json = SLICE("{\"cut\":true}\n"));

		log_event(LOG_WARN, NO_SESSION, "question-refused", LOG_NUM("told", sent), LOG_END);
		return;
	}
	me.question[me.questions++] = (struct question){
	    e, m->id, query_new(me.journal, m->key, m->since_us)};
	if (me.questions == 1)
		loop_timer_set(me.work, 0);
}

static void
on_asker_gone(struct edge *e, void *arg)
{
	(void)arg;
	for (unsigned i = me.questions; i-- > 0;) {
		if (me.question[i].asker == e)
			question_remove(i);
	}
}

static const struct ipc_dispatch from_admin = {.TRACE_QUERY = on_query};

static void
on_listener(const char *name, int fd)
{
	(void)name;
	me.control = control_new(role_loop(), fd, ROLE_RECORDER, &from_admin, on_asker_gone, NULL);
}

/* ---- the role ---- */

static struct journal_limits
limits(void)
{
	return (struct journal_limits){
	    .bytes_max = config_number(role_config(), OPT_TRACE_BYTES),
	    .age_us_max = config_number(role_config(), OPT_TRACE_AGE) * 1000,
	};
}

static int
init(struct err *e)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/trace", role_state_dir());

	if (n < 0 || (size_t)n >= sizeof path)
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "path too long", NULL);
	if (journal_open(path, limits(), &me.journal, e) != 0)
		return -1;
	buf_init(&me.page, 2 * PAGE_BYTES_MAX);
	me.flush = loop_timer_new(role_loop(), on_flush, NULL);
	me.expire = loop_timer_new(role_loop(), on_expire, NULL);
	me.work = loop_timer_new(role_loop(), on_work, NULL);
	on_expire(NULL);
	return 0;
}

static void
on_reload(void)
{
	journal_set_limits(me.journal, limits());
	journal_expire(me.journal, clock_wall_us());
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch events = {.TRACE_EVENT = on_event};
	static struct role_spec spec = {
	    .role = ROLE_RECORDER,
	    .init = init,
	    .on_listener = on_listener,
	    .on_reload = on_reload,
	};
	int status;

	for (unsigned r = 0; r < ROLE_COUNT; r++) {
		if (r != ROLE_SUPERVISOR && r != ROLE_ADMIN && r != ROLE_RECORDER)
			spec.dispatch[r] = &events;
	}
	status = role_main(argc, argv, &spec);
	journal_close(&me.journal);
	return status;
}
