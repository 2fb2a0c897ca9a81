/*
 * A session's messages come one after the other: what verify says of one begins with "message", and deliver's "decision" ends it. So what
 * a decision came from is what stands between the two, in the same session.
 */
#include "admin/replay.h"

#include "admin/event_row.h"
#include "admin/replay_check.h"
#include "common/mem.h"
#include "smtpd/policy.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define NOT_WHOLE "not all that it was judged from is recorded"

/* What stands before one decision. */
struct evidence {
	const json_t *rows;
	const char *session;
	size_t first, end; /* its rows, and others' among them */
	json_t *spf[2];	   /* VERDICT_CHECK_HELO, VERDICT_CHECK_MAIL_FROM; NULL: none */
	json_t *dkim[DKIM_SIGNATURES_MAX];
	json_t *arc;
	json_t *dmarc;
	struct replay_input input;
	bool cut[VERDICT_CHECKS];
	struct verdict verdict; /* what is known of it, for DMARC's identifiers */
	bool same;
};

struct run {
	struct replay_check check;
	bool open, failed;
};

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

	if (event_row_is(row, e->session, "spf")) {
		check = check_named(event_row_field(row, "identity"));
		if (check <= VERDICT_CHECK_MAIL_FROM)
			e->spf[check] = row;
	} else if (event_row_is(row, e->session, "dkim") && v->dkim_count < DKIM_SIGNATURES_MAX) {
		e->dkim[v->dkim_count] = row;
		v->dkim[v->dkim_count].result = dkim_named(event_row_field(row, "result"));
		v->dkim[v->dkim_count++].domain = event_row_slice(row, "domain");
	} else if (event_row_is(row, e->session, "arc")) {
		e->arc = row;
	} else if (event_row_is(row, e->session, "dmarc")) {
		e->dmarc = row;
	} else if (event_row_is(row, e->session, "dns-cut") || event_row_is(row, e->session, "input-cut")) {
		check = check_named(event_row_field(row, "check"));
		if (check < VERDICT_CHECKS)
			e->cut[check] = true;
	} else if (strcmp(event_row_text(row, "session"), e->session) == 0) {
		replay_input_take(&e->input, row);
	}
}

/* Of the decision that is row number end. */
static void
gather(const json_t *rows, size_t end, struct evidence *e)
{
	memset(e, 0, sizeof(*e));
	replay_input_init(&e->input);
	e->rows = rows;
	e->session = event_row_text(json_array_get(rows, end), "session");
	e->end = e->first = end;
	e->same = true;
	for (size_t i = end; i-- > 0;)
		if (event_row_is(json_array_get(rows, i), e->session, "message")) {
			e->first = i;
			break;
		}
	for (size_t i = e->first; i < end; i++)
		take_row(e, json_array_get(rows, i));
	replay_input_end(&e->input);
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

		if (!event_row_is(row, e->session, "dns") || check_named(event_row_field(row, "check")) != c)
			continue;
		buf_put_str(&text, event_row_field(row, "answer"));
		if (strcmp(event_row_field(row, "more"), "1") == 0)
			continue;
		struct answers_item item = {.name = event_row_slice(row, "name"),
		    .type = (uint16_t)event_row_number(row, "type"),
		    .status = answers_status_named(event_row_slice(row, "status")),
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
	struct spf_query q = {.domain = event_row_slice(row, "domain"),
	    .helo = event_row_slice(row, "helo"),
	    .receiver = event_row_slice(row, "receiver")};
	struct replay_spf got;
	enum command_status status;
	struct buf local;

	buf_init(&local, 1024);
	bool good = answers_unescape(event_row_slice(row, "local"), &local) && read_ip(event_row_field(row, "ip"), q.ip);

	q.local = buf_slice(&local);
	status = good ? tell_answers(run, e, c) : confined_nonsense();
	if (status == COMMAND_OK)
		status = replay_check_spf(&run->check, c, &q, &got);
	if (status == COMMAND_OK) {
		to->result = got.result;
		set_again(e, row, strcmp(spf_result_name(got.result), event_row_field(row, "result")) == 0 &&
			slice_eq(got.mechanism, event_row_slice(row, "mechanism")),
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
	unsigned own = row != NULL ? check_named(event_row_field(row, "check")) : VERDICT_CHECKS;

	*to = (struct verdict_spf){.result = spf_named(event_row_field(row, "result")), .domain = event_row_slice(row, "domain")};
	if (own > c)
		return COMMAND_OK;
	if (own != c) {
		/* Of a null path it is the check of HELO. */
		to->result = e->verdict.helo.result;
		set_again(e, row, strcmp(spf_result_name(to->result), event_row_field(row, "result")) == 0,
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
dkim_same(const json_t *row, const struct replay_dkim *d)
{
	return strcmp(dkim_result_name(d->result), event_row_field(row, "result")) == 0 &&
	    slice_eq(d->reason, event_row_slice(row, "reason")) && d->key_bits == event_row_number(row, "key_bits");
}

/* NULL: every signature can be judged again. */
static const char *
dkim_lacks(const struct evidence *e)
{
	if (e->cut[VERDICT_CHECK_DKIM])
		return NOT_WHOLE;
	if (e->input.dkim_count == 0)
		return "what it was judged from is not recorded";
	return e->input.dkim_bad || e->input.dkim_count != e->verdict.dkim_count ? "what it was judged from cannot be read" : NULL;
}

static enum command_status
judge_dkim(struct run *run, struct evidence *e)
{
	struct replay_dkim got[DKIM_SIGNATURES_MAX];
	unsigned count = e->verdict.dkim_count;
	const char *why = dkim_lacks(e);
	enum command_status status;

	if (count == 0)
		return COMMAND_OK;
	for (unsigned i = 0; why != NULL && i < count; i++)
		set_why(e->dkim[i], why);
	if (why != NULL)
		return COMMAND_OK;
	status = tell_answers(run, e, VERDICT_CHECK_DKIM);
	if (status == COMMAND_OK)
		status = replay_check_dkim(&run->check, &e->input, got);
	for (unsigned i = 0; status == COMMAND_OK && i < count; i++) {
		e->verdict.dkim[i].result = got[i].result;
		set_again(e, e->dkim[i], dkim_same(e->dkim[i], &got[i]),
		    json_pack("{s:s, s:s%}", "result", dkim_result_name(got[i].result), "reason", got[i].reason.p, got[i].reason.n));
	}
	return status;
}

static bool
arc_same(const json_t *row, const struct replay_arc *a)
{
	return strcmp(arc_result_name(a->result), event_row_field(row, "result")) == 0 &&
	    slice_eq(a->reason, event_row_slice(row, "reason")) && a->sets == event_row_number(row, "sets") &&
	    a->oldest_pass == event_row_number(row, "oldest_pass") && slice_eq(a->sealers, event_row_slice(row, "sealers"));
}

static const char *
arc_lacks(const struct evidence *e)
{
	if (e->cut[VERDICT_CHECK_ARC])
		return NOT_WHOLE;
	if (!e->input.has_arc)
		return "what it was judged from is not recorded";
	return e->input.arc_bad ? "what it was judged from cannot be read" : NULL;
}

static enum command_status
judge_arc(struct run *run, struct evidence *e, struct policy_input *in)
{
	const char *why = arc_lacks(e);
	enum command_status status;
	struct replay_arc got;

	if (e->arc == NULL)
		return COMMAND_OK;
	if (why != NULL) {
		set_why(e->arc, why);
		return COMMAND_OK;
	}
	status = tell_answers(run, e, VERDICT_CHECK_ARC);
	if (status == COMMAND_OK)
		status = replay_check_arc(&run->check, &e->input, &got);
	if (status != COMMAND_OK)
		return status;
	if (slice_eq(got.reason, slice_str(ARC_NOT_KEPT))) {
		set_why(e->arc, NOT_WHOLE);
		return COMMAND_OK;
	}
	in->arc = got.result;
	set_again(e, e->arc, arc_same(e->arc, &got),
	    json_pack("{s:s, s:s%}", "result", arc_result_name(got.result), "reason", got.reason.p, got.reason.n));
	return COMMAND_OK;
}

static bool
dmarc_same(const json_t *row, const struct replay_dmarc *d)
{
	return strcmp(dmarc_result_name(d->result), event_row_field(row, "result")) == 0 &&
	    strcmp(dmarc_policy_name(d->policy), event_row_field(row, "policy")) == 0 &&
	    event_row_number(row, "spf_aligned") == d->spf_aligned &&
	    event_row_number(row, "dkim_aligned") == d->dkim_aligned &&
	    slice_eq(d->org, event_row_slice(row, "org")) && slice_eq(d->policy_domain, event_row_slice(row, "policy_domain")) &&
	    slice_eq(d->reason, event_row_slice(row, "reason"));
}

static enum command_status
judge_dmarc(struct run *run, struct evidence *e, struct policy_input *in)
{
	struct dmarc_identifier ids[DMARC_IDENTIFIERS_MAX];
	struct dmarc_query q = {.author = event_row_slice(e->dmarc, "author"), .identifiers = ids};
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

	if (e->spf[VERDICT_CHECK_HELO] == NULL || *event_row_field(e->spf[VERDICT_CHECK_HELO], "check") == '\0')
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
	if (status == COMMAND_OK)
		status = judge_dkim(run, e);
	if (status == COMMAND_OK)
		status = judge_arc(run, e, in);
	if (status == COMMAND_OK)
		status = judge_dmarc(run, e, in);
	/* Whom it trusted is not recorded: a chain that overrode DMARC does so if nothing of either has changed. */
	in->arc_override = in->arc_override != 0 && in->arc == ARC_RESULT_PASS && in->dmarc == DMARC_RESULT_FAIL;
	return status;
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
	if (policy_table_named(event_row_slice(row, "table"), &table) && policy_input_parse(event_row_slice(row, "inputs"), &in)) {
		if (table == POLICY_INCOMING && !run->failed)
			run->failed = judge_evidence(run, &e, &in) != COMMAND_OK;
		d = policy_decide(table, &in);
	}
	(void)snprintf(code, sizeof code, "%u", d->reply.code);
	bool same = d != &unreadable && strcmp(d->rule, event_row_field(row, "rule")) == 0 &&
	    strcmp(policy_action_name(d->action), event_row_field(row, "action")) == 0 && strcmp(code, event_row_field(row, "code")) == 0;

	set_again(&e, row, same, json_pack("{s:s, s:s, s:s}", "rule", d->rule, "action",
				     d != &unreadable ? policy_action_name(d->action) : "", "code", code));
	*same_r = e.same;
	replay_input_fini(&e.input);
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

		if (strcmp(event_row_text(row, "event"), "decision") != 0)
			continue;
		judge(&run, rows, i, &same);
		count++;
		*differ_r += !same || run.failed;
	}
	if (run.open)
		replay_check_close(&run.check);
	return count;
}
