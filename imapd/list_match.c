/*
 * The set of places in the pattern that the name so far can have reached is kept as one bool each and
 * moved on for each octet of the name: no backtracking, so no pattern is worse than another.
 */
#include "imapd/list_match.h"

/* From place i wildcards may be passed without an octet. */
static void
reach(struct slice pattern, bool *at, size_t i)
{
	at[i] = true;
	while (i < pattern.n && (pattern.p[i] == '*' || pattern.p[i] == '%') && !at[i + 1])
		at[++i] = true;
}

static bool
same(uint8_t a, uint8_t b, bool nocase)
{
	return a == b || (nocase && ascii_lower(a) == ascii_lower(b));
}

/* The places after octet c. False when there is none. */
static bool
advance(struct slice pattern, const bool *from, bool *to, uint8_t c, bool nocase)
{
	bool any = false;

	memset(to, 0, pattern.n + 1);
	for (size_t i = 0; i < pattern.n; i++) {
		uint8_t p = pattern.p[i];

		if (!from[i])
			continue;
		if (p == '*' || (p == '%' && c != '/'))
			reach(pattern, to, i);
		else if (p != '%' && same(p, c, nocase))
			reach(pattern, to, i + 1);
		else
			continue;
		any = true;
	}
	return any;
}

bool
list_match(struct slice pattern, struct slice name)
{
	bool places[2][LIST_PATTERN_BYTES_MAX + 1];
	bool nocase = slice_eq(name, SLICE("INBOX"));
	unsigned now = 0;

	if (pattern.n > LIST_PATTERN_BYTES_MAX)
		return false;
	memset(places[0], 0, pattern.n + 1);
	reach(pattern, places[0], 0);
	for (size_t i = 0; i < name.n; i++) {
		if (!advance(pattern, places[now], places[!now], name.p[i], nocase))
			return false;
		now = !now;
	}
	return places[now][pattern.n];
}
