/*
 * config: the settings of the whole server, from the one table
 * common/options.def. The mailstead command parses and checks the file
 * (admin/config_file.c) and hands every role the resolved values; a role only
 * decodes them. Immutable once made.
 */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include "common/buf.h"
#include "common/err.h"
#include "common/slice.h"

enum option_type {
	OPTION_STRING,
	OPTION_NUMBER,	 /* with unit */
	OPTION_BYTES,	 /* 10, 64K, 25M, 2G */
	OPTION_DURATION, /* 30s, 5m, 2h, 14d; held in milliseconds */
	OPTION_BOOL,	 /* yes, no */
};

enum option {
#define OPT(NAME, name, type, def, min, max, reload, help) OPT_##NAME,
#include "common/options.def"
#undef OPT
	OPTION_COUNT
};

struct option_info {
	const char *name;
	enum option_type type;
	const char *def;
	uint64_t min; /* STRING: least and most octets */
	uint64_t max;
	bool reload; /* a reload suffices */
	const char *help;
};

struct config;

const struct option_info *option_info(enum option o);
/* value with the greatest unit of its type that divides it ("25M", "90s", "7"), in dst. */
const char *option_quantity(enum option_type type, uint64_t value, char *dst, size_t size);
/* All options at their defaults. */
struct config *config_new(void);
struct config *config_copy(const struct config *c);
void config_free(struct config **c);
/* Parses and checks text for o; on -1 e->detail says what to write instead. */
int config_set(struct config *c, enum option o, struct slice text, struct err *e);
uint64_t config_number(const struct config *c, enum option o);
bool config_bool(const struct config *c, enum option o);
/* Valid as long as c. */
const char *config_string(const struct config *c, enum option o);
/* For CTL_HELLO and CTL_RELOAD. */
void config_encode(const struct config *c, struct buf *b);
int config_decode(struct slice in, struct config **c_r, struct err *e);

#endif
