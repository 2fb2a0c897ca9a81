#include "common/slice.h"

struct slice
slice_str(const char *s)
{
	return slice_of(s, s ? strlen(s) : 0);
}

bool
slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool
slice_eq_nocase(struct slice a, struct slice b)
{
	return a.n == b.n && slice_starts_nocase(a, b);
}

bool
slice_starts(struct slice s, struct slice prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool
slice_starts_nocase(struct slice s, struct slice prefix)
{
	if (s.n < prefix.n)
		return false;
	for (size_t i = 0; i < prefix.n; i++)
		if (ascii_lower(s.p[i]) != ascii_lower(prefix.p[i]))
			return false;
	return true;
}

bool
slice_ends_nocase(struct slice s, struct slice suffix)
{
	return s.n >= suffix.n && slice_eq_nocase(slice_sub(s, s.n - suffix.n, s.n), suffix);
}

bool
slice_is_ascii(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] >= 0x80)
			return false;
	return true;
}

int
slice_cmp(struct slice a, struct slice b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int c = n ? memcmp(a.p, b.p, n) : 0;

	if (c != 0)
		return c;
	return a.n < b.n ? -1 : a.n > b.n;
}

size_t
slice_index(struct slice s, uint8_t c)
{
	const uint8_t *hit = s.n ? memchr(s.p, c, s.n) : NULL;

	return hit ? (size_t)(hit - s.p) : s.n;
}

size_t
slice_rindex(struct slice s, uint8_t c)
{
	const uint8_t *hit = s.n ? memrchr(s.p, c, s.n) : NULL;

	return hit ? (size_t)(hit - s.p) : s.n;
}

size_t
slice_find(struct slice s, struct slice needle)
{
	if (needle.n == 0)
		return 0;
	const uint8_t *hit = s.n ? memmem(s.p, s.n, needle.p, needle.n) : NULL;

	return hit ? (size_t)(hit - s.p) : s.n;
}

struct slice
slice_sub(struct slice s, size_t from, size_t to)
{
	if (to > s.n)
		to = s.n;
	if (from > to)
		from = to;
	return slice_of(s.p ? s.p + from : s.p, to - from);
}

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice
slice_trim(struct slice s)
{
	while (s.n > 0 && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

bool
slice_cut(struct slice *s, uint8_t c, struct slice *head_r)
{
	if (s->p == NULL)
		return false;
	size_t at = slice_index(*s, c);

	*head_r = slice_sub(*s, 0, at);
	*s = at < s->n ? slice_sub(*s, at + 1, s->n) : slice_of(NULL, 0);
	return true;
}

bool
slice_u64(struct slice s, uint64_t max, uint64_t *value_r)
{
	uint64_t v = 0;

	if (s.n == 0)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!ascii_digit(s.p[i]))
			return false;
		uint64_t d = (uint64_t)(s.p[i] - '0');
		if (v > (max - (d > max ? max : d)) / 10 || v * 10 + d > max)
			return false;
		v = v * 10 + d;
	}
	*value_r = v;
	return true;
}

bool
slice_cstr(struct slice s, char *dst, size_t size)
{
	if (s.n >= size || (s.n && memchr(s.p, 0, s.n)))
		return false;
	if (s.n)
		memcpy(dst, s.p, s.n);
	dst[s.n] = '\0';
	return true;
}

void
slice_hex(struct slice s, char *text_r)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < s.n; i++) {
		text_r[2 * i] = digits[s.p[i] >> 4];
		text_r[2 * i + 1] = digits[s.p[i] & 15];
	}
}

bool
slice_unhex(struct slice text, uint8_t *p_r, size_t n)
{
	uint8_t high, low;

	if (text.n != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!ascii_hex_value(text.p[2 * i], &high) || !ascii_hex_value(text.p[2 * i + 1], &low))
			return false;
		p_r[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}
