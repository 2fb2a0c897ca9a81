/*
 * A signature reaches libopendkim only when this file found nothing wrong with
 * it. Some of the faults below are ones on which the library reads past its buffers (i= that
 * ends in "="), some it takes for valid (a tag twice), the rest it would report
 * itself; checking them all here keeps odd input out of its parsers.
 */
#include "smtpd/dkim_tags.h"

#include "common/dns_name.h"

/* Clocks differ; the library allows as much. */
#define CLOCK_DRIFT_SECONDS 300
#define TIME_DIGITS_MAX 12 /* RFC 6376 3.5, t= and x= */

static bool
is_white(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* tag-name = ALPHA *ALNUMPUNC */
static bool
tag_name_valid(struct slice s)
{
	if (s.n == 0 || !ascii_alpha(s.p[0]))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && s.p[i] != '_')
			return false;
	return true;
}

/* tag-value: VALCHAR with white space inside; UTF-8 as RFC 8616 has it. */
static bool
tag_value_valid(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((s.p[i] < 0x21 && !is_white(s.p[i])) || s.p[i] == 0x7f)
			return false;
	return true;
}

/* tag-list = tag-spec *( ";" tag-spec ) [ ";" ] */
bool
dkim_tags_parse(struct slice text, struct dkim_tag_list *list_r)
{
	struct slice rest = text, spec;

	list_r->n = 0;
	while (slice_cut(&rest, ';', &spec)) {
		size_t equals = slice_index(spec, '=');
		struct dkim_tag tag = {.name = slice_trim(slice_sub(spec, 0, equals)),
			.value = slice_trim(slice_sub(spec, equals + 1, spec.n))};

		if (slice_trim(spec).n == 0 && slice_trim(rest).n == 0 && list_r->n > 0)
			break;
		if (equals == spec.n || !tag_name_valid(tag.name) || !tag_value_valid(tag.value))
			return false;
		for (unsigned i = 0; i < list_r->n; i++)
			if (slice_eq(list_r->v[i].name, tag.name))
				return false;
		if (list_r->n == DKIM_TAGS_MAX)
			return false;
		/* An empty value is present all the same. */
		if (tag.value.p == NULL)
			tag.value.p = spec.p;
		list_r->v[list_r->n++] = tag;
	}
	return list_r->n > 0;
}

struct slice
dkim_tags_get(const struct dkim_tag_list *list, const char *name)
{
	for (unsigned i = 0; i < list->n; i++)
		if (slice_eq(list->v[i].name, slice_str(name)))
			return list->v[i].value;
	return slice_of(NULL, 0);
}

bool
dkim_base64_valid(struct slice s)
{
	size_t octets = 0, padding = 0;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (is_white(c))
			continue;
		if (c == '=') {
			padding++;
		} else {
			if (padding > 0 || (!ascii_alpha(c) && !ascii_digit(c) && c != '+' && c != '/'))
				return false;
			octets++;
		}
	}
	return octets > 1 && padding <= 2;
}

bool
dkim_list_has(struct slice list, uint8_t sep, struct slice word)
{
	struct slice item;

	while (slice_cut(&list, sep, &item))
		if (slice_eq_nocase(slice_trim(item), word))
			return true;
	return false;
}

/* hdr-name of h=: ftext, since ";" cannot be in it. */
static bool
field_name_valid(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= 0x20 || s.p[i] >= 0x7f)
			return false;
	return s.n > 0;
}

static const char *
check_h(struct slice h)
{
	struct slice rest = h, name;
	unsigned n = 0;

	while (slice_cut(&rest, ':', &name)) {
		if (!field_name_valid(slice_trim(name)))
			return "h= is malformed";
		if (++n > DKIM_SIGNED_NAMES_MAX)
			return "h= has too many names";
	}
	/* RFC 6376 5.4: From MUST be signed. */
	return dkim_list_has(h, ':', SLICE("from")) ? NULL : "From is not signed";
}

static bool
hex_digit(uint8_t c)
{
	return ascii_digit(c) || (c >= 'A' && c <= 'F');
}

/* dkim-quoted-printable (2.11): each "=" begins "=XX", white space aside. */
static bool
quoted_printable_valid(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == '=' && (s.n - i < 3 || !hex_digit(s.p[i + 1]) || !hex_digit(s.p[i + 2])))
			return false;
	return true;
}

/* i=: [ local-part ] "@" domain-name, where the domain is d= or below it. */
static const char *
check_i(const struct dkim_fields *f)
{
	size_t at = slice_rindex(f->i, '@');

	if (!f->has_i)
		return NULL;
	if (at == f->i.n || !quoted_printable_valid(f->i))
		return "i= is malformed";
	if (!dns_name_within(slice_sub(f->i, at + 1, f->i.n), f->d))
		return "i= is not within d=";
	return NULL;
}

static bool
domain_usable(struct slice name)
{
	struct buf b;
	bool ok;

	buf_init(&b, DNS_NAME_BYTES_MAX);
	ok = name.n <= DKIM_TAG_BYTES_MAX && dns_name_to_ascii(name, &b);
	buf_fini(&b);
	return ok;
}

/* t= and x= (3.5). */
static const char *
check_times(const struct dkim_tag_list *tags, uint64_t now)
{
	struct slice t_text = dkim_tags_get(tags, "t"), x_text = dkim_tags_get(tags, "x");
	uint64_t t = 0, x = UINT64_MAX;

	if (t_text.p != NULL && (t_text.n > TIME_DIGITS_MAX || !slice_u64(t_text, UINT64_MAX, &t)))
		return "t= is malformed";
	if (x_text.p != NULL && (x_text.n > TIME_DIGITS_MAX || !slice_u64(x_text, UINT64_MAX, &x)))
		return "x= is malformed";
	if (t_text.p != NULL && x_text.p != NULL && x <= t)
		return "x= is not after t=";
	if (t > now + CLOCK_DRIFT_SECONDS)
		return "signed in the future";
	if (x_text.p != NULL && x + CLOCK_DRIFT_SECONDS < now)
		return "expired";
	return NULL;
}

static bool
canonicalization_valid(struct slice c)
{
	struct slice header, body;
	size_t slash = slice_index(c, '/');

	if (c.p == NULL)
		return true;
	header = slice_sub(c, 0, slash);
	body = slice_sub(c, slash + 1, c.n);
	if (!slice_eq_nocase(header, SLICE("simple")) && !slice_eq_nocase(header, SLICE("relaxed")))
		return false;
	return slash == c.n || slice_eq_nocase(body, SLICE("simple")) ||
	    slice_eq_nocase(body, SLICE("relaxed"));
}

/* Both are simple unless said otherwise (3.5). */
static void
read_canonicalization(struct slice c, bool *header_relaxed_r, bool *body_relaxed_r)
{
	size_t slash = slice_index(c, '/');

	*header_relaxed_r = slice_eq_nocase(slice_sub(c, 0, slash), SLICE("relaxed"));
	*body_relaxed_r = slice_eq_nocase(slice_sub(c, slash + 1, c.n), SLICE("relaxed"));
}

static const char *
check_algorithm(struct slice a, enum dkim_result *result_r)
{
	if (slice_eq_nocase(a, SLICE("rsa-sha256")) || slice_eq_nocase(a, SLICE("ed25519-sha256")))
		return NULL;
	if (slice_eq_nocase(a, SLICE("rsa-sha1"))) {
		/* RFC 8301 3.1: such a signature has failed, whatever is in it. */
		*result_r = DKIM_RESULT_FAIL;
		return "rsa-sha1 is historic";
	}
	return "unknown algorithm";
}

/* The tags that every signature has, and their syntax. */
static const char *
check_required(const struct dkim_tag_list *tags, const struct dkim_fields *f)
{
	struct slice v = dkim_tags_get(tags, "v"), q = dkim_tags_get(tags, "q");

	if (!slice_eq(v, SLICE("1")))
		return "v= is not 1";
	if (f->a.n == 0 || f->b.n == 0 || f->d.n == 0 || f->s.n == 0 || f->h.n == 0)
		return "a required tag is missing";
	if (!dkim_base64_valid(f->b) || !dkim_base64_valid(f->bh))
		return "b= or bh= is malformed";
	if (!domain_usable(f->d) || !domain_usable(f->s))
		return "d= or s= is no domain name";
	if (!canonicalization_valid(dkim_tags_get(tags, "c")))
		return "unknown canonicalization";
	if (q.p != NULL && !dkim_list_has(q, ':', SLICE("dns/txt")))
		return "unknown query method";
	return NULL;
}

static void
read_fields(const struct dkim_tag_list *tags, struct dkim_fields *f)
{
	bool header_relaxed;

	read_canonicalization(dkim_tags_get(tags, "c"), &header_relaxed, &f->body_relaxed);
	f->d = dkim_tags_get(tags, "d");
	f->s = dkim_tags_get(tags, "s");
	f->a = dkim_tags_get(tags, "a");
	f->i = dkim_tags_get(tags, "i");
	f->b = dkim_tags_get(tags, "b");
	f->bh = dkim_tags_get(tags, "bh");
	f->h = dkim_tags_get(tags, "h");
	f->has_i = f->i.p != NULL;
}

const char *
dkim_signature_check(struct slice value, uint64_t now, struct dkim_fields *fields_r,
    enum dkim_result *result_r)
{
	struct dkim_tag_list tags;
	struct slice l;
	const char *why;

	*fields_r = (struct dkim_fields){.l = 0};
	*result_r = DKIM_RESULT_PERMERROR;
	if (value.n > DKIM_SIGNATURE_BYTES_MAX)
		return "too long";
	if (!dkim_tags_parse(value, &tags)) {
		read_fields(&tags, fields_r);
		return "malformed tag list";
	}
	read_fields(&tags, fields_r);
	if ((why = check_required(&tags, fields_r)) != NULL ||
	    (why = check_algorithm(fields_r->a, result_r)) != NULL ||
	    (why = check_h(fields_r->h)) != NULL || (why = check_i(fields_r)) != NULL ||
	    (why = check_times(&tags, now)) != NULL)
		return why;
	/* libopendkim reads no tags outside US-ASCII, so what RFC 8616 5 allows cannot be verified with it. */
	if (!slice_is_ascii(value)) {
		*result_r = DKIM_RESULT_NEUTRAL;
		return "tags outside US-ASCII";
	}
	l = dkim_tags_get(&tags, "l");
	fields_r->has_l = l.p != NULL;
	if (fields_r->has_l && !slice_u64(l, INT64_MAX, &fields_r->l))
		return "l= is malformed";
	return NULL;
}

/* ---- ARC ---- */

/* position = 1*2DIGIT, 1 to 50 */
static unsigned
arc_instance(struct slice text)
{
	uint64_t n = 0;

	return text.n >= 1 && text.n <= 2 && slice_u64(text, ARC_SETS_MAX, &n) ? (unsigned)n : 0;
}

/* Reads what both have in common. */
static const char *
arc_read(struct slice value, struct dkim_tag_list *tags, struct arc_fields *f)
{
	enum dkim_result ignored;
	struct dkim_fields common;

	*f = (struct arc_fields){.instance = 0};
	if (value.n > DKIM_SIGNATURE_BYTES_MAX)
		return "too long";
	if (!dkim_tags_parse(value, tags))
		return "malformed tag list";
	read_fields(tags, &common);
	f->instance = arc_instance(common.i);
	f->d = common.d;
	f->s = common.s;
	f->a = common.a;
	f->b = common.b;
	if (f->instance == 0)
		return "i= is malformed";
	if (f->a.n == 0 || f->b.n == 0 || f->d.n == 0 || f->s.n == 0)
		return "a required tag is missing";
	if (!dkim_base64_valid(f->b))
		return "b= is malformed";
	if (!domain_usable(f->d) || !domain_usable(f->s))
		return "d= or s= is no domain name";
	return check_algorithm(f->a, &ignored);
}

const char *
arc_message_check(struct slice value, uint64_t now, struct arc_fields *fields_r)
{
	struct dkim_tag_list tags;
	const char *why = arc_read(value, &tags, fields_r);
	struct slice c;

	if (why != NULL)
		return why;
	c = dkim_tags_get(&tags, "c");
	fields_r->bh = dkim_tags_get(&tags, "bh");
	fields_r->h = dkim_tags_get(&tags, "h");
	read_canonicalization(c, &fields_r->header_relaxed, &fields_r->body_relaxed);
	if (!dkim_base64_valid(fields_r->bh))
		return "bh= is malformed";
	if (!canonicalization_valid(c))
		return "unknown canonicalization";
	/* A forwarder that leaves a part of the body unsigned attests nothing of what is shown. */
	if (dkim_tags_get(&tags, "l").p != NULL)
		return "a part of the body may be unsigned";
	if (dkim_list_has(fields_r->h, ':', SLICE("arc-seal")))
		return "h= names ARC-Seal";
	if ((why = check_h(fields_r->h)) != NULL)
		return why;
	return check_times(&tags, now);
}

const char *
arc_seal_check(struct slice value, struct arc_fields *fields_r)
{
	struct dkim_tag_list tags;
	const char *why = arc_read(value, &tags, fields_r);

	if (why != NULL)
		return why;
	fields_r->cv = dkim_tags_get(&tags, "cv");
	if (dkim_tags_get(&tags, "h").p != NULL)
		return "a seal with h=";
	if (slice_eq_nocase(fields_r->cv, SLICE("fail")))
		return "the chain was broken before";
	if (!slice_eq_nocase(fields_r->cv, fields_r->instance == 1 ? SLICE("none") : SLICE("pass")))
		return "cv= does not fit i=";
	return NULL;
}

unsigned
arc_results_instance(struct slice value, struct slice *rest_r)
{
	struct slice first, name;

	*rest_r = value;
	if (value.n > DKIM_SIGNATURE_BYTES_MAX || !slice_cut(rest_r, ';', &first) || !slice_cut(&first, '=', &name) ||
	    !slice_eq(slice_trim(name), SLICE("i")))
		return 0;
	return arc_instance(slice_trim(first));
}
