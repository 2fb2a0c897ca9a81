/*
 * One table has the keys with their arguments; negated ones (UNSEEN, OLD, NEW) become NOT and AND of plain ones
 * here, so that whoever evaluates the tree has fewer cases.
 */
#include "imapd/imap_search.h"

enum args {
	NO_ARG,
	TEXT,	 /* SP astring */
	DATE,	 /* SP date */
	NUMBER,	 /* SP number */
	KEYWORD, /* SP flag-keyword */
	HEADER,	 /* SP header-fld-name SP astring */
	UID_SET, /* SP sequence-set */
};

struct key_row {
	const char *word;
	enum imap_search_op op;
	enum args args;
	uint32_t number;
	bool negated;
};

static const struct key_row rows[] = {
    {"ALL", IMAP_SEARCH_AND, NO_ARG, 0, false},
    {"ANSWERED", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_ANSWERED, false},
    {"BCC", IMAP_SEARCH_BCC, TEXT, 0, false},
    {"BEFORE", IMAP_SEARCH_BEFORE, DATE, 0, false},
    {"BODY", IMAP_SEARCH_BODY, TEXT, 0, false},
    {"CC", IMAP_SEARCH_CC, TEXT, 0, false},
    {"DELETED", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_DELETED, false},
    {"DRAFT", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_DRAFT, false},
    {"FLAGGED", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_FLAGGED, false},
    {"FROM", IMAP_SEARCH_FROM, TEXT, 0, false},
    {"HEADER", IMAP_SEARCH_HEADER, HEADER, 0, false},
    {"KEYWORD", IMAP_SEARCH_KEYWORD, KEYWORD, 0, false},
    {"LARGER", IMAP_SEARCH_LARGER, NUMBER, 0, false},
    {"OLD", IMAP_SEARCH_RECENT, NO_ARG, 0, true},
    {"ON", IMAP_SEARCH_ON, DATE, 0, false},
    {"RECENT", IMAP_SEARCH_RECENT, NO_ARG, 0, false},
    {"SEEN", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_SEEN, false},
    {"SENTBEFORE", IMAP_SEARCH_SENTBEFORE, DATE, 0, false},
    {"SENTON", IMAP_SEARCH_SENTON, DATE, 0, false},
    {"SENTSINCE", IMAP_SEARCH_SENTSINCE, DATE, 0, false},
    {"SINCE", IMAP_SEARCH_SINCE, DATE, 0, false},
    {"SMALLER", IMAP_SEARCH_SMALLER, NUMBER, 0, false},
    {"SUBJECT", IMAP_SEARCH_SUBJECT, TEXT, 0, false},
    {"TEXT", IMAP_SEARCH_TEXT, TEXT, 0, false},
    {"TO", IMAP_SEARCH_TO, TEXT, 0, false},
    {"UID", IMAP_SEARCH_UID, UID_SET, 0, false},
    {"UNANSWERED", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_ANSWERED, true},
    {"UNDELETED", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_DELETED, true},
    {"UNDRAFT", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_DRAFT, true},
    {"UNFLAGGED", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_FLAGGED, true},
    {"UNKEYWORD", IMAP_SEARCH_KEYWORD, KEYWORD, 0, true},
    {"UNSEEN", IMAP_SEARCH_FLAG, NO_ARG, STORE_FLAG_SEEN, true},
};

struct search_parse {
	struct imap_scan *s;
	struct imap_search *search;
	unsigned keys;
};

static bool
limit(struct imap_scan *s, const char *why)
{
	s->limit = true;
	return imap_scan_fail(s, why);
}

static struct imap_search_key *
key_new(struct search_parse *p, enum imap_search_op op)
{
	struct imap_search_key *k = NULL;

	if (p->keys < IMAP_SEARCH_KEYS_MAX)
		k = ARENA_NEW(p->s->arena, struct imap_search_key);
	if (k == NULL) {
		limit(p->s, "Too many search keys");
		return NULL;
	}
	p->keys++;
	k->op = op;
	return k;
}

/* NOT k */
static struct imap_search_key *
negate(struct search_parse *p, struct imap_search_key *k)
{
	struct imap_search_key *not = k ? key_new(p, IMAP_SEARCH_NOT) : NULL;

	if (not)
		not->first = k;
	return not;
}

/* NEW is (RECENT UNSEEN). */
static struct imap_search_key *
key_new_messages(struct search_parse *p)
{
	struct imap_search_key *both = key_new(p, IMAP_SEARCH_AND);
	struct imap_search_key *recent = key_new(p, IMAP_SEARCH_RECENT);
	struct imap_search_key *seen = key_new(p, IMAP_SEARCH_FLAG);
	struct imap_search_key *unseen = negate(p, seen);

	if (both == NULL || recent == NULL || unseen == NULL)
		return NULL;
	seen->number = STORE_FLAG_SEEN;
	both->first = recent;
	recent->next = unseen;
	return both;
}

static bool
key_args(struct search_parse *p, enum args args, struct imap_search_key *k)
{
	struct imap_scan *s = p->s;

	if (args == NO_ARG)
		return true;
	if (!imap_sp(s))
		return false;
	switch (args) {
	case DATE:
		return imap_date(s, &k->day);
	case NUMBER:
		return imap_number(s, &k->number);
	case KEYWORD:
		return imap_atom(s, &k->text);
	case UID_SET:
		return imap_sequence_set(s, &k->set);
	case HEADER:
		if (!imap_astring(s, &k->name) || !imap_sp(s))
			return false;
		break;
	default:
		break;
	}
	p->search->has_text = true;
	return imap_astring(s, &k->text);
}

static struct imap_search_key *
key_of_row(struct search_parse *p, const struct key_row *row)
{
	struct imap_search_key *k = key_new(p, row->op);

	if (k == NULL)
		return NULL;
	k->number = row->number;
	if (!key_args(p, row->args, k))
		return NULL;
	return row->negated ? negate(p, k) : k;
}

static struct imap_search_key *search_key(struct search_parse *p, unsigned depth);

/* 1*(search-key) separated by SP, as siblings of parent */
static bool
key_list(struct search_parse *p, unsigned depth, struct imap_search_key *parent)
{
	struct imap_search_key **last = &parent->first;

	do {
		*last = search_key(p, depth);
		if (*last == NULL)
			return false;
		last = &(*last)->next;
	} while (imap_try_char(p->s, ' '));
	return true;
}

/* "(" search-key *(SP search-key) ")" */
static struct imap_search_key *
key_parens(struct search_parse *p, unsigned depth)
{
	struct imap_search_key *k = key_new(p, IMAP_SEARCH_AND);

	if (k == NULL || !key_list(p, depth + 1, k) || !imap_char(p->s, ')'))
		return NULL;
	return k;
}

/* "NOT" SP search-key */
static struct imap_search_key *
key_not(struct search_parse *p, unsigned depth)
{
	return imap_sp(p->s) ? negate(p, search_key(p, depth + 1)) : NULL;
}

/* "OR" SP search-key SP search-key */
static struct imap_search_key *
key_or(struct search_parse *p, unsigned depth)
{
	struct imap_search_key *k = key_new(p, IMAP_SEARCH_OR);

	if (k == NULL || !imap_sp(p->s))
		return NULL;
	k->first = search_key(p, depth + 1);
	if (k->first == NULL || !imap_sp(p->s))
		return NULL;
	k->first->next = search_key(p, depth + 1);
	return k->first->next ? k : NULL;
}

static struct imap_search_key *
key_set(struct search_parse *p)
{
	struct imap_search_key *k = key_new(p, IMAP_SEARCH_SET);

	return k && imap_sequence_set(p->s, &k->set) ? k : NULL;
}

/* The keys that are a word. */
static struct imap_search_key *
key_word(struct search_parse *p, unsigned depth)
{
	struct slice word;

	if (!imap_atom(p->s, &word))
		return NULL;
	if (slice_eq_nocase(word, SLICE("NOT")))
		return key_not(p, depth);
	if (slice_eq_nocase(word, SLICE("OR")))
		return key_or(p, depth);
	if (slice_eq_nocase(word, SLICE("NEW")))
		return key_new_messages(p);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (slice_eq_nocase(word, slice_str(rows[i].word)))
			return key_of_row(p, &rows[i]);
	imap_scan_fail(p->s, "Unknown search key");
	return NULL;
}

/* NULL on failure. */
static struct imap_search_key *
search_key(struct search_parse *p, unsigned depth)
{
	uint8_t c = imap_scan_peek(p->s);

	if (depth >= IMAP_SEARCH_DEPTH_MAX) {
		limit(p->s, "Search is nested too deep");
		return NULL;
	}
	if (imap_try_char(p->s, '('))
		return key_parens(p, depth);
	return c == '*' || ascii_digit(c) ? key_set(p) : key_word(p, depth);
}

bool
imap_search_args(struct imap_scan *s, struct imap_search *search_r)
{
	struct search_parse p = {.s = s, .search = search_r};

	*search_r = (struct imap_search){0};
	if (!imap_sp(s))
		return false;
	if (imap_try_word(s, SLICE("CHARSET "))) {
		if (!imap_astring(s, &search_r->charset) || !imap_sp(s))
			return false;
	}
	search_r->root = key_new(&p, IMAP_SEARCH_AND);
	return search_r->root && key_list(&p, 0, search_r->root) && imap_scan_end(s);
}
