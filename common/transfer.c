/*
 * The decoders take what real mail contains: base64 with stray octets
 * between the groups (RFC 2045 6.8: ignored), quoted-printable with broken
 * escapes (6.7: passed on as they are). `damaged` tells that this happened.
 */
#include "common/transfer.h"

#include <assert.h>

#define B64_BAD 0xFF

static const char base64_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static uint8_t
base64_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint8_t)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint8_t)(c - 'a' + 26);
	if (ascii_digit(c))
		return (uint8_t)(c - '0' + 52);
	return c == '+' ? 62 : c == '/' ? 63 : B64_BAD;
}

enum transfer_encoding
transfer_encoding_of(struct slice token)
{
	static const struct {
		const char *name;
		enum transfer_encoding encoding;
	} names[] = {
	    {"", TRANSFER_7BIT},
	    {"7bit", TRANSFER_7BIT},
	    {"8bit", TRANSFER_8BIT},
	    {"binary", TRANSFER_BINARY},
	    {"quoted-printable", TRANSFER_QUOTED_PRINTABLE},
	    {"base64", TRANSFER_BASE64},
	};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (slice_eq_nocase(token, slice_str(names[i].name)))
			return names[i].encoding;
	return TRANSFER_UNKNOWN;
}

void
transfer_decoder_init(struct transfer_decoder *d, enum transfer_encoding encoding)
{
	d->encoding = encoding;
	d->octets = 0;
	d->damaged = false;
	d->bits = 0;
	d->bits_count = 0;
	d->ended = false;
	d->held_n = 0;
}

static bool
give(struct transfer_decoder *d, struct buf *out, const uint8_t *p, size_t n)
{
	d->octets += n;
	return out == NULL || buf_put(out, p, n);
}

/* Decoded octets are gathered here, so that a buf is not called for each. */
struct gather {
	uint8_t p[512];
	size_t n;
};

static bool
gather_put(struct transfer_decoder *d, struct buf *out, struct gather *g, uint8_t c)
{
	g->p[g->n++] = c;
	if (g->n < sizeof g->p)
		return true;
	g->n = 0;
	return give(d, out, g->p, sizeof g->p);
}

/* ---- base64 (RFC 2045 6.8) ---- */

static bool
base64_is_filler(uint8_t c)
{
	return c == '\r' || c == '\n' || c == ' ' || c == '\t';
}

/*
 * One octet of encoded text. Padding ends a group; what follows it starts
 * anew, since some senders encode in pieces and join them.
 */
static bool
base64_step(struct transfer_decoder *d, uint8_t c, struct buf *out, struct gather *g)
{
	uint8_t v = base64_value(c);

	if (c == '=') {
		d->ended = true;
		d->bits_count = 0;
		return true;
	}
	if (v == B64_BAD) {
		d->damaged |= !base64_is_filler(c);
		return true;
	}
	d->damaged |= d->ended;
	d->ended = false;
	d->bits = (d->bits << 6 | v) & 0xFFFFFF;
	d->bits_count = (uint8_t)(d->bits_count + 6);
	if (d->bits_count < 8)
		return true;
	d->bits_count = (uint8_t)(d->bits_count - 8);
	return gather_put(d, out, g, (uint8_t)(d->bits >> d->bits_count));
}

static bool
base64_feed(struct transfer_decoder *d, struct slice in, struct buf *out)
{
	struct gather g = {.n = 0};

	for (size_t i = 0; i < in.n; i++)
		if (!base64_step(d, in.p[i], out, &g))
			return false;
	return give(d, out, g.p, g.n);
}

/* ---- quoted-printable (RFC 2045 6.7) ---- */

static uint8_t
hex_value(uint8_t c)
{
	if (ascii_digit(c))
		return (uint8_t)(c - '0');
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? (uint8_t)(c - 'a' + 10) : B64_BAD;
}

static bool
qp_release(struct transfer_decoder *d, struct buf *out, struct gather *g)
{
	for (size_t i = 0; i < d->held_n; i++)
		if (!gather_put(d, out, g, d->held[i]))
			return false;
	d->held_n = 0;
	return true;
}

/*
 * Octets that may turn out to be nothing are held: white space (dropped
 * before a line end), and "=" with what follows it (an escape, or a soft line
 * break with white space or CR before its LF). held[0] says which.
 */
static bool
qp_step_escape(struct transfer_decoder *d, uint8_t c, struct buf *out, struct gather *g,
    bool *again_r)
{
	bool plain = d->held_n == 1;
	uint8_t high = plain ? B64_BAD : hex_value(d->held[1]);

	if (c == '\n' && high == B64_BAD) {
		d->held_n = 0;
		return true;
	}
	if (high != B64_BAD && hex_value(c) != B64_BAD) {
		d->held_n = 0;
		return gather_put(d, out, g, (uint8_t)(high << 4 | hex_value(c)));
	}
	bool hold = plain ? hex_value(c) != B64_BAD || base64_is_filler(c)
			  : high == B64_BAD && base64_is_filler(c) && d->held[d->held_n - 1] != '\r';

	if (hold && d->held_n < TRANSFER_QP_HELD_MAX) {
		d->held[d->held_n++] = c;
		return true;
	}
	d->damaged = true;
	*again_r = true;
	return qp_release(d, out, g);
}

static bool
qp_step_space(struct transfer_decoder *d, uint8_t c, struct buf *out, struct gather *g,
    bool *again_r)
{
	bool after_cr = d->held[d->held_n - 1] == '\r';

	if (c == '\n') {
		d->held_n = 0;
		return (!after_cr || gather_put(d, out, g, '\r')) && gather_put(d, out, g, '\n');
	}
	if (!after_cr && base64_is_filler(c) && d->held_n < TRANSFER_QP_HELD_MAX) {
		d->held[d->held_n++] = c;
		return true;
	}
	*again_r = true;
	return qp_release(d, out, g);
}

static bool
qp_step(struct transfer_decoder *d, uint8_t c, struct buf *out, struct gather *g)
{
	bool again = false;

	if (d->held_n > 0) {
		bool ok = d->held[0] == '=' ? qp_step_escape(d, c, out, g, &again)
					    : qp_step_space(d, c, out, g, &again);
		if (!ok || !again)
			return ok;
	}
	if (c == '=' || c == ' ' || c == '\t' || c == '\r') {
		d->held[d->held_n++] = c;
		return true;
	}
	return gather_put(d, out, g, c);
}

static bool
qp_feed(struct transfer_decoder *d, struct slice in, struct buf *out)
{
	struct gather g = {.n = 0};

	for (size_t i = 0; i < in.n; i++)
		if (!qp_step(d, in.p[i], out, &g))
			return false;
	return give(d, out, g.p, g.n);
}

/* At the very end white space and "=" (a soft break) are nothing; half an escape is text. */
static bool
qp_end(struct transfer_decoder *d, struct buf *out)
{
	struct gather g = {.n = 0};
	bool escape = d->held_n > 1 && d->held[0] == '=' && hex_value(d->held[1]) != B64_BAD;

	if (escape)
		d->damaged = true;
	else
		d->held_n = 0;
	return qp_release(d, out, &g) && give(d, out, g.p, g.n);
}

/* ---- the decoder ---- */

bool
transfer_decode(struct transfer_decoder *d, struct slice in, struct buf *out)
{
	assert(d->held_n <= TRANSFER_QP_HELD_MAX);
	if (d->encoding == TRANSFER_BASE64)
		return base64_feed(d, in, out);
	if (d->encoding == TRANSFER_QUOTED_PRINTABLE)
		return qp_feed(d, in, out);
	return give(d, out, in.p, in.n);
}

bool
transfer_decode_end(struct transfer_decoder *d, struct buf *out)
{
	if (d->encoding == TRANSFER_QUOTED_PRINTABLE)
		return qp_end(d, out);
	if (d->encoding == TRANSFER_BASE64 && d->bits_count >= 6)
		d->damaged = true;
	return true;
}

/* ---- base64 for protocols (RFC 4648 4) ---- */

static void
base64_group(const uint8_t *in, size_t n, uint8_t *out)
{
	uint32_t v = (uint32_t)in[0] << 16;

	if (n > 1)
		v |= (uint32_t)in[1] << 8;
	if (n > 2)
		v |= in[2];
	out[0] = (uint8_t)base64_alphabet[v >> 18];
	out[1] = (uint8_t)base64_alphabet[v >> 12 & 63];
	out[2] = n > 1 ? (uint8_t)base64_alphabet[v >> 6 & 63] : '=';
	out[3] = n > 2 ? (uint8_t)base64_alphabet[v & 63] : '=';
}

/* ---- the encoder ---- */

#define LINE_CHARS 76

void
transfer_encoder_init(struct transfer_encoder *e, enum transfer_encoding encoding)
{
	*e = (struct transfer_encoder){.encoding = encoding};
}

static void
say(struct transfer_encoder *e, struct buf *out, const void *p, size_t n)
{
	e->octets += n;
	if (out != NULL)
		buf_put(out, p, n);
}

/* One octet as itself or as "=XX", behind a soft break when the line has no room: its last place is for that of a soft break. */
static void
qp_say(struct transfer_encoder *e, uint8_t c, bool plain, struct buf *out)
{
	static const char hex[] = "0123456789ABCDEF";
	const char escape[] = {'=', hex[c >> 4], hex[c & 15]};

	if (e->column + (plain ? 1 : 3) > LINE_CHARS - 1) {
		say(e, out, "=\r\n", 3);
		e->column = 0;
		e->broken = true;
	}
	if (plain && !(c == '-' && e->broken && e->column == 0)) {
		say(e, out, &c, 1);
		e->column++;
	} else {
		say(e, out, escape, sizeof escape);
		e->column = (uint8_t)(e->column + sizeof escape);
	}
}

/* What was held ends no line. */
static void
qp_flush(struct transfer_encoder *e, struct buf *out)
{
	for (unsigned i = 0; i < e->held_n; i++)
		qp_say(e, e->held[i], e->held[i] != '\r', out);
	e->held_n = 0;
}

static void
qp_line_end(struct transfer_encoder *e, struct buf *out)
{
	if (e->held_n > 1)
		qp_say(e, e->held[0], false, out);
	say(e, out, "\r\n", 2);
	e->held_n = 0;
	e->column = 0;
	e->broken = false;
}

static void
qp_put(struct transfer_encoder *e, uint8_t c, struct buf *out)
{
	bool space = c == ' ' || c == '\t';
	bool after_cr = e->held_n > 0 && e->held[e->held_n - 1] == '\r';

	if (after_cr && c == '\n') {
		qp_line_end(e, out);
		return;
	}
	if (c != '\r' || after_cr)
		qp_flush(e, out);
	if (space || c == '\r')
		e->held[e->held_n++] = c;
	else
		qp_say(e, c, c >= 33 && c <= 126 && c != '=', out);
}

static void
base64_put(struct transfer_encoder *e, const uint8_t *p, size_t n, struct buf *out)
{
	uint8_t group[4];

	if (e->column == LINE_CHARS) {
		say(e, out, "\r\n", 2);
		e->column = 0;
	}
	base64_group(p, n, group);
	say(e, out, group, sizeof group);
	e->column = (uint8_t)(e->column + sizeof group);
}

static void
base64_take(struct transfer_encoder *e, struct slice in, struct buf *out)
{
	size_t i = 0;

	while (e->held_n > 0 && i < in.n) {
		if (e->held_n == 2) {
			const uint8_t three[] = {e->held[0], e->held[1], in.p[i++]};

			e->held_n = 0;
			base64_put(e, three, sizeof three, out);
		} else {
			e->held[e->held_n++] = in.p[i++];
		}
	}
	for (; in.n - i >= 3; i += 3)
		base64_put(e, in.p + i, 3, out);
	while (i < in.n)
		e->held[e->held_n++] = in.p[i++];
}

bool
transfer_encode(struct transfer_encoder *e, struct slice in, struct buf *out)
{
	assert(e->held_n <= sizeof e->held);
	if (e->encoding == TRANSFER_BASE64)
		base64_take(e, in, out);
	else if (e->encoding != TRANSFER_QUOTED_PRINTABLE)
		say(e, out, in.p, in.n);
	for (size_t i = 0; e->encoding == TRANSFER_QUOTED_PRINTABLE && i < in.n; i++)
		qp_put(e, in.p[i], out);
	return out == NULL || !out->failed;
}

bool
transfer_encode_end(struct transfer_encoder *e, bool line_end, struct buf *out)
{
	bool qp = e->encoding == TRANSFER_QUOTED_PRINTABLE;

	if (qp && e->held_n == 1 && e->held[0] != '\r') {
		qp_say(e, e->held[0], false, out);
		e->held_n = 0;
	} else if (qp) {
		qp_flush(e, out);
	} else if (e->held_n > 0) {
		base64_put(e, e->held, e->held_n, out);
		e->held_n = 0;
	}
	if (line_end && e->column > 0)
		say(e, out, qp ? "=\r\n" : "\r\n", qp ? 3 : 2);
	return out == NULL || !out->failed;
}

bool
quoted_printable_encode(struct slice in, struct buf *out)
{
	struct transfer_encoder e;

	transfer_encoder_init(&e, TRANSFER_QUOTED_PRINTABLE);
	return transfer_encode(&e, in, out) && transfer_encode_end(&e, false, out);
}

bool
base64_encode(struct slice in, size_t line_chars, struct buf *out)
{
	uint8_t group[4];
	size_t column = 0;

	assert(line_chars % 4 == 0);
	for (size_t i = 0; i < in.n; i += 3) {
		base64_group(in.p + i, in.n - i, group);
		buf_put(out, group, sizeof group);
		column += sizeof group;
		if (line_chars != 0 && (column == line_chars || i + 3 >= in.n)) {
			buf_put(out, "\r\n", 2);
			column = 0;
		}
	}
	return !out->failed;
}

bool
base64_decode(struct slice in, struct buf *out)
{
	size_t pad = 0;

	if (in.n % 4 != 0)
		return false;
	while (pad < 2 && pad < in.n && in.p[in.n - 1 - pad] == '=')
		pad++;
	size_t n = in.n / 4 * 3 - pad;
	uint8_t *to = n ? buf_room(out, n) : NULL;
	uint32_t bits = 0;
	size_t done = 0;

	if (n > 0 && to == NULL)
		return false;
	for (size_t i = 0; i < in.n - pad; i++) {
		uint8_t v = base64_value(in.p[i]);

		if (v == B64_BAD)
			return false;
		bits = bits << 6 | v;
		if (i % 4 != 0) {
			to[done++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
			bits &= (1U << (6 - 2 * (i % 4))) - 1;
		}
	}
	if (bits != 0)
		return false;
	assert(done == n);
	buf_added(out, n);
	return true;
}
