/*
 * Every field that has octets over 127 is made anew in a buffer of its own and taken over whole or not at all: half a field
 * could mean something else. Lines are folded between the pieces, each of which is short, so none passes 998
 * octets (RFC 5322 2.1.1), and none that has an encoded word passes 76 (RFC 2047 2).
 */
#include "common/downgrade.h"

#include "common/charset.h"
#include "common/dns_name.h"
#include "common/mime_param.h"
#include "common/mime_word.h"
#include "common/rfc5322.h"
#include "common/transfer.h"

/* Octets of UTF-8 in one encoded word: 52 octets on the wire, to which the longest field name may stand in front. */
#define WORD_BYTES 30
/* What is put into one line as it is: a name, a local part, a domain, a parameter's name and value. */
#define BARE_BYTES_MAX 256

#define FOLD "\r\n "

/* ---- text ---- */

static bool
is_printable(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < ' ' || s.p[i] > 0x7e)
			return false;
	return true;
}

/* s as encoded words, at most max octets of it (RFC 2047 2, 4.1). s is UTF-8. */
static void
put_words(struct slice s, size_t max, struct buf *out)
{
	s = utf8_cut(s, max);
	if (s.n == 0)
		buf_put_str(out, "\"\"");
	for (bool first = true; s.n > 0; first = false) {
		struct slice word = utf8_cut(s, WORD_BYTES);

		buf_put_str(out, first ? "=?UTF-8?B?" : FOLD "=?UTF-8?B?");
		base64_encode(word, 0, out);
		buf_put_str(out, "?=");
		s = slice_sub(s, word.n, s.n);
	}
}

/* Header text that may have encoded words and raw octets. */
static void
put_text(struct slice value, size_t max, struct buf *out)
{
	struct buf text;

	buf_init(&text, max + 4); /* so that the cut is at a character */
	(void)mime_word_decode(value, &text);
	put_words(buf_slice(&text), max, out);
	buf_fini(&text);
}

/* atext (RFC 5322 3.2.3) */
static bool
is_atext(uint8_t c)
{
	return ascii_alpha(c) || ascii_digit(c) || (c != 0 && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* True when s has atext and octets of `also` only. */
static bool
is_made_of(struct slice s, const char *also)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_atext(s.p[i]) && (s.p[i] == 0 || strchr(also, s.p[i]) == NULL))
			return false;
	return s.n > 0;
}

/* ---- addresses ---- */

/* phrase (RFC 5322 3.2.5): bare, so that encoded words in it stay what they are; quoted; or in encoded words. */
static void
put_name(struct slice name, struct buf *out)
{
	if (name.n <= BARE_BYTES_MAX && is_made_of(name, " ."))
		buf_put_slice(out, name);
	else if (name.n <= BARE_BYTES_MAX && is_printable(name) && slice_find(name, SLICE("=?")) == name.n)
		buf_put_quoted(out, name);
	else
		put_text(name, DOWNGRADE_NAME_BYTES_MAX, out);
}

/* The domain in ASCII; false when it has no such form. */
static bool
domain_to_ascii(struct slice domain, struct buf *ascii)
{
	if (!slice_is_ascii(domain))
		return dns_name_to_ascii(domain, ascii);
	return domain.n <= BARE_BYTES_MAX && is_made_of(domain, ".[]:") && buf_put_slice(ascii, domain);
}

/* The address itself, as the user may know it. */
static void
put_shown(const struct address *addr, struct buf *text)
{
	if (addr->name.n > 0) {
		(void)mime_word_decode(addr->name, text);
		buf_put_str(text, " ");
	}
	buf_put_str(text, "<");
	(void)charset_to_utf8(slice_of(NULL, 0), addr->local, text);
	if (addr->domain.p != NULL) {
		buf_put_str(text, "@");
		(void)charset_to_utf8(slice_of(NULL, 0), addr->domain, text);
	}
	buf_put_str(text, ">");
}

/* RFC 6858 2.1: nobody's address, before which stands what it was. */
static void
put_replaced(const struct address *addr, bool with_name, struct buf *out)
{
	struct buf text;

	buf_init(&text, DOWNGRADE_NAME_BYTES_MAX * 4);
	put_shown(addr, &text);
	if (with_name) {
		put_words(buf_slice(&text), DOWNGRADE_NAME_BYTES_MAX, out);
		buf_put_str(out, FOLD);
	}
	buf_put_str(out, "<" DOWNGRADE_ADDRESS ">");
	buf_fini(&text);
}

static void
put_mailbox(const struct address *addr, bool with_name, struct buf *out)
{
	struct buf domain;
	bool good = addr->local.n <= BARE_BYTES_MAX && is_printable(addr->local);

	buf_init(&domain, BARE_BYTES_MAX);
	good = good && (addr->domain.p == NULL || domain_to_ascii(addr->domain, &domain));
	if (!good) {
		put_replaced(addr, with_name, out);
	} else {
		if (with_name && addr->name.n > 0) {
			put_name(addr->name, out);
			buf_put_str(out, FOLD);
		}
		buf_put_u8(out, '<');
		if (is_made_of(addr->local, "."))
			buf_put_slice(out, addr->local);
		else
			buf_put_quoted(out, addr->local);
		if (domain.n > 0)
			buf_put_u8(out, '@');
		buf_put_slice(out, buf_slice(&domain));
		buf_put_u8(out, '>');
	}
	buf_fini(&domain);
}

/* address-list; false when no address is in it. with_name: what is no path (RFC 5322 3.6.7) */
static bool
put_addresses(struct slice value, bool with_name, struct arena *scratch, struct buf *out)
{
	struct address_list list;
	bool comma = false;

	address_list_parse(value, ADDRESSES_MAX, scratch, &list);
	for (size_t i = 0; i < list.n; i++) {
		const struct address *addr = &list.v[i];

		if (comma && addr->kind != ADDRESS_GROUP_END)
			buf_put_str(out, "," FOLD);
		if (addr->kind == ADDRESS_MAILBOX) {
			put_mailbox(addr, with_name, out);
		} else if (addr->kind == ADDRESS_GROUP_START) {
			put_name(addr->name.n > 0 ? addr->name : SLICE("Group"), out);
			buf_put_str(out, ":" FOLD);
		} else {
			buf_put_u8(out, ';');
		}
		comma = addr->kind != ADDRESS_GROUP_START;
	}
	return list.n > 0;
}

static bool
make_addresses(const struct header_field *f, struct arena *scratch, struct buf *out)
{
	return put_addresses(f->value, true, scratch, out);
}

/* Return-Path has an address alone. */
static bool
make_path(const struct header_field *f, struct arena *scratch, struct buf *out)
{
	return put_addresses(f->value, false, scratch, out);
}

static bool
make_text(const struct header_field *f, struct arena *scratch, struct buf *out)
{
	(void)scratch;
	put_text(f->value, DOWNGRADE_TEXT_BYTES_MAX, out);
	return true;
}

/* ---- MIME parameters ---- */

/* attribute-char (RFC 2231 7) */
static bool
is_attribute_char(uint8_t c)
{
	return c == '.' || (is_atext(c) && c != '*' && c != '\'' && c != '%');
}

/* ext-parameter (RFC 2231 7) */
static void
put_extended(const struct mime_param *param, struct buf *out)
{
	struct buf text;

	buf_init(&text, DOWNGRADE_PARAM_BYTES_MAX);
	if (mime_param_text(param, &text)) {
		buf_put_str(out, ";" FOLD);
		buf_put_slice(out, param->name);
		buf_put_str(out, "*=UTF-8''");
		for (size_t i = 0; i < text.n; i++) {
			if (is_attribute_char(text.p[i]))
				buf_put_u8(out, text.p[i]);
			else
				buf_putf(out, "%%%02X", text.p[i]);
		}
	}
	buf_fini(&text);
}

/* RFC 6858 2.2: a parameter that cannot be shown is left out. */
static void
put_param(const struct mime_param *param, struct buf *out)
{
	if (param->name.n > BARE_BYTES_MAX / 4 || !is_made_of(param->name, "."))
		return;
	if (param->extended || !is_printable(param->value)) {
		put_extended(param, out);
	} else if (param->value.n <= BARE_BYTES_MAX) {
		buf_put_str(out, ";" FOLD);
		buf_put_slice(out, param->name);
		buf_put_u8(out, '=');
		buf_put_quoted(out, param->value);
	}
}

/*
 * The first boundary alone counts to a reader, and it stands in the body as well: it stays as it is or goes, and no other one may take its
 * place, which would open parts that were none.
 */
static void
put_params(const struct mime_params *params, struct buf *out)
{
	const struct mime_param *boundary = mime_param_find(params, SLICE("boundary"));

	for (size_t i = 0; i < params->n; i++) {
		const struct mime_param *p = &params->v[i];

		if (!slice_eq_nocase(p->name, SLICE("boundary")) || (p == boundary && !p->extended && is_printable(p->value)))
			put_param(p, out);
	}
}

static bool
is_token(struct slice s)
{
	return s.n <= BARE_BYTES_MAX && is_made_of(s, ".");
}

static bool
make_type(const struct header_field *f, struct arena *scratch, struct buf *out)
{
	struct mime_value v;

	if (!mime_type_parse(f->value, scratch, &v)) {
		buf_put_str(out, "text/plain"); /* RFC 2045 5.2 */
		return true;
	}
	if (!is_token(v.type) || !is_token(v.subtype)) {
		buf_put_str(out, "application/octet-stream");
		return true;
	}
	buf_put_slice(out, v.type);
	buf_put_u8(out, '/');
	buf_put_slice(out, v.subtype);
	put_params(&v.params, out);
	return true;
}

/* RFC 6532 3.7: what message/rfc822 must not have is gone. */
static bool
make_message_type(const struct header_field *f, struct arena *scratch, struct buf *out)
{
	struct mime_value v;

	if (!mime_type_parse(f->value, scratch, &v))
		return false;
	buf_put_str(out, "message/rfc822");
	put_params(&v.params, out);
	return true;
}

static bool
make_encoding(const struct header_field *f, struct arena *scratch, struct buf *out)
{
	struct slice token = mime_token_parse(f->value);

	(void)scratch;
	if (token.n == 0)
		buf_put_str(out, "7bit"); /* RFC 2045 6.1 */
	else if (is_token(token))
		buf_put_slice(out, token);
	else
		buf_put_str(out, "x-unknown");
	return true;
}

static bool
make_disposition(const struct header_field *f, struct arena *scratch, struct buf *out)
{
	struct mime_value v;

	if (!mime_disposition_parse(f->value, scratch, &v) || !is_token(v.type))
		return false;
	buf_put_slice(out, v.type);
	put_params(&v.params, out);
	return true;
}

/* ---- fields ---- */

/* Appends a field's value; false when it has none in ASCII. */
typedef bool make_fn(const struct header_field *f, struct arena *scratch, struct buf *out);

static const struct row {
	const char *name;
	make_fn *make;
	/*
	 * What is left of it when it cannot be made or has no room; NULL: nothing. A field on which the structure depends must
	 * not go, or a second one of that name would count, and open as parts what was body.
	 */
	const char *rest;
} rows[] = {
    {"From", make_addresses, NULL},
    {"Sender", make_addresses, NULL},
    {"Reply-To", make_addresses, NULL},
    {"To", make_addresses, NULL},
    {"Cc", make_addresses, NULL},
    {"Bcc", make_addresses, NULL},
    {"Resent-From", make_addresses, NULL},
    {"Resent-Sender", make_addresses, NULL},
    {"Resent-Reply-To", make_addresses, NULL},
    {"Resent-To", make_addresses, NULL},
    {"Resent-Cc", make_addresses, NULL},
    {"Resent-Bcc", make_addresses, NULL},
    {"Return-Path", make_path, NULL},
    {"Subject", make_text, NULL},
    {"Comments", make_text, NULL},
    {"Content-Description", make_text, NULL},
    {"Content-Type", make_type, ":?"},
    {"Content-Transfer-Encoding", make_encoding, ":x"},
    {"Content-Disposition", make_disposition, NULL},
};

static const struct row *
find_row(const struct header_field *f)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (slice_eq_nocase(f->name, slice_str(rows[i].name)))
			return &rows[i];
	return NULL;
}

static bool
is_message_global(const struct header_field *f, struct arena *scratch)
{
	struct mime_value v;

	return slice_eq_nocase(f->name, SLICE("Content-Type")) && mime_type_parse(f->value, scratch, &v) &&
	    slice_eq_nocase(v.type, SLICE("message")) && slice_eq_nocase(v.subtype, SLICE("global"));
}

/* The whole field into made; false when it has no form. */
static bool
make_field(const struct header_field *f, make_fn *make, struct arena *scratch, struct buf *made)
{
	buf_reset(made);
	buf_put_slice(made, f->name);
	buf_put_str(made, ": ");
	return make(f, scratch, made) && buf_put_str(made, "\r\n");
}

/* Octets of the line end behind s. */
static size_t
line_end(struct slice s)
{
	if (s.n == 0 || s.p[s.n - 1] != '\n')
		return 0;
	return s.n > 1 && s.p[s.n - 2] == '\r' ? 2 : 1;
}

/* Takes the field over when it may be that long. */
static bool
put_made(const struct header_field *f, const struct buf *made, size_t *growth, struct buf *out)
{
	size_t more = made->n > f->raw.n ? made->n - f->raw.n : 0;

	if (more > *growth || !buf_put_slice(out, buf_slice(made)))
		return false;
	*growth -= more;
	return true;
}

/* No longer than the field was, whose value had one octet at least. */
static void
put_rest(const struct header_field *f, const char *rest, struct buf *out)
{
	buf_put_slice(out, f->name);
	buf_put_str(out, rest);
	buf_put_slice(out, slice_sub(f->raw, f->raw.n - line_end(f->raw), f->raw.n));
}

static void
put_field(const struct header_field *f, enum mime_kind kind, size_t *growth, struct arena *scratch, struct buf *made,
    struct buf *out)
{
	bool global = kind == MIME_MESSAGE && is_message_global(f, scratch);
	const struct row *row = find_row(f);

	if (!global && slice_is_ascii(f->raw))
		buf_put_slice(out, f->raw);
	else if (row != NULL && !(make_field(f, global ? make_message_type : row->make, scratch, made) && put_made(f, made, growth, out)) &&
	    row->rest != NULL)
		put_rest(f, row->rest, out);
}

void
downgrade_header(struct slice block, enum mime_kind kind, size_t *growth, struct arena *scratch, struct buf *out)
{
	struct header_iter it;
	struct header_field f;
	struct buf made;

	buf_init(&made, DOWNGRADE_FIELD_BYTES_MAX);
	header_iter_init(&it, block);
	while (header_next(&it, &f)) {
		put_field(&f, kind, growth, scratch, &made, out);
		arena_reset(scratch);
	}
	for (size_t i = 0; i < it.rest.n; i++)
		buf_put_u8(out, it.rest.p[i] > 127 ? '?' : it.rest.p[i]);
	buf_fini(&made);
}
