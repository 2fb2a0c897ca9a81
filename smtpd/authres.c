/*
 * Writing: a field is a row of words; each goes on the line that has room for it,
 * or begins a new one. Words are made of our own text and of values; every value passes
 * put_value(), which leaves it as it is only when all its octets may stand outside quotes. So no
 * value can end the field, begin another, or look like one of our own words.
 *
 * Reading: only the authserv-id matters. When in doubt the field is taken for ours, since
 * what we remove is worth less than a result that readers would believe.
 */
#include "smtpd/authres.h"

#include "common/charset.h"
#include "common/dns_name.h"
#include "smtpd/facts.h"
#include "smtpd/received.h"

#define LINE_OCTETS 78
#define WORD_BYTES_MAX 2048
#define COMMENT_DEPTH_MAX 100

struct writer {
	struct buf *out;
	size_t column;
	bool smtputf8;
	struct buf word;
};

/* ---- words ---- */

static void
put_word(struct writer *w, bool new_line)
{
	if (w->word.failed) {
		w->out->failed = true;
		return;
	}
	if (new_line || w->column + 1 + w->word.n > LINE_OCTETS) {
		buf_put_str(w->out, "\r\n\t");
		w->column = 8;
	} else {
		buf_put_u8(w->out, ' ');
		w->column++;
	}
	buf_put_slice(w->out, buf_slice(&w->word));
	w->column += w->word.n;
	buf_reset(&w->word);
}

/* token of RFC 2045 5.1, and "@" between non-empty or after an empty local part (pvalue of RFC 8601 2.2). */
static bool
is_plain(struct slice s)
{
	unsigned at = 0;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c <= 0x20 || c >= 0x7f || strchr("()<>,;:\\\"/[]?=", c) != NULL)
			return false;
		at += c == '@';
	}
	return s.n > 0 && at <= 1 && s.p[s.n - 1] != '@';
}

static void
put_value(struct writer *w, struct slice s)
{
	bool utf8 = w->smtputf8 && utf8_valid(s);

	if (is_plain(s)) {
		buf_put_slice(&w->word, s);
		return;
	}
	buf_put_u8(&w->word, '"');
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c == '"' || c == '\\')
			buf_put_u8(&w->word, '\\');
		buf_put_u8(&w->word, c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8) ? '?' : c);
	}
	buf_put_u8(&w->word, '"');
}

/* method=result, on a line of its own. */
static void
put_method(struct writer *w, const char *method, const char *result)
{
	buf_put_str(w->out, ";");
	buf_putf(&w->word, "%s=%s", method, result);
	put_word(w, true);
}

static void
put_property(struct writer *w, const char *name, struct slice value)
{
	if (value.n == 0)
		return;
	buf_putf(&w->word, "%s=", name);
	put_value(w, value);
	put_word(w, false);
}

static void
put_reason(struct writer *w, struct slice text)
{
	if (text.n == 0)
		return;
	buf_put_str(&w->word, "reason=");
	put_value(w, text);
	put_word(w, false);
}

/* ---- results ---- */

static void
put_spf(struct writer *w, const struct verdict_spf *s, const char *property)
{
	put_method(w, "spf", spf_result_name(s->result));
	if (s->result != SPF_RESULT_NONE)
		put_reason(w, s->mechanism);
	put_property(w, property, s->domain);
}

static void
put_dkim(struct writer *w, const struct dkim_signature *s)
{
	put_method(w, "dkim", dkim_result_name(s->result));
	if (s->testing) {
		buf_put_str(&w->word, "(key is for tests)");
		put_word(w, false);
	}
	put_reason(w, s->reason);
	put_property(w, "header.d", s->domain);
	put_property(w, "header.s", s->selector);
	put_property(w, "header.a", s->algorithm);
	put_property(w, "header.i", s->identity);
	put_property(w, "header.b", s->b_prefix);
}

static void
put_dkim_all(struct writer *w, const struct verdict *v)
{
	if (v->dkim_count == 0)
		put_method(w, "dkim", "none");
	for (uint16_t i = 0; i < v->dkim_count; i++)
		put_dkim(w, &v->dkim[i]);
	if (v->dkim_skipped > 0) {
		put_method(w, "dkim", "neutral");
		put_reason(w, SLICE("there are more signatures than are verified"));
	}
}

/* RFC 8617 10.2. A chain whose key could not be had has not passed. */
static void
put_arc(struct writer *w, const struct arc_outcome *o)
{
	if (o->result == ARC_RESULT_NONE)
		return;
	put_method(w, "arc", arc_result_name(o->result == ARC_RESULT_TEMPERROR ? ARC_RESULT_FAIL : o->result));
	buf_putf(&w->word, "(i=%u)", o->sets);
	put_word(w, false);
	put_reason(w, o->reason);
	if (o->result != ARC_RESULT_PASS)
		return;
	buf_putf(&w->word, "header.oldest-pass=%u", o->oldest_pass);
	put_word(w, false);
	put_property(w, "header.d", o->sealer_count > 0 ? o->sealers[0].domain : SLICE(""));
}

static void
put_dmarc(struct writer *w, const struct verdict_dmarc *d)
{
	bool has_policy = d->policy_domain.n > 0 &&
	    (d->result == DMARC_RESULT_PASS || d->result == DMARC_RESULT_FAIL);

	put_method(w, "dmarc", dmarc_result_name(d->result));
	if (has_policy) {
		buf_putf(&w->word, "(p=%s%s)", dmarc_policy_name(d->published), d->testing ? " t=y" : "");
		put_word(w, false);
	}
	put_reason(w, d->reason);
	put_property(w, "header.from", d->author);
	if (has_policy)
		put_property(w, "policy.dmarc", slice_str(dmarc_policy_name(d->policy)));
}

/* RFC 8601 2.7.3. */
static void
put_iprev(struct writer *w, const struct facts *f)
{
	char ip[46];

	if (f->iprev == CLIENT_IPREV_NONE)
		return;
	received_ip_text(f->client_ip, ip);
	put_method(w, "iprev", client_iprev_name(f->iprev));
	/* An IPv6 address is no token. */
	put_property(w, "policy.iprev", slice_str(ip));
	if (f->client_name.n > 0) {
		buf_put_str(&w->word, "(");
		buf_put_slice(&w->word, f->client_name);
		buf_put_str(&w->word, ")");
		put_word(w, false);
	}
}

bool
authres_render(const struct facts *f, const struct verdict *v, struct buf *b)
{
	struct writer w = {.out = b, .smtputf8 = f->smtputf8};

	buf_init(&w.word, WORD_BYTES_MAX);
	buf_put_str(b, "Authentication-Results:");
	w.column = 23;
	put_value(&w, f->authserv_id);
	put_word(&w, false);
	put_iprev(&w, f);
	if (f->mail_from.n > 0)
		put_spf(&w, &v->mail_from, "smtp.mailfrom");
	put_spf(&w, &v->helo, "smtp.helo");
	put_dkim_all(&w, v);
	put_arc(&w, &v->arc);
	put_dmarc(&w, &v->dmarc);
	buf_put_str(b, "\r\n");
	buf_fini(&w.word);
	return !b->failed;
}

/* ---- whose field is it? ---- */

/* Skips CFWS (RFC 5322 3.2.2). False for a comment that does not end or nests too deep. */
static bool
skip_cfws(struct slice *s)
{
	unsigned depth = 0;
	size_t i = 0;

	for (; i < s->n; i++) {
		uint8_t c = s->p[i];

		if (c == '(') {
			if (++depth > COMMENT_DEPTH_MAX)
				return false;
		} else if (depth > 0) {
			if (c == '\\')
				i++;
			else if (c == ')')
				depth--;
		} else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
			break;
		}
	}
	*s = slice_sub(*s, i, s->n);
	return depth == 0;
}

/* The content of the quoted string that s begins with, without folding and escapes. */
static bool
take_quoted(struct slice *s, struct buf *id)
{
	for (size_t i = 1; i < s->n; i++) {
		uint8_t c = s->p[i];

		if (c == '"') {
			*s = slice_sub(*s, i + 1, s->n);
			return true;
		}
		if (c == '\\' && i + 1 < s->n)
			c = s->p[++i];
		if (c != '\r' && c != '\n' && !buf_put_u8(id, c))
			return false;
	}
	return false;
}

/* An atom: everything up to white space or a special of the field's grammar. */
static bool
take_atom(struct slice *s, struct buf *id)
{
	size_t n = 0;

	while (n < s->n && s->p[n] != '\0' && strchr(" \t\r\n();\"\\=/,", s->p[n]) == NULL)
		n++;
	if (n == 0 || !buf_put(id, s->p, n))
		return false;
	*s = slice_sub(*s, n, s->n);
	return true;
}

/* True when what follows the identifier leaves no doubt that it has ended there. */
static bool
ends_clearly(struct slice rest)
{
	bool spaced = rest.n > 0 && (rest.p[0] == ' ' || rest.p[0] == '\t' || rest.p[0] == '\r' ||
					rest.p[0] == '\n' || rest.p[0] == '(');

	if (!skip_cfws(&rest))
		return false;
	if (rest.n == 0 || rest.p[0] == ';' || rest.p[0] == '=')
		return true;
	return spaced && (ascii_alpha(rest.p[0]) || ascii_digit(rest.p[0]));
}

static bool
same_id(struct slice id, struct slice ours)
{
	struct buf a, b;
	bool same;

	if (id.n > 0 && id.p[id.n - 1] == '.')
		id.n--;
	if (slice_eq_nocase(id, ours))
		return true;
	buf_init(&a, DNS_NAME_BYTES_MAX);
	buf_init(&b, DNS_NAME_BYTES_MAX);
	same = dns_name_to_ascii(id, &a) && dns_name_to_ascii(ours, &b) && slice_eq(buf_slice(&a), buf_slice(&b));
	buf_fini(&a);
	buf_fini(&b);
	return same;
}

bool
authres_claims(struct slice field_name, struct slice field_value, struct slice authserv_id)
{
	struct slice rest = field_value;
	struct buf id;
	bool claims = true;

	if (!slice_eq_nocase(field_name, SLICE("Authentication-Results")))
		return false;
	buf_init(&id, FACTS_TEXT_BYTES_MAX);
	if (skip_cfws(&rest) && rest.n > 0 &&
	    (rest.p[0] == '"' ? take_quoted(&rest, &id) : take_atom(&rest, &id)))
		claims = same_id(slice_trim(buf_slice(&id)), authserv_id) || !ends_clearly(rest);
	buf_fini(&id);
	return claims;
}
