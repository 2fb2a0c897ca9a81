#include "smtpd/deliver.h"
#include "smtpd/deliver_account.h"
#include "smtpd/deliver_forward.h"

#include "common/config.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "smtpd/deliver_report.h"
#include "smtpd/received.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

static struct job *jobs;
static unsigned job_count;
static bool draining;

/* ---- life ---- */

struct job *
deliver_job_new(void)
{
	struct job *j;

	if (job_count == DELIVER_JOBS_MAX)
		return NULL;
	j = MEM_NEW(struct job);
	j->arena = arena_new(DELIVER_JOB_BYTES_MAX);
	j->message.fd = j->final.fd = j->summary_fd = -1;
	j->began_ms = clock_ms();
	j->next = jobs;
	if (jobs)
		jobs->previous = j;
	jobs = j;
	job_count++;
	return j;
}

static void
end_when_idle(void)
{
	if (job_count > 0)
		return;
	deliver_account_fini();
	role_exit(0);
}

static void
close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

static void
release_spool(struct job *j)
{
	struct edge *queue = role_edge(ROLE_QUEUE, 0);

	for (unsigned i = 0; i < j->spool_count; i++)
		IPC_TELL(queue, SPOOL_DONE, .id = j->spool_ids[i]);
}

void
deliver_job_end(struct job *j)
{
	assert(j->open == 0);
	deliver_compose_free(j);
	release_spool(j);
	close_fd(j->message.fd);
	close_fd(j->final.fd);
	close_fd(j->summary_fd);
	free(j->summary);
	if (j->previous)
		j->previous->next = j->next;
	else
		jobs = j->next;
	if (j->next)
		j->next->previous = j->previous;
	arena_free(&j->arena);
	free(j);
	job_count--;
	if (draining)
		end_when_idle();
}

bool
deliver_job_stale(const struct job *j)
{
	return !j->from_queue && (j->front == NULL || clock_ms() - j->began_ms > DELIVER_STALE_MS);
}

void
deliver_drain(void)
{
	draining = true;
	end_when_idle();
}

void
deliver_job_front_down(const struct edge *front)
{
	for (struct job *j = jobs; j != NULL; j = j->next)
		if (j->front == front)
			j->front = NULL;
}

bool
deliver_draining(void)
{
	return draining;
}

void
deliver_trace_fields(struct job *j, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, LOG_LINE_BYTES_MAX);
	buf_putf(&b, " id=%s", j->queue_id);
	log_put_fields(&b, fields);
	role_trace(slice_str(j->session), event, buf_slice(&b));
	buf_fini(&b);
}

/* ---- the answer ---- */

void
deliver_job_fail(struct job *j, unsigned code, const char *enhanced, const char *text)
{
	if (j->failed)
		return;
	j->failed = true;
	j->reply_code = code;
	j->reply_enhanced = enhanced;
	j->reply_text = text;
}

static void
send_reply(struct edge *front, uint64_t id, unsigned code, const char *enhanced, const char *text)
{
	IPC_TELL(front, DELIVER_REPLY, .id = id, .code = (uint16_t)code,
	    .enhanced = slice_str(enhanced), .text = slice_str(text));
}

void
deliver_job_reply(struct job *j, unsigned code, const char *enhanced, const char *text)
{
	deliver_trace(j, "reply", LOG_NUM("code", code), LOG_CSTR("enhanced", enhanced), LOG_CSTR("text", text),
	    LOG_NUM("ms", clock_ms() - j->began_ms), LOG_END);
	if (j->report) {
		deliver_report_failed(j, code, text);
		return;
	}
	send_reply(j->front, j->front_id, code, enhanced, text);
	deliver_job_end(j);
}

void
deliver_job_reply_failure(struct job *j)
{
	deliver_job_reply(j, j->reply_code, j->reply_enhanced, j->reply_text);
}

void
deliver_job_told(struct job *j)
{
	/* Who missed what he was told takes this for it. */
	send_reply(j->front, j->front_id, 451, "4.3.0", "Not possible for the moment, try again later");
	deliver_job_end(j);
}

void
deliver_job_delivered(struct job *j)
{
	char text[64];

	if (j->recipients) {
		deliver_lmtp_answer(j, true);
		return;
	}
	if (j->report) {
		deliver_report_done(j);
		return;
	}
	(void)snprintf(text, sizeof(text), "Taken as %s", j->queue_id);
	deliver_job_reply(j, 250, "2.0.0", text);
}

/* ---- taking a transaction ---- */

/* Copies the envelope out of its sealed file into the job. */
static bool
read_envelope(struct job *j, int fd)
{
	struct memfd_map map;
	struct slice kept;
	struct err e;
	bool good;

	if (fd < 0 || memfd_map(fd, MEMFD_ANY_SIZE, ENVELOPE_BYTES_MAX, &map, &e) < 0)
		return false;
	good = arena_copy(j->arena, map.octets, &kept) && envelope_decode(kept, j->arena, &j->envelope) &&
	    client_facts_decode(j->envelope.client, &j->client);
	memfd_unmap(&map);
	return good;
}

/* Every address must be one: they end in header fields and in the directory's questions. */
static bool
addresses_good(const struct envelope *e)
{
	struct arena *a = arena_new(ENVELOPE_ADDRESS_BYTES_MAX * 2);
	struct smtp_path path;
	bool good = e->mail_from.n == 0 || smtp_mailbox_parse(e->mail_from, e->smtputf8, a, &path);

	for (uint32_t i = 0; good && i < e->recipient_count; i++) {
		arena_reset(a);
		good = slice_eq_nocase(e->recipients[i], SLICE("postmaster")) ||
		    smtp_mailbox_parse(e->recipients[i], e->smtputf8, a, &path);
	}
	arena_free(&a);
	return good;
}

static bool
take_message(struct job *j, struct msg_DELIVER_MESSAGE *m)
{
	struct err e;

	if (m->message < 0 || m->bytes > config_number(role_config(), OPT_SMTP_MESSAGE_BYTES) ||
	    memfd_size(m->message, &e) != (int64_t)m->bytes)
		return false;
	j->message.fd = m->message;
	j->message.bytes = m->bytes;
	m->message = -1;
	return true;
}

/* LMTP is spoken by one front only, and only where it was asked for. */
static bool
kind_good(const struct job *j)
{
	return !j->envelope.lmtp || (!j->submission && *config_string(role_config(), OPT_LMTP_LISTEN) != '\0');
}

static bool
take_transaction(struct job *j, struct edge *e, struct msg_DELIVER_MESSAGE *m)
{
	if (!slice_cstr(m->session, j->session, sizeof(j->session)))
		return false;
	j->front = e;
	j->front_id = m->id;
	j->submission = edge_peer(e)->role == ROLE_SUBMISSION;
	smtp_queue_id(clock_wall_us() / 1000, j->queue_id);
	if (!read_envelope(j, m->envelope) || !addresses_good(&j->envelope) || !kind_good(j))
		return false;
	j->lmtp = j->envelope.lmtp;
	return take_message(j, m);
}

static const char *
kind_name(const struct job *j)
{
	if (j->submission)
		return "submission";
	return j->lmtp ? "lmtp" : "smtp";
}

static void
trace_take(struct job *j)
{
	char ip[46];

	received_ip_text(j->envelope.client_ip, ip);
	deliver_trace(j, "take", LOG_CSTR("front", kind_name(j)),
	    LOG_CSTR("peer", received_ip_known(j->envelope.client_ip) ? ip : "local"),
	    LOG_STR("helo", j->envelope.helo), LOG_STR("login", j->login), LOG_STR("from", j->envelope.mail_from),
	    LOG_STR("envid", j->envelope.envid), LOG_NUM("ret", j->envelope.ret),
	    LOG_NUM("recipients", j->envelope.recipient_count), LOG_NUM("bytes", j->message.bytes), LOG_END);
}

void
deliver_on_message(struct edge *e, struct msg_DELIVER_MESSAGE *m)
{
	struct job *j = draining ? NULL : deliver_job_new();

	if (j == NULL) {
		send_reply(e, m->id, 451, "4.3.2", "Too much to do, try again later");
		return;
	}
	if (!take_transaction(j, e, m)) {
		log_event(LOG_WARN, m->session, "transaction-malformed",
		    LOG_CSTR("front", role_info(edge_peer(e)->role)->name), LOG_END);
		deliver_job_reply(j, 451, "4.3.0", "Not possible for the moment, try again later");
		return;
	}
	if (j->submission)
		deliver_lease(j, edge_peer(e), m->conn);
	else
		deliver_begin(j);
}

void
deliver_begin(struct job *j)
{
	trace_take(j);
	if (j->submission && j->account == 0)
		/* Never logged in, or the password changed meanwhile: that connection sends nothing more. */
		deliver_job_reply(j, 421, "4.7.0", "The login is no longer valid, connect again");
	else
		deliver_resolve(j);
}

/* ---- the verdict ---- */

void
deliver_trace_decision(struct job *j, enum policy_table t, const struct policy_decision *d, const struct policy_input *in)
{
	struct log_field fields[POLICY_FIELDS];
	struct buf inputs;

	buf_init(&inputs, POLICY_INPUT_BYTES_MAX);
	policy_fields(t, d, in, &inputs, fields);
	deliver_trace_fields(j, "decision", fields);
	buf_fini(&inputs);
}

static void
trace_verdict(struct job *j, const struct policy_input *in)
{
	const struct verdict *v = &j->verdict;

	if (!v->full) {
		deliver_trace(j, "verdict", LOG_CSTR("action", policy_action_name(j->decision->action)),
		    LOG_CSTR("rule", j->decision->rule), LOG_STR("author", v->form.from_address), LOG_END);
		return;
	}
	deliver_trace(j, "verdict", LOG_CSTR("action", policy_action_name(j->decision->action)),
	    LOG_CSTR("rule", j->decision->rule), LOG_CSTR("spf", spf_result_name(v->mail_from.result)),
	    LOG_STR("spf_domain", v->mail_from.domain), LOG_STR("spf_mechanism", v->mail_from.mechanism),
	    LOG_NUM("signatures", v->dkim_count),
	    LOG_CSTR("dkim", v->dkim_count ? dkim_result_name(v->dkim[0].result) : "none"),
	    LOG_STR("dkim_domain", v->dkim_count ? v->dkim[0].domain : SLICE("")),
	    LOG_CSTR("arc", arc_result_name(v->arc.result)),
	    LOG_CSTR("override", in->arc_override ? "arc" : in->dmarc_except ? "local" : ""),
	    LOG_CSTR("dmarc", dmarc_result_name(v->dmarc.result)),
	    LOG_CSTR("policy", dmarc_policy_name(v->dmarc.policy)), LOG_STR("author", v->dmarc.author),
	    LOG_STR("reason", v->dmarc.reason), LOG_STR("record", v->dmarc.record), LOG_END);
}

static struct policy_settings
settings_in_force(void)
{
	const struct config *c = role_config();

	return (struct policy_settings){
	    .dns_defer = config_bool(c, OPT_POLICY_DNS_DEFER),
	    .spf_reject = config_bool(c, OPT_POLICY_SPF_REJECT),
	    .arc_trusted = slice_str(config_string(c, OPT_POLICY_ARC_TRUSTED)),
	    .dmarc_except = slice_str(config_string(c, OPT_POLICY_DMARC_EXCEPT)),
	    .helo_refuse = config_bool(c, OPT_POLICY_HELO_REFUSE),
	    .iprev_junk = config_bool(c, OPT_POLICY_IPREV_JUNK),
	    .header_junk = config_bool(c, OPT_POLICY_HEADER_JUNK),
	    .dnsbl_refuse = (uint32_t)config_number(c, OPT_POLICY_DNSBL_REFUSE),
	    .dnsbl_junk = (uint32_t)config_number(c, OPT_POLICY_DNSBL_JUNK),
	};
}

static bool
postmaster_only(const struct envelope *e)
{
	for (uint32_t i = 0; i < e->recipient_count; i++) {
		struct slice to = e->recipients[i];

		if (!slice_eq_nocase(slice_sub(to, 0, slice_rindex(to, '@')), SLICE("postmaster")))
			return false;
	}
	return true;
}

static struct policy_input
inputs_of(struct job *j)
{
	const struct envelope *e = &j->envelope;
	struct policy_settings settings = settings_in_force();
	struct policy_client client = {
	    .facts = &j->client,
	    .helo = policy_helo_of(e->helo, e->client_ip, slice_str(config_string(role_config(), OPT_HOSTNAME))),
	    .postmaster_only = postmaster_only(e),
	};

	memcpy(client.ip, e->client_ip, sizeof(client.ip));
	if (j->submission) {
		struct policy_input in = policy_input_submission(&j->verdict);

		in.account_spent = deliver_account_count(j);
		return in;
	}
	return j->lmtp ? policy_input_lmtp(&j->verdict, &settings) : policy_input_incoming(&j->verdict, &client, &settings);
}

/* Refuses or defers; a refusal for block lists names them. */
static void
turn_away(struct job *j, const struct policy_decision *d)
{
	struct buf b;
	char text[POLICY_REPLY_BYTES_MAX];

	buf_init(&b, sizeof(text) - 1);
	buf_put_str(&b, d->reply.text);
	for (uint16_t i = 0; d->tells_lists && i < j->client.count; i++)
		if (!j->client.lists[i].white && b.n + j->client.lists[i].zone.n + 1 < sizeof(text)) {
			buf_put_u8(&b, ' ');
			buf_put_slice(&b, j->client.lists[i].zone);
		}
	if (!slice_cstr(buf_slice(&b), text, sizeof(text)))
		text[0] = '\0';
	buf_fini(&b);
	deliver_job_reply(j, d->reply.code, d->reply.enhanced, text);
}

/* What is submitted gets what it lacks before it is stored and signed: fields, and a form that all servers take. */
static bool
is_incomplete(const struct job *j)
{
	return j->verdict.form.date_fields == 0 || j->verdict.form.message_id_fields == 0 ||
	    (j->outside && j->verdict.recoding.count > 0);
}

void
deliver_judge(struct job *j)
{
	if (j->report) {
		deliver_report_judged(j);
		return;
	}
	struct policy_input in = inputs_of(j);
	const struct policy_decision *not_on;
	enum policy_table table = j->submission ? POLICY_SUBMISSION : j->lmtp ? POLICY_LMTP : POLICY_INCOMING;
	const struct policy_decision *d = policy_decide(table, &in);

	j->decision = d;
	trace_verdict(j, &in);
	deliver_trace_decision(j, table, d, &in);
	if (d->action == POLICY_REFUSE || d->action == POLICY_DEFER)
		turn_away(j, d);
	else if ((not_on = deliver_forward_judge(j, &in)) != NULL)
		turn_away(j, not_on);
	else if (j->target_count == 0)
		deliver_lmtp_answer(j, true);
	else if (!j->submission)
		deliver_compose(j);
	else if (!j->completed && is_incomplete(j))
		deliver_complete(j);
	else
		deliver_check_author(j);
}
