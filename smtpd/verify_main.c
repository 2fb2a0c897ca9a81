/*
 * The role VERIFY: messages from deliver, answers to it, questions to the
 * resolver. Reading a message takes all of the process; waiting for the DNS does not, so a
 * message from a domain with slow servers holds up no other. After JOBS_BEFORE_RENEWAL messages it
 * ends as soon as it is idle: what a message may have done to it ends there too.
 */
#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/role.h"
#include "common/summary.h"
#include "smtpd/answers.h"
#include "smtpd/facts.h"
#include "smtpd/received.h"
#include "smtpd/verdict.h"
#include "smtpd/verify.h"

#include <assert.h>
#include <unistd.h>

/* Twice what deliver has under way with one process, since what has ended is freed a moment later. */
#define JOBS_MAX 128
#define JOBS_BEFORE_RENEWAL 1000
#define SESSION_BYTES_MAX 64
#define TRACE_BYTES_MAX 4096
#define TRACE_ID_BYTES_MAX 998
/* With a name in its longest form, twice escaped, an event holds it. */
#define ANSWER_PART_BYTES 2400

struct job {
	struct job *next;
	struct edge *edge; /* NULL: nobody waits for it any more */
	struct verify *verify;
	uint64_t id;
	uint64_t bytes;
	uint8_t session[SESSION_BYTES_MAX];
	size_t session_n;
	bool ended;
};

static struct job *jobs;
static unsigned job_count;
static unsigned jobs_done;
static bool draining;
static struct loop_timer *reaper;

/* ---- the time line ---- */

static void
trace(struct slice session, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, TRACE_BYTES_MAX);
	log_put_fields(&b, fields);
	role_trace(session, event, buf_slice(&b));
	buf_fini(&b);
}

/* What people have in their hands when they ask about a message. */
static void
trace_message(struct slice session, struct slice encoded)
{
	struct summary m;

	if (!summary_decode(encoded, &m))
		return;
	const struct log_field fields[] = {LOG_STR("message_id", slice_sub(m.message_id, 0, TRACE_ID_BYTES_MAX)),
	    LOG_NUM("bytes", m.octets), LOG_END};

	trace(session, "message", fields);
}

/* With what it began with, so that it can be run again (admin/replay.h). Of a null path it is the check of HELO. */
static void
trace_spf(struct slice session, enum verdict_check check, const struct verdict_spf *s, const struct verify_result *r)
{
	const struct facts *f = r->facts;
	bool own = r->answers[check] != NULL;
	struct slice local = check == VERDICT_CHECK_MAIL_FROM ? r->local : slice_of(NULL, 0);
	struct buf escaped;
	char ip[46];

	received_ip_text(f->client_ip, ip);
	buf_init(&escaped, 3 * FACTS_TEXT_BYTES_MAX);
	answers_escape(local, &escaped);
	const struct log_field fields[] = {LOG_CSTR("identity", verdict_check_name(check)), LOG_STR("domain", s->domain),
	    LOG_CSTR("result", spf_result_name(s->result)), LOG_STR("mechanism", s->mechanism),
	    LOG_STR("explanation", s->explanation),
	    LOG_CSTR("check", verdict_check_name(own ? check : VERDICT_CHECK_HELO)), LOG_CSTR("ip", ip),
	    LOG_STR("local", buf_slice(&escaped)), LOG_STR("helo", f->helo), LOG_STR("receiver", f->hostname), LOG_END};

	trace(session, "spf", fields);
	buf_fini(&escaped);
}

/* One answer, in as many events as it needs: "more" says that the text goes on. */
static void
record_answer(struct slice session, enum verdict_check check, const struct answers_item *item)
{
	struct slice rest = item->text;
	struct buf b;

	buf_init(&b, TRACE_BYTES_MAX);
	do {
		struct slice part = slice_sub(rest, 0, ANSWER_PART_BYTES);

		rest = slice_sub(rest, part.n, rest.n);
		const struct log_field fields[] = {LOG_CSTR("check", verdict_check_name(check)), LOG_STR("name", item->name),
		    LOG_NUM("type", item->type), LOG_CSTR("status", answers_status_name(item->status)), LOG_STR("answer", part),
		    LOG_NUM("more", rest.n > 0), LOG_END};

		buf_reset(&b);
		log_put_fields(&b, fields);
		role_record(session, "dns", buf_slice(&b));
	} while (rest.n > 0);
	buf_fini(&b);
}

static void
record_cut(struct slice session, enum verdict_check check)
{
	struct buf b;

	buf_init(&b, TRACE_BYTES_MAX);
	log_put_fields(&b, (const struct log_field[]){LOG_CSTR("check", verdict_check_name(check)), LOG_END});
	role_record(session, "dns-cut", buf_slice(&b));
	buf_fini(&b);
}

/* What the checks were told: evidence, of which a log would have too much. */
static void
record_answers(struct slice session, const struct verify_result *r)
{
	for (enum verdict_check c = VERDICT_CHECK_HELO; c < VERDICT_CHECKS; c++) {
		const struct answers *a = r->answers[c];

		for (unsigned i = 0; a != NULL && i < answers_count(a); i++) {
			struct answers_item item = answers_item(a, i);

			record_answer(session, c, &item);
		}
		if (a != NULL && answers_cut(a))
			record_cut(session, c);
	}
}

static void
trace_dkim(struct slice session, const struct dkim_signature *s)
{
	const struct log_field fields[] = {LOG_STR("domain", s->domain), LOG_STR("selector", s->selector),
	    LOG_CSTR("result", dkim_result_name(s->result)), LOG_STR("reason", s->reason),
	    LOG_STR("algorithm", s->algorithm), LOG_NUM("key_bits", s->key_bits), LOG_NUM("testing", s->testing),
	    LOG_END};

	trace(session, "dkim", fields);
}

/* The sealers from the newest, with a "+" where they say that DMARC passed. */
static void
trace_arc(struct slice session, const struct arc_outcome *o)
{
	struct buf sealers;

	if (o->result == ARC_RESULT_NONE)
		return;
	buf_init(&sealers, ARC_SEALERS_MAX * (DKIM_TAG_BYTES_MAX + 2));
	for (unsigned i = 0; i < o->sealer_count; i++) {
		if (i > 0)
			buf_put_u8(&sealers, ' ');
		buf_put_slice(&sealers, o->sealers[i].domain);
		buf_put_str(&sealers, o->sealers[i].dmarc_pass ? "+" : "");
	}
	const struct log_field fields[] = {LOG_CSTR("result", arc_result_name(o->result)), LOG_NUM("sets", o->sets),
	    LOG_NUM("oldest_pass", o->oldest_pass), LOG_STR("sealers", buf_slice(&sealers)), LOG_STR("reason", o->reason), LOG_END};

	trace(session, "arc", fields);
	buf_fini(&sealers);
}

static void
trace_dmarc(struct slice session, const struct verdict_dmarc *d)
{
	const struct log_field fields[] = {LOG_STR("author", d->author),
	    LOG_CSTR("result", dmarc_result_name(d->result)), LOG_CSTR("policy", dmarc_policy_name(d->policy)),
	    LOG_NUM("spf_aligned", d->spf_aligned), LOG_NUM("dkim_aligned", d->dkim_aligned), LOG_STR("org", d->org),
	    LOG_STR("policy_domain", d->policy_domain), LOG_STR("record", d->record), LOG_STR("reason", d->reason),
	    LOG_END};

	trace(session, "dmarc", fields);
}

static void
trace_verdict(struct slice session, const struct verify_result *r)
{
	const struct verdict *v = r->verdict;

	if (!v->full)
		return;
	record_answers(session, r);
	trace_spf(session, VERDICT_CHECK_HELO, &v->helo, r);
	trace_spf(session, VERDICT_CHECK_MAIL_FROM, &v->mail_from, r);
	for (uint16_t i = 0; i < v->dkim_count; i++)
		trace_dkim(session, &v->dkim[i]);
	trace_arc(session, &v->arc);
	trace_dmarc(session, &v->dmarc);
}

/* ---- answers ---- */

static void
refuse(struct edge *e, uint64_t id, const struct err *err)
{
	struct slice none = slice_of(NULL, 0);

	/* A full edge: deliver's deadline passes, and it asks again. */
	if (!IPC_SEND(e, VERIFY_REPLY, .id = id, .class = err->class, .text = slice_str(err->client), .sha256 = none,
		.verdict = none, .summary = -1))
		log_event(LOG_WARN, NO_SESSION, "verify-reply-lost", LOG_ERR(err), LOG_END);
}

static void
answer(struct job *j, const struct verify_result *r)
{
	struct slice session = slice_of(j->session, j->session_n);
	struct err err = r->err;
	int summary = -1;

	if (err.class == ERR_NONE)
		summary = memfd_of(r->summary, &err);
	if (err.class != ERR_NONE) {
		log_event(LOG_WARN, session, "verify-failed", LOG_ERR(&err), LOG_END);
		refuse(j->edge, j->id, &err);
		return;
	}
	trace_message(session, r->summary);
	trace_verdict(session, r);
	if (!IPC_SEND(j->edge, VERIFY_REPLY, .id = j->id, .class = ERR_NONE, .bytes = j->bytes,
		.sha256 = slice_of(r->sha256, sizeof r->sha256), .verdict = r->encoded, .summary = summary))
		log_event(LOG_WARN, session, "verify-reply-lost", LOG_END);
	(void)close(summary);
}

/* ---- jobs ---- */

static void
leave_when_due(void)
{
	if (job_count == 0 && (draining || jobs_done >= JOBS_BEFORE_RENEWAL))
		role_exit(0);
}

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
		verify_free(&j->verify);
		free(j);
		assert(job_count > 0);
		job_count--;
		jobs_done++;
	}
	leave_when_due();
}

static void
on_done(void *arg, const struct verify_result *r)
{
	struct job *j = arg;

	if (j->edge != NULL)
		answer(j, r);
	j->ended = true;
	loop_timer_set(reaper, 0);
}

static void
start_job(struct edge *e, const struct msg_VERIFY_MESSAGE *m, struct slice facts)
{
	struct job *j = MEM_NEW(struct job);
	struct verify_request q = {.facts = facts, .message = m->message, .bytes = m->bytes, .full = m->full != 0,
	    .timeout_ms = config_number(role_config(), OPT_VERIFY_TIMEOUT)};

	j->edge = e;
	j->id = m->id;
	j->bytes = m->bytes;
	j->session_n = m->session.n < SESSION_BYTES_MAX ? m->session.n : SESSION_BYTES_MAX;
	memcpy(j->session, m->session.p, j->session_n);
	j->next = jobs;
	jobs = j;
	job_count++;
	j->verify = verify_new(role_loop(), dns_client(), on_done, j);
	verify_start(j->verify, &q);
}

static void
on_message(struct edge *e, struct msg_VERIFY_MESSAGE *m)
{
	struct memfd_map facts;
	struct err err;

	if (job_count >= JOBS_MAX) {
		err_set(&err, ERR_TEMP, ERR_CODE_UNAVAILABLE, "too many messages are being checked", NULL);
		refuse(e, m->id, &err);
		return;
	}
	if (m->message < 0 || m->facts < 0) {
		err_set(&err, ERR_PERM, ERR_CODE_MALFORMED, "no message", NULL);
		refuse(e, m->id, &err);
		return;
	}
	if (memfd_map(m->facts, MEMFD_ANY_SIZE, FACTS_BYTES_MAX, &facts, &err) < 0) {
		refuse(e, m->id, &err);
		return;
	}
	start_job(e, m, facts.octets);
	memfd_unmap(&facts);
}

static void
on_edge_down(struct edge *e)
{
	for (struct job *j = jobs; j != NULL; j = j->next)
		if (j->edge == e) {
			j->edge = NULL;
			j->ended = true;
			loop_timer_set(reaper, 0);
		}
}

static void
on_drain(void)
{
	draining = true;
	leave_when_due();
}

static int
init(struct err *e)
{
	(void)e;
	verify_global_init();
	reaper = loop_timer_new(role_loop(), reap, NULL);
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_deliver = {.VERIFY_MESSAGE = on_message};
	static const struct ipc_dispatch from_resolver = {.DNS_ANSWER = dns_client_answer};
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
		.role = ROLE_VERIFY,
		.dispatch = {[ROLE_DELIVER] = &from_deliver,
			[ROLE_RESOLVER] = &from_resolver,
			[ROLE_RECORDER] = &from_recorder},
		.init = init,
		.on_edge_down = on_edge_down,
		.on_drain = on_drain,
	};

	return role_main(argc, argv, &spec);
}
