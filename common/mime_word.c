/*
 * The value is cut into three kinds of spans: encoded words, white space and
 * other text. White space is held until it is known whether it stands between
 * two words. Decoded octets of words are gathered per charset, so that a
 * character split between two words comes out whole.
 */
#include "common/mime_word.h"

#include "common/charset.h"
#include "common/transfer.h"

#define GATHER_BYTES_MAX 65536 /* words joined before they are converted; more are cut here */

struct word {
	struct slice charset;
	bool base64;
	struct slice text;
	size_t octets; /* of the whole word */
};

struct decoder {
	struct buf *out;
	struct buf gathered;
	struct slice charset;
	bool after_word;
	bool ok;
};

/* token = 1*<any CHAR except SPACE, CTLs, and especials> (RFC 2047 2) */
static bool
is_token(uint8_t c)
{
	static const char especials[] = "()<>@,;:\"/[]?.=";

	return c > ' ' && c < 127 && memchr(especials, c, sizeof especials - 1) == NULL;
}

/*
 * encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?="
 * at the start of s. Spaces in the text are let through, as many senders write them.
 */
static bool
parse_word(struct slice s, struct word *w)
{
	size_t i = 2;

	s = slice_sub(s, 0, MIME_WORD_BYTES_MAX);
	if (!slice_starts(s, SLICE("=?")))
		return false;
	while (i < s.n && is_token(s.p[i]))
		i++;
	w->charset = slice_sub(s, 2, i);
	w->charset = slice_sub(w->charset, 0, slice_index(w->charset, '*'));
	if (w->charset.n == 0 || i + 3 > s.n || s.p[i] != '?' || s.p[i + 2] != '?')
		return false;
	uint8_t encoding = ascii_lower(s.p[i + 1]);

	if (encoding != 'b' && encoding != 'q')
		return false;
	w->base64 = encoding == 'b';
	struct slice text = slice_sub(s, i + 3, s.n);
	size_t end = slice_find(text, SLICE("?="));

	if (end == text.n)
		return false;
	w->text = slice_sub(text, 0, end);
	w->octets = i + 3 + end + 2;
	return slice_index(w->text, '\n') == w->text.n && slice_index(w->text, '\r') == w->text.n;
}

/* What must never come out of a header: it would let a word forge lines. */
static void
blank_controls(struct buf *out, size_t from)
{
	for (size_t i = from; i < out->n; i++)
		if (out->p[i] == '\r' || out->p[i] == '\n' || out->p[i] == '\0')
			out->p[i] = ' ';
}

static void
put_converted(struct decoder *d, struct slice charset, struct slice octets)
{
	size_t from = d->out->n;

	if (charset_to_utf8(charset, octets, d->out) == CHARSET_FULL)
		d->ok = false;
	blank_controls(d->out, from);
}

static void
flush_words(struct decoder *d)
{
	if (d->gathered.n > 0)
		put_converted(d, d->charset, buf_slice(&d->gathered));
	buf_reset(&d->gathered);
}

/* Q is quoted-printable with "_" for a space and without line ends (RFC 2047 4.2). */
static void
gather_q(struct decoder *d, struct slice text)
{
	struct transfer_decoder t;
	struct slice piece;

	transfer_decoder_init(&t, TRANSFER_QUOTED_PRINTABLE);
	while (slice_cut(&text, '_', &piece)) {
		transfer_decode(&t, piece, &d->gathered);
		/* What is held is white space or half an escape: it ends with its piece. */
		buf_put(&d->gathered, t.held, t.held_n);
		t.held_n = 0;
		if (text.p != NULL)
			buf_put_u8(&d->gathered, ' ');
	}
}

static void
gather_word(struct decoder *d, const struct word *w)
{
	if (!slice_eq_nocase(d->charset, w->charset) ||
	    d->gathered.n > GATHER_BYTES_MAX - MIME_WORD_BYTES_MAX)
		flush_words(d);
	d->charset = w->charset;
	if (w->base64) {
		struct transfer_decoder t;

		transfer_decoder_init(&t, TRANSFER_BASE64);
		transfer_decode(&t, w->text, &d->gathered);
	} else
		gather_q(d, w->text);
	d->after_word = true;
}

/* Text that is no word, without its line ends. */
static void
put_plain(struct decoder *d, struct slice s)
{
	size_t from = 0;

	if (s.n == 0)
		return;
	flush_words(d);
	d->after_word = false;
	for (size_t i = 0; d->ok && i <= s.n; i++) {
		if (i < s.n && s.p[i] != '\r' && s.p[i] != '\n')
			continue;
		if (i > from)
			put_converted(d, slice_of(NULL, 0), slice_sub(s, from, i));
		from = i + 1;
	}
}

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool
mime_word_decode(struct slice value, struct buf *out)
{
	struct decoder d = {.out = out, .ok = true};
	size_t plain = 0; /* text before i, from here on, has not been put */
	size_t solid = 0; /* the end of its last octet that is no white space */
	size_t i = 0;
	struct word w;

	buf_init(&d.gathered, GATHER_BYTES_MAX);
	value = slice_trim(value);
	while (d.ok && i < value.n) {
		if (value.p[i] != '=' || !parse_word(slice_sub(value, i, value.n), &w)) {
			if (!is_space(value.p[i++]))
				solid = i;
			continue;
		}
		if (solid > plain || !d.after_word)
			put_plain(&d, slice_sub(value, plain, i));
		gather_word(&d, &w);
		i += w.octets;
		plain = solid = i;
	}
	put_plain(&d, slice_sub(value, plain, value.n));
	flush_words(&d);
	buf_fini(&d.gathered);
	return d.ok;
}
