/*
 * A session's messages come one after the other: what verify says of one begins with "message", and deliver's "decision" ends it. So what
 * a decision came from is what stands between the two, in the same session.
 */
#include "admin/replay.h"

#include "admin/replay_check.h"
#include "common/mem.h"
#include "smtpd/policy.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* What stands before one decision. */
struct evidence {
	const json_t *rows;
	const char *session;
	size_t first, end; /* its rows, and others' among them */
	json_t *spf[2];	   /* VERDICT_CHECK_HELO, VERDICT_CHECK_MAIL_FROM; NULL: none */
	json_t *dmarc;
	bool cut[VERDICT_CHECKS];
	struct verdict verdict; /* what is known of it, for DMARC's identifiers */
	bool same;
};

struct run {
	struct replay_check check;
	bool open, failed;
};

static const char *
text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text != NULL ? text : "";
}

static const char *
field(const json_t *row, const char *key)
{
	return text_of(json_object_get(row, "fields"), key);
}

static bool
is_event(const json_t *row, const char *session, const char *event)
{
	return strcmp(text_of(row, "session"), session) == 0 && strcmp(text_of(row, "event"), event) == 0;
}

static enum spf_result
spf_named(const char *name)
{
	enum spf_result r = SPF_RESULT_NONE;

	while (r + 1 < SPF_RESULT_COUNT && strcmp(spf_result_name(r), name) != 0)
		r++;
	return r;
}

static enum dkim_result
dkim_named(const char *name)
{
	enum dkim_result r = 0;

	while (r + 1 < DKIM_RESULT_COUNT && strcmp(dkim_result_name(r), name) != 0)
		r++;
	return r;
}

/* VERDICT_CHECKS for a word that is none. */
static unsigned
check_named(const char *name)
{
	unsigned c = 0;

	while (c < VERDICT_CHECKS && strcmp(verdict_check_name((enum verdict_check)c), name) != 0)
		c++;
	return c;
}

/* ---- what there is ---- */

static void
take_row(struct evidence *e, json_t *row)
{
	struct verdict *v = &e->verdict;
	unsigned check;

	if (is_event(row, e->session, "spf")) {
		check = check_named(field(row, "identity"));
		if (check <= VERDICT_CHECK_MAIL_FROM)
			e->spf[check] = row;
	} else if (is_event(row, e->session, "dkim") && v->dkim_count < DKIM_SIGNATURES_MAX) {
		v->dkim[v->dkim_count].result = dkim_named(field(row, "result"));
		v->dkim[v->dkim_count++].domain = slice_str(field(row, "domain"));
	} else if (is_event(row, e->session, "dmarc")) {
		e->dmarc = row;
	} else if (is_event(row, e->session, "dns-cut")) {
		check = check_named(field(row, "check"));
		if (check < VERDICT_CHECKS)
			e->cut[check] = true;
	}
}

/* Of the decision that is row number end. */
static void
gather(const json_t *rows, size_t end, struct evidence *e)
{
	memset(e, 0, sizeof(*e));
	e->rows = rows;
	e->session = text_of(json_array_get(rows, end), "session");
	e->end = e->first = end;
	e->same = true;
	for (size_t i = end; i-- > 0;)
		if (is_event(json_array_get(rows, i), e->session, "message")) {
			e->first = i;
			break;
		}
	for (size_t i = e->first; i < end; i++)
		take_row(e, json_array_get(rows, i));
}

/* ---- the answers ---- */

/* An answer is one event, or several of which all but the last say "more". */
static enum command_status
tell_answers(struct run *run, const struct evidence *e, enum verdict_check c)
{
	enum command_status status = COMMAND_OK;
	struct buf text;

	buf_init(&text, ANSWERS_BYTES_MAX);
	for (size_t i = e->first; i < e->end && status == COMMAND_OK; i++) {
		const json_t *row = json_array_get(e->rows, i);

		if (!is_event(row, e->session, "dns") || check_named(field(row, "check")) != c)
			continue;
		buf_put_str(&text, field(row, "answer"));
		if (strcmp(field(row, "more"), "1") == 0)
			continue;
		struct answers_item item = {.name = slice_str(field(row, "name")),
		    .type = (uint16_t)strtoul(field(row, "type"), NULL, 10),
		    .status = answers_status_named(slice_str(field(row, "status"))),
		    .text = buf_slice(&text)};

		status = replay_check_answer(&run->check, c, &item);
		buf_reset(&text);
	}
	buf_fini(&text);
	return status;
}

/* ---- the checks ---- */

static void
set_again(struct evidence *e, json_t *row, bool same, json_t *again)
{
	e->same = e->same && same;
	(void)json_object_set_new(again, "same", json_boolean(same));
	(void)json_object_set_new(row, "again", again);
}

static void
set_why(json_t *row, const char *why)
{
	(void)json_object_set_new(row, "again", json_pack("{s:s}", "why", why));
}

static bool
read_ip(const char *text, uint8_t ip[16])
{
	memset(ip, 0, 16);
	ip[10] = ip[11] = 0xff;
	return inet_pton(AF_INET, text, ip + 12) == 1 || inet_pton(AF_INET6, text, ip) == 1;
}

static enum command_status
rerun_spf(struct run *run, struct evidence *e, enum verdict_check c, struct verdict_spf *to)
{
	json_t *row = e->spf[c];
	struct spf_query q = {.domain = slice_str(field(row, "domain")),
	    .helo = slice_str(field(row, "helo")),
	    .receiver = slice_str(field(row, "receiver"))};
	struct replay_spf got;
	enum command_status status;
	struct buf local;

	buf_init(&local, 1024);
	bool good = answers_unescape(slice_str(field(row, "local")), &local) && read_ip(field(row, "ip"), q.ip);

	q.local = buf_slice(&local);
	status = good ? tell_answers(run, e, c) : confined_nonsense();
	if (status == COMMAND_OK)
		status = replay_check_spf(&run->check, c, &q, &got);
	if (status == COMMAND_OK) {
		to->result = got.result;
		set_again(e, row, strcmp(spf_result_name(got.result), field(row, "result")) == 0 &&
			slice_eq(got.mechanism, slice_str(field(row, "mechanism"))),
		    json_pack("{s:s, s:s%}", "result", spf_result_name(got.result), "mechanism", got.mechanism.p, got.mechanism.n));
	}
	buf_fini(&local);
	return status;
}

/* What the record has, and what comes of it again where it says enough. */
static enum command_status
judge_spf(struct run *run, struct evidence *e, enum verdict_check c, struct verdict_spf *to)
{
	json_t *row = e->spf[c];
	unsigned own = row != NULL ? check_named(field(row, "check")) : VERDICT_CHECKS;

	*to = (struct verdict_spf){.result = spf_named(field(row, "result")), .domain = slice_str(field(row, "domain"))};
	if (own > c)
		return COMMAND_OK;
	if (own != c) {
		/* Of a null path it is the check of HELO. */
		to->result = e->verdict.helo.result;
		set_again(e, row, strcmp(spf_result_name(to->result), field(row, "result")) == 0,
		    json_pack("{s:s}", "result", spf_result_name(to->result)));
		return COMMAND_OK;
	}
	if (e->cut[c]) {
		set_why(row, "not all of its DNS answers are recorded");
		return COMMAND_OK;
	}
	return rerun_spf(run, e, c, to);
}

static bool
dmarc_same(const json_t *row, const struct replay_dmarc *d)
{
	return strcmp(dmarc_result_name(d->result), field(row, "result")) == 0 &&
	    strcmp(dmarc_policy_name(d->policy), field(row, "policy")) == 0 &&
	    strtoul(field(row, "spf_aligned"), NULL, 10) == d->spf_aligned &&
	    strtoul(field(row, "dkim_aligned"), NULL, 10) == d->dkim_aligned &&
	    slice_eq(d->org, slice_str(field(row, "org"))) && slice_eq(d->policy_domain, slice_str(field(row, "policy_domain"))) &&
	    slice_eq(d->reason, slice_str(field(row, "reason")));
}

static enum command_status
judge_dmarc(struct run *run, struct evidence *e, struct policy_input *in)
{
	struct dmarc_identifier ids[DMARC_IDENTIFIERS_MAX];
	struct dmarc_query q = {.author = slice_str(field(e->dmarc, "author")), .identifiers = ids};
	struct replay_dmarc got;
	enum command_status status;

	/* Without an author there was nothing to evaluate: the form of the message says so, and stands in the inputs. */
	if (e->dmarc == NULL || q.author.n == 0)
		return COMMAND_OK;
	if (e->cut[VERDICT_CHECK_DMARC]) {
		set_why(e->dmarc, "not all of its DNS answers are recorded");
		return COMMAND_OK;
	}
	q.count = verdict_identifiers(&e->verdict, ids);
	status = tell_answers(run, e, VERDICT_CHECK_DMARC);
	if (status == COMMAND_OK)
		status = replay_check_dmarc(&run->check, &q, &got);
	if (status != COMMAND_OK)
		return status;
	in->dmarc = got.result;
	in->dmarc_policy = got.policy;
	set_again(e, e->dmarc, dmarc_same(e->dmarc, &got),
	    json_pack("{s:s, s:s}", "result", dmarc_result_name(got.result), "policy", dmarc_policy_name(got.policy)));
	return COMMAND_OK;
}

/* Puts what the checks say again into the inputs. A record of a version that kept no answers says nothing new. */
static enum command_status
judge_evidence(struct run *run, struct evidence *e, struct policy_input *in)
{
	enum command_status status = COMMAND_OK;

	if (e->spf[VERDICT_CHECK_HELO] == NULL || *field(e->spf[VERDICT_CHECK_HELO], "check") == '\0')
		return COMMAND_OK;
	if (!run->open)
		status = replay_check_open(&run->check);
	run->open = run->open || status == COMMAND_OK;
	if (status == COMMAND_OK)
		status = replay_check_begin(&run->check);
	if (status == COMMAND_OK)
		status = judge_spf(run, e, VERDICT_CHECK_HELO, &e->verdict.helo);
	if (status == COMMAND_OK)
		status = judge_spf(run, e, VERDICT_CHECK_MAIL_FROM, &e->verdict.mail_from);
	in->spf = e->verdict.mail_from.result;
	return status == COMMAND_OK ? judge_dmarc(run, e, in) : status;
}

/* ---- decisions ---- */

static void
judge(struct run *run, json_t *rows, size_t at, bool *same_r)
{
	static const struct policy_decision unreadable = {.rule = "unreadable"};
	static struct evidence e;
	const struct policy_decision *d = &unreadable;
	json_t *row = json_array_get(rows, at);
	enum policy_table table;
	struct policy_input in;
	char code[16];

	gather(rows, at, &e);
	if (policy_table_named(slice_str(field(row, "table")), &table) && policy_input_parse(slice_str(field(row, "inputs")), &in)) {
		if (table == POLICY_INCOMING && !run->failed)
			run->failed = judge_evidence(run, &e, &in) != COMMAND_OK;
		d = policy_decide(table, &in);
	}
	(void)snprintf(code, sizeof code, "%u", d->reply.code);
	bool same = d != &unreadable && strcmp(d->rule, field(row, "rule")) == 0 &&
	    strcmp(policy_action_name(d->action), field(row, "action")) == 0 && strcmp(code, field(row, "code")) == 0;

	set_again(&e, row, same, json_pack("{s:s, s:s, s:s}", "rule", d->rule, "action",
				     d != &unreadable ? policy_action_name(d->action) : "", "code", code));
	*same_r = e.same;
}

size_t
replay(json_t *rows, size_t *differ_r)
{
	struct run run = {.open = false};
	size_t i, count = 0;
	json_t *row;

	*differ_r = 0;
	json_array_foreach(rows, i, row)
	{
		bool same;

		if (strcmp(text_of(row, "event"), "decision") != 0)
			continue;
		judge(&run, rows, i, &same);
		count++;
		*differ_r += !same || run.failed;
	}
	if (run.open)
		replay_check_close(&run.check);
	return count;
}
