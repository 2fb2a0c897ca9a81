/*
 * Role SIGN: DKIM signatures for messages that leave. It parses the header of a user's message, so it has no path, no
 * socket and no key: the key role does the private operation.
 */
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"
#include "smtpd/sign.h"

#include <assert.h>
#include <stdlib.h>

/* More than deliver has jobs; each waits for the key role, which answers in milliseconds. */
#define JOBS_MAX 2048
#define SESSION_BYTES_MAX 64
#define TRACE_BYTES_MAX 2048

struct job {
	struct job *next;
	struct edge *edge; /* NULL: nobody waits for it any more */
	struct sign *sign;
	uint64_t id;
	uint8_t session[SESSION_BYTES_MAX];
	size_t session_n;
	bool ended;
};

static struct job *jobs;
static unsigned job_count;
static bool draining;
static struct loop_timer *reaper;

/* ---- answers ---- */

static void
answer(struct edge *e, uint64_t id, const struct sign_result *r)
{
	struct slice text = slice_str(r->err.class == ERR_NONE ? r->why : r->err.client);

	/* A full edge: deliver's deadline passes, and it asks again. */
	IPC_TELL(e, SIGN_REPLY, .id = id, .class = r->err.class, .text = text,
	    .sha256 = slice_of(r->sha256, r->fields.n > 0 ? sizeof r->sha256 : 0), .fields = r->fields);
}

static void
trace(struct slice session, const struct sign_result *r)
{
	struct buf b;

	buf_init(&b, TRACE_BYTES_MAX);
	log_put_fields(&b, (const struct log_field[]){LOG_STR("domain", r->domain), LOG_NUM("signatures", r->signatures),
			       LOG_CSTR("reason", r->why), LOG_END});
	role_trace(session, "sign", buf_slice(&b));
	buf_fini(&b);
}

/* ---- jobs ---- */

/* Frees what has ended; not from inside the job's own callback. */
static void
reap(void *arg)
{
	struct job **at = &jobs;

	(void)arg;
	while (*at != NULL) {
		struct job *j = *at;

		if (!j->ended) {
			at = &j->next;
			continue;
		}
		*at = j->next;
		sign_free(&j->sign);
		free(j);
		assert(job_count > 0);
		job_count--;
	}
	if (draining && job_count == 0)
		role_exit(0);
}

static void
end(struct job *j)
{
	j->ended = true;
	loop_timer_set(reaper, 0);
}

static void
on_done(void *arg, const struct sign_result *r)
{
	struct job *j = arg;
	struct slice session = slice_of(j->session, j->session_n);

	if (r->err.class != ERR_NONE)
		log_event(LOG_WARN, session, "sign-failed", LOG_ERR(&r->err), LOG_END);
	else
		trace(session, r);
	if (j->edge != NULL)
		answer(j->edge, j->id, r);
	end(j);
}

static void
on_message(struct edge *e, struct msg_SIGN_MESSAGE *m)
{
	struct sign_result refusal = {.why = ""};

	if (job_count == JOBS_MAX || m->message < 0) {
		err_set(&refusal.err, ERR_TEMP, ERR_CODE_UNAVAILABLE, "too many messages are being signed", NULL);
		answer(e, m->id, &refusal);
		return;
	}
	struct job *j = MEM_NEW(struct job);

	j->edge = e;
	j->id = m->id;
	j->session_n = m->session.n < SESSION_BYTES_MAX ? m->session.n : SESSION_BYTES_MAX;
	memcpy(j->session, m->session.p, j->session_n);
	j->next = jobs;
	jobs = j;
	job_count++;
	j->sign = sign_new(m->message, m->bytes, on_done, j);
	m->message = -1;
	sign_start(j->sign, m->domain);
}

static void
on_edge_down(struct edge *e)
{
	for (struct job *j = jobs; j != NULL; j = j->next)
		if (j->edge == e) {
			j->edge = NULL;
			end(j);
		}
}

static void
on_drain(void)
{
	draining = true;
	if (job_count == 0)
		role_exit(0);
}

static int
init(struct err *e)
{
	(void)e;
	sign_global_init();
	reaper = loop_timer_new(role_loop(), reap, NULL);
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_deliver = {.SIGN_MESSAGE = on_message};
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
	    .role = ROLE_SIGN,
	    .dispatch = {[ROLE_DELIVER] = &from_deliver, [ROLE_KEY] = &sign_from_key, [ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_edge_down = on_edge_down,
	    .on_drain = on_drain,
	};

	return role_main(argc, argv, &spec);
}
