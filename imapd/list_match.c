/*
 * The set of places in the pattern that the name so far can have reached is kept as one bit each and moved on for each
 * octet of the name, a word of places at a time: no backtracking, so no pattern is worse than another, and even the
 * longest pattern against ten thousand long names is work of a second. Wildcards that touch are made one, so that a place
 * is never more than one of them away from the next octet.
 */
#include "imapd/list_match.h"

#define WORD_BITS 64u
#define WORDS_MAX (LIST_PATTERN_BYTES_MAX / WORD_BITS + 1)

/* Bit i stands for place i of the pattern; the last one for its end. */
struct places {
	uint64_t words[WORDS_MAX];
};

/* The pattern, place by place. Rows of octets that it does not have are never looked at. */
struct compiled {
	size_t n;
	size_t words;
	size_t octets;           /* places that want one: no shorter name can match */
	struct places star;      /* "*" */
	struct places wild;      /* "*" and "%" */
	bool has[256];
	struct places wants[256];
};

static void
put(struct places *p, size_t i)
{
	p->words[i / WORD_BITS] |= UINT64_C(1) << i % WORD_BITS;
}

static bool
has(const struct places *p, size_t i)
{
	return p->words[i / WORD_BITS] >> i % WORD_BITS & 1;
}

static void
put_octet(struct compiled *c, uint8_t octet)
{
	if (!c->has[octet])
		memset(&c->wants[octet], 0, c->words * sizeof(uint64_t));
	c->has[octet] = true;
	put(&c->wants[octet], c->n);
}

/* Joined wildcards are "*" when one of them is. */
static size_t
put_wild(struct compiled *c, struct slice pattern, size_t i)
{
	bool star = false;

	for (; i < pattern.n && (pattern.p[i] == '*' || pattern.p[i] == '%'); i++)
		star |= pattern.p[i] == '*';
	put(&c->wild, c->n);
	if (star)
		put(&c->star, c->n);
	return i;
}

static void
compile(struct compiled *c, struct slice pattern, bool nocase)
{
	c->n = c->octets = 0;
	c->words = pattern.n / WORD_BITS + 1;
	memset(c->has, 0, sizeof c->has);
	memset(&c->star, 0, c->words * sizeof(uint64_t));
	memset(&c->wild, 0, c->words * sizeof(uint64_t));
	for (size_t i = 0; i < pattern.n; c->n++) {
		uint8_t octet = pattern.p[i];

		if (octet == '*' || octet == '%') {
			i = put_wild(c, pattern, i);
			continue;
		}
		put_octet(c, nocase ? ascii_lower(octet) : octet);
		c->octets++;
		i++;
	}
	c->words = c->n / WORD_BITS + 1;
}

/* A wildcard may be passed without an octet. */
static void
pass_wild(const struct compiled *c, struct places *at)
{
	uint64_t carry = 0;

	for (size_t i = 0; i < c->words; i++) {
		uint64_t passed = at->words[i] & c->wild.words[i];

		at->words[i] |= passed << 1 | carry;
		carry = passed >> (WORD_BITS - 1);
	}
}

/* The places after an octet. False when there is none. */
static bool
advance(const struct compiled *c, struct places *at, uint8_t octet)
{
	const struct places *stay = octet == '/' ? &c->star : &c->wild;
	uint64_t carry = 0;
	uint64_t any = 0;

	for (size_t i = 0; i < c->words; i++) {
		uint64_t moved = c->has[octet] ? at->words[i] & c->wants[octet].words[i] : 0;

		at->words[i] = (at->words[i] & stay->words[i]) | moved << 1 | carry;
		carry = moved >> (WORD_BITS - 1);
		any |= at->words[i];
	}
	pass_wild(c, at);
	return any != 0;
}

bool
list_match(struct slice pattern, struct slice name)
{
	static struct compiled c; /* too large for the stack */
	bool nocase = slice_eq(name, SLICE("INBOX"));
	struct places at = {{1}};

	if (pattern.n > LIST_PATTERN_BYTES_MAX)
		return false;
	compile(&c, pattern, nocase);
	if (c.octets > name.n)
		return false;
	pass_wild(&c, &at);
	for (size_t i = 0; i < name.n; i++)
		if (!advance(&c, &at, nocase ? ascii_lower(name.p[i]) : name.p[i]))
			return false;
	return has(&at, c.n);
}
