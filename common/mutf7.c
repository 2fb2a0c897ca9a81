/*
 * A shifted run is "&" modified-base64 "-", which is UTF-16BE in base64 with "," for "/" and without
 * padding. "One form per name" is why superfluous shifts are refused: two runs that touch ("-&") could be one.
 */
#include "common/mutf7.h"

#include "common/charset.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int
digit_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == ',' ? 63 : -1;
}

static bool
is_direct(uint32_t cp)
{
	return cp >= 0x20 && cp <= 0x7e;
}

/* The UTF-16 half of a run: puts a code point when one is whole. False for what may not be there. */
static bool
put_unit(uint32_t unit, uint32_t *high, struct buf *out)
{
	if (unit >= 0xdc00 && unit <= 0xdfff) {
		if (*high == 0)
			return false;
		unit = 0x10000 + ((*high - 0xd800) << 10) + (unit - 0xdc00);
		*high = 0;
		return utf8_put(out, unit);
	}
	if (*high != 0)
		return false;
	if (unit >= 0xd800 && unit <= 0xdbff) {
		*high = unit;
		return true;
	}
	return unit != 0 && !is_direct(unit) && utf8_put(out, unit);
}

/* The digits of one run, without "&" and "-". */
static bool
decode_run(struct slice run, struct buf *out)
{
	uint32_t bits = 0;
	uint32_t high = 0;
	unsigned count = 0;

	for (size_t i = 0; i < run.n; i++) {
		int v = digit_value(run.p[i]);

		if (v < 0)
			return false;
		bits = bits << 6 | (uint32_t)v;
		count += 6;
		if (count >= 16) {
			count -= 16;
			if (!put_unit(bits >> count & 0xffff, &high, out))
				return false;
			bits &= (UINT32_C(1) << count) - 1;
		}
	}
	return high == 0 && count < 6 && bits == 0;
}

static bool
decode(struct slice name, struct buf *out)
{
	bool after_run = false;

	while (name.n > 0) {
		struct slice rest = slice_sub(name, 1, name.n);
		size_t end;

		if (!is_direct(name.p[0]))
			return false;
		if (name.p[0] != '&') {
			if (!buf_put_u8(out, name.p[0]))
				return false;
			after_run = false;
			name = rest;
			continue;
		}
		end = slice_index(rest, '-');
		if (end == rest.n)
			return false;
		if (end == 0 ? !buf_put_u8(out, '&')
			     : after_run || !decode_run(slice_sub(rest, 0, end), out))
			return false;
		after_run = end > 0;
		name = slice_sub(rest, end + 1, rest.n);
	}
	return true;
}

/* Undoes what a failed conversion has put. */
static bool
all_or_nothing(bool ok, size_t before, struct buf *out)
{
	if (!ok) {
		out->n = before;
		out->failed = false;
	}
	return ok;
}

bool
mutf7_decode(struct slice name, struct buf *out)
{
	size_t before = out->n;

	return all_or_nothing(decode(name, out), before, out);
}

struct run {
	uint32_t bits;
	unsigned count;
	bool open;
};

static bool
run_unit(struct run *r, uint32_t unit, struct buf *out)
{
	r->bits = r->bits << 16 | unit;
	r->count += 16;
	while (r->count >= 6) {
		r->count -= 6;
		if (!buf_put_u8(out, (uint8_t)digits[r->bits >> r->count & 63]))
			return false;
	}
	r->bits &= (UINT32_C(1) << r->count) - 1;
	return true;
}

static bool
run_close(struct run *r, struct buf *out)
{
	if (!r->open)
		return true;
	if (r->count > 0)
		buf_put_u8(out, (uint8_t)digits[r->bits << (6 - r->count) & 63]);
	*r = (struct run){0};
	return buf_put_u8(out, '-');
}

static bool
encode_one(struct run *r, uint32_t cp, struct buf *out)
{
	if (is_direct(cp))
		return run_close(r, out) && buf_put_u8(out, (uint8_t)cp) &&
		    (cp != '&' || buf_put_u8(out, '-'));
	if (!r->open && !buf_put_u8(out, '&'))
		return false;
	r->open = true;
	if (cp < 0x10000)
		return run_unit(r, cp, out);
	cp -= 0x10000;
	return run_unit(r, 0xd800 + (cp >> 10), out) && run_unit(r, 0xdc00 + (cp & 0x3ff), out);
}

bool
mutf7_encode(struct slice s, struct buf *out)
{
	size_t before = out->n;
	struct run r = {0};
	bool ok = utf8_valid(s);

	while (ok && s.n > 0) {
		uint32_t cp;
		size_t n = utf8_next(s, &cp);

		ok = encode_one(&r, cp, out);
		s = slice_sub(s, n, s.n);
	}
	return all_or_nothing(ok && run_close(&r, out) && !out->failed, before, out);
}
