/*
 * Header fields and message ids. A header is what stands before the first
 * empty line, whatever its lines look like: IMAP counts its octets so, and a
 * reader that ended it at the first line without a colon would see
 * another body than the rest of the server.
 */
#include "common/rfc5322.h"

static bool
is_wsp(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static bool
is_fws(uint8_t c)
{
	return is_wsp(c) || c == '\r' || c == '\n';
}

/* ---- header block ---- */

/* Octets of the first line with its line end; all of s when there is none. */
static size_t
line_length(struct slice s)
{
	size_t lf = slice_index(s, '\n');

	return lf < s.n ? lf + 1 : s.n;
}

static struct slice
without_line_end(struct slice s)
{
	if (s.n > 0 && s.p[s.n - 1] == '\n') {
		s.n--;
		if (s.n > 0 && s.p[s.n - 1] == '\r')
			s.n--;
	}
	return s;
}

static bool
line_is_empty(struct slice line)
{
	return line.n > 0 && line.p[line.n - 1] == '\n' && without_line_end(line).n == 0;
}

size_t
header_block_length(struct slice message)
{
	size_t at = 0;

	while (at < message.n) {
		struct slice rest = slice_sub(message, at, message.n);
		struct slice line = slice_sub(rest, 0, line_length(rest));

		at += line.n;
		if (line_is_empty(line))
			break;
	}
	return at;
}

void
header_iter_init(struct header_iter *it, struct slice block)
{
	it->rest = block;
	it->fields_left = HEADER_FIELDS_MAX;
}

/* field-name = 1*ftext, then *WSP ":" (obs-optional, RFC 5322 4.5.8) */
static bool
split_field(struct slice raw, struct header_field *f)
{
	size_t n = 0;

	while (n < raw.n && raw.p[n] > ' ' && raw.p[n] < 127 && raw.p[n] != ':')
		n++;
	size_t colon = n;

	while (colon < raw.n && is_wsp(raw.p[colon]))
		colon++;
	if (n == 0 || colon == raw.n || raw.p[colon] != ':')
		return false;
	f->name = slice_sub(raw, 0, n);
	f->value = without_line_end(slice_sub(raw, colon + 1, raw.n));
	return true;
}

bool
header_next(struct header_iter *it, struct header_field *field_r)
{
	struct slice line = slice_sub(it->rest, 0, line_length(it->rest));
	size_t n = line.n;

	if (n == 0 || it->fields_left == 0 || line_is_empty(line))
		return false;
	it->fields_left--;
	while (n < it->rest.n && is_wsp(it->rest.p[n])) {
		struct slice rest = slice_sub(it->rest, n, it->rest.n);

		n += line_length(rest);
	}
	field_r->raw = slice_sub(it->rest, 0, n);
	it->rest = slice_sub(it->rest, n, it->rest.n);
	if (!split_field(field_r->raw, field_r)) {
		field_r->name = slice_of(NULL, 0);
		field_r->value = without_line_end(field_r->raw);
	}
	return true;
}

bool
header_find(struct slice block, struct slice name, struct header_field *field_r)
{
	struct header_iter it;

	header_iter_init(&it, block);
	while (header_next(&it, field_r))
		if (slice_eq_nocase(field_r->name, name))
			return true;
	return false;
}

size_t
header_count(struct slice block, struct slice name)
{
	struct header_iter it;
	struct header_field f;
	size_t n = 0;

	header_iter_init(&it, block);
	while (header_next(&it, &f))
		n += slice_eq_nocase(f.name, name);
	return n;
}

bool
header_unfold(struct slice value, struct arena *a, struct slice *text_r)
{
	value = slice_trim(value);
	*text_r = value;
	if (slice_index(value, '\n') == value.n && slice_index(value, '\r') == value.n)
		return true;
	uint8_t *out = arena_alloc(a, value.n);
	size_t n = 0;

	if (out == NULL)
		return false;
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] != '\r' && value.p[i] != '\n')
			out[n++] = value.p[i];
	*text_r = slice_of(out, n);
	return true;
}

/* ---- message ids ---- */

/* The id with white space (folding) taken out; empty when there is no arena left. */
static struct slice
clean_id(struct slice s, struct arena *a)
{
	size_t n = 0;
	size_t i = 0;

	s = slice_trim(s);
	while (i < s.n && !is_fws(s.p[i]))
		i++;
	if (i == s.n)
		return s;
	uint8_t *p = arena_alloc(a, s.n);

	for (i = 0; p != NULL && i < s.n; i++)
		if (!is_fws(s.p[i]))
			p[n++] = s.p[i];
	return slice_of(p, n);
}

void
msgid_list_parse(struct slice value, size_t max, struct arena *a, struct msgid_list *list_r)
{
	size_t bound = 0;
	size_t open = value.n;

	*list_r = (struct msgid_list){0};
	for (size_t i = 0; i < value.n; i++)
		bound += value.p[i] == '>';
	if (max > bound)
		max = bound;
	if (bound == 0)
		return;
	list_r->v = max ? arena_array(a, max, sizeof *list_r->v) : NULL;
	for (size_t i = 0; list_r->v != NULL && i < value.n; i++) {
		if (value.p[i] == '<')
			open = i;
		if (value.p[i] != '>' || open >= i)
			continue;
		struct slice id = clean_id(slice_sub(value, open + 1, i), a);

		open = value.n;
		if (id.n == 0 || id.n > MSGID_BYTES_MAX)
			continue;
		if (list_r->n == max) {
			list_r->truncated = true;
			return;
		}
		list_r->v[list_r->n++] = id;
	}
	list_r->truncated |= list_r->v == NULL;
}
