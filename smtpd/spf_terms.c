/*
 * The terms of a record one after the other (RFC 7208 4.6), what include and redirect do with records, and the names
 * that terms ask for: expanded (7), shortened to 253 octets (7.3), then either a name or nothing that could match.
 */
#include "smtpd/spf_private.h"

#include "common/dns_name.h"
#include "smtpd/spf_macro.h"

#include <assert.h>

/* ---- target names ---- */

/* %{p}: the domain itself, else a name below it, else any, else "unknown" (7.3). */
static struct slice
validated_name(const struct spf_check *c, struct slice domain)
{
	struct slice below = slice_of(NULL, 0);

	for (unsigned i = 0; i < c->validated.n; i++) {
		if (slice_eq_nocase(c->validated.v[i], domain))
			return c->validated.v[i];
		if (below.p == NULL && dns_name_within(c->validated.v[i], domain))
			below = c->validated.v[i];
	}
	if (below.p != NULL)
		return below;
	return c->validated.n > 0 ? c->validated.v[0] : SLICE("unknown");
}

bool
spf_expand(struct spf_check *c, struct slice spec, struct buf *out)
{
	struct spf_macro_values v = {
		.ip = c->query.ip,
		.local = c->query.local,
		.sender_domain = c->sender_domain,
		.domain = spf_top(c)->domain,
		.validated = validated_name(c, spf_top(c)->domain),
		.helo = c->query.helo,
		.receiver = c->query.receiver,
		.now = (uint64_t)time(NULL),
	};

	return spf_macro_expand(spec, &v, out);
}

/* Labels of 1 to 63 octets. */
static bool
labels_valid(struct slice name)
{
	struct slice label;

	if (name.n == 0 || name.p[name.n - 1] == '.')
		return false;
	while (slice_cut(&name, '.', &label))
		if (label.n == 0 || label.n > DNS_LABEL_BYTES_MAX)
			return false;
	return true;
}

/* A name of at most 253 octets: labels are dropped from the left (7.3). */
static struct slice
shorten(struct slice name)
{
	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	while (name.n > SPF_NAME_BYTES_MAX) {
		size_t dot = slice_index(name, '.');

		if (dot == name.n)
			break;
		name = slice_sub(name, dot + 1, name.n);
	}
	return name;
}

/* Sets c->target from spec. False when no name comes of it. */
bool
spf_make_target(struct spf_check *c, struct slice spec)
{
	struct buf b;
	bool ok;

	/* RFC 8616 4: a term with %{s} or %{l} matches no local part outside ASCII. */
	if (!slice_is_ascii(c->query.local) && spf_macro_uses(spec, "sl"))
		return false;
	buf_init(&b, SPF_EXPANSION_BYTES_MAX);
	ok = spf_expand(c, spec, &b);
	if (ok) {
		c->target = spf_keep(c, shorten(buf_slice(&b)));
		ok = c->target.n <= SPF_NAME_BYTES_MAX && labels_valid(c->target);
	}
	buf_fini(&b);
	return ok;
}

/* True when spec needs %{p} and the names are not known yet: they are looked up, then `step` runs again. */
bool
spf_needs_ptr(struct spf_check *c, struct slice spec, enum spf_step step)
{
	struct buf name;

	if (c->ptr_known || !spf_macro_uses(spec, "p"))
		return false;
	c->after_ptr = step;
	buf_init(&name, SPF_NAME_BYTES_MAX);
	(void)!spf_ip_arpa(c->query.ip, &name);
	spf_ask(c, buf_slice(&name), DNS_PTR, SPF_STEP_PTR);
	buf_fini(&name);
	return true;
}

/* ---- records and terms ---- */

void
spf_ask_record(struct spf_check *c)
{
	spf_ask(c, spf_top(c)->domain, DNS_TXT, SPF_STEP_RECORD);
}

/* No record, for the top frame (4.3, 4.5, 5.2, 6.1). */
static void
no_record(struct spf_check *c)
{
	if (c->depth == 1 && !spf_top(c)->redirected)
		spf_finish(c, SPF_RESULT_NONE);
	else
		spf_fault(c, SPF_RESULT_PERMERROR);
}

void
spf_step_record(struct spf_check *c)
{
	struct spf_frame *f = spf_top(c);
	struct slice terms = {NULL, 0}, found, bad;
	unsigned n = 0;

	if (spf_answer_temporary(c)) {
		spf_fault(c, SPF_RESULT_TEMPERROR);
		return;
	}
	for (unsigned i = 0; c->answer->status == DNS_OK && i < c->answer->count; i++)
		if (spf_record_is(c->answer->records[i].data, &found)) {
			terms = found;
			n++;
		}
	if (n == 0) {
		no_record(c);
		return;
	}
	terms = spf_keep(c, terms);
	if (n > 1 || c->limit || !spf_record_parse(terms, &f->record, &bad)) {
		f->term.text = n > 1 ? SLICE("several records") : c->limit ? SLICE("too long") : bad;
		spf_fault(c, SPF_RESULT_PERMERROR);
		return;
	}
	f->rest = terms;
	c->step = SPF_STEP_NEXT;
}

void
spf_step_next(struct spf_check *c)
{
	struct spf_frame *f = spf_top(c);
	int got = spf_term_next(&f->rest, &f->term);

	assert(got >= 0);
	if (got == 0) {
		if (f->record.redirect.p == NULL || f->record.has_all) {
			f->term.text = SLICE("default");
			spf_frame_result(c, SPF_RESULT_NEUTRAL);
			return;
		}
		f->term = (struct spf_term){.kind = SPF_KIND_REDIRECT,
			.domain_spec = f->record.redirect,
			.text = SLICE("redirect")};
	} else if (f->term.kind == SPF_KIND_ALL) {
		spf_matched(c);
		return;
	} else if (f->term.kind == SPF_KIND_IP4 || f->term.kind == SPF_KIND_IP6) {
		if (spf_client_in(c, f->term.ip, f->term.kind == SPF_KIND_IP4, &f->term))
			spf_matched(c);
		return;
	} else if (f->term.kind >= SPF_KIND_REDIRECT) {
		return;
	}
	if (++c->outcome.lookups > SPF_LOOKUPS_MAX)
		spf_fault(c, SPF_RESULT_PERMERROR);
	else
		c->step = SPF_STEP_TARGET;
}

/* include: another record in a frame of its own. redirect: another record in this one's place. */
static void
go_to_record(struct spf_check *c, bool redirect)
{
	if (!redirect) {
		assert(c->depth < SPF_FRAMES_MAX);
		c->depth++;
	}
	*spf_top(c) = (struct spf_frame){.domain = c->target, .redirected = redirect};
	spf_top(c)->term.text = redirect ? SLICE("redirect") : SLICE("include");
	spf_ask_record(c);
}

static void
query_target(struct spf_check *c)
{
	switch (spf_top(c)->term.kind) {
	case SPF_KIND_INCLUDE:
		go_to_record(c, false);
		break;
	case SPF_KIND_REDIRECT:
		go_to_record(c, true);
		break;
	case SPF_KIND_A:
		spf_ask(c, c->target, spf_address_type(c), SPF_STEP_ADDRESSES);
		break;
	case SPF_KIND_MX:
		spf_ask(c, c->target, DNS_MX, SPF_STEP_MX);
		break;
	case SPF_KIND_EXISTS:
		/* Always A, whatever the client's family (5.7). */
		spf_ask(c, c->target, DNS_A, SPF_STEP_EXISTS);
		break;
	default:
		assert(spf_top(c)->term.kind == SPF_KIND_PTR);
		if (!spf_needs_ptr(c, SLICE("%{p}"), SPF_STEP_PTR_MATCH))
			c->step = SPF_STEP_PTR_MATCH;
	}
}

void
spf_step_target(struct spf_check *c)
{
	const struct spf_term *t = &spf_top(c)->term;
	bool other_record = t->kind == SPF_KIND_INCLUDE || t->kind == SPF_KIND_REDIRECT;

	if (t->domain_spec.p == NULL) {
		c->target = spf_top(c)->domain;
	} else if (spf_needs_ptr(c, t->domain_spec, SPF_STEP_TARGET)) {
		return;
	} else if (!spf_make_target(c, t->domain_spec)) {
		/* A name that cannot exist: no match, or no record (4.8, 5.2, 6.1). */
		if (other_record || c->limit)
			spf_fault(c, SPF_RESULT_PERMERROR);
		else
			c->step = SPF_STEP_NEXT;
		return;
	}
	query_target(c);
}
