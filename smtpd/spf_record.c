/*
 * Terms are not kept in an array: a record is checked whole by one walk over its
 * terms (RFC 7208 4.6: a syntax error anywhere is a permerror before anything is
 * evaluated) and walked again term by term while it is evaluated. So a record of 64 KiB of
 * terms costs no memory, and both walks use the one parser.
 *
 * domain-spec may contain "/" and so may what follows it: a prefix length is whatever at the end of
 * the term has the form of one. No domain-spec ends like that, since its last label has a letter.
 */
#include "smtpd/spf_record.h"

#include <arpa/inet.h>

static const struct {
	const char *name;
	enum spf_kind kind;
} mechanisms[] = {
	{"all", SPF_KIND_ALL},
	{"include", SPF_KIND_INCLUDE},
	{"a", SPF_KIND_A},
	{"mx", SPF_KIND_MX},
	{"ptr", SPF_KIND_PTR},
	{"ip4", SPF_KIND_IP4},
	{"ip6", SPF_KIND_IP6},
	{"exists", SPF_KIND_EXISTS},
};

bool
spf_record_is(struct slice text, struct slice *terms_r)
{
	struct slice version = SLICE("v=spf1");

	if (!slice_starts_nocase(text, version))
		return false;
	if (text.n > version.n && text.p[version.n] != ' ')
		return false;
	*terms_r = slice_sub(text, version.n, text.n);
	return true;
}

/* ---- macros ---- */

/* macro-expand = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
 * At s.p[*i] is the "%"; *i is moved behind the whole. */
static bool
macro_expand_valid(struct slice s, size_t *i, const char *letters)
{
	size_t at = *i + 1;
	bool nonzero = false, digits = false;

	if (at >= s.n)
		return false;
	if (s.p[at] == '%' || s.p[at] == '_' || s.p[at] == '-') {
		*i = at + 1;
		return true;
	}
	if (s.p[at++] != '{' || at >= s.n || s.p[at] == '\0' ||
	    strchr(letters, ascii_lower(s.p[at])) == NULL)
		return false;
	at++;
	for (; at < s.n && ascii_digit(s.p[at]); at++) {
		digits = true;
		nonzero |= s.p[at] != '0';
	}
	if (digits && !nonzero)
		return false;
	if (at < s.n && ascii_lower(s.p[at]) == 'r')
		at++;
	while (at < s.n && s.p[at] != '\0' && strchr(".-+,/_=", s.p[at]) != NULL)
		at++;
	if (at >= s.n || s.p[at] != '}')
		return false;
	*i = at + 1;
	return true;
}

/* macro-string = *( macro-expand / macro-literal ); *literal_r is where the literal tail begins. */
static bool
macro_walk(struct slice s, const char *letters, bool spaces, size_t *literal_r)
{
	size_t i = 0;

	*literal_r = 0;
	while (i < s.n) {
		uint8_t c = s.p[i];

		if (c == '%') {
			if (!macro_expand_valid(s, &i, letters))
				return false;
			*literal_r = i;
			continue;
		}
		if (c < 0x20 || c > 0x7e || (c == ' ' && !spaces))
			return false;
		i++;
	}
	return true;
}

bool
spf_macro_string_valid(struct slice s, const char *letters, bool spaces)
{
	size_t literal;

	return macro_walk(s, letters, spaces, &literal);
}

/* toplabel = ( *alphanum ALPHA *alphanum ) / ( 1*alphanum "-" *( alphanum / "-" ) alphanum ) */
static bool
toplabel_valid(struct slice s)
{
	bool alpha = false, hyphen = false;

	if (s.n == 0 || s.p[0] == '-' || s.p[s.n - 1] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && s.p[i] != '-')
			return false;
		alpha |= ascii_alpha(s.p[i]);
		hyphen |= s.p[i] == '-';
	}
	return alpha || hyphen;
}

/* domain-spec = macro-string domain-end;  domain-end = ( "." toplabel [ "." ] ) / macro-expand
 * The letters c, r and t are for explanations only (7.2). */
static bool
domain_spec_valid(struct slice s)
{
	struct slice tail;
	size_t literal, dot;

	if (s.n == 0 || !macro_walk(s, SPF_LETTERS_TERM, false, &literal))
		return false;
	if (literal == s.n)
		return true;
	tail = slice_sub(s, literal, s.n);
	if (tail.p[tail.n - 1] == '.')
		tail.n--;
	dot = slice_rindex(tail, '.');
	return dot < tail.n && toplabel_valid(slice_sub(tail, dot + 1, tail.n));
}

/* ---- terms ---- */

/* "0" / %x31-39 *DIGIT, at most max */
static bool
prefix_length(struct slice digits, uint8_t max, uint8_t *value_r)
{
	uint64_t v;

	if (digits.n == 0 || digits.n > 3 || (digits.p[0] == '0' && digits.n > 1) ||
	    !slice_u64(digits, max, &v))
		return false;
	*value_r = (uint8_t)v;
	return true;
}

/* Where the decimal digits at the end of s begin. */
static size_t
digits_at_end(struct slice s)
{
	size_t at = s.n;

	while (at > 0 && ascii_digit(s.p[at - 1]))
		at--;
	return at;
}

/* dual-cidr-length = [ "/" ip4-cidr ] [ "//" ip6-cidr ], taken off the end of *rest. */
static bool
take_dual_cidr(struct slice *rest, struct spf_term *t)
{
	size_t at = digits_at_end(*rest);

	if (at < rest->n && at >= 2 && rest->p[at - 1] == '/' && rest->p[at - 2] == '/') {
		if (!prefix_length(slice_sub(*rest, at, rest->n), 128, &t->prefix6))
			return false;
		rest->n = at - 2;
		at = digits_at_end(*rest);
	}
	if (at < rest->n && at >= 1 && rest->p[at - 1] == '/') {
		if (!prefix_length(slice_sub(*rest, at, rest->n), 32, &t->prefix4))
			return false;
		rest->n = at - 1;
	}
	return true;
}

/* [ ":" domain-spec ], or with its colon when `required`. */
static bool
parse_domain(struct slice rest, bool required, struct spf_term *t)
{
	if (rest.n == 0)
		return !required;
	if (rest.p[0] != ':')
		return false;
	t->domain_spec = slice_sub(rest, 1, rest.n);
	return domain_spec_valid(t->domain_spec);
}

/* ":" ip4-network [ "/" prefix ] or ":" ip6-network [ "/" prefix ] */
static bool
parse_network(struct slice rest, int family, struct spf_term *t)
{
	char text[INET6_ADDRSTRLEN];
	struct slice address, prefix;
	size_t slash;
	bool ip4 = family == AF_INET;

	if (rest.n == 0 || rest.p[0] != ':')
		return false;
	rest = slice_sub(rest, 1, rest.n);
	slash = slice_index(rest, '/');
	address = slice_sub(rest, 0, slash);
	prefix = slice_sub(rest, slash + 1, rest.n);
	if (slash < rest.n &&
	    !prefix_length(prefix, ip4 ? 32 : 128, ip4 ? &t->prefix4 : &t->prefix6))
		return false;
	return slice_cstr(address, text, sizeof text) && inet_pton(family, text, t->ip) == 1;
}

/* rest: what follows the mechanism's name. */
static bool
parse_arguments(struct slice rest, struct spf_term *t)
{
	switch (t->kind) {
	case SPF_KIND_ALL:
		return rest.n == 0;
	case SPF_KIND_INCLUDE:
	case SPF_KIND_EXISTS:
		return parse_domain(rest, true, t);
	case SPF_KIND_PTR:
		return parse_domain(rest, false, t);
	case SPF_KIND_A:
	case SPF_KIND_MX:
		return take_dual_cidr(&rest, t) && parse_domain(rest, false, t);
	case SPF_KIND_IP4:
		return parse_network(rest, AF_INET, t);
	case SPF_KIND_IP6:
		return parse_network(rest, AF_INET6, t);
	default:
		return false;
	}
}

/* directive = [ qualifier ] mechanism */
static bool
parse_directive(struct slice text, struct spf_term *t)
{
	size_t name_n = 0;

	t->result = SPF_RESULT_PASS;
	if (text.n > 0 && strchr("+-?~", text.p[0] ? text.p[0] : 'x') != NULL) {
		t->result = text.p[0] == '-'   ? SPF_RESULT_FAIL
			    : text.p[0] == '~' ? SPF_RESULT_SOFTFAIL
			    : text.p[0] == '?' ? SPF_RESULT_NEUTRAL
					       : SPF_RESULT_PASS;
		text = slice_sub(text, 1, text.n);
	}
	while (name_n < text.n && text.p[name_n] != ':' && text.p[name_n] != '/')
		name_n++;
	for (size_t i = 0; i < sizeof mechanisms / sizeof mechanisms[0]; i++)
		if (slice_eq_nocase(slice_sub(text, 0, name_n), slice_str(mechanisms[i].name))) {
			t->kind = mechanisms[i].kind;
			return parse_arguments(slice_sub(text, name_n, text.n), t);
		}
	return false;
}

/* name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." ), followed by "="; its length, or 0. */
static size_t
modifier_name(struct slice text)
{
	size_t i = 1;

	if (text.n == 0 || !ascii_alpha(text.p[0]))
		return 0;
	while (i < text.n && (ascii_alpha(text.p[i]) || ascii_digit(text.p[i]) || text.p[i] == '-' ||
				 text.p[i] == '_' || text.p[i] == '.'))
		i++;
	return i < text.n && text.p[i] == '=' ? i : 0;
}

/* modifier = redirect / explanation / unknown-modifier */
static bool
parse_modifier(struct slice text, size_t name_n, struct spf_term *t)
{
	struct slice name = slice_sub(text, 0, name_n);

	t->domain_spec = slice_sub(text, name_n + 1, text.n);
	if (slice_eq_nocase(name, SLICE("redirect")))
		t->kind = SPF_KIND_REDIRECT;
	else if (slice_eq_nocase(name, SLICE("exp")))
		t->kind = SPF_KIND_EXP;
	else {
		t->kind = SPF_KIND_UNKNOWN_MODIFIER;
		return spf_macro_string_valid(t->domain_spec, SPF_LETTERS_EXP, false);
	}
	return domain_spec_valid(t->domain_spec);
}

int
spf_term_next(struct slice *rest, struct spf_term *term_r)
{
	struct slice text;
	size_t name_n;

	*term_r = (struct spf_term){.prefix4 = 32, .prefix6 = 128};
	do {
		if (rest->n == 0)
			return 0;
		slice_cut(rest, ' ', &text);
	} while (text.n == 0);
	term_r->text = text;
	name_n = modifier_name(text);
	if (name_n > 0)
		return parse_modifier(text, name_n, term_r) ? 1 : -1;
	return parse_directive(text, term_r) ? 1 : -1;
}

/* "redirect" and "exp" may appear once each (RFC 7208 6). */
static bool
set_once(struct slice *at, struct slice value)
{
	if (at->p != NULL)
		return false;
	*at = value;
	return true;
}

bool
spf_record_parse(struct slice terms, struct spf_record *record_r, struct slice *fault_r)
{
	struct spf_term t;
	int got;

	*record_r = (struct spf_record){.terms = terms};
	while ((got = spf_term_next(&terms, &t)) > 0) {
		bool ok = true;

		if (t.kind == SPF_KIND_ALL)
			record_r->has_all = true;
		else if (t.kind == SPF_KIND_REDIRECT)
			ok = set_once(&record_r->redirect, t.domain_spec);
		else if (t.kind == SPF_KIND_EXP)
			ok = set_once(&record_r->exp, t.domain_spec);
		if (!ok)
			break;
	}
	*fault_r = t.text;
	return got == 0;
}
