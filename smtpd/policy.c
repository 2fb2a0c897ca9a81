#include "smtpd/policy.h"

#include <assert.h>

struct input {
	const struct verdict *v;
	const struct policy_settings *s;
};

struct rule {
	bool (*holds)(const struct input *in);
	struct policy_decision decision;
};

/* ---- ARC ---- */

static bool
is_trusted(struct slice domain, struct slice trusted)
{
	struct slice one;

	while (slice_cut(&trusted, ' ', &one))
		if (one.n > 0 && slice_eq_nocase(one, domain))
			return true;
	return false;
}

bool
policy_arc_overrides(const struct verdict *v, const struct policy_settings *s)
{
	if (v->dmarc.result != DMARC_RESULT_FAIL || v->arc.result != ARC_RESULT_PASS)
		return false;
	for (unsigned i = 0; i < v->arc.sealer_count && is_trusted(v->arc.sealers[i].domain, s->arc_trusted); i++)
		if (v->arc.sealers[i].dmarc_pass)
			return true;
	return false;
}

/* ---- conditions ---- */

static bool
always(const struct input *in)
{
	(void)in;
	return true;
}

static bool
unreadable(const struct input *in)
{
	return in->v->form.ranges_overflow;
}

static bool
stray_octets(const struct input *in)
{
	return in->v->form.stray_octets;
}

static bool
too_many_hops(const struct input *in)
{
	return in->v->form.received_fields >= POLICY_RECEIVED_FIELDS_MAX;
}

static bool
from_fields_not_one(const struct input *in)
{
	return in->v->form.from_fields != 1;
}

static bool
no_author(const struct input *in)
{
	return in->v->form.from_mailboxes == 0;
}

static bool
authors_differ(const struct input *in)
{
	return in->v->form.from_domains_differ;
}

static bool
author_without_domain(const struct input *in)
{
	return in->v->form.from_domain.n == 0;
}

static bool
unqualified(const struct input *in)
{
	return in->v->form.unqualified;
}

static bool
dmarc_undecided(const struct input *in)
{
	return in->s->dns_defer && in->v->dmarc.result == DMARC_RESULT_TEMPERROR;
}

/* The domain's policy for a message that fails, unless a trusted forwarder says that it passed there. */
static bool
dmarc_says(const struct input *in, enum dmarc_policy policy)
{
	return in->v->dmarc.result == DMARC_RESULT_FAIL && in->v->dmarc.policy == policy && !policy_arc_overrides(in->v, in->s);
}

static bool
dmarc_says_reject(const struct input *in)
{
	return dmarc_says(in, DMARC_POLICY_REJECT);
}

static bool
dmarc_says_quarantine(const struct input *in)
{
	return dmarc_says(in, DMARC_POLICY_QUARANTINE);
}

/* It would be refused, and a key of its chain may be there later. */
static bool
arc_undecided(const struct input *in)
{
	return in->s->dns_defer && in->s->arc_trusted.n > 0 && in->v->arc.result == ARC_RESULT_TEMPERROR &&
	    dmarc_says_reject(in);
}

static bool
spf_says_fail(const struct input *in)
{
	return in->s->spf_reject && in->v->mail_from.result == SPF_RESULT_FAIL;
}

/* ---- the tables ---- */

#define REFUSE(rule, code, enhanced, text) {POLICY_REFUSE, rule, code, enhanced, text}
#define DEFER(rule, code, enhanced, text) {POLICY_DEFER, rule, code, enhanced, text}
#define JUNK(rule) {POLICY_JUNK, rule, 250, "2.0.0", ""}
#define ACCEPT(rule) {POLICY_ACCEPT, rule, 250, "2.0.0", ""}

static const struct rule incoming[] = {
    {unreadable, REFUSE("unreadable", 550, "5.6.0", "The message's header cannot be read reliably")},
    {stray_octets, REFUSE("stray-octets", 550, "5.6.0", "CR or LF alone, or NUL, in what is not declared binary (RFC 5321 2.3.8)")},
    {too_many_hops, REFUSE("hops", 554, "5.4.6", "Too many Received fields: a mail loop")},
    /* RFC 9989 lets a receiver refuse what DMARC cannot be applied to; RFC 5322 3.6 wants one From. */
    {from_fields_not_one, REFUSE("from-fields", 550, "5.6.0", "Exactly one From field is needed (RFC 5322 3.6)")},
    {no_author, REFUSE("from-empty", 550, "5.6.0", "The From field has no address (RFC 5322 3.6.2)")},
    {authors_differ, REFUSE("from-domains", 550, "5.7.1", "Authors of different domains in From")},
    {dmarc_undecided, DEFER("dmarc-temperror", 451, "4.7.0", "DMARC could not be evaluated for the moment")},
    {arc_undecided, DEFER("arc-temperror", 451, "4.7.0", "ARC could not be evaluated for the moment")},
    {dmarc_says_reject, REFUSE("dmarc-reject", 550, "5.7.1", "Refused: the author's domain asks for it (DMARC p=reject)")},
    {spf_says_fail, REFUSE("spf-fail", 550, "5.7.23", "Refused: the sender's domain does not allow this server (SPF)")},
    {dmarc_says_quarantine, JUNK("dmarc-quarantine")},
    {author_without_domain, JUNK("from-unqualified")},
    {always, ACCEPT("default")},
};

static const struct rule submission[] = {
    {unreadable, REFUSE("unreadable", 554, "5.6.0", "The message's header cannot be read reliably")},
    {stray_octets, REFUSE("stray-octets", 554, "5.6.0", "CR or LF alone, or NUL, in what is not declared binary (RFC 5321 2.3.8)")},
    {too_many_hops, REFUSE("hops", 554, "5.4.6", "Too many Received fields: a mail loop")},
    {from_fields_not_one, REFUSE("from-fields", 554, "5.6.0", "Exactly one From field is needed (RFC 5322 3.6)")},
    {no_author, REFUSE("from-empty", 554, "5.6.0", "The From field has no address (RFC 5322 3.6.2)")},
    {unqualified, REFUSE("unqualified", 554, "5.6.0", "An address in the header has no domain (RFC 6409 4.2)")},
    {always, ACCEPT("default")},
};

static const struct policy_decision *
first_of(const struct rule *rules, const struct input *in)
{
	/* The last row of each table always holds. */
	while (!rules->holds(in))
		rules++;
	return &rules->decision;
}

const struct policy_decision *
policy_incoming(const struct verdict *v, const struct policy_settings *s)
{
	struct input in = {v, s};

	assert(v->full);
	return first_of(incoming, &in);
}

const struct policy_decision *
policy_submission(const struct verdict *v)
{
	struct input in = {v, NULL};

	return first_of(submission, &in);
}

const char *
policy_action_name(enum policy_action a)
{
	static const char *const names[] = {
	    [POLICY_ACCEPT] = "accept", [POLICY_JUNK] = "junk", [POLICY_DEFER] = "defer", [POLICY_REFUSE] = "refuse"};

	return names[a];
}
