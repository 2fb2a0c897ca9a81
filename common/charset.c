/*
 * Converters. iconv_open() is never given a name from a message: it would
 * look for a module of that name on disk. The names that mail uses are in one
 * table with the iconv name they mean. Left out on purpose: ISO-2022-CN-EXT
 * and ISO-2022-JP-3, whose converters in the C library have had memory faults
 * and which mail does not use.
 *
 * iso-8859-1 and us-ascii are read as windows-1252, as all mail programs do:
 * the C1 controls, which are the only difference, never are in real text.
 *
 * A stream opens a converter of its own, because shift states would mix in a
 * shared one. Its module is loaded already, so that this opens no file.
 */
#include "common/charset.h"

#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <iconv.h>
#include <stdlib.h>

#define PENDING_MAX 32 /* octets of an incomplete character, far more than any charset needs */
#define NO_ICONV ((iconv_t)-1)

enum kind {
	KIND_GUESS, /* UTF-8 as long as it is valid, then windows-1252 */
	KIND_UTF8,
	KIND_LATIN,
	KIND_ICONV,
};

static const struct {
	const char *names; /* all names of it in mail, space-separated */
	const char *iconv;
} charsets[] = {
    {"iso-8859-2 latin2 iso8859-2", "ISO-8859-2"},
    {"iso-8859-3 latin3", "ISO-8859-3"},
    {"iso-8859-4 latin4", "ISO-8859-4"},
    {"iso-8859-5", "ISO-8859-5"},
    {"iso-8859-6 iso-8859-6-i iso-8859-6-e", "ISO-8859-6"},
    {"iso-8859-7", "ISO-8859-7"},
    {"iso-8859-8 iso-8859-8-i iso-8859-8-e", "ISO-8859-8"},
    {"iso-8859-9 latin5", "ISO-8859-9"},
    {"iso-8859-10 latin6", "ISO-8859-10"},
    {"iso-8859-13", "ISO-8859-13"},
    {"iso-8859-14", "ISO-8859-14"},
    {"iso-8859-15 latin9 latin-9 iso8859-15", "ISO-8859-15"},
    {"iso-8859-16", "ISO-8859-16"},
    {"windows-1250 cp1250", "CP1250"},
    {"windows-1251 cp1251", "CP1251"},
    {"windows-1253 cp1253", "CP1253"},
    {"windows-1254 cp1254", "CP1254"},
    {"windows-1255 cp1255", "CP1255"},
    {"windows-1256 cp1256", "CP1256"},
    {"windows-1257 cp1257", "CP1257"},
    {"windows-1258 cp1258", "CP1258"},
    {"windows-874 cp874 tis-620 iso-8859-11", "CP874"},
    {"koi8-r", "KOI8-R"},
    {"koi8-u", "KOI8-U"},
    {"ibm437 cp437", "IBM437"},
    {"ibm850 cp850", "IBM850"},
    {"ibm852 cp852", "IBM852"},
    {"ibm866 cp866", "IBM866"},
    {"macintosh x-mac-roman mac", "MACINTOSH"},
    {"iso-2022-jp", "ISO-2022-JP"},
    {"shift_jis shift-jis sjis x-sjis windows-31j cp932 ms_kanji", "CP932"},
    {"euc-jp eucjp x-euc-jp", "EUC-JP"},
    {"euc-kr ks_c_5601-1987 ks_c_5601 ksc5601 cp949 uhc", "CP949"},
    {"iso-2022-kr", "ISO-2022-KR"},
    {"gb2312 gbk cp936 x-gbk gb18030 euc-cn", "GB18030"},
    {"big5 cp950 x-big5", "CP950"},
    {"big5-hkscs", "BIG5-HKSCS"},
    {"viscii", "VISCII"},
    {"utf-7 unicode-1-1-utf-7", "UTF-7"},
    {"utf-16", "UTF-16"},
    {"utf-16be", "UTF-16BE"},
    {"utf-16le", "UTF-16LE"},
    {"utf-32", "UTF-32"},
};
#define CHARSETS (sizeof charsets / sizeof charsets[0])

static iconv_t opened[CHARSETS];
static bool initialised;

void
charset_init(void)
{
	if (initialised)
		return;
	for (size_t i = 0; i < CHARSETS; i++)
		opened[i] = iconv_open("UTF-8", charsets[i].iconv);
	initialised = true;
}

void
charset_fini(void)
{
	for (size_t i = 0; initialised && i < CHARSETS; i++)
		if (opened[i] != NO_ICONV)
			iconv_close(opened[i]);
	initialised = false;
}

/* True when name is one of the space-separated names. */
static bool
name_among(struct slice name, const char *names)
{
	struct slice rest = slice_str(names);
	struct slice one;

	while (slice_cut(&rest, ' ', &one))
		if (slice_eq_nocase(name, one))
			return true;
	return false;
}

/* KIND_GUESS for a name that is not known, and for US-ASCII. */
static enum kind
find_kind(struct slice name, size_t *index_r, bool *known_r)
{
	*known_r = true;
	if (name.n == 0 || name_among(name, "us-ascii ascii ansi_x3.4-1968 iso646-us"))
		return KIND_GUESS;
	if (name_among(name, "utf-8 utf8 unicode-1-1-utf-8"))
		return KIND_UTF8;
	if (name_among(name, "iso-8859-1 windows-1252 latin1 cp1252 iso8859-1 x-ansi"))
		return KIND_LATIN;
	for (size_t i = 0; name.n <= CHARSET_NAME_BYTES_MAX && i < CHARSETS; i++) {
		if (!initialised || opened[i] == NO_ICONV || !name_among(name, charsets[i].names))
			continue;
		*index_r = i;
		return KIND_ICONV;
	}
	*known_r = false;
	return KIND_GUESS;
}

bool
charset_known(struct slice name)
{
	size_t index;
	bool known;

	find_kind(name, &index, &known);
	return known;
}

/* ---- UTF-8 ---- */

/*
 * One sequence at p: its length and *cp_r when it is valid; 0 when n octets are
 * not enough to tell; otherwise minus the octets that can be no part of a character.
 * RFC 3629 4: the second octet's range depends on the first.
 */
static int
utf8_sequence(const uint8_t *p, size_t n, uint32_t *cp_r)
{
	uint8_t c = p[0];
	uint8_t low = 0x80, high = 0xBF;
	int need;

	if (c < 0x80) {
		*cp_r = c;
		return 1;
	}
	if (c < 0xC2 || c > 0xF4)
		return -1;
	need = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
	if (c == 0xE0)
		low = 0xA0;
	else if (c == 0xED)
		high = 0x9F;
	else if (c == 0xF0)
		low = 0x90;
	else if (c == 0xF4)
		high = 0x8F;
	uint32_t cp = c & (0x3FU >> need);

	for (int i = 1; i <= need; i++) {
		if ((size_t)i >= n)
			return 0;
		if (p[i] < low || p[i] > high)
			return -i;
		cp = cp << 6 | (p[i] & 0x3F);
		low = 0x80;
		high = 0xBF;
	}
	*cp_r = cp;
	return need + 1;
}

/* Octets at the start of s that are whole, valid characters. */
static size_t
utf8_valid_prefix(struct slice s)
{
	size_t i = 0;

	while (i < s.n) {
		uint32_t cp;
		int n = utf8_sequence(s.p + i, s.n - i, &cp);

		if (n <= 0)
			break;
		i += (size_t)n;
	}
	return i;
}

bool
utf8_valid(struct slice s)
{
	return utf8_valid_prefix(s) == s.n;
}

struct slice
utf8_cut(struct slice s, size_t max)
{
	size_t n = s.n;

	if (n > max) {
		n = max;
		for (int back = 0; back < 3 && n > 0 && (s.p[n] & 0xC0) == 0x80; back++)
			n--;
		if ((s.p[n] & 0xC0) == 0x80)
			n = max;
	}
	return slice_sub(s, 0, n);
}

size_t
utf8_next(struct slice s, uint32_t *cp_r)
{
	assert(s.n > 0);
	int n = utf8_sequence(s.p, s.n, cp_r);

	if (n > 0)
		return (size_t)n;
	*cp_r = 0xFFFD;
	return n == 0 ? s.n : (size_t)-n;
}

bool
utf8_put(struct buf *out, uint32_t cp)
{
	uint8_t o[4];
	size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
	static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};

	if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
		return utf8_put(out, 0xFFFD);
	for (size_t i = n; i-- > 1; cp >>= 6)
		o[i] = (uint8_t)(0x80 | (cp & 0x3F));
	o[0] = (uint8_t)(lead[n] | cp);
	return buf_put(out, o, n);
}

/* ---- streams ---- */

struct charset_stream {
	enum kind kind;
	bool known;
	bool own_cd;
	bool guessed_latin;
	iconv_t cd;
	uint8_t pending[PENDING_MAX];
	size_t pending_n;
	enum charset_result worst;
};

/* Puts what fits of valid text. */
static bool
put_text(struct charset_stream *s, struct slice text, struct buf *out)
{
	struct slice fits = utf8_cut(text, out->max - out->n);

	buf_put_slice(out, fits);
	if (fits.n == text.n)
		return true;
	out->failed = true;
	s->worst = CHARSET_FULL;
	return false;
}

static bool
put_replacement(struct charset_stream *s, struct buf *out)
{
	if (s->worst == CHARSET_OK)
		s->worst = CHARSET_REPLACED;
	return put_text(s, SLICE("\xEF\xBF\xBD"), out);
}

/* The code points of windows-1252 at 0x80..0x9F; the five without one become U+FFFD. */
static const uint16_t latin_c1[32] = {0x20AC, 0xFFFD, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020,
    0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0xFFFD, 0x017D, 0xFFFD, 0xFFFD, 0x2018, 0x2019,
    0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0xFFFD, 0x017E,
    0x0178};

static bool
feed_latin(struct charset_stream *s, struct slice in, struct buf *out)
{
	size_t i = 0;

	while (i < in.n) {
		size_t from = i;

		while (i < in.n && in.p[i] < 0x80)
			i++;
		if (!put_text(s, slice_sub(in, from, i), out))
			return false;
		for (; i < in.n && in.p[i] >= 0x80; i++) {
			uint8_t c = in.p[i];

			if (!utf8_put(out, c < 0xA0 ? latin_c1[c - 0x80] : c)) {
				s->worst = CHARSET_FULL;
				return false;
			}
		}
	}
	return true;
}

/*
 * The three converters below take whole characters from the front of in and
 * return how many octets they took; what is left is an incomplete character.
 */
static size_t
convert_utf8(struct charset_stream *s, struct slice in, struct buf *out)
{
	size_t i = 0;

	while (i < in.n) {
		uint32_t cp;
		size_t n = utf8_valid_prefix(slice_sub(in, i, in.n));

		if (!put_text(s, slice_sub(in, i, i + n), out))
			return in.n;
		i += n;
		if (i == in.n)
			break;
		int bad = utf8_sequence(in.p + i, in.n - i, &cp);

		if (bad == 0)
			break;
		assert(bad < 0);
		i += (size_t)-bad;
		if (!put_replacement(s, out))
			return in.n;
	}
	return i;
}

static size_t
convert_guess(struct charset_stream *s, struct slice in, struct buf *out)
{
	uint32_t cp;
	size_t n = s->guessed_latin ? 0 : utf8_valid_prefix(in);

	if (!put_text(s, slice_sub(in, 0, n), out) || n == in.n)
		return in.n;
	if (!s->guessed_latin && utf8_sequence(in.p + n, in.n - n, &cp) == 0)
		return n;
	s->guessed_latin = true;
	feed_latin(s, slice_sub(in, n, in.n), out);
	return in.n;
}

/* One call of iconv; false at the end of what can be converted. */
static bool
iconv_step(struct charset_stream *s, char **from, size_t *left, struct buf *out)
{
	char block[1024];
	char *to = block;
	size_t room = sizeof block;
	size_t was = *left;
	size_t r = iconv(s->cd, from, left, &to, &room);
	int why = r == (size_t)-1 ? errno : 0;

	if (!put_text(s, slice_of(block, sizeof block - room), out)) {
		*left = 0;
		return false;
	}
	if (why == E2BIG)
		return room < sizeof block || *left < was;
	if (why != EILSEQ || *left == 0)
		return false;
	++*from;
	--*left;
	if (put_replacement(s, out))
		return true;
	*left = 0;
	return false;
}

static size_t
convert_iconv(struct charset_stream *s, struct slice in, struct buf *out)
{
	char *from = (char *)(uintptr_t)in.p;
	size_t left = in.n;

	while (left > 0 && iconv_step(s, &from, &left, out))
		;
	return in.n - left;
}

static size_t
convert(struct charset_stream *s, struct slice in, struct buf *out)
{
	if (s->kind == KIND_ICONV)
		return convert_iconv(s, in, out);
	if (s->kind == KIND_UTF8)
		return convert_utf8(s, in, out);
	if (s->kind == KIND_GUESS)
		return convert_guess(s, in, out);
	feed_latin(s, in, out);
	return in.n;
}

/* Completes the character in pending with octets of *in, which is advanced past them. */
static void
feed_pending(struct charset_stream *s, struct slice *in, struct buf *out)
{
	size_t old = s->pending_n;
	size_t more = PENDING_MAX - old < in->n ? PENDING_MAX - old : in->n;

	memcpy(s->pending + old, in->p, more);
	size_t took = convert(s, slice_of(s->pending, old + more), out);

	if (took >= old && took > 0) {
		*in = slice_sub(*in, took - old, in->n);
		s->pending_n = 0;
	} else if (old + more < PENDING_MAX) {
		s->pending_n = old + more - took;
		memmove(s->pending, s->pending + took, s->pending_n);
		*in = slice_of(NULL, 0);
	} else {
		/* No character is that long: the converter is at a loss. */
		s->pending_n = 0;
		put_replacement(s, out);
	}
}

enum charset_result
charset_stream_feed(struct charset_stream *s, struct slice in, struct buf *out)
{
	while (s->worst != CHARSET_FULL && in.n > 0 && s->pending_n > 0)
		feed_pending(s, &in, out);
	if (s->worst == CHARSET_FULL || in.n == 0)
		return s->worst;
	size_t took = convert(s, in, out);
	size_t left = in.n - took;

	if (s->worst == CHARSET_FULL)
		return s->worst;
	if (left > PENDING_MAX / 2)
		put_replacement(s, out);
	else if (left > 0) {
		memcpy(s->pending, in.p + took, left);
		s->pending_n = left;
	}
	return s->worst;
}

enum charset_result
charset_stream_end(struct charset_stream *s, struct buf *out)
{
	if (s->worst == CHARSET_FULL)
		return s->worst;
	if (s->pending_n > 0 && s->kind == KIND_GUESS) {
		s->guessed_latin = true;
		feed_latin(s, slice_of(s->pending, s->pending_n), out);
	} else if (s->pending_n > 0)
		put_replacement(s, out);
	s->pending_n = 0;
	if (s->kind == KIND_ICONV) {
		/* Some converters hold a character back to compose it with the next. */
		char block[64];
		char *to = block;
		size_t room = sizeof block;

		iconv(s->cd, NULL, NULL, &to, &room);
		put_text(s, slice_of(block, sizeof block - room), out);
	}
	if (s->worst == CHARSET_OK && (!s->known || s->guessed_latin))
		s->worst = CHARSET_UNKNOWN;
	return s->worst;
}

static void
stream_init(struct charset_stream *s, struct slice name, size_t *index_r)
{
	*s = (struct charset_stream){.cd = NO_ICONV};
	s->kind = find_kind(name, index_r, &s->known);
}

struct charset_stream *
charset_stream_new(struct slice name)
{
	struct charset_stream *s = MEM_NEW(struct charset_stream);
	size_t index;

	stream_init(s, name, &index);
	if (s->kind != KIND_ICONV)
		return s;
	s->cd = iconv_open("UTF-8", charsets[index].iconv);
	s->own_cd = s->cd != NO_ICONV;
	if (!s->own_cd) {
		s->kind = KIND_GUESS;
		s->known = false;
	}
	return s;
}

void
charset_stream_free(struct charset_stream **s)
{
	if (*s == NULL)
		return;
	if ((*s)->own_cd)
		iconv_close((*s)->cd);
	MEM_FREE(s);
}

enum charset_result
charset_to_utf8(struct slice name, struct slice in, struct buf *out)
{
	struct charset_stream s;
	size_t index;

	stream_init(&s, name, &index);
	if (s.kind == KIND_GUESS)
		s.guessed_latin = !utf8_valid(in);
	if (s.kind == KIND_ICONV) {
		s.cd = opened[index];
		iconv(s.cd, NULL, NULL, NULL, NULL);
	}
	charset_stream_feed(&s, in, out);
	return charset_stream_end(&s, out);
}
