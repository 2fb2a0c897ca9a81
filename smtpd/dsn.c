/*
 * The message is made of parts that are each ASCII, unless the report's way takes more: then they may have octets over 127, as
 * the original has them. Three things stand for a part: its type, its encoding, its octets.
 *
 *   text             quoted-printable as soon as it is not ASCII (a subject, a reply)
 *   fields           message/delivery-status; message/global-delivery-status where UTF-8 occurs and may
 *   returned header  text/rfc822-headers; message/global-headers when it is UTF-8. As quoted-printable where 8 bits may not be
 *   returned message message/rfc822, message/global; not where 8 bits may not be: nothing but its header then
 */
#include "smtpd/dsn.h"

#include "common/charset.h"
#include "common/date.h"
#include "common/rfc5322.h"
#include "common/transfer.h"
#include "smtpd/dsn_private.h"
#include "smtpd/dsn_words.h"

#include <assert.h>

#define TEXT_BYTES_MAX (256u * 1024)
#define BOUNDARY_CHARS_MAX 70 /* RFC 2046 5.1.1 */
#define BOUNDARY_TRIES_MAX 100
#define LINE_OCTETS_MAX 998 /* RFC 5322 2.1.1 */

/* ---- what both texts use ---- */

const char *
dsn_action_name(enum dsn_action a)
{
	static const char *const names[] = {
	    [DSN_NONE] = "none",
	    [DSN_FAILED] = "failed",
	    [DSN_DELAYED] = "delayed",
	    [DSN_DELIVERED] = "delivered",
	    [DSN_RELAYED] = "relayed",
	    [DSN_EXPANDED] = "expanded",
	};

	assert((unsigned)a <= DSN_ACTION_LAST);
	return names[a];
}

struct slice
dsn_status_of(const struct dsn_recipient *r)
{
	uint8_t class = dsn_status_valid(r->status) ? r->status.p[0] : '0';

	if (r->action == DSN_FAILED)
		return class == '4' || class == '5' ? r->status : SLICE("5.0.0");
	if (r->action == DSN_DELAYED)
		return class == '4' ? r->status : SLICE("4.0.0");
	return class == '2' ? r->status : SLICE("2.0.0");
}

/* Controls, and what moves text about or hides it (Unicode's Cf as far as it concerns direction; separators of lines). */
static bool
is_unsafe(uint32_t cp)
{
	return cp < 32 || (cp >= 127 && cp < 160) || cp == 0x61c || cp == 0x200e || cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) ||
	    (cp >= 0x2066 && cp <= 0x2069) || cp == 0xfeff || cp == 0xfffd;
}

void
dsn_put_safe(struct buf *b, struct slice s, bool utf8)
{
	while (s.n > 0) {
		uint32_t cp;
		size_t n = utf8_next(s, &cp);
		if (cp == '\t' || cp == '\r' || cp == '\n')
			buf_put_u8(b, ' ');
		else if (is_unsafe(cp) || (!utf8 && cp > 127))
			buf_put_u8(b, '?');
		else
			buf_put(b, s.p, n);
		s = slice_sub(s, n, s.n);
	}
}

/* The next word with the spaces before it: a fold may come before a space that something else follows. */
static struct slice
next_word(struct slice *rest)
{
	struct slice s = *rest;
	size_t n = 0;

	while (n < s.n && s.p[n] == ' ')
		n++;
	while (n < s.n && s.p[n] != ' ')
		n++;
	*rest = slice_sub(s, n, s.n);
	return slice_sub(s, 0, n);
}

void
dsn_put_field(struct buf *b, const char *name, struct slice value)
{
	size_t column = strlen(name) + 2;
	bool first = true;

	buf_put_str(b, name);
	buf_put_str(b, ": ");
	value = slice_trim(value);
	while (value.n > 0) {
		struct slice word = utf8_cut(next_word(&value), DSN_TOKEN_BYTES_MAX);
		if (!first && column + word.n > DSN_LINE_CHARS) {
			buf_put_str(b, "\r\n");
			column = 0;
		}
		buf_put_slice(b, word);
		column += word.n;
		first = false;
	}
	buf_put_str(b, "\r\n");
}

void
dsn_put_wrapped(struct buf *b, unsigned indent, struct slice text)
{
	size_t column = 0;

	text = slice_trim(text);
	while (text.n > 0) {
		struct slice word = utf8_cut(slice_trim(next_word(&text)), DSN_TOKEN_BYTES_MAX);
		if (column > 0 && column + 1 + word.n > DSN_LINE_CHARS) {
			buf_put_str(b, "\r\n");
			column = 0;
		}
		if (column == 0)
			buf_putf(b, "%*s", (int)indent, "");
		else
			buf_put_u8(b, ' ');
		buf_put_slice(b, word);
		column += (column == 0 ? indent : 1) + word.n;
	}
	buf_put_str(b, "\r\n");
}

/* ---- the original ---- */

struct returned {
	struct slice octets;
	const char *type;
};

static bool
line_ends(struct slice s, size_t i)
{
	return s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n';
}

/* Sane as text: lines of CRLF and of a length that mail has, no NUL (RFC 5322 2.3). */
static bool
is_text(struct slice s)
{
	size_t line = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (line_ends(s, i)) {
			line = 0;
			i++;
		} else if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0' || ++line > LINE_OCTETS_MAX) {
			return false;
		}
	}
	return true;
}

/* A field with what is no text made safe. */
static void
put_original_field(struct buf *b, struct slice raw)
{
	size_t line = 0;

	if (is_text(raw) && raw.n > 2 && line_ends(raw, raw.n - 2)) {
		buf_put_slice(b, raw);
		return;
	}
	for (size_t i = 0; i < raw.n; i++) {
		bool folds = i + 1 < raw.n && (raw.p[i + 1] == ' ' || raw.p[i + 1] == '\t');
		if (raw.p[i] == '\n' && folds) {
			buf_put_str(b, "\r\n");
			line = 0;
		} else if (raw.p[i] == '\r' || raw.p[i] == '\n') {
			continue;
		} else if (++line <= DSN_TOKEN_BYTES_MAX) {
			buf_put_u8(b, raw.p[i] != '\0' ? raw.p[i] : '?');
		}
	}
	buf_put_str(b, "\r\n");
}

/* The header's fields, as many whole ones as fit. Return-Path is not the sender's: a delivery writes it (RFC 5321 4.4). */
static void
copy_header(struct slice original, struct buf *b)
{
	struct header_iter it;
	struct header_field f;
	struct slice block = slice_sub(original, 0, header_block_length(original));
	bool cut = block.n == original.n;

	header_iter_init(&it, block);
	while (header_next(&it, &f)) {
		/* The last one may go on behind what there is at hand. */
		if ((cut && it.rest.n == 0) || b->n + f.raw.n + 2 > DSN_HEADER_BYTES_MAX)
			return;
		if (f.name.n > 0 && !slice_eq_nocase(f.name, SLICE("Return-Path")))
			put_original_field(b, f.raw);
	}
}

static bool
any_failed(const struct dsn_report *r)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (r->recipients[i].action == DSN_FAILED)
			return true;
	return false;
}

/* RFC 3461 4.3, 6.2 */
static bool
may_return_all(const struct dsn_report *r, bool may_eightbit)
{
	return r->ret == SMTP_RET_FULL && !r->requiretls && any_failed(r) && r->original_whole && r->original.n <= DSN_FULL_BYTES_MAX &&
	    is_text(r->original) && (may_eightbit || slice_is_ascii(r->original));
}

/* header: the fields as copied. */
static struct returned
returned_of(const struct dsn_report *r, struct slice header, bool may_eightbit)
{
	bool utf8 = !slice_is_ascii(header) && utf8_valid(header);

	if (may_return_all(r, may_eightbit))
		return (struct returned){r->original, utf8 ? "message/global" : "message/rfc822"};
	return (struct returned){header, utf8 ? "message/global-headers" : "text/rfc822-headers"};
}

/* ---- the message ---- */

struct writer {
	const struct dsn_report *report;
	struct buf *out;
	char boundary[BOUNDARY_CHARS_MAX + 1];
	bool eightbit;
};

/* One that does not occur in the original. False when there is none: nobody can have known the report's id when it was written. */
static bool
choose_boundary(struct writer *w, struct slice original)
{
	for (unsigned i = 0; i < BOUNDARY_TRIES_MAX; i++) {
		int n = snprintf(w->boundary, sizeof(w->boundary), "report-%.*s-%u", SLICE_ARG(w->report->id), i);
		if (n > 0 && (size_t)n < sizeof(w->boundary) && slice_find(original, slice_str(w->boundary)) == original.n)
			return true;
	}
	return false;
}

static void
put_part(struct writer *w, const char *type, const char *charset, struct slice content, bool may_eightbit)
{
	bool ascii = slice_is_ascii(content);

	buf_putf(w->out, "\r\n--%s\r\nContent-Type: %s%s\r\n", w->boundary, type, charset);
	if (!ascii)
		buf_putf(w->out, "Content-Transfer-Encoding: %s\r\n", may_eightbit ? "8bit" : "quoted-printable");
	buf_put_str(w->out, "\r\n");
	if (ascii || may_eightbit)
		buf_put_slice(w->out, content);
	else
		quoted_printable_encode(content, w->out);
	w->eightbit |= !ascii && may_eightbit;
}

/* What it is about, in the words of put_news(). The address only where it may stand as it is. */
static void
put_subject(struct writer *w, bool utf8)
{
	static const char *const words[] = {
	    [DSN_FAILED] = "Not delivered: ",
	    [DSN_DELAYED] = "Not delivered yet: ",
	    [DSN_DELIVERED] = "Delivered: ",
	    [DSN_RELAYED] = "Passed on: ",
	    [DSN_EXPANDED] = "Passed on: ",
	};
	const struct dsn_report *r = w->report;
	enum dsn_action first = DSN_ACTION_LAST;
	struct buf b;

	for (uint32_t i = 0; i < r->count; i++)
		if (r->recipients[i].action < first)
			first = r->recipients[i].action;
	buf_init(&b, SMTP_MAILBOX_BYTES_MAX * 4);
	buf_put_str(&b, words[first]);
	if (r->count == 1 && (utf8 || slice_is_ascii(r->recipients[0].address)))
		dsn_put_safe(&b, slice_sub(r->recipients[0].address, 0, SMTP_MAILBOX_BYTES_MAX), utf8);
	else
		buf_putf(&b, r->count == 1 ? "your message to one address" : "your message to %u addresses", r->count);
	dsn_put_field(w->out, "Subject", buf_slice(&b));
	buf_fini(&b);
}

/* The original's Message-ID, so that the report stands beside it in a mailbox (RFC 5322 3.6.4, RFC 3834 3.1.5). */
static void
put_references(struct writer *w, struct slice header, struct arena *a)
{
	struct header_field f;
	struct msgid_list ids;
	struct buf b;

	if (!header_find(header, SLICE("Message-ID"), &f))
		return;
	msgid_list_parse(f.value, 1, a, &ids);
	if (ids.n == 0 || ids.v[0].n > DSN_TOKEN_BYTES_MAX - 2)
		return;
	for (size_t i = 0; i < ids.v[0].n; i++)
		if (ids.v[0].p[i] < 33 || ids.v[0].p[i] > 126)
			return;
	buf_init(&b, DSN_TOKEN_BYTES_MAX);
	buf_putf(&b, "<%.*s>", SLICE_ARG(ids.v[0]));
	dsn_put_field(w->out, "In-Reply-To", buf_slice(&b));
	dsn_put_field(w->out, "References", buf_slice(&b));
	buf_fini(&b);
}

static void
put_header(struct writer *w, struct slice to, bool utf8, bool global, struct slice original_header, struct arena *a)
{
	const struct dsn_report *r = w->report;
	char date[DATE_RFC5322_SIZE];

	date_rfc5322_print((struct date_time){.seconds = r->now}, date);
	buf_putf(w->out, "Date: %s\r\n", date);
	buf_putf(w->out, "From: Mail server <%.*s>\r\n", SLICE_ARG(r->postmaster));
	buf_putf(w->out, "To: <%.*s>\r\n", SLICE_ARG(to));
	put_subject(w, utf8);
	buf_putf(w->out, "Message-ID: <%.*s@%.*s>\r\n", SLICE_ARG(r->id), SLICE_ARG(r->hostname));
	put_references(w, original_header, a);
	buf_put_str(w->out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
	buf_putf(w->out, "Content-Type: multipart/report; report-type=%sdelivery-status;\r\n\tboundary=\"%s\"\r\n", global ? "global-" : "",
	    w->boundary);
}

/* The four things that the message is put together from. */
static bool
write_all(const struct dsn_report *r, struct slice to, struct arena *a, struct buf *text, struct buf *fields, struct buf *header,
    struct writer *w)
{
	bool utf8 = !slice_is_ascii(to);
	bool may_eightbit = r->eightbit || utf8;
	struct returned back;
	bool global;

	copy_header(r->original, header);
	dsn_text_write(r, buf_slice(header), a, text);
	dsn_fields_write(r, may_eightbit, fields);
	global = !slice_is_ascii(buf_slice(fields));
	back = returned_of(r, buf_slice(header), may_eightbit);
	if (text->failed || fields->failed || header->failed || !choose_boundary(w, back.octets))
		return false;
	put_header(w, to, utf8, global, buf_slice(header), a);
	put_part(w, "text/plain", slice_is_ascii(buf_slice(text)) ? "; charset=us-ascii" : "; charset=utf-8", buf_slice(text), false);
	put_part(w, global ? "message/global-delivery-status" : "message/delivery-status", "", buf_slice(fields), true);
	put_part(w, back.type, "", back.octets, may_eightbit);
	buf_putf(w->out, "\r\n--%s--\r\n", w->boundary);
	return !w->out->failed;
}

/* An address in the form in which it may stand in a field. */
static bool
print_address(struct slice address, struct arena *a, struct buf *b)
{
	struct smtp_path path;

	return smtp_mailbox_parse(address, true, a, &path) && smtp_path_print(&path, b);
}

bool
dsn_write(const struct dsn_report *r, struct arena *a, struct buf *out, bool *utf8_r, bool *eightbit_r)
{
	struct writer w = {.report = r, .out = out};
	struct buf to, text, fields, header;
	bool good;

	assert(r->count > 0);
	buf_init(&to, SMTP_MAILBOX_BYTES_MAX * 2);
	buf_init(&text, TEXT_BYTES_MAX);
	buf_init(&fields, DSN_BYTES_MAX / 2);
	buf_init(&header, DSN_HEADER_BYTES_MAX * 2);
	good = print_address(r->mail_from, a, &to) && write_all(r, buf_slice(&to), a, &text, &fields, &header, &w);
	*utf8_r = !slice_is_ascii(buf_slice(&to));
	*eightbit_r = *utf8_r || w.eightbit;
	buf_fini(&to);
	buf_fini(&text);
	buf_fini(&fields);
	buf_fini(&header);
	return good;
}
