/*
 * One list of fields for both directions: each `field_` function writes when
 * the coder has a buffer and reads when it has a cursor, so that what is written and what is
 * read cannot differ. Reading checks every enum, boolean and length, and the order of ranges.
 */
#include "smtpd/verdict.h"

#include "common/cursor.h"

#include <assert.h>

/* What each part takes at most, every text at its maximum. */
#define TEXT(n) (4 + (n))
enum {
	FORM_BYTES = 7 * 4 + 14 + 2 * TEXT(VERDICT_TEXT_BYTES_MAX),
	SPF_BYTES = 1 + TEXT(VERDICT_TEXT_BYTES_MAX) + TEXT(SPF_EXPLANATION_BYTES_MAX) + TEXT(SPF_MECHANISM_BYTES_MAX),
	DKIM_BYTES = 1 + 6 * TEXT(DKIM_TAG_BYTES_MAX) + 3 + 4,
	ARC_BYTES = 1 + TEXT(VERDICT_TEXT_BYTES_MAX) + 2 * 4 + 2 + ARC_SEALERS_MAX * (TEXT(DKIM_TAG_BYTES_MAX) + 1),
	DMARC_BYTES = 3 + 2 + 4 + 4 * TEXT(VERDICT_TEXT_BYTES_MAX) + TEXT(DMARC_RECORD_BYTES_MAX),
	RANGES_BYTES = 2 + VERDICT_RANGES_MAX * 16,
	RECODING_BYTES = 2 + SEVENBIT_CHANGES_MAX * 25,
	ALL_BYTES = 2 + FORM_BYTES + 2 * SPF_BYTES + 2 + DKIM_SIGNATURES_MAX * DKIM_BYTES + 4 + ARC_BYTES + DMARC_BYTES +
	    TEXT(VERDICT_AUTHRES_BYTES_MAX) + RANGES_BYTES + RECODING_BYTES,
};
_Static_assert(ALL_BYTES <= VERDICT_BYTES_MAX, "whatever a message has, what was found of it can be told");

struct coder {
	struct buf *out; /* NULL: reads */
	struct cursor in;
	bool bad;
};

static void
field_u32(struct coder *c, uint32_t *v)
{
	if (c->out != NULL)
		put_u32(c->out, *v);
	else
		*v = cursor_u32(&c->in);
}

static void
field_u64(struct coder *c, uint64_t *v)
{
	if (c->out != NULL)
		put_u64(c->out, *v);
	else
		*v = cursor_u64(&c->in);
}

static void
field_bool(struct coder *c, bool *v)
{
	uint8_t octet;

	if (c->out != NULL) {
		put_u8(c->out, *v);
		return;
	}
	octet = cursor_u8(&c->in);
	c->bad |= octet > 1;
	*v = octet == 1;
}

/* An enum below count. */
static unsigned
field_enum(struct coder *c, unsigned v, unsigned count)
{
	if (c->out != NULL) {
		assert(v < count);
		put_u8(c->out, (uint8_t)v);
		return v;
	}
	v = cursor_u8(&c->in);
	c->bad |= v >= count;
	return v < count ? v : 0;
}

static void
field_text(struct coder *c, struct slice *v, size_t max)
{
	if (c->out == NULL) {
		*v = cursor_slice(&c->in, max);
		return;
	}
	c->bad |= v->n > max;
	put_slice(c->out, *v);
}

static void
field_count(struct coder *c, uint16_t *v, uint16_t max)
{
	if (c->out != NULL) {
		assert(*v <= max);
		put_u16(c->out, *v);
		return;
	}
	*v = cursor_u16(&c->in);
	if (*v > max) {
		c->bad = true;
		*v = 0;
	}
}

static void
code_form(struct coder *c, struct verdict_form *f)
{
	field_u32(c, &f->header_fields);
	field_u32(c, &f->from_fields);
	field_u32(c, &f->from_mailboxes);
	field_bool(c, &f->from_domains_differ);
	field_text(c, &f->from_domain, VERDICT_TEXT_BYTES_MAX);
	field_text(c, &f->from_address, VERDICT_TEXT_BYTES_MAX);
	field_u32(c, &f->date_fields);
	field_u32(c, &f->message_id_fields);
	field_u32(c, &f->recipient_fields);
	field_u32(c, &f->received_fields);
	field_bool(c, &f->header_sane);
	field_bool(c, &f->header_8bit);
	field_bool(c, &f->header_utf8);
	field_bool(c, &f->unqualified);
	field_bool(c, &f->ranges_overflow);
	field_bool(c, &f->has_nul);
	field_bool(c, &f->has_bare_cr);
	field_bool(c, &f->has_bare_lf);
	field_bool(c, &f->stray_octets);
	field_bool(c, &f->line_too_long);
	field_bool(c, &f->body_8bit);
	field_bool(c, &f->tls_optional);
	field_bool(c, &f->looped);
}

static void
code_spf(struct coder *c, struct verdict_spf *s)
{
	s->result = field_enum(c, s->result, SPF_RESULT_COUNT);
	field_text(c, &s->domain, VERDICT_TEXT_BYTES_MAX);
	field_text(c, &s->explanation, SPF_EXPLANATION_BYTES_MAX);
	field_text(c, &s->mechanism, SPF_MECHANISM_BYTES_MAX);
}

static void
code_signature(struct coder *c, struct dkim_signature *s)
{
	s->result = field_enum(c, s->result, DKIM_RESULT_COUNT);
	field_text(c, &s->domain, DKIM_TAG_BYTES_MAX);
	field_text(c, &s->selector, DKIM_TAG_BYTES_MAX);
	field_text(c, &s->algorithm, DKIM_TAG_BYTES_MAX);
	field_text(c, &s->identity, DKIM_TAG_BYTES_MAX);
	field_text(c, &s->b_prefix, DKIM_TAG_BYTES_MAX);
	field_text(c, &s->reason, DKIM_TAG_BYTES_MAX);
	field_bool(c, &s->testing);
	field_bool(c, &s->partial);
	field_bool(c, &s->secure);
	field_u32(c, &s->key_bits);
}

static void
code_arc(struct coder *c, struct arc_outcome *o)
{
	o->result = field_enum(c, o->result, ARC_RESULT_COUNT);
	field_text(c, &o->reason, VERDICT_TEXT_BYTES_MAX);
	field_u32(c, &o->sets);
	field_u32(c, &o->oldest_pass);
	field_count(c, &o->sealer_count, ARC_SEALERS_MAX);
	for (uint16_t i = 0; i < o->sealer_count; i++) {
		field_text(c, &o->sealers[i].domain, DKIM_TAG_BYTES_MAX);
		field_bool(c, &o->sealers[i].dmarc_pass);
	}
}

static void
code_dmarc(struct coder *c, struct verdict_dmarc *d)
{
	d->result = field_enum(c, d->result, DMARC_RESULT_COUNT);
	d->policy = field_enum(c, d->policy, DMARC_POLICY_COUNT);
	d->published = field_enum(c, d->published, DMARC_POLICY_COUNT);
	field_bool(c, &d->testing);
	field_bool(c, &d->spf_aligned);
	field_u32(c, &d->dkim_aligned);
	field_text(c, &d->author, VERDICT_TEXT_BYTES_MAX);
	field_text(c, &d->org, VERDICT_TEXT_BYTES_MAX);
	field_text(c, &d->policy_domain, VERDICT_TEXT_BYTES_MAX);
	field_text(c, &d->record, DMARC_RECORD_BYTES_MAX);
	field_text(c, &d->reason, VERDICT_TEXT_BYTES_MAX);
}

/* Ranges ascend, are not empty and do not touch: what deliver leaves out is never ambiguous. */
static void
code_ranges(struct coder *c, struct verdict *v)
{
	uint64_t end = 0;

	field_count(c, &v->range_count, VERDICT_RANGES_MAX);
	for (uint16_t i = 0; i < v->range_count; i++) {
		struct verdict_range *r = &v->ranges[i];

		field_u64(c, &r->offset);
		field_u64(c, &r->octets);
		c->bad |= r->octets == 0 || r->offset > INT64_MAX || r->octets > INT64_MAX ||
		    (i > 0 && r->offset <= end);
		end = r->offset + r->octets;
	}
}

static void
code_recoding(struct coder *c, struct sevenbit_plan *p)
{
	field_count(c, &p->count, SEVENBIT_CHANGES_MAX);
	for (uint16_t i = 0; i < p->count; i++) {
		struct sevenbit_change *change = &p->changes[i];

		field_u64(c, &change->offset);
		field_u64(c, &change->octets);
		field_u64(c, &change->become);
		change->kind = field_enum(c, change->kind, SEVENBIT_KINDS);
	}
	c->bad |= sevenbit_octets(p->changes, p->count, INT64_MAX / 2) < 0;
}

static void
code_verdict(struct coder *c, struct verdict *v)
{
	field_bool(c, &v->full);
	code_form(c, &v->form);
	code_spf(c, &v->helo);
	code_spf(c, &v->mail_from);
	field_count(c, &v->dkim_count, DKIM_SIGNATURES_MAX);
	for (uint16_t i = 0; i < v->dkim_count; i++)
		code_signature(c, &v->dkim[i]);
	field_u32(c, &v->dkim_skipped);
	code_arc(c, &v->arc);
	code_dmarc(c, &v->dmarc);
	field_text(c, &v->authres, VERDICT_AUTHRES_BYTES_MAX);
	code_ranges(c, v);
	code_recoding(c, &v->recoding);
}

bool
verdict_encode(const struct verdict *v, struct buf *b)
{
	struct coder c = {.out = b};
	struct verdict copy = *v;

	put_u8(b, VERDICT_VERSION);
	code_verdict(&c, &copy);
	return !c.bad && !b->failed;
}

bool
verdict_decode(struct slice in, struct verdict *verdict_r)
{
	struct coder c = {.in = cursor_of(in)};

	memset(verdict_r, 0, sizeof *verdict_r);
	c.bad = cursor_u8(&c.in) != VERDICT_VERSION;
	code_verdict(&c, verdict_r);
	return !c.bad && cursor_done(&c.in);
}

unsigned
verdict_identifiers(const struct verdict *v, struct dmarc_identifier ids[DMARC_IDENTIFIERS_MAX])
{
	const struct verdict_spf *spf = &v->mail_from;
	unsigned n = 0;

	/* Only the MAIL FROM identity counts (4.4.2); of a null path that is postmaster@HELO. */
	if (spf->result == SPF_RESULT_PASS || spf->result == SPF_RESULT_TEMPERROR)
		ids[n++] = (struct dmarc_identifier){spf->domain, false, spf->result == SPF_RESULT_TEMPERROR};
	for (uint16_t i = 0; i < v->dkim_count; i++) {
		const struct dkim_signature *s = &v->dkim[i];

		if (s->result == DKIM_RESULT_PASS || s->result == DKIM_RESULT_TEMPERROR)
			ids[n++] = (struct dmarc_identifier){s->domain, true, s->result == DKIM_RESULT_TEMPERROR};
	}
	assert(n <= DMARC_IDENTIFIERS_MAX);
	return n;
}

const char *
verdict_check_name(enum verdict_check c)
{
	static const char *const names[VERDICT_CHECKS] = {"helo", "mailfrom", "dmarc", "dkim", "arc"};

	assert(c < VERDICT_CHECKS);
	return names[c];
}
