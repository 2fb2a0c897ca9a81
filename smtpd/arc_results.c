/*
 * Reading what a sealer says. The text is rewritten so that cutting at ";" and " " is right: comments become a space,
 * white space around "=" goes, and inside quoted strings what would cut becomes an octet that no word of ours has.
 */
#include "smtpd/arc_check.h"

#include "common/buf.h"

#define COMMENT_DEPTH_MAX 100
#define HIDDEN 0x01 /* stands for an octet that would cut */

/* A quoted string that begins at s->p[at]; returns where it ends. */
static size_t
put_quoted(struct slice s, size_t at, struct buf *out)
{
	for (at++; at < s.n && s.p[at] != '"'; at++) {
		uint8_t c = s.p[at];

		if (c == '\\' && at + 1 < s.n)
			c = s.p[++at];
		buf_put_u8(out, c <= ' ' || c == ';' || c == '=' ? HIDDEN : c);
	}
	/* Text whose quotes do not end says nothing. */
	out->failed |= at >= s.n;
	return at + 1;
}

/* A comment that begins at s->p[at]; returns where it ends. */
static size_t
skip_comment(struct slice s, size_t at)
{
	unsigned depth = 0;

	for (; at < s.n; at++) {
		if (s.p[at] == '\\')
			at++;
		else if (s.p[at] == '(' && ++depth > COMMENT_DEPTH_MAX)
			return s.n;
		else if (s.p[at] == ')' && --depth == 0)
			return at + 1;
	}
	return s.n;
}

static void
rewrite(struct slice s, struct buf *out)
{
	bool space = false;
	size_t at = 0;

	while (at < s.n) {
		uint8_t c = s.p[at];

		if (c == '(' || c <= ' ') {
			at = c == '(' ? skip_comment(s, at) : at + 1;
			space = true;
			continue;
		}
		/* A space that stands at "=", at ";" or at the start separates nothing. */
		if (space && c != '=' && c != ';' && out->n > 0 && out->p[out->n - 1] != '=' && out->p[out->n - 1] != ';')
			buf_put_u8(out, ' ');
		space = false;
		if (c == '"') {
			at = put_quoted(s, at, out);
		} else {
			buf_put_u8(out, c);
			at++;
		}
	}
}

/* One result: "method=result" and properties. */
static bool
says_pass(struct slice result, struct slice author)
{
	struct slice word, name;

	if (!slice_cut(&result, ' ', &word) || !slice_eq_nocase(word, SLICE("dmarc=pass")))
		return false;
	while (slice_cut(&result, ' ', &word))
		if (slice_cut(&word, '=', &name) && slice_eq_nocase(name, SLICE("header.from")) && slice_eq_nocase(word, author))
			return true;
	return false;
}

bool
arc_results_dmarc_pass(struct slice results, struct slice author)
{
	struct slice rest, result;
	struct buf text;
	bool pass = false;

	if (author.n == 0)
		return false;
	buf_init(&text, results.n * 2 + 1);
	rewrite(results, &text);
	rest = buf_slice(&text);
	/* The first is the authserv-id. */
	(void)slice_cut(&rest, ';', &result);
	while (!pass && !text.failed && slice_cut(&rest, ';', &result))
		pass = says_pass(result, author);
	buf_fini(&text);
	return pass;
}

void
arc_sealers_text(const struct arc_outcome *o, struct buf *out)
{
	for (unsigned i = 0; i < o->sealer_count; i++) {
		if (i > 0)
			buf_put_u8(out, ' ');
		buf_put_slice(out, o->sealers[i].domain);
		buf_put_str(out, o->sealers[i].dmarc_pass ? "+" : "");
	}
}
