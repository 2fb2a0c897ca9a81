/*
 * Lists as tables for people and JSON for programs. What comes from outside (a name, an address) is
 * printed with control characters replaced, so that it cannot play with the terminal.
 */
#include "admin/command.h"

#include "common/charset.h"
#include "common/mem.h"

#include <stdio.h>

#define COLUMNS_MAX 16
#define CELL_BYTES_MAX 4096

/* What a terminal may obey: controls of both sets, and what turns the direction of writing or ends the line. */
static bool
is_control(uint32_t cp)
{
	return cp < ' ' || (cp >= 0x7f && cp < 0xa0) || cp == 0x061c || (cp >= 0x200e && cp <= 0x200f) ||
	    (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

static void
put_clean(struct buf *b, const char *text)
{
	struct slice rest = slice_str(text);

	while (rest.n > 0) {
		uint32_t cp;
		size_t n = utf8_next(rest, &cp);

		(void)utf8_put(b, is_control(cp) ? '?' : cp);
		rest = slice_sub(rest, n, rest.n);
	}
}

void
command_print_text(const char *text)
{
	struct buf b;

	buf_init(&b, 3 * strlen(text) + 1);
	put_clean(&b, text);
	if (b.n > 0)
		fwrite(b.p, 1, b.n, stdout);
	buf_fini(&b);
}

json_t *
command_text(struct slice text)
{
	json_t *value;
	struct buf b;

	buf_init(&b, 3 * text.n + 1);
	while (text.n > 0) {
		uint32_t cp;
		size_t n = utf8_next(text, &cp);

		(void)utf8_put(&b, cp);
		text = slice_sub(text, n, text.n);
	}
	value = json_stringn(b.n > 0 ? (const char *)b.p : "", b.n);
	buf_fini(&b);
	return value;
}

static void
put_value(struct buf *b, const json_t *v)
{
	size_t i;
	json_t *item;

	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_STRING:
		put_clean(b, json_string_value(v));
		break;
	case JSON_INTEGER:
		buf_putf(b, "%lld", (long long)json_integer_value(v));
		break;
	case JSON_REAL:
		buf_putf(b, "%.3f", json_real_value(v));
		break;
	case JSON_TRUE:
		buf_put_str(b, "yes");
		break;
	case JSON_FALSE:
		buf_put_str(b, "no");
		break;
	case JSON_ARRAY:
		json_array_foreach(v, i, item)
		{
			if (i)
				buf_put_str(b, ", ");
			if (json_is_string(item))
				put_clean(b, json_string_value(item));
		}
		break;
	default:
		buf_put_u8(b, '-');
	}
}

/* Characters of UTF-8 text: all octets but continuations. */
static size_t
width(struct slice s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += (s.p[i] & 0xc0) != 0x80;
	return n;
}

static struct slice
cell_of(const json_t *row, const char *key, struct buf *b)
{
	buf_reset(b);
	put_value(b, json_object_get(row, key));
	return buf_slice(b);
}

static void
print_cell(struct slice text, size_t columns, bool last)
{
	size_t have = width(text);

	fwrite(text.p, 1, text.n, stdout);
	if (last)
		putchar('\n');
	else
		printf("%*s", (int)(columns - have + 2), "");
}

static void
print_table(const json_t *rows, const struct command_column *columns)
{
	size_t widths[COLUMNS_MAX] = {0}, i;
	unsigned n = 0;
	json_t *row;
	struct buf b;

	buf_init(&b, CELL_BYTES_MAX);
	while (n < COLUMNS_MAX && columns[n].title) {
		widths[n] = width(slice_str(columns[n].title));
		n++;
	}
	json_array_foreach(rows, i, row) for (unsigned c = 0; c < n; c++)
	{
		size_t w = width(cell_of(row, columns[c].key, &b));

		widths[c] = w > widths[c] ? w : widths[c];
	}
	for (unsigned c = 0; c < n; c++)
		print_cell(slice_str(columns[c].title), widths[c], c + 1 == n);
	json_array_foreach(rows, i, row) for (unsigned c = 0; c < n; c++)
	    print_cell(cell_of(row, columns[c].key, &b), widths[c], c + 1 == n);
	buf_fini(&b);
}

enum command_status
command_output_end(void)
{
	static bool said;
	bool lost = fflush(stdout) != 0 || ferror(stdout);

	if (lost && !said)
		command_error("cannot write the answer");
	said = said || lost;
	return lost ? COMMAND_TEMPORARY : COMMAND_OK;
}

enum command_status
command_print_list(
    const struct command_call *call, const json_t *rows, const struct command_column *columns)
{
	if (call->json)
		return command_print_json(rows);
	print_table(rows, columns);
	return command_output_end();
}

enum command_status
command_print_json(const json_t *value)
{
	if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) == 0)
		putchar('\n');
	return command_output_end();
}

json_t *
command_parse_json(struct slice text)
{
	json_error_t why;
	json_t *v = json_loadb((const char *)text.p, text.n, JSON_DECODE_ANY, &why);

	if (v == NULL)
		command_error("the server's answer is not JSON: %s", why.text);
	return v;
}
