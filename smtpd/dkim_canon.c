#include "smtpd/dkim_canon.h"

#include <assert.h>

/* ---- header fields ---- */

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static struct slice
without_line_end(struct slice s)
{
	while (s.n > 0 && (s.p[s.n - 1] == '\r' || s.p[s.n - 1] == '\n'))
		s.n--;
	return s;
}

/* 3.4.2: lower-case name, no white space around the colon, value unfolded with single spaces. */
static void
put_relaxed(struct slice field, struct buf *out)
{
	size_t colon = slice_index(field, ':');
	struct slice name = slice_trim(slice_sub(field, 0, colon));
	bool white = false, begun = false;

	for (size_t i = 0; i < name.n; i++)
		buf_put_u8(out, ascii_lower(name.p[i]));
	buf_put_u8(out, ':');
	for (size_t i = colon + 1; i < field.n; i++) {
		uint8_t c = field.p[i];

		if (c == '\r' || c == '\n')
			continue;
		if (is_blank(c)) {
			white = true;
			continue;
		}
		if (white && begun)
			buf_put_u8(out, ' ');
		white = false;
		begun = true;
		buf_put_u8(out, c);
	}
}

static void
put_field(struct slice field, bool relaxed, struct buf *out)
{
	if (relaxed)
		put_relaxed(field, out);
	else
		buf_put_slice(out, field);
}

void
dkim_canon_field(struct slice field, bool relaxed, struct buf *out)
{
	put_field(without_line_end(field), relaxed, out);
	buf_put_str(out, "\r\n");
}

/* Copies the field without the value of its b= tag. */
static void
empty_b(struct slice field, struct buf *out)
{
	size_t at = slice_index(field, ':') + 1;

	buf_put_slice(out, slice_sub(field, 0, at));
	while (at < field.n) {
		struct slice spec = slice_sub(field, at, field.n);
		size_t end = slice_index(spec, ';');
		size_t equals;

		spec = slice_sub(spec, 0, end);
		equals = slice_index(spec, '=');
		if (slice_eq(slice_trim(slice_sub(spec, 0, equals)), SLICE("b")))
			spec = slice_sub(spec, 0, equals + 1);
		buf_put_slice(out, spec);
		at += end;
		if (at < field.n)
			buf_put_u8(out, field.p[at++]);
	}
}

void
dkim_canon_own_field(struct slice field, bool relaxed, struct buf *out)
{
	struct buf own;

	buf_init(&own, field.n + 1);
	empty_b(without_line_end(field), &own);
	put_field(buf_slice(&own), relaxed, out);
	buf_fini(&own);
}

/* ---- bodies ---- */

void
dkim_body_init(struct dkim_body *b, bool relaxed)
{
	int ok;

	memset(b, 0, sizeof(*b));
	b->relaxed = relaxed;
	b->hash = EVP_MD_CTX_new();
	ok = b->hash != NULL && EVP_DigestInit_ex(b->hash, EVP_sha256(), NULL) == 1;
	assert(ok);
}

static void
flush(struct dkim_body *b)
{
	int ok = EVP_DigestUpdate(b->hash, b->block, b->n);

	assert(ok == 1);
	b->n = 0;
}

static void
put(struct dkim_body *b, uint8_t c)
{
	if (b->n == sizeof(b->block))
		flush(b);
	b->block[b->n++] = c;
	b->any = true;
}

static void
put_line_end(struct dkim_body *b)
{
	put(b, '\r');
	put(b, '\n');
}

/* An octet that ends no line. */
static void
octet(struct dkim_body *b, uint8_t c)
{
	if (b->relaxed && is_blank(c)) {
		b->white = true;
		return;
	}
	for (; b->blank_lines > 0; b->blank_lines--)
		put_line_end(b);
	if (b->white)
		put(b, ' ');
	b->white = false;
	b->line_begun = true;
	put(b, c);
}

/* White space at the end of a line does not count (relaxed), nor do empty lines unless something follows. */
static void
line_end(struct dkim_body *b)
{
	if (b->line_begun)
		put_line_end(b);
	else
		b->blank_lines++;
	b->line_begun = b->white = false;
}

/* How many octets from s's first on neither end a line nor are white space. */
static size_t
plain_run(struct slice s)
{
	size_t n = 0;

	while (n < s.n && s.p[n] != '\r' && !is_blank(s.p[n]))
		n++;
	return n;
}

/* Octets within a line that go in as they are: nearly all of a message, and many at a time. */
static void
put_run(struct dkim_body *b, struct slice s)
{
	while (s.n > 0) {
		size_t room = sizeof(b->block) - b->n, n = s.n < room ? s.n : room;

		memcpy(b->block + b->n, s.p, n);
		b->n += n;
		s = slice_sub(s, n, s.n);
		if (b->n == sizeof(b->block))
			flush(b);
	}
}

void
dkim_body_feed(struct dkim_body *b, struct slice chunk)
{
	for (size_t i = 0; i < chunk.n; i++) {
		size_t run = b->cr || !b->line_begun || b->white ? 0 : plain_run(slice_sub(chunk, i, chunk.n));

		put_run(b, slice_sub(chunk, i, i + run));
		i += run;
		if (i == chunk.n)
			return;
		uint8_t c = chunk.p[i];

		if (b->cr && c == '\n') {
			b->cr = false;
			line_end(b);
			continue;
		}
		if (b->cr)
			octet(b, '\r');
		b->cr = c == '\r';
		if (!b->cr)
			octet(b, c);
	}
}

void
dkim_body_end(struct dkim_body *b, uint8_t hash_r[32])
{
	unsigned n = 0;
	int ok;

	if (b->cr)
		octet(b, '\r');
	if (b->line_begun)
		line_end(b);
	/* 3.4.3: an empty body is one CRLF; 3.4.4: it is nothing. */
	if (!b->any && !b->relaxed)
		put_line_end(b);
	flush(b);
	ok = EVP_DigestFinal_ex(b->hash, hash_r, &n);
	assert(ok == 1 && n == 32);
}

void
dkim_body_fini(struct dkim_body *b)
{
	EVP_MD_CTX_free(b->hash);
	b->hash = NULL;
}
