/*
 * The text is what a client gets, octet by octet, so it is made only here,
 * and what is read back from disk is checked by summary_imap_valid() before
 * it is sent: a stored summary must not be able to forge responses.
 *
 * A missing field is NIL, an empty one "" (RFC 9051 7.5.2). Addresses without
 * a domain get the host "", since a NIL host means the start or end of a group.
 */
#include "common/summary_imap.h"

#include "common/rfc5322.h"

#include <assert.h>

#define QUOTED_BYTES_MAX 1000
#define NESTING_MAX 1000 /* parentheses; the deepest tree needs far fewer */

/* ---- strings ---- */

static bool
can_be_quoted(struct slice s)
{
	if (s.n > QUOTED_BYTES_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] > 127 || s.p[i] == '\r' || s.p[i] == '\n')
			return false;
	return true;
}

/* From "from" on; NUL is no CHAR8 (RFC 9051 9). */
static void
replace_nuls(struct buf *out, size_t from)
{
	for (size_t i = from; i < out->n; i++)
		if (out->p[i] == '\0')
			out->p[i] = '?';
}

/*
 * nstring: NIL for p == NULL, a quoted string, or a literal when it
 * has octets over 127, CR, LF or is long.
 */
static void
put_nstring(struct buf *out, struct slice s)
{
	size_t from = out->n;

	if (s.p == NULL) {
		buf_put_str(out, "NIL");
		return;
	}
	if (can_be_quoted(s))
		buf_put_quoted(out, s);
	else {
		buf_putf(out, "{%zu}\r\n", s.n);
		buf_put_slice(out, s);
	}
	replace_nuls(out, from);
}

/* string: where the grammar has no NIL */
static void
put_string(struct buf *out, struct slice s)
{
	put_nstring(out, s.p ? s : SLICE(""));
}

static void
put_space(struct buf *out)
{
	buf_put_u8(out, ' ');
}

/* ---- ENVELOPE ---- */

/* env-date, env-subject, env-in-reply-to, env-message-id = nstring */
static void
put_text_field(struct buf *out, struct slice header, struct slice name,
    const struct envelope_limits *limits, struct arena *scratch)
{
	struct header_field f;
	struct slice text = slice_of(NULL, 0);

	if (header_find(header, name, &f)) {
		struct slice value = slice_sub(f.value, 0, limits->value_bytes_max);

		if (!header_unfold(value, scratch, &text) || text.p == NULL)
			text = SLICE("");
	}
	put_nstring(out, text);
	arena_reset(scratch);
}

/* address = "(" addr-name SP addr-adl SP addr-mailbox SP addr-host ")" */
static void
put_address(struct buf *out, const struct address *addr)
{
	struct slice nil = slice_of(NULL, 0);
	struct slice mailbox = nil;
	struct slice host = nil;

	if (addr->kind == ADDRESS_MAILBOX) {
		mailbox = addr->local;
		host = addr->domain.p ? addr->domain : SLICE("");
	} else if (addr->kind == ADDRESS_GROUP_START)
		mailbox = addr->name;
	buf_put_u8(out, '(');
	put_nstring(out, addr->kind == ADDRESS_MAILBOX ? addr->name : nil);
	put_space(out);
	put_nstring(out, addr->route);
	put_space(out);
	put_nstring(out, mailbox);
	put_space(out);
	put_nstring(out, host);
	buf_put_u8(out, ')');
}

/* Addresses of all fields of that name; returns whether there was any. */
static bool
put_addresses(struct buf *out, struct slice header, struct slice name,
    const struct envelope_limits *limits, struct arena *scratch)
{
	struct header_iter it;
	struct header_field f;
	size_t bytes_left = limits->value_bytes_max;
	size_t left = limits->addresses_max;
	bool any = false;

	header_iter_init(&it, header);
	while (left > 0 && bytes_left > 0 && header_next(&it, &f)) {
		struct address_list list;

		if (!slice_eq_nocase(f.name, name))
			continue;
		f.value = slice_sub(f.value, 0, bytes_left);
		bytes_left -= f.value.n;
		address_list_parse(f.value, left, scratch, &list);
		left -= list.n;
		for (size_t i = 0; i < list.n; i++) {
			if (!any)
				buf_put_u8(out, '(');
			any = true;
			put_address(out, &list.v[i]);
		}
		arena_reset(scratch);
	}
	if (any)
		buf_put_u8(out, ')');
	return any;
}

/* env-from … env-bcc = "(" 1*address ")" / nil; Sender and Reply-To default from From. */
static void
put_address_field(struct buf *out, struct slice header, struct slice name, bool defaults_from,
    const struct envelope_limits *limits, struct arena *scratch)
{
	if (put_addresses(out, header, name, limits, scratch))
		return;
	if (defaults_from && put_addresses(out, header, SLICE("From"), limits, scratch))
		return;
	buf_put_str(out, "NIL");
}

void
summary_imap_envelope(struct buf *out, struct slice header, const struct envelope_limits *limits,
    struct arena *scratch)
{
	static const struct {
		const char *name;
		bool defaults_from;
	} lists[] = {
	    {"From", false}, {"Sender", true}, {"Reply-To", true},
	    {"To", false},   {"Cc", false},    {"Bcc", false},
	};

	buf_put_u8(out, '(');
	put_text_field(out, header, SLICE("Date"), limits, scratch);
	put_space(out);
	put_text_field(out, header, SLICE("Subject"), limits, scratch);
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		put_space(out);
		put_address_field(out, header, slice_str(lists[i].name), lists[i].defaults_from,
		    limits, scratch);
	}
	put_space(out);
	put_text_field(out, header, SLICE("In-Reply-To"), limits, scratch);
	put_space(out);
	put_text_field(out, header, SLICE("Message-ID"), limits, scratch);
	buf_put_u8(out, ')');
}

/* ---- BODY and BODYSTRUCTURE ---- */

/* body-fld-param = "(" string SP string *(SP string SP string) ")" / nil */
static void
put_params(struct buf *out, const struct mime_params *params, struct arena *scratch)
{
	if (params->n == 0) {
		buf_put_str(out, "NIL");
		return;
	}
	for (size_t i = 0; i < params->n; i++) {
		const struct mime_param *p = &params->v[i];
		struct slice name = p->name;
		uint8_t *marked = p->extended ? arena_alloc(scratch, name.n + 1) : NULL;

		if (marked != NULL) {
			memcpy(marked, name.p, name.n);
			marked[name.n] = '*';
			name = slice_of(marked, name.n + 1);
		}
		buf_put_u8(out, i == 0 ? '(' : ' ');
		put_string(out, name);
		put_space(out);
		put_string(out, p->value);
		arena_reset(scratch);
	}
	buf_put_u8(out, ')');
}

/* body-fld-dsp = "(" string SP body-fld-param ")" / nil, then language and location */
static void
put_disposition_and_on(struct buf *out, const struct mime_part *part, struct arena *scratch)
{
	if (part->disposition.p == NULL)
		buf_put_str(out, "NIL");
	else {
		buf_put_u8(out, '(');
		put_string(out, part->disposition);
		put_space(out);
		put_params(out, &part->disposition_params, scratch);
		buf_put_u8(out, ')');
	}
	put_space(out);
	if (part->languages_n == 0)
		buf_put_str(out, "NIL");
	for (size_t i = 0; i < part->languages_n; i++) {
		buf_put_u8(out, i == 0 ? '(' : ' ');
		put_string(out, part->languages[i]);
	}
	if (part->languages_n > 0)
		buf_put_u8(out, ')');
	put_space(out);
	put_nstring(out, part->location);
}

/* body-fields = param SP id SP desc SP enc SP octets, behind the media type */
static void
put_body_fields(struct buf *out, const struct mime_part *part, struct arena *scratch)
{
	put_string(out, part->type);
	put_space(out);
	put_string(out, part->subtype);
	put_space(out);
	put_params(out, &part->params, scratch);
	put_space(out);
	put_nstring(out, part->id);
	put_space(out);
	put_nstring(out, part->description);
	put_space(out);
	put_string(out, part->encoding_name.p ? part->encoding_name : SLICE("7BIT"));
	buf_putf(out, " %llu", (unsigned long long)(part->body_end - part->body_start));
}

static void
put_lines(struct buf *out, const struct mime_part *part)
{
	buf_putf(out, " %llu", (unsigned long long)part->body_lines);
}

static void put_body(struct buf *out, const struct mime_part *part, bool extended,
    const struct envelope_limits *limits, struct arena *scratch, uint32_t depth);

/* body-type-1part = (body-type-basic / body-type-msg / body-type-text) [SP body-ext-1part] */
static void
put_single(struct buf *out, const struct mime_part *part, bool extended,
    const struct envelope_limits *limits, struct arena *scratch, uint32_t depth)
{
	put_body_fields(out, part, scratch);
	if (part->kind == MIME_MESSAGE) {
		put_space(out);
		summary_imap_envelope(out, part->first_child->header, limits, scratch);
		put_space(out);
		put_body(out, part->first_child, extended, limits, scratch, depth + 1);
		put_lines(out, part);
	} else if (slice_eq_nocase(part->type, SLICE("text")))
		put_lines(out, part);
	if (!extended)
		return;
	put_space(out);
	put_nstring(out, part->md5);
	put_space(out);
	put_disposition_and_on(out, part, scratch);
}

/* body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart] */
static void
put_multi(struct buf *out, const struct mime_part *part, bool extended,
    const struct envelope_limits *limits, struct arena *scratch, uint32_t depth)
{
	for (const struct mime_part *child = part->first_child; child; child = child->next)
		put_body(out, child, extended, limits, scratch, depth + 1);
	put_space(out);
	put_string(out, part->subtype);
	if (!extended)
		return;
	put_space(out);
	put_params(out, &part->params, scratch);
	put_space(out);
	put_disposition_and_on(out, part, scratch);
}

static void
put_body(struct buf *out, const struct mime_part *part, bool extended,
    const struct envelope_limits *limits, struct arena *scratch, uint32_t depth)
{
	assert(depth == part->depth);
	if (out->failed)
		return;
	buf_put_u8(out, '(');
	if (part->kind == MIME_MULTIPART)
		put_multi(out, part, extended, limits, scratch, depth);
	else
		put_single(out, part, extended, limits, scratch, depth);
	buf_put_u8(out, ')');
}

void
summary_imap_body(struct buf *out, const struct mime_part *part, bool extended,
    const struct envelope_limits *limits, struct arena *scratch)
{
	put_body(out, part, extended, limits, scratch, part->depth);
}

/* ---- checking what comes back ---- */

/* Behind `"`: the index after the closing one, or 0. */
static size_t
check_quoted(struct slice s, size_t i)
{
	for (; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c == '"')
			return i + 1;
		if (c == '\\')
			i++;
		if (i == s.n || s.p[i] == 0 || s.p[i] > 127 || s.p[i] == '\r' || s.p[i] == '\n')
			return 0;
	}
	return 0;
}

/* Behind "{": the index after the literal, or 0. */
static size_t
check_literal(struct slice s, size_t i)
{
	struct slice rest = slice_sub(s, i, s.n);
	size_t digits = slice_index(rest, '}');
	uint64_t n;

	if (!slice_u64(slice_sub(rest, 0, digits), s.n, &n))
		return 0;
	rest = slice_sub(rest, digits, rest.n);
	if (!slice_starts(rest, SLICE("}\r\n")) || rest.n - 3 < n ||
	    slice_index(slice_sub(rest, 3, 3 + (size_t)n), 0) < n)
		return 0;
	return i + digits + 3 + (size_t)n;
}

bool
summary_imap_valid(struct slice s)
{
	size_t depth = 0;
	size_t i = 0;

	if (s.n == 0 || s.p[0] != '(')
		return false;
	while (i < s.n) {
		uint8_t c = s.p[i++];

		if (c == '"')
			i = check_quoted(s, i);
		else if (c == '{')
			i = check_literal(s, i);
		else if (c == '(') {
			if (++depth > NESTING_MAX)
				return false;
		} else if (c == ')') {
			if (--depth == 0)
				return i == s.n;
		} else if (c != ' ' && !ascii_digit(c) && !ascii_alpha(c))
			return false;
		if (i == 0)
			return false;
	}
	return false;
}
