/*
 * The preview: the first characters of the first text/plain body, or of
 * the first text/html without its markup, in one line. Made from the sample
 * that the MIME parser kept, so it is a best effort (RFC 8970 3.1).
 */
#include "common/summary_private.h"

#include "common/charset.h"
#include "common/cursor.h"
#include "common/mime.h"
#include "common/summary.h"

#define TEXT_BYTES_MAX (64 * 1024)

/* Parts of which html shows nothing. */
static const char *const hidden[] = {"head", "style", "script", "title"};

static const struct {
	const char *name;
	uint32_t cp;
} entities[] = {
    {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}, {"nbsp", ' '},
};

/* Collects characters, white space as one space, up to the limit. */
struct line {
	struct buf *out;
	size_t chars;
	bool space;
};

static bool
line_full(const struct line *l)
{
	return l->chars >= SUMMARY_PREVIEW_CHARS_MAX;
}

static void
line_put(struct line *l, uint32_t cp)
{
	if (cp <= ' ' || cp == 0x7F || cp == 0xA0 || cp == 0xFEFF) {
		l->space = l->chars > 0;
		return;
	}
	if (l->space && l->chars + 1 < SUMMARY_PREVIEW_CHARS_MAX) {
		buf_put_u8(l->out, ' ');
		l->chars++;
	}
	l->space = false;
	utf8_put(l->out, cp);
	l->chars++;
}

/* The first part in order of appearance of text/subtype that has a sample; NULL when none. */
static const struct mime_part *
find_sample(const struct mime_part *root, struct slice subtype)
{
	const struct mime_part *part = root;

	while (part) {
		if (part->sample.n > 0 && slice_eq_nocase(part->subtype, subtype))
			return part;
		if (part->first_child) {
			part = part->first_child;
			continue;
		}
		while (part && part->next == NULL)
			part = part->parent;
		part = part ? part->next : NULL;
	}
	return NULL;
}

static void
decode_sample(const struct mime_part *part, struct buf *text)
{
	const struct mime_param *charset = mime_param_find(&part->params, SLICE("charset"));
	struct transfer_decoder d;
	struct buf octets;

	buf_init(&octets, TEXT_BYTES_MAX);
	transfer_decoder_init(&d, part->encoding);
	if (transfer_decode(&d, part->sample, &octets))
		transfer_decode_end(&d, &octets);
	charset_to_utf8(charset ? charset->value : slice_of(NULL, 0), buf_slice(&octets), text);
	buf_fini(&octets);
}

static void
put_plain(struct line *l, struct slice text)
{
	while (text.n > 0 && !line_full(l)) {
		uint32_t cp;
		size_t n = utf8_next(text, &cp);

		text = slice_sub(text, n, text.n);
		line_put(l, cp);
	}
}

/* The octets of a tag or comment at the start of s ("<…"), all of s when it does not end. */
static size_t
tag_length(struct slice s)
{
	bool comment = slice_starts(s, SLICE("<!--"));
	size_t at = comment ? slice_find(s, SLICE("-->")) : slice_index(s, '>');

	return at == s.n ? s.n : at + (comment ? 3 : 1);
}

static bool
tag_is(struct slice tag, const char *name)
{
	struct slice rest = slice_sub(tag, 1, tag.n);
	size_t n = strlen(name);

	return slice_starts_nocase(rest, slice_str(name)) && rest.n > n && !ascii_alpha(rest.p[n]);
}

/* Octets of a hidden element that begins with the tag at the start of s; 0 when it is none. */
static size_t
hidden_length(struct slice s)
{
	for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
		if (!tag_is(s, hidden[i]))
			continue;
		for (size_t at = 1; at < s.n; at++) {
			struct slice rest = slice_sub(s, at, s.n);

			if (slice_starts(rest, SLICE("</")) &&
			    tag_is(slice_sub(rest, 1, rest.n), hidden[i]))
				return at + tag_length(rest);
		}
		return s.n;
	}
	return 0;
}

/* "&name;" or "&#123;" at the start of s: its octets and character; 0 when it is none. */
static size_t
entity_length(struct slice s, uint32_t *cp_r)
{
	size_t end = slice_index(slice_sub(s, 0, 12), ';');
	struct slice name = slice_sub(s, 1, end);
	uint64_t v;

	if (end >= s.n || end == 12)
		return 0;
	if (name.n > 1 && name.p[0] == '#' && slice_u64(slice_sub(name, 1, name.n), 0x10FFFF, &v)) {
		*cp_r = (uint32_t)v;
		return end + 1;
	}
	for (size_t i = 0; i < sizeof entities / sizeof entities[0]; i++) {
		if (!slice_eq(name, slice_str(entities[i].name)))
			continue;
		*cp_r = entities[i].cp;
		return end + 1;
	}
	return 0;
}

static void
put_html(struct line *l, struct slice text)
{
	while (text.n > 0 && !line_full(l)) {
		uint32_t cp;
		size_t n = 0;

		if (text.p[0] == '<') {
			n = hidden_length(text);
			if (n == 0)
				n = tag_length(text);
			cp = ' ';
		} else if (text.p[0] == '&')
			n = entity_length(text, &cp);
		if (n == 0)
			n = utf8_next(text, &cp);
		text = slice_sub(text, n, text.n);
		line_put(l, cp);
	}
}

void
summary_put_preview(const struct mime_part *root, struct buf *out)
{
	const struct mime_part *plain = find_sample(root, SLICE("plain"));
	const struct mime_part *html = plain ? NULL : find_sample(root, SLICE("html"));
	struct buf text, preview;
	struct line l = {.out = &preview};

	buf_init(&text, TEXT_BYTES_MAX);
	buf_init(&preview, SUMMARY_PREVIEW_CHARS_MAX * 4);
	if (plain || html)
		decode_sample(plain ? plain : html, &text);
	if (plain)
		put_plain(&l, buf_slice(&text));
	else
		put_html(&l, buf_slice(&text));
	put_slice(out, buf_slice(&preview));
	buf_fini(&preview);
	buf_fini(&text);
}
