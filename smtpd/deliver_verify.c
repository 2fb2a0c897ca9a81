/*
 * The pool of verify processes. Each judges a bounded number of messages at a time; the others stand in line in
 * the order they came. A process that ends takes its messages back into the line, once: a message that has
 * ended two of them is deferred, so that a poisonous one cannot keep the pool down. After MESSAGES_BEFORE_RENEWAL
 * a process gets no more, and is told to end when it has answered: what a message may have done to it ends there too.
 */
#include "smtpd/deliver.h"
#include "smtpd/deliver_forward.h"

#include "common/config.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/summary.h"
#include "smtpd/facts.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * verify reads one message at a time, but many may wait for their DNS answers beside each other: with one in flight per
 * process, eight messages from a domain whose servers are silent were measured to hold up everybody else's for 53 s.
 */
#define IN_FLIGHT_MAX 64
#define POOL_MAX 16
#define MESSAGES_BEFORE_RENEWAL 1000

static struct pool_process {
	struct edge *edge;
	unsigned in_flight;
	unsigned given;
	bool leaving;
	bool suspect; /* what is in flight is one message whose first process ended: it has this one to itself */
} pool[POOL_MAX];

static struct job *line_first;
static struct job *line_last;

static void pump(void);

/* ---- the line ---- */

static void
line_put(struct job *j, bool in_front)
{
	j->line_next = in_front ? line_first : NULL;
	if (line_first == NULL)
		line_first = line_last = j;
	else if (in_front)
		line_first = j;
	else
		line_last = line_last->line_next = j;
}

static struct job *
line_take(void)
{
	struct job *j = line_first;

	if (j) {
		line_first = j->line_next;
		if (line_first == NULL)
			line_last = NULL;
	}
	return j;
}

/* ---- the pool ---- */

static struct pool_process *
process_of(const struct edge *e)
{
	for (unsigned i = 0; i < POOL_MAX; i++)
		if (pool[i].edge == e)
			return &pool[i];
	return NULL;
}

/* Takes over the edges that there are now; a new edge begins with nothing in flight. */
static void
pool_refresh(void)
{
	for (unsigned i = 0; i < POOL_MAX; i++) {
		bool alive = false;
		for (unsigned k = 0; k < role_edge_count(ROLE_VERIFY) && !alive; k++)
			alive = role_edge_at(ROLE_VERIFY, k) == pool[i].edge;
		if (!alive)
			pool[i] = (struct pool_process){.edge = NULL};
	}
	for (unsigned k = 0; k < role_edge_count(ROLE_VERIFY); k++) {
		struct edge *e = role_edge_at(ROLE_VERIFY, k);
		struct pool_process *p = process_of(e) ? NULL : process_of(NULL);

		if (p)
			p->edge = e;
	}
}

/* The least busy process that may have j. One that ended a process already must not take others down with the next. */
static struct edge *
free_process(const struct job *j)
{
	unsigned most = j->verify_tries > 0 ? 1 : IN_FLIGHT_MAX;
	struct edge *found = NULL;

	for (unsigned i = 0; i < POOL_MAX; i++)
		if (pool[i].edge && !pool[i].suspect && !pool[i].leaving && pool[i].in_flight < most) {
			most = pool[i].in_flight;
			found = pool[i].edge;
		}
	return found;
}

/* One at a time, while there is another one to take what comes. */
static bool
may_leave(const struct pool_process *p)
{
	unsigned staying = 0;

	for (unsigned i = 0; i < POOL_MAX; i++) {
		if (pool[i].leaving)
			return false;
		if (pool[i].edge && &pool[i] != p)
			staying++;
	}
	return p->given >= MESSAGES_BEFORE_RENEWAL && staying > 0;
}

static void
count_given(struct pool_process *p, const struct job *j)
{
	p->in_flight++;
	p->given++;
	p->suspect = j->verify_tries > 1;
	p->leaving = may_leave(p);
}

/* The process behind e has answered. */
static void
count_answered(const struct edge *e)
{
	struct pool_process *p = process_of(e);

	if (p == NULL || p->in_flight == 0 || --p->in_flight > 0)
		return;
	p->suspect = false;
	/* Were it not sent, it would have more messages, and be told so after them. */
	if (p->leaving)
		p->leaving = IPC_SEND(p->edge, VERIFY_LEAVE, );
}

/* ---- asking ---- */

/* Who sent it is to be found out, unless it is a user of ours or this server itself, or a mail server of this machine has it from
 * somebody else. */
static bool
needs_checks(const struct job *j)
{
	return !j->submission && !j->lmtp && !j->report;
}

/* The facts in a sealed memory file; -1 when that cannot be made. */
static int
facts_file(const struct job *j)
{
	struct slice host = slice_str(config_string(role_config(), OPT_HOSTNAME));
	struct facts f = {
	    .helo = j->envelope.helo,
	    .mail_from = j->envelope.mail_from,
	    .iprev = j->client.iprev,
	    .client_name = j->client.name,
	    .hostname = host,
	    .authserv_id = j->lmtp ? SLICE("") : host,
	    .smtputf8 = j->envelope.smtputf8,
	    .binary = j->envelope.binary,
	    .submission = j->submission,
	};
	struct buf b, marks;
	struct err e;
	int fd;

	buf_init(&marks, FORWARD_MARKS_BYTES_MAX);
	deliver_forward_marks(j, &marks);
	f.marks = buf_slice(&marks);
	memcpy(f.client_ip, j->envelope.client_ip, sizeof(f.client_ip));
	buf_init(&b, FACTS_BYTES_MAX);
	fd = facts_encode(&f, &b) ? memfd_of(buf_slice(&b), &e) : -1;
	buf_fini(&b);
	buf_fini(&marks);
	return fd;
}

static void
give_up(struct job *j)
{
	deliver_job_reply(j, 451, "4.3.0", "The message could not be checked for the moment, try again later");
}

static void
verify_gone(void *obj, const struct err *e)
{
	struct job *j = obj;

	j->open--;
	deliver_trace(j, "verify-lost", LOG_CSTR("why", e->client), LOG_NUM("tries", j->verify_tries), LOG_END);
	if (j->verify_tries < DELIVER_VERIFY_TRIES_MAX)
		line_put(j, true);
	else
		give_up(j);
	/* A process that ended is taken out of the pool when its edge goes; one that let the deadline pass stays counted as
	 * busy, as indeed it is, until it answers. */
	pump();
}

/* False when the process does not take it. */
static bool
ask(struct job *j, struct edge *v, int facts)
{
	uint32_t ms = (uint32_t)config_number(role_config(), OPT_VERIFY_TIMEOUT) + DELIVER_VERIFY_SLACK_MS;
	uint64_t id = ipc_expect(v, ms, verify_gone, j);
	bool sent = id != 0 && IPC_SEND(v, VERIFY_MESSAGE, .id = id, .session = slice_str(j->session),
		.full = needs_checks(j), .bytes = j->message.bytes, .facts = facts, .message = j->message.fd);

	if (!sent && id != 0)
		ipc_forget(v, id);
	if (sent) {
		j->open++;
		j->verify_tries++;
		count_given(process_of(v), j);
	}
	return sent;
}

static void
pump(void)
{
	struct edge *v;

	while (line_first && (v = free_process(line_first)) != NULL) {
		struct job *j = line_take();
		int facts = deliver_job_stale(j) ? -1 : facts_file(j);

		if (facts < 0) {
			give_up(j);
			continue;
		}
		if (!ask(j, v, facts)) {
			/* It has ended, which we are about to hear: no more for it, the message for the next. */
			process_of(v)->leaving = true;
			line_put(j, true);
		}
		(void)close(facts);
	}
}

void
deliver_verify(struct job *j)
{
	line_put(j, false);
	pump();
}

void
deliver_verify_edges_changed(void)
{
	pool_refresh();
	pump();
}

/* ---- the answer ---- */

/* Copies the summary: its prefix is to be set, and what is stored must not change under our hands. */
static bool
take_summary(struct job *j, int fd)
{
	struct memfd_map map;
	struct summary s;
	struct err e;
	bool good;

	if (fd < 0 || memfd_map(fd, MEMFD_ANY_SIZE, SUMMARY_BYTES_MAX, &map, &e) < 0)
		return false;
	good = summary_decode(map.octets, &s);
	if (good) {
		free(j->summary);
		j->summary_bytes = map.octets.n;
		j->summary = mem_new_array(map.octets.n, 1);
		memcpy(j->summary, map.octets.p, map.octets.n);
	}
	memfd_unmap(&map);
	return good;
}

/* What verify read must be what we have; its own words are taken only when they are well formed. */
static bool
take_verdict(struct job *j, const struct msg_VERIFY_REPLY *m)
{
	struct slice kept;

	if (m->bytes != j->message.bytes || m->sha256.n != sizeof(j->message.sha256))
		return false;
	memcpy(j->message.sha256, m->sha256.p, m->sha256.n);
	return arena_copy(j->arena, m->verdict, &kept) && verdict_decode(kept, &j->verdict) &&
	    j->verdict.full == needs_checks(j) && take_summary(j, m->summary);
}

void
deliver_on_verified(struct edge *e, struct msg_VERIFY_REPLY *m)
{
	struct job *j = ipc_answered(e, m->id);

	/* Also for an answer that comes after its deadline: the process has room again. */
	count_answered(e);
	if (j != NULL) {
		j->open--;
		if (m->class == ERR_NONE && take_verdict(j, m)) {
			deliver_judge(j);
		} else {
			deliver_trace(j, "verify-failed", LOG_NUM("class", m->class), LOG_STR("text", m->text), LOG_END);
			give_up(j);
		}
	}
	pump();
}
