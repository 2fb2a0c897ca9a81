/*
 * Parameters are read in two steps: first the pieces as they stand (at most
 * MIME_PARAMS_MAX plus MIME_PARAM_PIECES_MAX of them, so that the quadratic
 * search for continuations is bounded), then pieces of one name are joined
 * in the order of their numbers (RFC 2231 3).
 *
 * A joined value stays in its wire form; only mime_param_text() converts. IMAP shows
 * it under one name with "*" behind, which clients understand where many do not
 * know continuations.
 */
#include "common/mime_param.h"

#include "common/charset.h"
#include "common/mime_word.h"

#include <assert.h>

#define PIECES_MAX (MIME_PARAMS_MAX + MIME_PARAM_PIECES_MAX)
#define COMMENT_DEPTH_MAX 50
#define NO_NUMBER (-1)

struct piece {
	struct slice name; /* without marks */
	struct slice value;
	int number; /* of a continuation, or NO_NUMBER */
	bool extended;
};

struct pieces {
	struct piece v[PIECES_MAX];
	size_t n;
	size_t continuations;
	bool truncated;
};

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* token = 1*<any (US-ASCII) CHAR except SPACE, CTLs, or tspecials> (RFC 2045 5.1), and 8-bit */
static bool
is_token(uint8_t c)
{
	static const char tspecials[] = "()<>@,;:\\\"/[]?=";

	return c > ' ' && c != 127 && memchr(tspecials, c, sizeof tspecials - 1) == NULL;
}

/* White space and comments. */
static void
skip_cfws(struct slice *s)
{
	size_t depth = 0;
	size_t i = 0;

	for (; i < s->n; i++) {
		uint8_t c = s->p[i];

		if (c == '(' && depth < COMMENT_DEPTH_MAX)
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
		else if (c == '\\' && depth > 0)
			i++;
		else if (depth == 0 && !is_space(c))
			break;
	}
	*s = slice_sub(*s, i, s->n);
}

static struct slice
take_token(struct slice *s)
{
	size_t n = 0;

	skip_cfws(s);
	while (n < s->n && is_token(s->p[n]))
		n++;
	struct slice token = slice_sub(*s, 0, n);

	*s = slice_sub(*s, n, s->n);
	return token;
}

/* ---- values ---- */

/* The inside of a quoted string, without quoting backslashes and line ends; a view when it can be. */
static struct slice
unquote(struct slice s, struct arena *a)
{
	size_t n = 0;

	if (slice_index(s, '\\') == s.n && slice_index(s, '\n') == s.n &&
	    slice_index(s, '\r') == s.n)
		return s;
	uint8_t *p = arena_alloc(a, s.n);

	for (size_t i = 0; p != NULL && i < s.n; i++) {
		if (s.p[i] == '\\' && i + 1 < s.n)
			i++;
		else if (s.p[i] == '\r' || s.p[i] == '\n')
			continue;
		p[n++] = s.p[i];
	}
	return slice_of(p, n);
}

/* quoted-string; one that is not closed ends with the field */
static struct slice
take_quoted(struct slice *s, struct arena *a)
{
	size_t i = 1;

	while (i < s->n && s->p[i] != '"')
		i += s->p[i] == '\\' ? 2 : 1;
	struct slice inside = slice_sub(*s, 1, i);

	*s = slice_sub(*s, i + 1, s->n);
	return unquote(inside, a);
}

/*
 * value = token / quoted-string. An unquoted value with spaces or specials
 * in it goes up to the ";", as most programs read it, or to a comment after a space.
 */
static struct slice
take_value(struct slice *s, struct arena *a)
{
	size_t i = 0;

	skip_cfws(s);
	if (s->n > 0 && s->p[0] == '"')
		return take_quoted(s, a);
	while (i < s->n && s->p[i] != ';' && !(s->p[i] == '(' && i > 0 && is_space(s->p[i - 1])))
		i++;
	struct slice value = slice_trim(slice_sub(*s, 0, i));

	*s = slice_sub(*s, i, s->n);
	return unquote(value, a);
}

/*
 * Takes the marks of RFC 2231 off a name: "*" initial-section, other-sections
 * and a last "*" for an extended value. What is none of these stays in the name.
 */
static void
split_marks(struct piece *p)
{
	struct slice name = p->name;
	uint64_t number;

	p->number = NO_NUMBER;
	p->extended = false;
	if (name.n > 1 && name.p[name.n - 1] == '*') {
		p->extended = true;
		name.n--;
	}
	size_t star = slice_index(name, '*');

	if (star > 0 && star < name.n) {
		struct slice digits = slice_sub(name, star + 1, name.n);

		if (digits.n > 3 || !slice_u64(digits, 999, &number)) {
			p->extended = false;
			return;
		}
		p->number = (int)number;
		name.n = star;
	}
	p->name = name;
}

/* *(";" parameter), parameter = attribute "=" value; anything else is skipped up to ";" */
static void
take_pieces(struct slice s, struct arena *a, struct pieces *out)
{
	while (s.n > 0) {
		struct piece p = {.name = take_token(&s)};

		skip_cfws(&s);
		if (p.name.n > 0 && s.n > 0 && s.p[0] == '=') {
			s = slice_sub(s, 1, s.n);
			p.value = take_value(&s, a);
			split_marks(&p);
			bool cont = p.number != NO_NUMBER;

			if (out->n == PIECES_MAX ||
			    (cont && out->continuations == MIME_PARAM_PIECES_MAX)) {
				out->truncated = true;
				return;
			}
			out->continuations += cont;
			out->v[out->n++] = p;
		}
		size_t semicolon = slice_index(s, ';');

		s = slice_sub(s, semicolon + 1, s.n);
	}
}

/* ---- joining ---- */

/* attribute-char of RFC 2231 7 */
static bool
is_attribute_char(uint8_t c)
{
	return is_token(c) && c < 127 && c != '*' && c != '\'' && c != '%';
}

static void
put_piece(struct buf *b, const struct piece *p, bool extended)
{
	if (!extended || p->extended) {
		buf_put_slice(b, p->value);
		return;
	}
	for (size_t i = 0; i < p->value.n; i++) {
		if (is_attribute_char(p->value.p[i]))
			buf_put_u8(b, p->value.p[i]);
		else
			buf_putf(b, "%%%02X", p->value.p[i]);
	}
}

static const struct piece *
find_piece(const struct pieces *all, struct slice name, int number)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->v[i].number == number && slice_eq_nocase(all->v[i].name, name))
			return &all->v[i];
	return NULL;
}

/* Joins pieces 0, 1, 2 … of a name, as far as they go. False at a cap. */
static bool
join(const struct pieces *all, struct slice name, struct arena *a, struct mime_param *out)
{
	struct buf b;
	const struct piece *p;

	*out = (struct mime_param){.name = name};
	for (int i = 0; (p = find_piece(all, name, i)) != NULL; i++)
		out->extended |= p->extended;
	buf_init(&b, MIME_PARAM_BYTES_MAX);
	p = find_piece(all, name, 0);
	if (out->extended && !p->extended)
		buf_put_str(&b, "''");
	for (int i = 0; (p = find_piece(all, name, i)) != NULL; i++)
		put_piece(&b, p, out->extended);
	bool ok = !b.failed && arena_copy(a, buf_slice(&b), &out->value);

	buf_fini(&b);
	return ok;
}

static bool
has_param(const struct mime_params *params, struct slice name, bool extended)
{
	for (size_t i = 0; i < params->n; i++)
		if (params->v[i].extended == extended && slice_eq_nocase(params->v[i].name, name))
			return true;
	return false;
}

/*
 * Each name once, and once more when it also has an extended form; the first wins.
 * Of continuations the piece 0 brings in the parameter; without it they are dropped.
 */
static bool
join_pieces(const struct pieces *all, struct arena *a, struct mime_params *params)
{
	size_t max = all->n < MIME_PARAMS_MAX ? all->n : MIME_PARAMS_MAX;

	*params = (struct mime_params){.truncated = all->truncated};
	if (all->n == 0)
		return true;
	params->v = arena_array(a, max, sizeof *params->v);
	if (params->v == NULL)
		return false;
	for (size_t i = 0; i < all->n; i++) {
		const struct piece *p = &all->v[i];
		struct mime_param one = {.name = p->name, .value = p->value, .extended = p->extended};

		if (p->number > 0)
			continue;
		bool fits = p->number == 0 ? join(all, p->name, a, &one)
					   : p->value.n <= MIME_PARAM_BYTES_MAX;

		if (has_param(params, one.name, one.extended))
			continue;
		if (!fits || params->n == max) {
			params->truncated = true;
			continue;
		}
		params->v[params->n++] = one;
	}
	return true;
}

static bool
params_parse(struct slice s, struct arena *a, struct mime_params *params)
{
	struct pieces all = {.n = 0};

	take_pieces(s, a, &all);
	return join_pieces(&all, a, params);
}

/* ---- the fields ---- */

bool
mime_type_parse(struct slice value, struct arena *a, struct mime_value *value_r)
{
	struct slice s = value;

	*value_r = (struct mime_value){.type = take_token(&s)};
	skip_cfws(&s);
	if (value_r->type.n == 0 || s.n == 0 || s.p[0] != '/')
		return false;
	s = slice_sub(s, 1, s.n);
	value_r->subtype = take_token(&s);
	if (value_r->subtype.n == 0)
		return false;
	s = slice_sub(s, slice_index(s, ';') + 1, s.n);
	return params_parse(s, a, &value_r->params);
}

bool
mime_disposition_parse(struct slice value, struct arena *a, struct mime_value *value_r)
{
	struct slice s = value;

	*value_r = (struct mime_value){.type = take_token(&s)};
	if (value_r->type.n == 0)
		return false;
	s = slice_sub(s, slice_index(s, ';') + 1, s.n);
	return params_parse(s, a, &value_r->params);
}

struct slice
mime_token_parse(struct slice value)
{
	return take_token(&value);
}

size_t
mime_language_parse(struct slice value, size_t max, struct slice *tags_r)
{
	size_t n = 0;

	while (n < max && value.n > 0) {
		struct slice tag = take_token(&value);

		if (tag.n > 0)
			tags_r[n++] = tag;
		value = slice_sub(value, slice_index(value, ',') + 1, value.n);
	}
	return n;
}

const struct mime_param *
mime_param_find(const struct mime_params *params, struct slice name)
{
	const struct mime_param *found = NULL;

	for (size_t i = 0; i < params->n; i++) {
		const struct mime_param *p = &params->v[i];

		if (slice_eq_nocase(p->name, name) && (found == NULL || p->extended))
			found = p;
	}
	return found;
}

/* ---- text ---- */

/* ext-octet = "%" 2(DIGIT / A-F); a "%" that begins none stands for itself. */
static void
percent_decode(struct slice s, struct buf *out)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t high, low;

		if (s.p[i] != '%' || s.n - i < 3 || !ascii_hex_value(ascii_lower(s.p[i + 1]), &high) ||
		    !ascii_hex_value(ascii_lower(s.p[i + 2]), &low)) {
			buf_put_u8(out, s.p[i]);
			continue;
		}
		buf_put_u8(out, (uint8_t)(high << 4 | low));
		i += 2;
	}
}

/* extended-initial-value = [charset] "'" [language] "'" extended-other-values */
static bool
extended_text(struct slice value, struct buf *out)
{
	struct slice charset = slice_sub(value, 0, slice_index(value, '\''));
	struct slice rest = slice_sub(value, charset.n + 1, value.n);
	size_t second = slice_index(rest, '\'');
	struct buf octets;
	size_t from = out->n;

	if (second == rest.n) {
		charset = slice_of(NULL, 0);
		rest = value;
	} else
		rest = slice_sub(rest, second + 1, rest.n);
	buf_init(&octets, MIME_PARAM_BYTES_MAX);
	percent_decode(rest, &octets);
	bool ok = charset_to_utf8(charset, buf_slice(&octets), out) != CHARSET_FULL;

	buf_fini(&octets);
	for (size_t i = from; i < out->n; i++)
		if (out->p[i] == '\r' || out->p[i] == '\n' || out->p[i] == '\0')
			out->p[i] = ' ';
	return ok;
}

bool
mime_param_text(const struct mime_param *param, struct buf *out)
{
	assert(param->value.n <= MIME_PARAM_BYTES_MAX);
	return param->extended ? extended_text(param->value, out)
			       : mime_word_decode(param->value, out);
}
