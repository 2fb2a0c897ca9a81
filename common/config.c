/*
 * Values are checked once, where the operator wrote them; between processes they travel as the text
 * that was checked, in table order, and are checked again by the one who decodes, since it costs
 * nothing.
 */
#include "common/config.h"

#include "common/cursor.h"
#include "common/mem.h"

#include <assert.h>
#include <stdio.h>

#define VALUE_BYTES_MAX 4096

struct value {
	char *text;
	uint64_t number;
};

struct config {
	struct value v[OPTION_COUNT];
};

const struct option_info *
option_info(enum option o)
{
	static const struct option_info table[OPTION_COUNT] = {
#define OPT(NAME, name, type, def, min, max, reload, help)                                         \
	[OPT_##NAME] = {name, type, def, min, max, reload, help},
#include "common/options.def"
#undef OPT
	};

	assert((unsigned)o < OPTION_COUNT);
	return &table[o];
}

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit byte_units[] = {{"", 1}, {"K", UINT64_C(1) << 10},
    {"M", UINT64_C(1) << 20}, {"G", UINT64_C(1) << 30}, {"T", UINT64_C(1) << 40}, {NULL, 0}};
static const struct unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

/* DIGITS [unit] */
static bool
parse_number(struct slice text, const struct unit *units, uint64_t *value_r)
{
	size_t digits = 0;
	uint64_t n;

	while (digits < text.n && ascii_digit(text.p[digits]))
		digits++;
	struct slice rest = slice_sub(text, digits, text.n);

	if (!slice_u64(slice_sub(text, 0, digits), UINT64_MAX, &n))
		return false;
	for (; units->name; units++)
		if (slice_eq(rest, slice_str(units->name)))
			return !__builtin_mul_overflow(n, units->factor, value_r);
	/* A bare 0 needs no unit. */
	*value_r = 0;
	return n == 0 && slice_empty(rest);
}

static int
parse_bool(const struct option_info *info, struct slice text, uint64_t *value_r, struct err *e)
{
	*value_r = slice_eq(text, SLICE("yes"));
	if (*value_r || slice_eq(text, SLICE("no")))
		return 0;
	return err_set(
	    e, ERR_PERM, ERR_CODE_MALFORMED, "bad setting", "%s takes yes or no", info->name);
}

static const struct unit *
units_of(enum option_type type)
{
	return type == OPTION_BYTES ? byte_units : type == OPTION_DURATION ? time_units : no_units;
}

const char *
option_quantity(enum option_type type, uint64_t value, char *dst, size_t size)
{
	const struct unit *best = units_of(type);

	for (const struct unit *u = best; u->name; u++)
		if (value && value % u->factor == 0)
			best = u;
	snprintf(dst, size, "%llu%s", (unsigned long long)(value / best->factor),
	    value ? best->name : "");
	return dst;
}

static int
parse_quantity(const struct option_info *info, struct slice text, uint64_t *value_r, struct err *e)
{
	char min[32], max[32];
	const char *form = info->type == OPTION_BYTES ? "a number of octets such as 64K, 25M or 2G"
			   : info->type == OPTION_DURATION ? "a time such as 30s, 5m, 2h or 14d"
							   : "a whole number";

	if (parse_number(text, units_of(info->type), value_r) && *value_r >= info->min &&
	    *value_r <= info->max)
		return 0;
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "bad setting", "%s takes %s, from %s to %s",
	    info->name, form, option_quantity(info->type, info->min, min, sizeof min),
	    option_quantity(info->type, info->max, max, sizeof max));
}

/* Control characters have no place in a name, path or address. */
static int
parse_string(const struct option_info *info, struct slice text, struct err *e)
{
	bool clean = true;

	for (size_t i = 0; i < text.n; i++)
		clean = clean && text.p[i] >= ' ' && text.p[i] != 0x7f;
	if (clean && text.n >= info->min && text.n <= info->max)
		return 0;
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "bad setting",
	    "%s takes printable text of %llu to %llu octets", info->name,
	    (unsigned long long)info->min, (unsigned long long)info->max);
}

int
config_set(struct config *c, enum option o, struct slice text, struct err *e)
{
	const struct option_info *info = option_info(o);
	uint64_t number = 0;
	int rc;

	switch (info->type) {
	case OPTION_STRING:
		rc = parse_string(info, text, e);
		break;
	case OPTION_BOOL:
		rc = parse_bool(info, text, &number, e);
		break;
	default:
		rc = parse_quantity(info, text, &number, e);
	}
	if (rc < 0)
		return -1;
	free(c->v[o].text);
	c->v[o].text = mem_copy_str(text.p, text.n);
	c->v[o].number = number;
	return 0;
}

struct config *
config_new(void)
{
	struct config *c = MEM_NEW(struct config);

	for (unsigned o = 0; o < OPTION_COUNT; o++) {
		const char *def = option_info(o)->def;
		struct err e;

		/* A string that has no default but must be set (hostname) starts empty. */
		if (config_set(c, o, slice_str(def), &e) < 0) {
			assert(option_info(o)->type == OPTION_STRING && def[0] == '\0');
			c->v[o].text = mem_copy_str("", 0);
		}
	}
	return c;
}

struct config *
config_copy(const struct config *c)
{
	struct config *copy = MEM_NEW(struct config);

	for (unsigned o = 0; o < OPTION_COUNT; o++) {
		copy->v[o].text = mem_copy_str(c->v[o].text, strlen(c->v[o].text));
		copy->v[o].number = c->v[o].number;
	}
	return copy;
}

void
config_free(struct config **c)
{
	if (*c == NULL)
		return;
	for (unsigned o = 0; o < OPTION_COUNT; o++)
		free((*c)->v[o].text);
	MEM_FREE(c);
}

uint64_t
config_number(const struct config *c, enum option o)
{
	assert(option_info(o)->type != OPTION_STRING && option_info(o)->type != OPTION_BOOL);
	return c->v[o].number;
}

bool
config_bool(const struct config *c, enum option o)
{
	assert(option_info(o)->type == OPTION_BOOL);
	return c->v[o].number != 0;
}

const char *
config_string(const struct config *c, enum option o)
{
	assert((unsigned)o < OPTION_COUNT);
	return c->v[o].text;
}

void
config_encode(const struct config *c, struct buf *b)
{
	put_u16(b, OPTION_COUNT);
	for (unsigned o = 0; o < OPTION_COUNT; o++)
		put_slice(b, slice_str(c->v[o].text));
}

int
config_decode(struct slice in, struct config **c_r, struct err *e)
{
	struct cursor cur = cursor_of(in);
	struct config *c = config_new();
	bool bad = cursor_u16(&cur) != OPTION_COUNT;

	for (unsigned o = 0; o < OPTION_COUNT && !bad; o++) {
		struct slice text = cursor_slice(&cur, VALUE_BYTES_MAX);
		bool unset = slice_empty(text) && option_info(o)->def[0] == '\0';

		bad = cur.bad || (!unset && config_set(c, o, text, e) < 0);
	}
	if (bad || !cursor_done(&cur)) {
		config_free(&c);
		return err_set(
		    e, ERR_BUG, ERR_CODE_MALFORMED, "internal error", "settings do not decode");
	}
	*c_r = c;
	return 0;
}
