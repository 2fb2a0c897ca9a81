/*
 * A selector's state is not written down: it follows from the times, so that nobody has to be there at the moment when the next key
 * takes over from the last one.
 */
#include "common/dkim_selector.h"

#include <assert.h>

#define FIRST_LINE "mailstead-dkim 1"
#define FIELDS 7
#define TIME_MAX UINT64_C(99999999999)

static const struct {
	const char *name, *key_type;
} algorithms[DKIM_ALGORITHMS] = {
    [DKIM_RSA_SHA256] = {"rsa-sha256", "rsa"},
    [DKIM_ED25519_SHA256] = {"ed25519-sha256", "ed25519"},
};

const char *
dkim_algorithm_name(enum dkim_algorithm a)
{
	assert((unsigned)a < DKIM_ALGORITHMS);
	return algorithms[a].name;
}

const char *
dkim_algorithm_key_type(enum dkim_algorithm a)
{
	assert((unsigned)a < DKIM_ALGORITHMS);
	return algorithms[a].key_type;
}

bool
dkim_algorithm_of(struct slice key_type, enum dkim_algorithm *a_r)
{
	for (unsigned a = 0; a < DKIM_ALGORITHMS; a++)
		if (slice_eq(key_type, slice_str(algorithms[a].key_type))) {
			*a_r = (enum dkim_algorithm)a;
			return true;
		}
	return false;
}

enum dkim_selector_state
dkim_selector_state(const struct dkim_selector *s, uint64_t now)
{
	if (s->retire_at != 0 && now >= s->retire_at)
		return DKIM_SELECTOR_RETIRED;
	if (s->use_from != 0 && now >= s->use_from)
		return DKIM_SELECTOR_ACTIVE;
	return s->published != 0 ? DKIM_SELECTOR_PUBLISHED : DKIM_SELECTOR_CREATED;
}

const char *
dkim_selector_state_name(enum dkim_selector_state state)
{
	static const char *const names[] = {"created", "published", "active", "retired"};

	assert((unsigned)state < sizeof names / sizeof names[0]);
	return names[state];
}

/* One label (RFC 6376 3.1 would take several), so that it is a file's name as well. */
bool
dkim_selector_name_valid(struct slice name)
{
	if (name.n == 0 || name.n > DKIM_SELECTOR_BYTES_MAX || name.p[0] == '-' || name.p[name.n - 1] == '-')
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (!(name.p[i] >= 'a' && name.p[i] <= 'z') && !ascii_digit(name.p[i]) && name.p[i] != '-')
			return false;
	return true;
}

static bool
parse_line(struct slice line, struct dkim_selector *s)
{
	uint64_t *times[] = {&s->created, &s->published, &s->use_from, &s->retire_at, &s->remove_at};
	struct slice field[FIELDS], word;
	unsigned n = 0;

	while (slice_cut(&line, ' ', &word)) {
		if (n == FIELDS)
			return false;
		field[n++] = word;
	}
	if (n != FIELDS || !dkim_selector_name_valid(field[0]) || !slice_cstr(field[0], s->name, sizeof s->name) ||
	    !dkim_algorithm_of(field[1], &s->algorithm))
		return false;
	for (unsigned i = 0; i < sizeof times / sizeof times[0]; i++)
		if (!slice_u64(field[2 + i], TIME_MAX, times[i]))
			return false;
	return true;
}

bool
dkim_selectors_parse(struct slice text, struct dkim_selectors *list_r)
{
	struct slice line;

	list_r->n = 0;
	if (text.n == 0 || text.p[text.n - 1] != '\n')
		return false;
	text.n--;
	if (!slice_cut(&text, '\n', &line) || !slice_eq(line, SLICE(FIRST_LINE)))
		return false;
	while (slice_cut(&text, '\n', &line)) {
		struct dkim_selector s = {.created = 0};

		if (list_r->n == DKIM_SELECTORS_MAX || !parse_line(line, &s) ||
		    dkim_selectors_find(list_r, slice_str(s.name)) != NULL)
			return false;
		list_r->v[list_r->n++] = s;
	}
	return true;
}

bool
dkim_selectors_print(const struct dkim_selectors *list, struct buf *b)
{
	buf_put_str(b, FIRST_LINE "\n");
	for (unsigned i = 0; i < list->n; i++) {
		const struct dkim_selector *s = &list->v[i];

		buf_putf(b, "%s %s %llu %llu %llu %llu %llu\n", s->name, dkim_algorithm_key_type(s->algorithm),
		    (unsigned long long)s->created, (unsigned long long)s->published, (unsigned long long)s->use_from,
		    (unsigned long long)s->retire_at, (unsigned long long)s->remove_at);
	}
	return !b->failed;
}

struct dkim_selector *
dkim_selectors_find(struct dkim_selectors *list, struct slice name)
{
	for (unsigned i = 0; i < list->n; i++)
		if (slice_eq(slice_str(list->v[i].name), name))
			return &list->v[i];
	return NULL;
}
