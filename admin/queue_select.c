#include "admin/queue_select.h"

#include "admin/command.h"

#include "common/date.h"
#include "common/loop.h"

#include <fnmatch.h>
#include <string.h>

#define ID_CHARS 16
#define TEXT_BYTES_MAX 64

/* What the values of a field are. */
enum kind {
	KIND_TEXT, /* no order */
	KIND_NUMBER,
	KIND_OCTETS,
	KIND_PAST,  /* a time; a duration is so long ago */
	KIND_AHEAD, /* a time; a duration is so long from now */
};

struct field {
	const char *word; /* as it is called on the command line */
	const char *key;  /* and in the row */
	enum kind kind;
	bool of_recipient;
};

static const struct field fields[] = {
    {"id", "id", KIND_TEXT, false},
    {"state", "state", KIND_TEXT, false},
    {"sender", "sender", KIND_TEXT, false},
    {"session", "session", KIND_TEXT, false},
    {"report", "report", KIND_TEXT, false},
    {"forward_from", "forward_from", KIND_TEXT, false},
    {"bytes", "bytes", KIND_OCTETS, false},
    {"attempts", "attempts", KIND_NUMBER, false},
    {"priority", "priority", KIND_NUMBER, false},
    {"added", "added", KIND_PAST, false},
    {"next", "next", KIND_AHEAD, false},
    {"release", "release", KIND_AHEAD, false},
    {"requiretls", "requiretls", KIND_TEXT, false},
    {"tls_optional", "tls_optional", KIND_TEXT, false},
    {"to", "address", KIND_TEXT, true},
    {"domain", "address", KIND_TEXT, true},
    {"status", "status", KIND_TEXT, true},
    {"by", "by", KIND_TEXT, true},
    {"text", "text", KIND_TEXT, true},
    {"recipient", "state", KIND_TEXT, true},
    {"here", "here", KIND_TEXT, true},
    {"forwarded", "forwarded", KIND_TEXT, true},
    {"unsure", "unsure", KIND_TEXT, true},
    {"told", "told", KIND_TEXT, true},
    {"recipient.attempts", "attempts", KIND_NUMBER, true},
    {"recipient.next", "next", KIND_AHEAD, true},
};

/* A word that is no id. */
struct condition {
	const struct field *field;
	char comparison; /* '=', '<' or '>' */
	const char *value;
};

bool
queue_select_is_id(const char *word)
{
	return strlen(word) == ID_CHARS && strspn(word, "0123456789abcdefghijklmnopqrstuvwxyz") == ID_CHARS;
}

/* ---- words ---- */

static bool
split(const char *word, struct condition *c_r)
{
	size_t n = strcspn(word, "=<>");

	if (word[n] == '\0')
		return false;
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		if (strlen(fields[i].word) == n && strncmp(fields[i].word, word, n) == 0) {
			*c_r = (struct condition){&fields[i], word[n], word + n + 1};
			return true;
		}
	return false;
}

static bool
octets_of(struct slice text, int64_t *number_r)
{
	static const char units[] = "KMG";
	uint64_t number, unit = 1;

	for (size_t i = 0; text.n > 0 && units[i] != '\0'; i++)
		if (text.p[text.n - 1] == (uint8_t)units[i]) {
			text.n--;
			unit = UINT64_C(1) << (10 * (i + 1));
			break;
		}
	if (!slice_u64(text, INT64_MAX / unit, &number))
		return false;
	*number_r = (int64_t)(number * unit);
	return true;
}

static bool
time_of(const char *text, bool ahead, int64_t *number_r)
{
	uint64_t duration, when = 0;
	bool good = ahead && command_duration(text, &duration);

	if (good)
		when = clock_wall_us() / 1000000 + duration;
	else
		good = command_when(text, &when);
	*number_r = (int64_t)when;
	return good;
}

/* What is compared with; false when it is no value of the field. */
static bool
value_of(const struct condition *c, int64_t *number_r)
{
	struct slice text = slice_str(c->value);
	uint64_t number = 0;
	bool minus, good;

	switch (c->field->kind) {
	case KIND_NUMBER:
		minus = text.n > 0 && text.p[0] == '-';
		good = slice_u64(slice_sub(text, minus, text.n), INT64_MAX, &number);
		*number_r = minus ? -(int64_t)number : (int64_t)number;
		return good;
	case KIND_OCTETS:
		return octets_of(text, number_r);
	case KIND_PAST:
	case KIND_AHEAD:
		return time_of(c->value, c->field->kind == KIND_AHEAD, number_r);
	default:
		return false;
	}
}

const char *
queue_select_check(int count, char **words)
{
	struct condition c;
	int64_t number;

	for (int i = 0; i < count; i++)
		if (!queue_select_is_id(words[i]) && (!split(words[i], &c) || (c.comparison != '=' && !value_of(&c, &number))))
			return words[i];
	return NULL;
}

/* ---- rows ---- */

static bool
matches(const char *pattern, const char *text)
{
	return fnmatch(pattern, text, FNM_CASEFOLD) == 0;
}

/* A value that is none is an empty text. */
static bool
value_matches(const struct condition *c, json_t *value)
{
	char number[TEXT_BYTES_MAX];
	const char *text = json_string_value(value);
	json_t *one;
	size_t i;

	if (text && strcmp(c->field->word, "domain") == 0)
		text = strrchr(text, '@') ? strrchr(text, '@') + 1 : "";
	if (json_is_boolean(value))
		text = json_is_true(value) ? "yes" : "no";
	if (json_is_integer(value)) {
		(void)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
		text = number;
	}
	json_array_foreach(value, i, one)
		if (json_is_string(one) && matches(c->value, json_string_value(one)))
			return true;
	return !(json_is_array(value) && json_array_size(value) > 0) && matches(c->value, text ? text : "");
}

/* A value that has an order: a number, or the time that it says. */
static bool
has_order(json_t *value, int64_t *number_r)
{
	*number_r = json_integer_value(value);
	return json_is_integer(value) ||
	    (json_is_string(value) && date_rfc3339_parse(slice_str(json_string_value(value)), number_r));
}

static bool
holds(const struct condition *c, json_t *object)
{
	json_t *value = json_object_get(object, c->field->key);
	int64_t have, want;

	if (c->comparison == '=')
		return value_matches(c, value);
	if (!has_order(value, &have) || !value_of(c, &want))
		return false;
	return c->comparison == '<' ? have < want : have > want;
}

/* Whether all of the words that are about such an object hold of it; *asked_r: there are any. */
static bool
all_hold(json_t *object, bool of_recipient, int count, char **words, bool *asked_r)
{
	struct condition c;

	*asked_r = false;
	for (int i = 0; i < count; i++) {
		if (queue_select_is_id(words[i]) || !split(words[i], &c) || c.field->of_recipient != of_recipient)
			continue;
		*asked_r = true;
		if (!holds(&c, object))
			return false;
	}
	return true;
}

static bool
any_recipient(json_t *row, int count, char **words)
{
	bool asked;
	json_t *r;
	size_t k;

	(void)all_hold(NULL, true, count, words, &asked);
	if (!asked)
		return true;
	json_array_foreach(json_object_get(row, "recipients"), k, r)
		if (all_hold(r, true, count, words, &asked))
			return true;
	return false;
}

static bool
is_named(json_t *row, int count, char **words)
{
	const char *id = json_string_value(json_object_get(row, "id"));
	bool ids = false;

	for (int i = 0; i < count; i++) {
		if (!queue_select_is_id(words[i]))
			continue;
		ids = true;
		if (id && strcmp(words[i], id) == 0)
			return true;
	}
	return !ids;
}

bool
queue_select(json_t *row, int count, char **words)
{
	bool asked;

	return is_named(row, count, words) && all_hold(row, false, count, words, &asked) && any_recipient(row, count, words);
}
