/* The fields of RFC 3464 2.2 and 2.3, in the forms of RFC 6533 where addresses are not ASCII. */
#include "smtpd/dsn_private.h"

#include "common/charset.h"
#include "common/date.h"

#define VALUE_BYTES_MAX 8192

/* One value at a time is put together here. */
struct fields {
	const struct dsn_report *report;
	bool utf8;
	struct buf value;
	struct buf raw;
	struct buf *out;
};

static void
begin(struct fields *f, const char *type)
{
	buf_reset(&f->value);
	buf_put_str(&f->value, type);
}

static void
end(struct fields *f, const char *name)
{
	dsn_put_field(f->out, name, slice_trim(buf_slice(&f->value)));
}

static void
put_date(struct fields *f, const char *name, int64_t seconds)
{
	char text[DATE_RFC5322_SIZE];

	date_rfc5322_print((struct date_time){.seconds = seconds}, text);
	dsn_put_field(f->out, name, slice_str(text));
}

/* utf-8-addr-xtext of RFC 6533 3: the form that is ASCII. */
static void
put_embedded(struct buf *b, struct slice address)
{
	while (address.n > 0) {
		uint32_t cp;
		size_t n = utf8_next(address, &cp);
		bool plain = cp > 32 && cp < 127 && cp != '\\' && cp != '+' && cp != '=';
		if (plain)
			buf_put_u8(b, (uint8_t)cp);
		else
			buf_putf(b, "\\x{%02X}", (unsigned)cp);
		address = slice_sub(address, n, address.n);
	}
}

/* An address of SMTP: "rfc822" as long as it is ASCII. */
static void
put_address(struct fields *f, const char *name, struct slice address)
{
	struct slice safe;

	buf_reset(&f->raw);
	dsn_put_safe(&f->raw, address, true);
	safe = buf_slice(&f->raw);
	begin(f, slice_is_ascii(safe) ? "rfc822; " : "utf-8; ");
	if (slice_is_ascii(safe) || f->utf8)
		buf_put_slice(&f->value, safe);
	else
		put_embedded(&f->value, safe);
	end(f, name);
}

/* "\x{41}" at the beginning: its octets, or 0. */
static size_t
embedded_char(struct slice s, uint32_t *cp_r)
{
	size_t i = 3;

	*cp_r = 0;
	if (!slice_starts(s, SLICE("\\x{")))
		return 0;
	for (; i < s.n && i < 9 && s.p[i] != '}'; i++) {
		uint8_t c = ascii_lower(s.p[i]);
		if (!ascii_digit(c) && (c < 'a' || c > 'f'))
			return 0;
		*cp_r = *cp_r * 16 + (uint32_t)(ascii_digit(c) ? c - '0' : c - 'a' + 10);
	}
	return i > 4 && i < s.n && s.p[i] == '}' ? i + 1 : 0;
}

/* utf-8-enc-addr as UTF-8: what is embedded is written out. */
static void
put_unembedded(struct buf *b, struct slice s)
{
	for (size_t i = 0; i < s.n;) {
		uint32_t cp;
		size_t n = embedded_char(slice_sub(s, i, s.n), &cp);
		if (n > 0)
			utf8_put(b, cp);
		else
			buf_put_u8(b, s.p[i]);
		i += n > 0 ? n : 1;
	}
}

/*
 * ORCPT (RFC 3461 6.3 d). Its "utf-8" type is no xtext: in the UTF-8 form of the fields it is written out, in the other one all
 * of it is embedded.
 */
static void
put_original(struct fields *f, struct slice orcpt)
{
	struct slice address = orcpt;
	struct slice type;

	if (!slice_cut(&address, ';', &type) || address.p == NULL)
		return;
	begin(f, "");
	dsn_put_safe(&f->value, type, false);
	buf_put_str(&f->value, "; ");
	buf_reset(&f->raw);
	if (!slice_eq_nocase(type, SLICE("utf-8"))) {
		if (!smtp_xtext_decode(address, &f->raw)) {
			buf_reset(&f->raw);
			buf_put_slice(&f->raw, address);
		}
		dsn_put_safe(&f->value, buf_slice(&f->raw), f->utf8);
	} else if (f->utf8) {
		put_unembedded(&f->raw, address);
		dsn_put_safe(&f->value, buf_slice(&f->raw), true);
	} else if (slice_is_ascii(address)) {
		dsn_put_safe(&f->value, address, false);
	} else {
		put_unembedded(&f->raw, address);
		put_embedded(&f->value, buf_slice(&f->raw));
	}
	end(f, "Original-Recipient");
}

/* RFC 3461 9.3: the name, and the address in a comment. */
static void
put_remote(struct fields *f, struct slice mta)
{
	size_t at = slice_index(mta, '[');
	struct slice ip = slice_sub(mta, at + 1, mta.n > 0 ? mta.n - 1 : 0);

	begin(f, "dns; ");
	if (at > 0 && at + 2 < mta.n && mta.p[mta.n - 1] == ']' && slice_index(ip, ')') == ip.n && slice_index(ip, '(') == ip.n) {
		dsn_put_safe(&f->value, slice_sub(mta, 0, at), false);
		buf_put_str(&f->value, " (");
		dsn_put_safe(&f->value, ip, false);
		buf_put_u8(&f->value, ')');
	} else {
		dsn_put_safe(&f->value, mta, false);
	}
	end(f, "Remote-MTA");
}

/* A reply of SMTP begins with its code; anything else are words of ours. */
static bool
is_reply(struct slice text)
{
	return text.n >= 3 && text.p[0] >= '2' && text.p[0] <= '5' && ascii_digit(text.p[1]) && ascii_digit(text.p[2]) &&
	    (text.n == 3 || text.p[3] == ' ' || text.p[3] == '-');
}

static void
put_recipient(struct fields *f, const struct dsn_recipient *r)
{
	const struct dsn_report *report = f->report;

	buf_put_str(f->out, "\r\n");
	if (r->orcpt.n > 0)
		put_original(f, r->orcpt);
	put_address(f, "Final-Recipient", r->address);
	dsn_put_field(f->out, "Action", slice_str(dsn_action_name(r->action)));
	dsn_put_field(f->out, "Status", dsn_status_of(r));
	if (r->mta.n > 0)
		put_remote(f, r->mta);
	if (slice_trim(r->text).n > 0) {
		begin(f, r->mta.n > 0 && is_reply(r->text) ? "smtp; " : "x-mailstead; ");
		dsn_put_safe(&f->value, r->text, f->utf8);
		end(f, "Diagnostic-Code");
	}
	if (report->last_attempt != 0)
		put_date(f, "Last-Attempt-Date", report->last_attempt);
	if (r->action == DSN_DELAYED && report->until != 0)
		put_date(f, "Will-Retry-Until", report->until);
}

/* What the sender asked for (RFC 4865 5). */
static void
put_future_release(struct fields *f)
{
	char date[DATE_RFC3339_SIZE];

	if (f->report->release == 0)
		return;
	date_rfc3339_print(f->report->release, date);
	begin(f, "");
	if (f->report->hold_for > 0)
		buf_putf(&f->value, "for;%u", f->report->hold_for);
	else
		buf_putf(&f->value, "until;%s", date);
	end(f, "Future-Release-Request");
}

void
dsn_fields_write(const struct dsn_report *r, bool utf8, struct buf *b)
{
	struct fields f = {.report = r, .utf8 = utf8, .out = b};

	buf_init(&f.value, VALUE_BYTES_MAX);
	buf_init(&f.raw, VALUE_BYTES_MAX);
	if (r->envid.n > 0) {
		if (!smtp_xtext_decode(r->envid, &f.raw)) {
			buf_reset(&f.raw);
			buf_put_slice(&f.raw, r->envid);
		}
		begin(&f, "");
		dsn_put_safe(&f.value, buf_slice(&f.raw), false);
		end(&f, "Original-Envelope-Id");
	}
	begin(&f, "dns; ");
	dsn_put_safe(&f.value, r->hostname, false);
	end(&f, "Reporting-MTA");
	put_date(&f, "Arrival-Date", r->arrived);
	put_future_release(&f);
	for (uint32_t i = 0; i < r->count; i++)
		put_recipient(&f, &r->recipients[i]);
	buf_fini(&f.value);
	buf_fini(&f.raw);
}
