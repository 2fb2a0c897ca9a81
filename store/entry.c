#include "store/entry.h"

#include "store/store.h"

bool
store_entries_put(struct buf *b, const struct store_entry *entries, size_t n)
{
	return n == 0 || buf_put(b, entries, n * sizeof *entries);
}

struct store_entry
store_entries_get(struct slice s, size_t i)
{
	struct store_entry entry;

	memcpy(&entry, s.p + i * sizeof entry, sizeof entry);
	return entry;
}

bool
store_entries_check(struct slice s, size_t *count_r)
{
	uint32_t last = 0;
	size_t n = s.n / STORE_ENTRY_BYTES;

	*count_r = 0;
	if (s.n % STORE_ENTRY_BYTES != 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		uint32_t uid = store_entries_get(s, i).uid;

		if (uid <= last)
			return false;
		last = uid;
	}
	*count_r = n;
	return true;
}

int
store_keyword_find(struct slice lines, struct slice name)
{
	struct slice line;

	for (int bit = 0; bit < STORE_KEYWORDS_MAX && slice_cut(&lines, '\n', &line); bit++)
		if (!slice_empty(line) && slice_eq_nocase(line, name))
			return bit;
	return -1;
}

struct slice
store_keyword_name(struct slice lines, unsigned bit)
{
	struct slice line;

	for (unsigned i = 0; slice_cut(&lines, '\n', &line); i++)
		if (i == bit)
			return line;
	return slice_of(NULL, 0);
}
