/*
 * The edge to the queue. A job lives from TRANSPORT_SEND until TRANSPORT_TAKEN says that its result is durable; when the queue ends in
 * between, the next one is told of all that is left, before it gives anything (TRANSPORT_HELD, TRANSPORT_ROOM, then the results).
 */
#include "smtpd/transport.h"

#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>

static struct transport_job *jobs;

unsigned
transport_job_count(void)
{
	unsigned n = 0;

	for (const struct transport_job *j = jobs; j != NULL; j = j->next)
		n++;
	return n;
}

static void
send_result(struct edge *e, struct transport_job *job)
{
	job->told = IPC_TELL(e, TRANSPORT_RESULT, .id = job->id, .queue_id = slice_str(job->queue_id), .reached = (uint8_t)job->outcome,
	    .results = buf_slice(&job->results));
}

void
transport_queue_result(struct transport_job *job)
{
	struct edge *e = role_edge(ROLE_QUEUE, 0);

	if (e != NULL)
		send_result(e, job);
}

void
transport_queue_dot(const struct transport_job *job)
{
	struct edge *e = role_edge(ROLE_QUEUE, 0);

	IPC_TELL(e, TRANSPORT_DOT, .id = job->id, .queue_id = slice_str(job->queue_id));
}

static void
send_room(struct edge *e, uint64_t pieces)
{
	IPC_TELL(e, TRANSPORT_ROOM, .pieces = (uint32_t)pieces);
}

void
transport_queue_up(struct edge *e)
{
	for (const struct transport_job *j = jobs; j != NULL; j = j->next)
		IPC_TELL(e, TRANSPORT_HELD, .id = j->id, .queue_id = slice_str(j->queue_id), .destination = slice_str(j->destination),
		    .dot = j->dot);
	send_room(e, transport_draining() ? 0 : config_number(role_config(), OPT_TRANSPORT_CONNECTIONS));
	for (struct transport_job *j = jobs; j != NULL; j = j->next)
		if (j->ended)
			send_result(e, j);
}

void
transport_queue_drained(struct edge *e)
{
	for (struct transport_job *j = jobs; j != NULL; j = j->next)
		if (j->ended && !j->told)
			send_result(e, j);
}

void
transport_queue_drain(void)
{
	struct edge *e = role_edge(ROLE_QUEUE, 0);

	if (e != NULL)
		send_room(e, 0);
	for (struct transport_job *j = jobs, *next; j != NULL; j = next) {
		next = j->next;
		transport_job_return(j);
	}
}

/* ---- from the queue ---- */

/* False when the piece is not what it should be. */
static bool
job_fill(struct transport_job *job, const struct msg_TRANSPORT_SEND *m)
{
	struct slice item;

	if (!slice_cstr(m->session, job->session, sizeof job->session) || !slice_cstr(m->queue_id, job->queue_id, sizeof job->queue_id) ||
	    !slice_cstr(m->destination, job->destination, sizeof job->destination) || m->destination.n == 0 || m->message < 0)
		return false;
	if (!arena_copy(job->arena, m->item, &item) || !queue_item_decode(item, job->arena, &job->item) || job->item.skip > m->bytes)
		return false;
	job->message.item = &job->item;
	job->fresh = m->fresh != 0;
	job->message.from = job->item.skip;
	job->message.to = m->bytes;
	job->message.outcomes = calloc(job->item.count, sizeof *job->message.outcomes);
	if (job->message.outcomes == NULL)
		abort();
	return true;
}

static void
on_send(struct edge *e, struct msg_TRANSPORT_SEND *m)
{
	struct transport_job *job = MEM_NEW(struct transport_job);

	job->id = m->id;
	job->arena = arena_new(TRANSPORT_ITEM_ARENA_BYTES);
	job->message.fd = -1;
	buf_init(&job->results, QUEUE_ITEM_BYTES_MAX);
	if (!job_fill(job, m)) {
		log_event(LOG_ERROR, m->session, "transport-piece-unreadable", LOG_STR("id", m->queue_id), LOG_END);
		job->outcome = TRANSPORT_RETURNED;
		send_result(e, job);
		transport_job_free(&job);
		return;
	}
	job->message.fd = m->message;
	m->message = -1;
	job->next = jobs;
	jobs = job;
	if (transport_draining())
		transport_job_return(job);
	else
		transport_job_start(job);
}

static void
on_taken(struct edge *e, struct msg_TRANSPORT_TAKEN *m)
{
	(void)e;
	for (struct transport_job **at = &jobs; *at != NULL; at = &(*at)->next)
		if ((*at)->id == m->id && (*at)->ended) {
			struct transport_job *job = *at;

			*at = job->next;
			transport_job_free(&job);
			break;
		}
	transport_leave_when_done();
}

const struct ipc_dispatch transport_from_queue = {.TRANSPORT_SEND = on_send, .TRANSPORT_TAKEN = on_taken};
