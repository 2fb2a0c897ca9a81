/*
 * Addresses.
 *
 * The parser works in two linear steps: scan_item() finds where an item
 * ends and where its "<" and last comment are, looking at
 * structure only (quoted strings, comments, domain literals, angle brackets);
 * the clean_*() functions then take the text out of the ranges found. It
 * never looks ahead for a closing bracket, so nothing is scanned twice
 * however broken the input is. Where readers of mail are known to differ
 * (two "@", text after ">", "@" in a display name) the item is marked
 * malformed, since DMARC must not trust one reading of it.
 */
#include "common/rfc5322.h"

#include <assert.h>

static bool
is_fws(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* ---- structure of address lists ---- */

/* The index after the quoted string that opens at s.p[i]; s.n when it is never closed. */
static size_t
skip_quoted(struct slice s, size_t i)
{
	for (i++; i < s.n && s.p[i] != '"'; i++)
		if (s.p[i] == '\\')
			i++;
	return i < s.n ? i + 1 : s.n;
}

/* The same for a comment (RFC 5322 3.2.2); one that is too deep has no end. */
static size_t
skip_comment(struct slice s, size_t i)
{
	size_t depth = 0;

	for (; i < s.n; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == '(' && depth++ == ADDRESS_COMMENT_DEPTH_MAX)
			break;
		else if (s.p[i] == ')' && --depth == 0)
			return i + 1;
	}
	return s.n;
}

/* domain-literal = "[" *dtext "]"; one that is not closed ends before "," ";" ">" */
static size_t
skip_literal(struct slice s, size_t i)
{
	for (i++; i < s.n; i++) {
		if (s.p[i] == ']')
			return i + 1;
		if (s.p[i] == ',' || s.p[i] == ';' || s.p[i] == '>')
			return i;
	}
	return s.n;
}

/* The index after the token at i: a quoted string, comment or literal as a whole, else one octet. */
static size_t
skip_token(struct slice s, size_t i)
{
	switch (s.p[i]) {
	case '"':
		return skip_quoted(s, i);
	case '(':
		return skip_comment(s, i);
	case '[':
		return skip_literal(s, i);
	case '\\':
		return i + 2 < s.n ? i + 2 : s.n;
	default:
		return i + 1;
	}
}

/* An item of the list, up to what ends it. */
struct item {
	struct slice before;  /* up to "<" or to the end: phrase or addr-spec */
	struct slice angle;   /* between "<" and ">"; p == NULL when there is none */
	struct slice comment; /* the last comment outside the angle; p == NULL: none */
	uint8_t ended_by;     /* ',' ';' ':' '<' or 0 at the end of the value */
	bool malformed;
};

/*
 * Scans what follows "<" up to ">"; the route "@a,@b:" may have commas. Returns
 * the index after ">", or of the octet that shows it was forgotten.
 */
static size_t
scan_angle(struct slice s, size_t from, struct item *item)
{
	size_t i = from;
	bool route = false;

	while (i < s.n && is_fws(s.p[i]))
		i++;
	route = i < s.n && s.p[i] == '@';
	while (i < s.n && s.p[i] != '>') {
		if (s.p[i] == '<' || s.p[i] == ';' || (s.p[i] == ',' && !route))
			break;
		if (s.p[i] == ':')
			route = false;
		i = skip_token(s, i);
	}
	item->angle = slice_sub(s, from, i);
	if (item->angle.p == NULL)
		item->angle = SLICE("");
	if (i < s.n && s.p[i] == '>')
		return i + 1;
	item->malformed = true;
	return i;
}

static bool
ends_item(uint8_t c, const struct item *item, bool in_group)
{
	if (c == ',' || c == ';')
		return true;
	if (c == '<')
		return item->angle.p != NULL;
	return c == ':' && !in_group && item->angle.p == NULL;
}

/* Behind "<...>" another address begins, without the comma between them. */
static bool
address_follows(struct slice s, size_t i)
{
	for (; i < s.n && s.p[i] != ',' && s.p[i] != ';' && s.p[i] != '<'; i = skip_token(s, i))
		if (s.p[i] == '@')
			return true;
	return false;
}

/* Scans one item at the start of *s and advances *s past it and what ended it. */
static void
scan_item(struct slice *s, bool in_group, struct item *item)
{
	size_t i = 0;
	size_t before_end = 0;

	*item = (struct item){.ended_by = 0};
	while (i < s->n && !ends_item(s->p[i], item, in_group)) {
		size_t from = i;

		if (item->angle.p != NULL && !item->malformed && !is_fws(s->p[i]) && s->p[i] != '(' && address_follows(*s, i)) {
			item->malformed = true;
			item->ended_by = '<';
			break;
		}
		if (s->p[i] == '<') {
			before_end = i;
			i = scan_angle(*s, i + 1, item);
			continue;
		}
		i = skip_token(*s, i);
		if (s->p[from] == '(')
			item->comment = slice_sub(*s, from, i);
		else if (item->angle.p != NULL && !is_fws(s->p[from]))
			item->malformed = true;
	}
	if (item->angle.p == NULL)
		before_end = i;
	item->before = slice_sub(*s, 0, before_end);
	if (i < s->n && item->ended_by == 0) {
		item->ended_by = s->p[i];
		i += item->ended_by != '<';
	}
	*s = slice_sub(*s, i, s->n);
}

/* ---- text of addresses ---- */

/* Where cleaned text is written: at most as long as its source, so room is made once. */
struct text {
	uint8_t *p;
	size_t n;
	bool gap; /* white space or a comment since the last octet written */
};

static void
text_put(struct text *t, uint8_t c)
{
	t->p[t->n++] = c;
}

/* Writes the inside of the quoted string or comment s without quoting backslashes and line ends. */
static void
text_unquote(struct text *t, struct slice s)
{
	size_t end = s.n > 1 && (s.p[s.n - 1] == '"' || s.p[s.n - 1] == ')') ? s.n - 1 : s.n;

	for (size_t i = 1; i < end; i++) {
		if (s.p[i] == '\\' && i + 1 < end)
			i++;
		else if (s.p[i] == '\r' || s.p[i] == '\n')
			continue;
		text_put(t, s.p[i]);
	}
}

/* True for text that can be given as a view: no quotes, escapes, comments, line ends, wide gaps. */
static bool
text_is_clean(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c == '"' || c == '\\' || c == '(' || c == '\r' || c == '\n' || c == '\t' ||
		    (c == ' ' && s.p[i + 1] == ' '))
			return false;
	}
	return true;
}

/* phrase = 1*word, with obs-phrase: words with one space between them. */
static struct slice
clean_phrase(struct slice s, struct arena *a)
{
	s = slice_trim(s);
	if (s.n == 0 || text_is_clean(s))
		return s.n ? s : slice_of(NULL, 0);
	struct text t = {.p = arena_alloc(a, s.n)};

	if (t.p == NULL)
		return slice_of(NULL, 0);
	for (size_t i = 0, next; i < s.n; i = next) {
		next = skip_token(s, i);
		struct slice token = slice_sub(s, i, next);

		if (is_fws(s.p[i]) || s.p[i] == '(') {
			t.gap = true;
			continue;
		}
		if (t.gap && t.n > 0)
			text_put(&t, ' ');
		t.gap = false;
		if (s.p[i] == '"')
			text_unquote(&t, token);
		else
			for (size_t k = s.p[i] == '\\' && token.n > 1; k < token.n; k++)
				text_put(&t, token.p[k]);
	}
	return slice_of(t.p, t.n);
}

static struct slice
clean_comment(struct slice s, struct arena *a)
{
	if (s.p == NULL)
		return s;
	struct text t = {.p = arena_alloc(a, s.n)};

	if (t.p == NULL)
		return slice_of(NULL, 0);
	text_unquote(&t, s);
	struct slice text = slice_trim(slice_of(t.p, t.n));

	return text.n ? text : slice_of(NULL, 0);
}

/*
 * A local part (unquoted) or a domain: no comments, no white space around
 * "."; other white space between words stays as one space and is malformed.
 */
static struct slice
clean_dotted(struct slice s, struct arena *a, bool *malformed)
{
	s = slice_trim(s);
	if (text_is_clean(s) && slice_index(s, ' ') == s.n)
		return s.n ? s : SLICE("");
	struct text t = {.p = arena_alloc(a, s.n)};
	bool after_dot = true;

	if (t.p == NULL)
		return SLICE("");
	for (size_t i = 0, next; i < s.n; i = next) {
		next = skip_token(s, i);
		if (is_fws(s.p[i]) || s.p[i] == '(') {
			t.gap = true;
			continue;
		}
		if (t.gap && !after_dot && s.p[i] != '.') {
			*malformed = true;
			text_put(&t, ' ');
		}
		t.gap = false;
		after_dot = s.p[i] == '.';
		if (s.p[i] == '"')
			text_unquote(&t, slice_sub(s, i, next));
		else
			for (size_t k = i; k < next; k++)
				text_put(&t, s.p[k]);
	}
	return slice_of(t.p, t.n);
}

/* Index of the last "@" outside quoted strings, comments and literals, or s.n; counts them. */
static size_t
find_at(struct slice s, size_t *count_r)
{
	size_t at = s.n;

	*count_r = 0;
	for (size_t i = 0; i < s.n; i = skip_token(s, i)) {
		if (s.p[i] != '@')
			continue;
		at = i;
		++*count_r;
	}
	return at;
}

/* obs-route = obs-domain-list ":", only before an addr-spec in angle brackets */
static struct slice
take_route(struct slice *s, struct arena *a, bool *malformed)
{
	struct slice trimmed = slice_trim(*s);

	if (trimmed.n == 0 || trimmed.p[0] != '@')
		return slice_of(NULL, 0);
	for (size_t i = 0; i < trimmed.n; i = skip_token(trimmed, i)) {
		if (trimmed.p[i] != ':')
			continue;
		*s = slice_sub(trimmed, i + 1, trimmed.n);
		return clean_dotted(slice_sub(trimmed, 0, i), a, malformed);
	}
	return slice_of(NULL, 0);
}

/* addr-spec = local-part "@" domain */
static void
take_addr_spec(struct slice s, struct arena *a, struct address *addr)
{
	size_t count;
	size_t at = find_at(s, &count);

	addr->local = clean_dotted(slice_sub(s, 0, at), a, &addr->malformed);
	if (at < s.n)
		addr->domain = clean_dotted(slice_sub(s, at + 1, s.n), a, &addr->malformed);
	if (count != 1 || addr->local.n == 0 || addr->domain.n == 0)
		addr->malformed = true;
}

/* ---- the list ---- */

static bool
list_push(struct address_list *l, size_t max, size_t keep_free, const struct address *addr)
{
	if (l->truncated || l->n + keep_free >= max) {
		l->truncated = true;
		return false;
	}
	l->v[l->n++] = *addr;
	l->mailboxes += addr->kind == ADDRESS_MAILBOX;
	l->groups += addr->kind == ADDRESS_GROUP_START;
	l->malformed |= addr->malformed;
	return true;
}

static bool
only_cfws(struct slice s)
{
	for (size_t i = 0; i < s.n; i = skip_token(s, i))
		if (!is_fws(s.p[i]) && s.p[i] != '(')
			return false;
	return true;
}

static void
mailbox_of(const struct item *item, struct arena *a, struct address *addr)
{
	size_t count;

	*addr = (struct address){.kind = ADDRESS_MAILBOX, .malformed = item->malformed};
	if (item->angle.p != NULL) {
		struct slice spec = item->angle;

		addr->name = clean_phrase(item->before, a);
		addr->route = take_route(&spec, a, &addr->malformed);
		take_addr_spec(spec, a, addr);
		find_at(item->before, &count);
		addr->malformed |= count > 0;
	} else
		take_addr_spec(item->before, a, addr);
	if (addr->name.p == NULL)
		addr->name = clean_comment(item->comment, a);
}

/* address-list = (address *("," address)) / obs-addr-list, onto l, which has room for max. */
static void
parse_into(struct slice value, size_t max, struct arena *a, struct address_list *l)
{
	static const struct address group_end = {.kind = ADDRESS_GROUP_END};
	bool in_group = false;
	struct item item;

	while (value.n > 0 && !l->truncated) {
		struct address addr;

		scan_item(&value, in_group, &item);
		if (item.ended_by == ':') {
			addr = (struct address){.kind = ADDRESS_GROUP_START,
			    .malformed = item.malformed,
			    .name = clean_phrase(item.before, a)};
			if (addr.name.p == NULL)
				addr.name = SLICE("");
			in_group = list_push(l, max, 1, &addr);
			continue;
		}
		if (item.angle.p != NULL || !only_cfws(item.before)) {
			mailbox_of(&item, a, &addr);
			addr.malformed |= item.ended_by == '<' || (item.ended_by == ';' && !in_group);
			list_push(l, max, in_group, &addr);
		}
		if (in_group && item.ended_by == ';') {
			l->v[l->n++] = group_end;
			in_group = false;
		}
	}
	if (in_group) {
		l->v[l->n++] = group_end;
		l->malformed = true;
	}
	assert(l->n <= max);
}

/* An upper bound of the items in value: each is ended by one of four octets, or another one follows its "<...>"; a group has two ends. */
static size_t
items_bound(struct slice value)
{
	size_t n = 3;

	for (size_t i = 0; i < value.n; i++) {
		uint8_t c = value.p[i];

		n += c == ',' || c == ';' ? 1 : c == ':' || c == '<' ? 2 : 0;
	}
	return n;
}

static bool
list_init(struct address_list *l, size_t bound, size_t *max, struct arena *a)
{
	*l = (struct address_list){0};
	if (*max > bound)
		*max = bound;
	l->v = *max ? arena_array(a, *max, sizeof *l->v) : NULL;
	l->truncated = l->v == NULL;
	return l->v != NULL;
}

void
address_list_parse(struct slice value, size_t max, struct arena *a, struct address_list *list_r)
{
	if (list_init(list_r, items_bound(value), &max, a))
		parse_into(value, max, a, list_r);
}

bool
addr_spec_split(struct slice addr, struct slice *local_r, struct slice *domain_r)
{
	size_t at = addr.n;

	for (size_t i = 0; i < addr.n; i = addr.p[i] == '"' ? skip_quoted(addr, i) : i + 1)
		if (addr.p[i] == '@')
			at = i;
	*local_r = slice_sub(addr, 0, at);
	*domain_r = slice_sub(addr, at + 1, addr.n);
	return local_r->n > 0 && domain_r->n > 0;
}

/* ---- From, for DMARC ---- */

static void
from_domains(struct from_info *info)
{
	bool first = true;

	/* Of those that are left out nothing is known. */
	info->domains_differ = info->list.truncated;
	for (size_t i = 0; i < info->list.n; i++) {
		const struct address *addr = &info->list.v[i];

		if (addr->kind != ADDRESS_MAILBOX)
			continue;
		if (first)
			info->domain = addr->domain;
		else if (!slice_eq_nocase(info->domain, addr->domain))
			info->domains_differ = true;
		first = false;
	}
}

void
from_examine(struct slice block, struct arena *a, struct from_info *info_r)
{
	struct header_iter it;
	struct header_field f;
	size_t bound = 0;
	size_t max = ADDRESSES_MAX;

	*info_r = (struct from_info){0};
	header_iter_init(&it, block);
	while (header_next(&it, &f))
		if (slice_eq_nocase(f.name, SLICE("From"))) {
			info_r->fields++;
			bound += items_bound(f.value);
		}
	if (info_r->fields == 0 || !list_init(&info_r->list, bound, &max, a))
		return;
	header_iter_init(&it, block);
	while (header_next(&it, &f))
		if (slice_eq_nocase(f.name, SLICE("From")))
			parse_into(f.value, max, a, &info_r->list);
	from_domains(info_r);
}
