/*
 * One 256-entry table tells the classes of every octet, so that each production is a loop over a
 * mask. Octets over 127 are in the class of quoted strings alone, which then must be UTF-8 (RFC 6855 3, RFC 9051 9);
 * elsewhere outside literals they fail the command, as the ABNF wants it (CHAR is %x01-7F).
 */
#include "imapd/imap_scan.h"

#include "common/charset.h"

#include <assert.h>

enum {
	C_ATOM = 1,    /* ATOM-CHAR */
	C_ASTRING = 2, /* ASTRING-CHAR = ATOM-CHAR / "]" */
	C_LIST = 4,    /* list-char = ATOM-CHAR / "%" / "*" / "]" */
	C_QUOTED = 8,  /* TEXT-CHAR except DQUOTE and "\"; octets of UTF8-2, UTF8-3, UTF8-4 */
	C_TAG = 16,    /* ASTRING-CHAR except "+" */
};

#define A (C_ATOM | C_ASTRING | C_LIST | C_QUOTED | C_TAG)

/* atom-specials = "(" / ")" / "{" / SP / CTL / "%" / "*" / DQUOTE / "\" / "]" (RFC 3501 9) */
static const uint8_t class_of[256] = {
    [0x01 ... 0x09] = C_QUOTED,
    [0x0b ... 0x0c] = C_QUOTED,
    [0x0e ... 0x1f] = C_QUOTED,
    [' '] = C_QUOTED,
    ['!'] = A,
    ['#' ... '$'] = A,
    ['%'] = C_LIST | C_QUOTED,
    ['&' ... '\''] = A,
    ['('] = C_QUOTED,
    [')'] = C_QUOTED,
    ['*'] = C_LIST | C_QUOTED,
    ['+'] = C_ATOM | C_ASTRING | C_LIST | C_QUOTED,
    [',' ... '/'] = A,
    ['0' ... '9'] = A,
    [':' ... '@'] = A,
    ['A' ... 'Z'] = A,
    ['['] = A,
    [']'] = C_ASTRING | C_LIST | C_QUOTED | C_TAG,
    ['^' ... '`'] = A,
    ['a' ... 'z'] = A,
    ['{'] = C_QUOTED,
    ['|' ... '~'] = A,
    [0x7f ... 0xff] = C_QUOTED,
};
#undef A

struct imap_scan
imap_scan_of(struct slice command, struct arena *a)
{
	return (struct imap_scan){
	    .p = command.p, .end = command.p ? command.p + command.n : NULL, .arena = a};
}

bool
imap_scan_fail(struct imap_scan *s, const char *why)
{
	if (s->why == NULL)
		s->why = why;
	return false;
}

static bool
fail_limit(struct imap_scan *s)
{
	s->limit = true;
	return imap_scan_fail(s, "Command is too long");
}

bool
imap_scan_end(struct imap_scan *s)
{
	return s->p == s->end ? true : imap_scan_fail(s, "Unexpected text after the arguments");
}

bool
imap_try_char(struct imap_scan *s, uint8_t c)
{
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

bool
imap_char(struct imap_scan *s, uint8_t c)
{
	if (imap_try_char(s, c))
		return true;
	switch (c) {
	case '(':
		return imap_scan_fail(s, "Expected (");
	case ')':
		return imap_scan_fail(s, "Expected )");
	default:
		return imap_scan_fail(s, "Malformed argument");
	}
}

bool
imap_sp(struct imap_scan *s)
{
	return imap_try_char(s, ' ') ? true : imap_scan_fail(s, "Missing argument");
}

bool
imap_try_word(struct imap_scan *s, struct slice word)
{
	struct slice rest = slice_of(s->p, imap_scan_left(s));

	if (!slice_starts_nocase(rest, word))
		return false;
	s->p += word.n;
	return true;
}

/* 1*<octets of the class> */
static bool
run_of(struct imap_scan *s, uint8_t class, struct slice *run_r)
{
	const uint8_t *from = s->p;

	while (s->p < s->end && (class_of[*s->p] & class))
		s->p++;
	*run_r = slice_of(from, (size_t)(s->p - from));
	return run_r->n > 0;
}

bool
imap_tag(struct imap_scan *s, struct slice *tag_r)
{
	if (!run_of(s, C_TAG, tag_r) || tag_r->n > IMAP_TAG_BYTES_MAX)
		return imap_scan_fail(s, "Missing or malformed tag");
	return true;
}

bool
imap_atom(struct imap_scan *s, struct slice *atom_r)
{
	return run_of(s, C_ATOM, atom_r) ? true : imap_scan_fail(s, "Expected an atom");
}

/* Copies the n octets at p without the backslashes of quoted pairs. */
static bool
unquote(struct imap_scan *s, const uint8_t *p, size_t n, struct slice *value_r)
{
	uint8_t *copy = arena_alloc(s->arena, n);
	size_t m = 0;

	if (copy == NULL)
		return fail_limit(s);
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\\')
			i++;
		copy[m++] = p[i];
	}
	*value_r = slice_of(copy, m);
	return true;
}

/* quoted = DQUOTE *uQUOTED-CHAR DQUOTE; uQUOTED-CHAR = ... / "\" quoted-specials / UTF8-2 / UTF8-3 / UTF8-4 (RFC 6855 3) */
static bool
quoted(struct imap_scan *s, struct slice *value_r)
{
	const uint8_t *from;
	bool pairs = false;

	if (!imap_try_char(s, '"'))
		return imap_scan_fail(s, "Expected a string");
	from = s->p;
	while (s->p < s->end && *s->p != '"') {
		if (*s->p == '\\') {
			pairs = true;
			s->p++;
			if (s->p == s->end || (*s->p != '"' && *s->p != '\\'))
				return imap_scan_fail(s, "Malformed quoted string");
		} else if (!(class_of[*s->p] & C_QUOTED)) {
			return imap_scan_fail(s, "Malformed quoted string");
		}
		s->p++;
	}
	*value_r = slice_of(from, (size_t)(s->p - from));
	if (!imap_try_char(s, '"'))
		return imap_scan_fail(s, "Quoted string without end");
	if (!utf8_valid(*value_r))
		return imap_scan_fail(s, "Quoted string is no UTF-8");
	return pairs ? unquote(s, value_r->p, value_r->n, value_r) : true;
}

/* "{" number ["+"] "}" (RFC 7888 8); octets in 63 bits. */
bool
imap_literal_head(struct imap_scan *s, uint64_t *octets_r, bool *sync_r)
{
	const uint8_t *from;

	if (!imap_try_char(s, '{'))
		return imap_scan_fail(s, "Expected a literal");
	from = s->p;
	while (s->p < s->end && ascii_digit(*s->p))
		s->p++;
	if (!slice_u64(slice_of(from, (size_t)(s->p - from)), INT64_MAX, octets_r))
		return imap_scan_fail(s, "Malformed literal");
	*sync_r = !imap_try_char(s, '+');
	return imap_try_char(s, '}') ? true : imap_scan_fail(s, "Malformed literal");
}

/* literal = "{" number ["+"] "}" CRLF *CHAR8; NUL is not in CHAR8. */
static bool
literal(struct imap_scan *s, struct slice *value_r)
{
	uint64_t octets;
	bool sync;

	if (!imap_literal_head(s, &octets, &sync))
		return false;
	if (!imap_try_char(s, '\r') || !imap_try_char(s, '\n') || octets > imap_scan_left(s))
		return imap_scan_fail(s, "Malformed literal");
	*value_r = slice_of(s->p, (size_t)octets);
	s->p += octets;
	if (slice_index(*value_r, 0) < value_r->n)
		return imap_scan_fail(s, "NUL in a literal");
	return true;
}

bool
imap_string(struct imap_scan *s, struct slice *value_r)
{
	return imap_scan_peek(s) == '{' ? literal(s, value_r) : quoted(s, value_r);
}

bool
imap_astring(struct imap_scan *s, struct slice *value_r)
{
	uint8_t c = imap_scan_peek(s);

	if (c == '{' || c == '"')
		return imap_string(s, value_r);
	return run_of(s, C_ASTRING, value_r) ? true : imap_scan_fail(s, "Expected a string");
}

bool
imap_list_mailbox(struct imap_scan *s, struct slice *value_r)
{
	uint8_t c = imap_scan_peek(s);

	if (c == '{' || c == '"')
		return imap_string(s, value_r);
	return run_of(s, C_LIST, value_r) ? true : imap_scan_fail(s, "Expected a mailbox pattern");
}

/* number = 1*DIGIT, 0 <= n < 4,294,967,296 */
bool
imap_number(struct imap_scan *s, uint32_t *value_r)
{
	const uint8_t *from = s->p;
	uint64_t value;

	while (s->p < s->end && ascii_digit(*s->p))
		s->p++;
	if (!slice_u64(slice_of(from, (size_t)(s->p - from)), UINT32_MAX, &value))
		return imap_scan_fail(s, "Expected a number");
	*value_r = (uint32_t)value;
	return true;
}

bool
imap_nz_number(struct imap_scan *s, uint32_t *value_r)
{
	uint8_t c = imap_scan_peek(s);

	if (c < '1' || c > '9')
		return imap_scan_fail(s, "Expected a number from 1");
	return imap_number(s, value_r);
}

/* ---- sequence-set ---- */

/* seq-number = nz-number / "*" */
static bool
seq_number(struct imap_scan *s, uint32_t *value_r)
{
	if (imap_try_char(s, '*')) {
		*value_r = 0;
		return true;
	}
	return imap_nz_number(s, value_r) ? true : imap_scan_fail(s, "Malformed message set");
}

/* seq-number / seq-number ":" seq-number */
static bool
seq_range(struct imap_scan *s, struct imap_range *range_r)
{
	if (!seq_number(s, &range_r->low))
		return false;
	range_r->high = range_r->low;
	return imap_try_char(s, ':') ? seq_number(s, &range_r->high) : true;
}

/* How many ranges the set at the scan's place can have at most. */
static size_t
count_ranges(const struct imap_scan *s)
{
	size_t n = 1;

	for (const uint8_t *p = s->p; p < s->end && *p != ' ' && *p != ')'; p++)
		n += *p == ',';
	return n;
}

/* sequence-set = (seq-number / seq-range) *("," sequence-set) */
bool
imap_sequence_set(struct imap_scan *s, struct imap_set *set_r)
{
	size_t max = count_ranges(s);

	set_r->n = 0;
	set_r->v = arena_array(s->arena, max, sizeof *set_r->v);
	if (set_r->v == NULL)
		return fail_limit(s);
	do {
		assert(set_r->n < max);
		if (!seq_range(s, &set_r->v[set_r->n]))
			return imap_scan_fail(s, "Malformed message set");
		set_r->n++;
	} while (imap_try_char(s, ','));
	return true;
}

static int
range_order(const void *a, const void *b)
{
	const struct imap_range *x = a;
	const struct imap_range *y = b;

	return x->low < y->low ? -1 : x->low > y->low;
}

void
imap_set_resolve(struct imap_set *set, uint32_t largest)
{
	size_t kept = 0;

	for (size_t i = 0; i < set->n; i++) {
		uint32_t low = set->v[i].low ? set->v[i].low : largest;
		uint32_t high = set->v[i].high ? set->v[i].high : largest;

		set->v[i].low = low < high ? low : high;
		set->v[i].high = low < high ? high : low;
	}
	if (set->n > 1)
		qsort(set->v, set->n, sizeof *set->v, range_order);
	for (size_t i = 0; i < set->n; i++) {
		struct imap_range *last = kept > 0 ? &set->v[kept - 1] : NULL;

		if (last && (last->high == UINT32_MAX || set->v[i].low <= last->high + 1)) {
			if (set->v[i].high > last->high)
				last->high = set->v[i].high;
		} else {
			set->v[kept++] = set->v[i];
		}
	}
	set->n = kept;
}

/* ---- flags ---- */

static const struct {
	struct slice name;
	uint32_t bit;
} system_flags[] = {
    {{(const uint8_t *)"Answered", 8}, STORE_FLAG_ANSWERED},
    {{(const uint8_t *)"Flagged", 7}, STORE_FLAG_FLAGGED},
    {{(const uint8_t *)"Deleted", 7}, STORE_FLAG_DELETED},
    {{(const uint8_t *)"Seen", 4}, STORE_FLAG_SEEN},
    {{(const uint8_t *)"Draft", 5}, STORE_FLAG_DRAFT},
};

static void
system_flag(struct slice name, struct imap_flags *flags)
{
	for (size_t i = 0; i < sizeof system_flags / sizeof *system_flags; i++) {
		if (slice_eq_nocase(name, system_flags[i].name)) {
			flags->basic |= system_flags[i].bit;
			return;
		}
	}
	if (slice_eq_nocase(name, SLICE("Recent")))
		flags->recent = true;
	else
		flags->unknown = true;
}

static bool
keyword_add(struct imap_scan *s, struct slice name, struct imap_flags *flags)
{
	for (size_t i = 0; i < flags->keywords_n; i++)
		if (slice_eq_nocase(flags->keywords[i], name))
			return true;
	if (flags->keywords_n == IMAP_KEYWORDS_PER_COMMAND_MAX) {
		s->limit = true;
		return imap_scan_fail(s, "Too many keywords");
	}
	if (flags->keywords == NULL) {
		flags->keywords = arena_array(s->arena, IMAP_KEYWORDS_PER_COMMAND_MAX,
		    sizeof *flags->keywords);
		if (flags->keywords == NULL)
			return fail_limit(s);
	}
	flags->keywords[flags->keywords_n++] = name;
	return true;
}

/* flag = "\Answered" / ... / flag-keyword / flag-extension; flag-extension = "\" atom */
static bool
flag(struct imap_scan *s, struct imap_flags *flags)
{
	bool backslash = imap_try_char(s, '\\');
	struct slice name;

	if (!run_of(s, C_ATOM, &name))
		return imap_scan_fail(s, "Malformed flag");
	if (!backslash)
		return keyword_add(s, name, flags);
	system_flag(name, flags);
	return true;
}

bool
imap_flags_bare(struct imap_scan *s, struct imap_flags *flags_r)
{
	*flags_r = (struct imap_flags){0};
	do {
		if (!flag(s, flags_r))
			return false;
	} while (imap_try_char(s, ' '));
	return true;
}

bool
imap_flag_list(struct imap_scan *s, struct imap_flags *flags_r)
{
	*flags_r = (struct imap_flags){0};
	if (!imap_char(s, '('))
		return false;
	if (imap_try_char(s, ')'))
		return true;
	return imap_flags_bare(s, flags_r) && imap_char(s, ')');
}

/* ---- dates ---- */

bool
imap_date_time(struct imap_scan *s, struct date_time *date_r)
{
	struct slice text;

	if (!quoted(s, &text))
		return false;
	return date_imap_parse(text, date_r) ? true : imap_scan_fail(s, "Invalid date-time");
}

bool
imap_date(struct imap_scan *s, int64_t *day_r)
{
	struct slice text;
	bool ok = imap_scan_peek(s) == '"' ? quoted(s, &text) : imap_atom(s, &text);

	if (!ok || !date_day_parse(text, day_r))
		return imap_scan_fail(s, "Invalid date");
	return true;
}

static bool
all_in(struct slice s, uint8_t class)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(class_of[s.p[i]] & class))
			return false;
	return s.n > 0;
}

bool
imap_is_atom(struct slice s)
{
	return all_in(s, C_ATOM);
}

bool
imap_is_astring_bare(struct slice s)
{
	return all_in(s, C_ASTRING);
}
