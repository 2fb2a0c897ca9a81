/*
 * The role VERIFY: messages from deliver, answers to it, questions to the
 * resolver. Reading a message takes all of the process; waiting for the DNS does not, so a
 * message from a domain with slow servers holds up no other. It ends when deliver says so, which is after a
 * number of messages: what one of them may have done to it ends there too.
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
#define SESSION_BYTES_MAX 64
#define TRACE_BYTES_MAX 4096
#define TRACE_ID_BYTES_MAX 998
/* With a name in its longest form, twice escaped, an event holds it. */
#define PART_BYTES 2400
#define PART_FIELDS_MAX 12
/* Of the signature fields of one check, escaped. More of them are not recorded, and cannot be judged again. */
#define EVIDENCE_BYTES_MAX (24 * 1024)

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

/* Evidence goes to the time line alone: a log would have too much of it. */
static void
record(struct slice session, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, TRACE_BYTES_MAX);
	log_put_fields(&b, fields);
	role_record(session, event, buf_slice(&b));
	buf_fini(&b);
}

/* The fields and a text, in as many events as it needs: "more" says that the text goes on. */
static void
record_text(struct slice session, const char *event, const struct log_field *fields, const char *key, struct slice text)
{
	struct log_field all[PART_FIELDS_MAX];
	size_t n = 0;

	for (; fields[n].key != NULL; n++)
		all[n] = fields[n];
	assert(n + 3 <= PART_FIELDS_MAX);
	do {
		struct slice part = slice_sub(text, 0, PART_BYTES);

		text = slice_sub(text, part.n, text.n);
		all[n] = (struct log_field)LOG_STR(key, part);
		all[n + 1] = (struct log_field)LOG_NUM("more", text.n > 0);
		all[n + 2] = (struct log_field)LOG_END;
		record(session, event, all);
	} while (text.n > 0);
}

static void
record_answer(struct slice session, enum verdict_check check, const struct answers_item *item)
{
	const struct log_field fields[] = {LOG_CSTR("check", verdict_check_name(check)), LOG_STR("name", item->name),
	    LOG_NUM("type", item->type), LOG_CSTR("status", answers_status_name(item->status)), LOG_END};

	record_text(session, "dns", fields, "answer", item->text);
}

static void
record_cut(struct slice session, const char *event, enum verdict_check check)
{
	record(session, event, (const struct log_field[]){LOG_CSTR("check", verdict_check_name(check)), LOG_END});
}

/* What the DNS told the checks. */
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
			record_cut(session, "dns-cut", c);
	}
}

/* In the form of a log field: a hash that is not there is empty. */
static struct slice
hash_text(bool known, const uint8_t hash[32], char text[64])
{
	if (known)
		slice_hex(slice_of(hash, 32), text);
	return slice_of(text, known ? 64 : 0);
}

/* What each signature was judged from beside its key. Past EVIDENCE_BYTES_MAX nothing of them is recorded. */
static void
record_dkim(struct slice session, const struct verify_result *r)
{
	struct buf texts[DKIM_SIGNATURES_MAX];
	size_t octets = 0;

	for (unsigned i = 0; i < r->dkim->count; i++) {
		buf_init(&texts[i], EVIDENCE_BYTES_MAX);
		answers_escape(r->dkim->evidence[i].field, &texts[i]);
		octets += texts[i].failed ? EVIDENCE_BYTES_MAX + 1 : texts[i].n;
	}
	if (octets > EVIDENCE_BYTES_MAX)
		record_cut(session, "input-cut", VERDICT_CHECK_DKIM);
	for (unsigned i = 0; i < r->dkim->count; i++) {
		const struct dkim_evidence *e = &r->dkim->evidence[i];
		char header[64], body[64];
		const struct log_field fields[] = {LOG_NUM("number", i), LOG_NUM("at", r->now),
		    LOG_CSTR("broken", dkim_broken_text(r->dkim->broken)), LOG_NUM("too_long", e->too_long),
		    LOG_STR("header", hash_text(e->hashed, e->header, header)), LOG_STR("body", hash_text(e->hashed, e->body, body)),
		    LOG_NUM("body_octets", e->body_octets), LOG_END};

		if (octets <= EVIDENCE_BYTES_MAX)
			record_text(session, "dkim-input", fields, "field", buf_slice(&texts[i]));
		buf_fini(&texts[i]);
	}
}

static void
record_arc_hash(struct slice session, const char *of, const uint8_t hash[32])
{
	char text[64];

	record(session, "arc-hash", (const struct log_field[]){LOG_CSTR("of", of), LOG_STR("hash", hash_text(true, hash, text)), LOG_END});
}

static void
record_arc(struct slice session, const struct verify_result *r)
{
	const struct arc_evidence *e = r->arc;
	struct buf author, text;
	char instance[16];

	/* A longer one is no domain that anybody could speak for. */
	buf_init(&author, 3 * DNS_NAME_BYTES_MAX);
	buf_init(&text, EVIDENCE_BYTES_MAX);
	answers_escape(slice_sub(r->verdict->form.from_domain, 0, DNS_NAME_BYTES_MAX), &author);
	answers_escape(e->fields, &text);
	const struct log_field fields[] = {LOG_NUM("at", r->now), LOG_STR("author", buf_slice(&author)), LOG_NUM("large", e->large),
	    LOG_END};

	for (unsigned i = 0; i < 2; i++)
		if (e->has_body[i])
			record_arc_hash(session, i == 0 ? "simple" : "relaxed", e->body[i]);
	for (unsigned i = 0; i < ARC_SETS_MAX; i++) {
		(void)snprintf(instance, sizeof instance, "%u", i + 1);
		if (e->has_message[i])
			record_arc_hash(session, instance, e->message[i]);
	}
	if (e->cut || text.failed)
		record_cut(session, "input-cut", VERDICT_CHECK_ARC);
	else
		record_text(session, "arc-input", fields, "fields", buf_slice(&text));
	buf_fini(&text);
	buf_fini(&author);
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

static void
trace_arc(struct slice session, const struct arc_outcome *o)
{
	struct buf sealers;

	if (o->result == ARC_RESULT_NONE)
		return;
	buf_init(&sealers, ARC_SEALERS_MAX * (DKIM_TAG_BYTES_MAX + 2));
	arc_sealers_text(o, &sealers);
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
	record_dkim(session, r);
	if (v->arc.result != ARC_RESULT_NONE)
		record_arc(session, r);
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
	IPC_TELL(e, VERIFY_REPLY, .id = id, .class = err->class, .text = slice_str(err->client), .sha256 = none,
	    .verdict = none, .summary = -1);
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
	IPC_TELL(j->edge, VERIFY_REPLY, .id = j->id, .class = ERR_NONE, .bytes = j->bytes,
	    .sha256 = slice_of(r->sha256, sizeof r->sha256), .verdict = r->encoded, .summary = summary);
	(void)close(summary);
}

/* ---- jobs ---- */

static void
leave_when_due(void)
{
	if (job_count == 0 && draining)
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

static void
on_leave(struct edge *e, struct msg_VERIFY_LEAVE *m)
{
	(void)e;
	(void)m;
	on_drain();
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
	static const struct ipc_dispatch from_deliver = {.VERIFY_MESSAGE = on_message, .VERIFY_LEAVE = on_leave};
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
