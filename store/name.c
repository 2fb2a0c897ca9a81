#include "store/name.h"

#include "store/store.h"

bool
name_is_inbox(struct slice name)
{
	return slice_eq_nocase(name, SLICE("INBOX"));
}

/* Octets of the UTF-8 character (RFC 3629 section 4) at p, or 0 when there is none or it is a control. */
static size_t
character(const uint8_t *p, size_t n)
{
	static const struct {
		uint8_t first, last, low, high;
		size_t octets;
	} rows[] = {
	    {0x20, 0x7e, 0, 0, 1},
	    {0xc2, 0xdf, 0x80, 0xbf, 2},
	    {0xe0, 0xe0, 0xa0, 0xbf, 3},
	    {0xe1, 0xec, 0x80, 0xbf, 3},
	    {0xed, 0xed, 0x80, 0x9f, 3},
	    {0xee, 0xef, 0x80, 0xbf, 3},
	    {0xf0, 0xf0, 0x90, 0xbf, 4},
	    {0xf1, 0xf3, 0x80, 0xbf, 4},
	    {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (p[0] < rows[i].first || p[0] > rows[i].last)
			continue;
		if (n < rows[i].octets)
			return 0;
		if (rows[i].octets > 1 && (p[1] < rows[i].low || p[1] > rows[i].high))
			return 0;
		for (size_t k = 2; k < rows[i].octets; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		/* U+0080 to U+009F are controls too. */
		return p[0] == 0xc2 && p[1] < 0xa0 ? 0 : rows[i].octets;
	}
	return 0;
}

static bool
level_ok(struct slice level)
{
	if (level.n == 0 || level.n > STORE_NAME_LEVEL_BYTES_MAX)
		return false;
	for (size_t i = 0; i < level.n;) {
		size_t octets = character(level.p + i, level.n - i);

		if (octets == 0)
			return false;
		i += octets;
	}
	return true;
}

int
name_check(struct slice name, struct slice *name_r, struct err *e)
{
	struct slice rest = name, level;
	unsigned levels = 0;
	bool ok = name.n > 0 && name.n <= STORE_NAME_BYTES_MAX;

	while (ok && slice_cut(&rest, '/', &level))
		ok = ++levels <= STORE_NAME_LEVELS_MAX && level_ok(level);
	if (!ok || name.p[name.n - 1] == '/')
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "not a valid mailbox name", NULL);
	*name_r = name_is_inbox(name) ? SLICE("INBOX") : name;
	return 0;
}

bool
name_is_below(struct slice name, struct slice parent)
{
	return name.n > parent.n && name.p[parent.n] == '/' && slice_starts(name, parent);
}

/* flag-keyword is an atom (RFC 9051 9): no CTL, no 8-bit, none of the specials. */
bool
name_is_keyword(struct slice name)
{
	if (name.n == 0 || name.n > STORE_KEYWORD_BYTES_MAX)
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] <= 0x20 || name.p[i] >= 0x7f || strchr("(){%*\"\\]", name.p[i]) != NULL)
			return false;
	return true;
}
