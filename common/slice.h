/*
 * slice: a view of octets that somebody else owns. Everything that is parsed
 * is a slice; a slice is never NUL-terminated and may contain NUL.
 */
#ifndef COMMON_SLICE_H
#define COMMON_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const uint8_t *p;
	size_t n;
};

/* A slice of a string literal. */
#define SLICE(lit) ((struct slice){(const uint8_t *)("" lit), sizeof(lit) - 1})
/* For printf("%.*s"): only for text already known to be printable. */
#define SLICE_ARG(s) (int)(s).n, (const char *)(s).p

static inline struct slice
slice_of(const void *p, size_t n)
{
	return (struct slice){(const uint8_t *)p, n};
}

/* A slice of a NUL-terminated string; NULL gives the empty slice. */
struct slice slice_str(const char *s);

static inline bool
slice_empty(struct slice s)
{
	return s.n == 0;
}

bool slice_eq(struct slice a, struct slice b);
/* ASCII case-insensitive comparison; octets over 127 compare exactly. */
bool slice_eq_nocase(struct slice a, struct slice b);
bool slice_starts(struct slice s, struct slice prefix);
bool slice_starts_nocase(struct slice s, struct slice prefix);
bool slice_ends_nocase(struct slice s, struct slice suffix);
/* True when no octet is over 127. */
bool slice_is_ascii(struct slice s);
/* memcmp order, the shorter first. */
int slice_cmp(struct slice a, struct slice b);

/* Index of the first octet c / first occurrence of needle, or s.n. */
size_t slice_index(struct slice s, uint8_t c);
size_t slice_rindex(struct slice s, uint8_t c);
size_t slice_find(struct slice s, struct slice needle);

/* s[from, to), clamped to s. */
struct slice slice_sub(struct slice s, size_t from, size_t to);
/* Without leading and trailing SP, HT, CR, LF. */
struct slice slice_trim(struct slice s);

/*
 * Takes from *s all before the first c into *head_r and advances *s past c.
 * Without a c: *head_r is all of *s, *s becomes empty. False when *s was
 * already empty with p == NULL (the end of an iteration):
 *   while (slice_cut(&rest, ',', &item)) ...
 */
bool slice_cut(struct slice *s, uint8_t c, struct slice *head_r);

/* Decimal digits only, at least one, value at most max; false otherwise. */
bool slice_u64(struct slice s, uint64_t max, uint64_t *value_r);

/*
 * The one door to NUL-terminated strings: copies into dst (size octets).
 * False when s contains NUL or does not fit.
 */
bool slice_cstr(struct slice s, char *dst, size_t size) __attribute__((warn_unused_result));

/* In hexadecimal, small letters: 2 * s.n octets, without a NUL. */
void slice_hex(struct slice s, char *text_r);
/* Exactly n octets from such a text; false, with some of p_r written, for anything else. */
bool slice_unhex(struct slice text, uint8_t *p_r, size_t n) __attribute__((warn_unused_result));

static inline uint8_t
ascii_lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static inline uint8_t
ascii_upper(uint8_t c)
{
	return c >= 'a' && c <= 'z' ? (uint8_t)(c - 32) : c;
}

static inline bool
ascii_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* A digit of hexadecimal, small letters only. False, with *value_r as it was, for what is none. */
static inline bool
ascii_hex_value(uint8_t c, uint8_t *value_r)
{
	if (ascii_digit(c))
		*value_r = (uint8_t)(c - '0');
	else if (c >= 'a' && c <= 'f')
		*value_r = (uint8_t)(c - 'a' + 10);
	else
		return false;
	return true;
}

static inline bool
ascii_alpha(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

#endif
