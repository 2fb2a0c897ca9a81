#include "admin/queue_select.h"

#include <fnmatch.h>
#include <string.h>

#define ID_CHARS 16

static const char *const message_fields[] = {"id", "state", "sender", "session", "report", NULL};
/* As they are called on the command line, and in the row. */
static const struct {
	const char *word;
	const char *key;
} recipient_fields[] = {
    {"to", "address"}, {"domain", "address"}, {"status", "status"}, {"by", "by"}, {"text", "text"}, {"recipient", "state"}, {NULL, NULL}};

static bool
is_id(const char *word)
{
	return strlen(word) == ID_CHARS && strspn(word, "0123456789abcdefghijklmnopqrstuvwxyz") == ID_CHARS;
}

/* "field=pattern": the pattern; NULL when it is of another field. */
static const char *
pattern_of(const char *word, const char *field)
{
	size_t n = strlen(field);

	return strncmp(word, field, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

static bool
is_of_message(const char *word)
{
	for (const char *const *f = message_fields; *f; f++)
		if (pattern_of(word, *f))
			return true;
	return false;
}

static bool
is_of_recipient(const char *word)
{
	for (size_t i = 0; recipient_fields[i].word; i++)
		if (pattern_of(word, recipient_fields[i].word))
			return true;
	return false;
}

const char *
queue_select_check(int count, char **words)
{
	for (int i = 0; i < count; i++)
		if (!is_id(words[i]) && !is_of_message(words[i]) && !is_of_recipient(words[i]))
			return words[i];
	return NULL;
}

static bool
matches(const char *pattern, const char *text)
{
	return fnmatch(pattern, text ? text : "", FNM_CASEFOLD) == 0;
}

static bool
message_matches(json_t *row, const char *word)
{
	for (const char *const *f = message_fields; *f; f++) {
		const char *pattern = pattern_of(word, *f);
		if (pattern)
			return matches(pattern, json_string_value(json_object_get(row, *f)));
	}
	return true;
}

static bool
recipient_matches(json_t *recipient, const char *word)
{
	for (size_t i = 0; recipient_fields[i].word; i++) {
		const char *pattern = pattern_of(word, recipient_fields[i].word);
		const char *text = json_string_value(json_object_get(recipient, recipient_fields[i].key));
		if (pattern == NULL)
			continue;
		if (text && strcmp(recipient_fields[i].word, "domain") == 0)
			text = strrchr(text, '@') ? strrchr(text, '@') + 1 : "";
		return matches(pattern, text);
	}
	return true;
}

static bool
recipient_matches_all(json_t *recipient, int count, char **words)
{
	for (int i = 0; i < count; i++)
		if (is_of_recipient(words[i]) && !recipient_matches(recipient, words[i]))
			return false;
	return true;
}

static bool
any_recipient(json_t *row, int count, char **words)
{
	bool asked = false;
	json_t *r;
	size_t k;

	for (int i = 0; i < count; i++)
		asked = asked || is_of_recipient(words[i]);
	json_array_foreach(json_object_get(row, "recipients"), k, r)
		if (recipient_matches_all(r, count, words))
			return true;
	return !asked;
}

bool
queue_select(json_t *row, int count, char **words)
{
	const char *id = json_string_value(json_object_get(row, "id"));
	bool named = false;
	bool ids = false;

	for (int i = 0; i < count; i++) {
		if (is_id(words[i])) {
			ids = true;
			named = named || (id && strcmp(words[i], id) == 0);
		} else if (is_of_message(words[i]) && !message_matches(row, words[i])) {
			return false;
		}
	}
	return (named || !ids) && any_recipient(row, count, words);
}
