/*
 * Each production of RFC 5321 4.1.2 has its function, named after it, on a
 * cursor of its own: `at` moves over what was taken and stays when the
 * production does not match. There is no recursion and every loop takes at
 * least one octet, so the cost is linear in the line, which the framer bounds.
 */
#include "smtpd/smtp_grammar.h"

#include "common/charset.h"
#include "common/date.h"

enum {
	C_ALPHA = 1,
	C_DIGIT = 2,
	C_HYPHEN = 4,
	C_ATEXT = 8,	 /* RFC 5322 3.2.3 */
	C_QTEXT = 16,	 /* %d32-33 / %d35-91 / %d93-126 */
	C_VALUE = 32,	 /* esmtp-value: %d33-60 / %d62-126 */
	C_DCONTENT = 64, /* %d33-90 / %d94-126 */
	C_HEX = 128,
};

static unsigned
class_of(uint8_t c)
{
	unsigned k = 0;

	if (ascii_alpha(c))
		k |= C_ALPHA | C_ATEXT;
	if (ascii_digit(c))
		k |= C_DIGIT | C_ATEXT;
	if (c == '-')
		k |= C_HYPHEN;
	if (c > 32 && c < 127 && memchr("!#$%&'*+-/=?^_`{|}~", c, 19) != NULL)
		k |= C_ATEXT;
	if (c >= 32 && c < 127 && c != '"' && c != '\\')
		k |= C_QTEXT;
	if (c > 32 && c < 127 && c != '=')
		k |= C_VALUE;
	if (c > 32 && c < 127 && c != '[' && c != '\\' && c != ']')
		k |= C_DCONTENT;
	if (ascii_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'f'))
		k |= C_HEX;
	return k;
}

struct scan {
	const uint8_t *at;
	const uint8_t *end;
	bool utf8;
};

static struct scan
scan_of(struct slice s, bool utf8)
{
	return (struct scan){s.p, s.p ? s.p + s.n : s.p, utf8};
}

static bool
scan_ended(const struct scan *s)
{
	return s->at == s->end;
}

static int
scan_peek(const struct scan *s)
{
	return scan_ended(s) ? -1 : *s->at;
}

static bool
scan_char(struct scan *s, uint8_t c)
{
	if (scan_peek(s) != c)
		return false;
	s->at++;
	return true;
}

/* Takes octets of the class (and, when UTF-8 is allowed, all over 127: checked as a whole later). */
static struct slice
scan_run(struct scan *s, unsigned class)
{
	const uint8_t *from = s->at;

	while (!scan_ended(s) && ((class_of(*s->at) & class) || (s->utf8 && *s->at > 127)))
		s->at++;
	return slice_of(from, (size_t)(s->at - from));
}

static struct slice
scan_since(const struct scan *s, const uint8_t *from)
{
	return slice_of(from, (size_t)(s->at - from));
}

static bool
has_non_ascii(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] > 127)
			return true;
	return false;
}

/* sub-domain = Let-dig [Ldh-str]; RFC 6531 3.3 adds U-label, whose length only IDNA can tell. */
static bool
scan_sub_domain(struct scan *s)
{
	struct slice label = scan_run(s, C_ALPHA | C_DIGIT | C_HYPHEN);

	return label.n > 0 && (label.n <= SMTP_LABEL_BYTES_MAX || has_non_ascii(label)) && label.p[0] != '-' &&
	    label.p[label.n - 1] != '-';
}

/* Domain = sub-domain *("." sub-domain) */
static bool
scan_domain(struct scan *s)
{
	const uint8_t *from = s->at;

	do {
		if (!scan_sub_domain(s))
			return false;
	} while (scan_char(s, '.'));
	return scan_since(s, from).n <= SMTP_DOMAIN_BYTES_MAX;
}

/* Snum = 1*3DIGIT, 0 to 255 */
static bool
scan_snum(struct scan *s)
{
	uint64_t value;
	struct slice digits = scan_run(s, C_DIGIT);

	return digits.n <= 3 && slice_u64(digits, 255, &value);
}

/* IPv4-address-literal = Snum 3("." Snum) */
static bool
scan_ipv4(struct scan *s)
{
	for (int i = 0; i < 4; i++)
		if ((i > 0 && !scan_char(s, '.')) || !scan_snum(s))
			return false;
	return true;
}

/* True when an IPv4 address follows rather than one more IPv6-hex. */
static bool
ipv4_follows(struct scan s)
{
	return scan_run(&s, C_DIGIT).n > 0 && scan_peek(&s) == '.';
}

/*
 * IPv6-addr = IPv6-full / IPv6-comp / IPv6v4-full / IPv6v4-comp. Counts 16-bit
 * groups, an IPv4 part as two: exactly 8 without "::", at most 6 with it (it
 * stands for two or more).
 */
static bool
scan_ipv6(struct scan *s)
{
	unsigned groups = 0;
	bool compressed = false;
	bool more = true;

	if (s->end - s->at >= 2 && s->at[0] == ':' && s->at[1] == ':') {
		s->at += 2;
		compressed = true;
		more = scan_peek(s) >= 0 && (class_of(*s->at) & C_HEX);
	}
	while (more) {
		if (ipv4_follows(*s)) {
			if (!scan_ipv4(s))
				return false;
			groups += 2;
			break;
		}
		struct slice hex = scan_run(s, C_HEX);
		if (hex.n == 0 || hex.n > 4 || ++groups > 8)
			return false;
		more = scan_char(s, ':');
		if (more && scan_peek(s) == ':') {
			if (compressed)
				return false;
			s->at++;
			compressed = true;
			more = scan_peek(s) >= 0 && (class_of(*s->at) & C_HEX);
		}
	}
	return compressed ? groups <= 6 : groups == 8;
}

/* General-address-literal = Standardized-tag ":" 1*dcontent */
static bool
scan_general(struct scan *s)
{
	struct slice tag = scan_run(s, C_ALPHA | C_DIGIT | C_HYPHEN);

	return tag.n > 0 && tag.p[tag.n - 1] != '-' && scan_char(s, ':') &&
	    scan_run(s, C_DCONTENT).n > 0;
}

/* address-literal = "[" ( IPv4 / "IPv6:" IPv6-addr / General-address-literal ) "]" */
static bool
scan_literal(struct scan *s)
{
	bool utf8 = s->utf8;
	bool good;

	if (!scan_char(s, '['))
		return false;
	s->utf8 = false;
	struct slice rest = slice_of(s->at, (size_t)(s->end - s->at));
	if (scan_peek(s) >= 0 && ascii_digit(*s->at) && ipv4_follows(*s)) {
		good = scan_ipv4(s);
	} else if (slice_starts_nocase(rest, SLICE("IPv6:"))) {
		s->at += 5;
		good = scan_ipv6(s);
	} else {
		good = scan_general(s);
	}
	s->utf8 = utf8;
	return good && scan_char(s, ']');
}

/* Dot-string = Atom *("." Atom) */
static bool
scan_dot_string(struct scan *s, struct slice *local_r)
{
	const uint8_t *from = s->at;

	do {
		if (scan_run(s, C_ATEXT).n == 0)
			return false;
	} while (scan_char(s, '.'));
	*local_r = scan_since(s, from);
	return true;
}

/* Quoted-string = DQUOTE *QcontentSMTP DQUOTE; gives it unquoted, in the arena. */
static bool
scan_quoted_string(struct scan *s, struct arena *a, struct slice *local_r)
{
	size_t left = (size_t)(s->end - s->at);
	uint8_t *out = arena_alloc(a, left);
	size_t n = 0;

	if (out == NULL || !scan_char(s, '"'))
		return false;
	while (!scan_ended(s) && *s->at != '"') {
		bool pair = scan_char(s, '\\');
		if (scan_ended(s))
			return false;
		uint8_t c = *s->at;
		/* quoted-pairSMTP = %d92 %d32-126 */
		bool ok = pair ? c >= 32 && c < 127 : (class_of(c) & C_QTEXT) || (s->utf8 && c > 127);
		if (!ok)
			return false;
		out[n++] = c;
		s->at++;
	}
	*local_r = slice_of(out, n);
	return scan_char(s, '"');
}

/* What a forwarder rewrote has all of another mailbox in it (authd/srs.h). Which is why those limits are minima (RFC 5321 4.5.3). */
static bool
local_too_long(struct slice local)
{
	return local.n > SMTP_LOCAL_BYTES_MAX && !slice_starts_nocase(local, SLICE("SRS0")) &&
	    !slice_starts_nocase(local, SLICE("SRS1"));
}

/* Mailbox = Local-part "@" ( Domain / address-literal ) */
static bool
scan_mailbox(struct scan *s, struct arena *a, struct smtp_path *path_r)
{
	const uint8_t *from = s->at;
	bool good = scan_peek(s) == '"' ? scan_quoted_string(s, a, &path_r->local)
					: scan_dot_string(s, &path_r->local);

	if (!good || local_too_long(path_r->local) || !scan_char(s, '@'))
		return false;
	const uint8_t *domain = s->at;
	path_r->literal = scan_peek(s) == '[';
	if (path_r->literal ? !scan_literal(s) : !scan_domain(s))
		return false;
	path_r->domain = scan_since(s, domain);
	return scan_since(s, from).n <= SMTP_MAILBOX_BYTES_MAX;
}

/* A-d-l = At-domain *( "," At-domain ), with the ":" after it; taken and forgotten. */
static bool
scan_route(struct scan *s)
{
	unsigned hosts = 0;

	do {
		if (++hosts > SMTP_ROUTE_HOSTS_MAX || !scan_char(s, '@') || !scan_domain(s))
			return false;
	} while (scan_char(s, ','));
	return scan_char(s, ':');
}

/* Path = "<" [ A-d-l ":" ] Mailbox ">" */
static bool
scan_path(struct scan *s, struct arena *a, struct smtp_path *path_r)
{
	if (!scan_char(s, '<'))
		return false;
	if (scan_peek(s) == '@' && !scan_route(s))
		return false;
	return scan_mailbox(s, a, path_r) && scan_char(s, '>');
}

/* The end of the path: nothing more, or parameters after SP. */
static bool
path_ends(const struct scan *s)
{
	return scan_ended(s) || *s->at == ' ';
}

struct param {
	struct slice keyword;
	struct slice value;
	bool has_value;
};

/* esmtp-param = esmtp-keyword ["=" esmtp-value] */
static bool
scan_param(struct scan *s, struct param *param_r)
{
	bool utf8 = s->utf8;

	s->utf8 = false;
	param_r->keyword = scan_run(s, C_ALPHA | C_DIGIT | C_HYPHEN);
	s->utf8 = utf8;
	param_r->has_value = scan_char(s, '=');
	param_r->value = param_r->has_value ? scan_run(s, C_VALUE) : slice_of(NULL, 0);
	return param_r->keyword.n > 0 && param_r->keyword.p[0] != '-' &&
	    (!param_r->has_value || param_r->value.n > 0) && path_ends(s);
}

/* *(SP esmtp-param) to the end of the line. More than one SP between them is tolerated. */
static bool
scan_params(struct scan *s, struct param *params, size_t *n_r)
{
	*n_r = 0;
	while (!scan_ended(s)) {
		while (scan_char(s, ' '))
			continue;
		if (*n_r == SMTP_PARAMS_MAX || !scan_param(s, &params[*n_r]))
			return false;
		for (size_t i = 0; i < *n_r; i++)
			if (slice_eq_nocase(params[i].keyword, params[*n_r].keyword))
				return false;
		++*n_r;
	}
	return true;
}

/* 1*DIGIT; a number over 64 bits is UINT64_MAX. */
static bool
octet_count(struct slice digits, uint64_t *count_r)
{
	for (size_t i = 0; i < digits.n; i++)
		if (!ascii_digit(digits.p[i]))
			return false;
	while (digits.n > 1 && digits.p[0] == '0')
		digits = slice_sub(digits, 1, digits.n);
	if (digits.n > 0 && !slice_u64(digits, UINT64_MAX, count_r))
		*count_r = UINT64_MAX;
	return digits.n > 0;
}

/* size-value = 1*20DIGIT (RFC 1870 3); a number over 64 bits is just too big a message. */
static bool
param_size(struct slice value, uint64_t *size_r)
{
	return value.n <= 20 && octet_count(value, size_r);
}

/* body-value = "7BIT" / "8BITMIME" (RFC 6152 2) / "BINARYMIME" (RFC 3030 3) */
static bool
param_body(struct slice value, bool binary, enum smtp_body *body_r)
{
	if (binary && slice_eq_nocase(value, SLICE("BINARYMIME"))) {
		*body_r = SMTP_BODY_BINARYMIME;
		return true;
	}
	if (slice_eq_nocase(value, SLICE("8BITMIME")))
		*body_r = SMTP_BODY_8BITMIME;
	else if (slice_eq_nocase(value, SLICE("7BIT")))
		*body_r = SMTP_BODY_7BIT;
	else
		return false;
	return true;
}

/* hexchar = "+" 2(%x30-39 / %x41-46) (RFC 3461 4) */
static bool
xtext_hexchar(struct slice at, uint8_t *octet_r)
{
	unsigned value = 0;

	for (size_t i = 1; i <= 2; i++) {
		if (at.n <= i || !(class_of(at.p[i]) & C_HEX) || at.p[i] >= 'a')
			return false;
		value = value * 16 + (unsigned)(ascii_digit(at.p[i]) ? at.p[i] - '0' : at.p[i] - 'A' + 10);
	}
	*octet_r = (uint8_t)value;
	return true;
}

bool
smtp_xtext_decode(struct slice xtext, struct buf *out)
{
	for (size_t i = 0; i < xtext.n; i++) {
		uint8_t octet = xtext.p[i];

		if (octet == '+') {
			if (!xtext_hexchar(slice_sub(xtext, i, xtext.n), &octet))
				return false;
			i += 2;
		} else if (octet < '!' || octet > '~' || octet == '=') {
			return false;
		}
		buf_put_u8(out, octet);
	}
	return !out->failed;
}

/* xtext = *( xchar / hexchar ), at least one here; printable: what it stands for is of ASCII 32 to 126 (RFC 3461 4.2, 4.4). */
static bool
param_xtext(struct slice value, bool printable)
{
	for (size_t i = 0; i < value.n; i++) {
		uint8_t octet = value.p[i];
		if (octet == '+') {
			if (!xtext_hexchar(slice_sub(value, i, value.n), &octet))
				return false;
			i += 2;
		}
		if (printable && (octet < 32 || octet > 126))
			return false;
	}
	return value.n > 0;
}

/* EmbeddedUnicodeChar = "\x{" HEXPOINT "}" (RFC 6533 3): a code point that may not stand there as itself. Its length, or 0. */
static size_t
embedded_char(struct slice at)
{
	uint32_t value = 0;
	size_t i = 3;

	if (!slice_starts(at, SLICE("\\x{")))
		return 0;
	for (; i < at.n && i < 9 && (class_of(at.p[i]) & C_HEX) && at.p[i] < 'a'; i++)
		value = value * 16 + (uint32_t)(ascii_digit(at.p[i]) ? at.p[i] - '0' : at.p[i] - 'A' + 10);
	bool special = value < 32 || value == ' ' || value == '+' || value == '=' || value == '\\' || value == 127;
	bool good = i >= 5 && i < at.n && at.p[i] == '}' && value != 0 && value <= 0x10ffff && (special || value > 127) &&
	    (value < 0xd800 || value > 0xdfff) && (i == 5 || at.p[3] != '0');

	return good ? i + 1 : 0;
}

/* utf-8-enc-addr (RFC 6533 3); UTF-8 itself only where SMTPUTF8 was asked for. */
static bool
orcpt_utf8(struct slice value, bool utf8)
{
	for (size_t i = 0; i < value.n; i++) {
		size_t n = embedded_char(slice_sub(value, i, value.n));
		if (n > 0)
			i += n - 1;
		else if (value.p[i] == '\\' || value.p[i] == '+' || (value.p[i] > 126 && !utf8))
			return false;
	}
	return value.n > 0 && utf8_valid(value);
}

/* ORCPT = addr-type ";" xtext, addr-type an atom (RFC 3461 4.2). */
static bool
param_orcpt(struct slice value, bool utf8)
{
	struct slice type;
	struct scan s = scan_of(value, false);

	type = scan_run(&s, C_ATEXT);
	if (value.n > SMTP_ORCPT_CHARS_MAX || type.n == 0 || !scan_char(&s, ';'))
		return false;
	struct slice address = slice_of(s.at, (size_t)(s.end - s.at));
	return slice_eq_nocase(type, SLICE("utf-8")) ? orcpt_utf8(address, utf8) : param_xtext(address, true);
}

/* NOTIFY = "NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" ) (RFC 3461 4.1) */
static bool
param_notify(struct slice value, unsigned *notify_r)
{
	static const struct {
		const char *word;
		unsigned bit;
	} words[] = {{"SUCCESS", SMTP_NOTIFY_SUCCESS}, {"FAILURE", SMTP_NOTIFY_FAILURE}, {"DELAY", SMTP_NOTIFY_DELAY}};
	struct slice word;

	*notify_r = 0;
	if (slice_eq_nocase(value, SLICE("NEVER"))) {
		*notify_r = SMTP_NOTIFY_NEVER;
		return true;
	}
	while (slice_cut(&value, ',', &word)) {
		unsigned bit = 0;
		for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
			if (slice_eq_nocase(word, slice_str(words[i].word)))
				bit = words[i].bit;
		if (bit == 0)
			return false;
		*notify_r |= bit;
	}
	return *notify_r != 0;
}

static bool
param_ret(struct slice value, enum smtp_ret *ret_r)
{
	*ret_r = slice_eq_nocase(value, SLICE("FULL")) ? SMTP_RET_FULL : SMTP_RET_HDRS;
	return *ret_r == SMTP_RET_FULL || slice_eq_nocase(value, SLICE("HDRS"));
}

/* future-release-integer, nine digits that do not begin with 0 (RFC 4865 3) */
static bool
param_hold_for(const struct param *p, struct smtp_mail *mail)
{
	uint64_t seconds;

	if (!p->has_value || p->value.n == 0 || p->value.p[0] == '0' || !slice_u64(p->value, SMTP_HOLD_FOR_MAX, &seconds))
		return false;
	mail->hold_for = (uint32_t)seconds;
	return mail->hold_until == 0;
}

/* date-time of RFC 3339 5.6 (RFC 4865 3, with its erratum) */
static bool
param_hold_until(const struct param *p, struct smtp_mail *mail)
{
	return p->has_value && date_time_parse(p->value, &mail->hold_until) && mail->hold_until > 0 && mail->hold_for == 0;
}

/* priority-value = (["-"] NZDIGIT) / "0" (RFC 6710 7) */
static bool
param_priority(const struct param *p, int8_t *priority_r)
{
	bool negative = p->has_value && p->value.n == 2 && p->value.p[0] == '-';
	struct slice digit = slice_sub(p->value, negative ? 1 : 0, p->value.n);

	if (!p->has_value || digit.n != 1 || !ascii_digit(digit.p[0]) || (negative && digit.p[0] == '0'))
		return false;
	*priority_r = (int8_t)(negative ? '0' - digit.p[0] : digit.p[0] - '0');
	return true;
}

static enum smtp_syntax
mail_param(const struct param *p, const struct smtp_offered *offered, struct smtp_mail *mail)
{
	bool good;

	if (offered->size && slice_eq_nocase(p->keyword, SLICE("SIZE"))) {
		mail->has_size = true;
		good = p->has_value && param_size(p->value, &mail->size);
	} else if (offered->eightbit && slice_eq_nocase(p->keyword, SLICE("BODY"))) {
		good = p->has_value && param_body(p->value, offered->binary, &mail->body);
	} else if (offered->smtputf8 && slice_eq_nocase(p->keyword, SLICE("SMTPUTF8"))) {
		mail->smtputf8 = true;
		good = !p->has_value;
	} else if (offered->requiretls && slice_eq_nocase(p->keyword, SLICE("REQUIRETLS"))) {
		mail->requiretls = true;
		good = !p->has_value;
	} else if (offered->auth && slice_eq_nocase(p->keyword, SLICE("AUTH"))) {
		mail->has_auth = true;
		good = p->has_value && param_xtext(p->value, false);
	} else if (offered->dsn && slice_eq_nocase(p->keyword, SLICE("RET"))) {
		good = param_ret(p->value, &mail->ret);
	} else if (offered->dsn && slice_eq_nocase(p->keyword, SLICE("ENVID"))) {
		mail->envid = p->value;
		good = p->value.n <= SMTP_ENVID_CHARS_MAX && param_xtext(p->value, true);
	} else if (offered->future_release && slice_eq_nocase(p->keyword, SLICE("HOLDFOR"))) {
		good = param_hold_for(p, mail);
	} else if (offered->future_release && slice_eq_nocase(p->keyword, SLICE("HOLDUNTIL"))) {
		good = param_hold_until(p, mail);
	} else if (offered->priority && slice_eq_nocase(p->keyword, SLICE("MT-PRIORITY"))) {
		good = param_priority(p, &mail->priority);
	} else {
		return SMTP_SYNTAX_UNKNOWN_PARAM;
	}
	return good ? SMTP_SYNTAX_OK : SMTP_SYNTAX_BAD_PARAM;
}

static enum smtp_syntax
rcpt_param(const struct param *p, const struct smtp_offered *offered, bool utf8, struct smtp_rcpt *rcpt)
{
	bool good;

	if (offered->dsn && slice_eq_nocase(p->keyword, SLICE("NOTIFY"))) {
		good = param_notify(p->value, &rcpt->notify);
	} else if (offered->dsn && slice_eq_nocase(p->keyword, SLICE("ORCPT"))) {
		rcpt->orcpt = p->value;
		good = param_orcpt(p->value, utf8);
	} else {
		return SMTP_SYNTAX_UNKNOWN_PARAM;
	}
	return good ? SMTP_SYNTAX_OK : SMTP_SYNTAX_BAD_PARAM;
}

/*
 * Finds the parameters behind the path with UTF-8 let through, so that SMTPUTF8 is
 * known before the path is judged: it may come after the address that needs it.
 */
static enum smtp_syntax
parse_reverse_path(struct scan *s, struct arena *a, struct smtp_mail *mail)
{
	if (s->end - s->at >= 2 && s->at[0] == '<' && s->at[1] == '>') {
		s->at += 2;
		mail->path.null = true;
	} else if (!scan_path(s, a, &mail->path)) {
		return SMTP_SYNTAX_BAD_SENDER;
	}
	return path_ends(s) ? SMTP_SYNTAX_OK : SMTP_SYNTAX_BAD_SENDER;
}

enum smtp_syntax
smtp_mail_parse(struct slice args, const struct smtp_offered *offered, struct arena *a,
    struct smtp_mail *mail_r)
{
	struct param params[SMTP_PARAMS_MAX];
	size_t n;
	struct scan s;
	enum smtp_syntax syntax;

	*mail_r = (struct smtp_mail){0};
	if (!slice_starts_nocase(args, SLICE("FROM:")))
		return SMTP_SYNTAX_BAD_ARGS;
	s = scan_of(slice_sub(args, 5, args.n), true);
	syntax = parse_reverse_path(&s, a, mail_r);
	if (syntax != SMTP_SYNTAX_OK)
		return syntax;
	s.utf8 = false;
	if (!scan_params(&s, params, &n))
		return SMTP_SYNTAX_BAD_PARAM;
	for (size_t i = 0; i < n; i++) {
		syntax = mail_param(&params[i], offered, mail_r);
		if (syntax != SMTP_SYNTAX_OK)
			return syntax;
	}
	if (!mail_r->smtputf8 && has_non_ascii(args))
		return SMTP_SYNTAX_NON_ASCII_SENDER;
	return utf8_valid(args) ? SMTP_SYNTAX_OK : SMTP_SYNTAX_BAD_SENDER;
}

/* Forward-path = Path; "<Postmaster>" needs no domain (RFC 5321 4.1.1.3). */
static enum smtp_syntax
parse_forward_path(struct scan *s, struct arena *a, struct smtp_path *path)
{
	struct slice rest = slice_of(s->at, (size_t)(s->end - s->at));

	if (slice_starts_nocase(rest, SLICE("<Postmaster>"))) {
		path->postmaster = true;
		path->local = slice_sub(rest, 1, 11);
		s->at += 12;
	} else if (!scan_path(s, a, path)) {
		return SMTP_SYNTAX_BAD_RECIPIENT;
	}
	return path_ends(s) ? SMTP_SYNTAX_OK : SMTP_SYNTAX_BAD_RECIPIENT;
}

enum smtp_syntax
smtp_rcpt_parse(struct slice args, const struct smtp_offered *offered, bool utf8, struct arena *a, struct smtp_rcpt *rcpt_r)
{
	struct param params[SMTP_PARAMS_MAX];
	enum smtp_syntax syntax;
	size_t n;
	struct scan s;

	*rcpt_r = (struct smtp_rcpt){0};
	if (!slice_starts_nocase(args, SLICE("TO:")))
		return SMTP_SYNTAX_BAD_ARGS;
	args = slice_sub(args, 3, args.n);
	s = scan_of(args, true);
	syntax = parse_forward_path(&s, a, &rcpt_r->path);
	if (syntax != SMTP_SYNTAX_OK)
		return syntax;
	s.utf8 = utf8; /* ORCPT=utf-8;... (RFC 6533 3) */
	if (!scan_params(&s, params, &n))
		return !utf8 && has_non_ascii(args) ? SMTP_SYNTAX_NON_ASCII : SMTP_SYNTAX_BAD_PARAM;
	for (size_t i = 0; i < n; i++) {
		syntax = rcpt_param(&params[i], offered, utf8, rcpt_r);
		if (syntax != SMTP_SYNTAX_OK)
			return syntax;
	}
	if (!utf8 && has_non_ascii(args))
		return SMTP_SYNTAX_NON_ASCII;
	return utf8_valid(args) ? SMTP_SYNTAX_OK : SMTP_SYNTAX_BAD_RECIPIENT;
}

enum smtp_syntax
smtp_bdat_parse(struct slice args, uint64_t *bytes_r, bool *last_r)
{
	struct slice size = {0};

	if (!slice_cut(&args, ' ', &size) || !octet_count(size, bytes_r))
		return SMTP_SYNTAX_BAD_ARGS;
	*last_r = args.p != NULL;
	return !*last_r || slice_eq_nocase(args, SLICE("LAST")) ? SMTP_SYNTAX_OK : SMTP_SYNTAX_BAD_ARGS;
}

const char *
smtp_body_name(enum smtp_body b)
{
	static const char *const names[] = {
	    [SMTP_BODY_7BIT] = "7bit", [SMTP_BODY_8BITMIME] = "8bitmime", [SMTP_BODY_BINARYMIME] = "binarymime"};

	return names[b];
}

bool
smtp_command_split(struct slice line, struct slice *verb_r, struct slice *args_r)
{
	while (line.n > 0 && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t'))
		line.n--;
	struct scan s = scan_of(line, false);
	*verb_r = scan_run(&s, C_ALPHA);
	*args_r = slice_of(NULL, 0);
	if (verb_r->n == 0)
		return false;
	if (scan_ended(&s))
		return true;
	if (!scan_char(&s, ' '))
		return false;
	while (scan_char(&s, ' '))
		continue;
	*args_r = slice_of(s.at, (size_t)(s.end - s.at));
	return true;
}

bool
smtp_domain_valid(struct slice domain, bool utf8)
{
	struct scan s = scan_of(domain, utf8);

	return scan_domain(&s) && scan_ended(&s) && (!utf8 || utf8_valid(domain));
}

bool
smtp_literal_valid(struct slice literal)
{
	struct scan s = scan_of(literal, false);

	return literal.n <= SMTP_DOMAIN_BYTES_MAX && scan_literal(&s) && scan_ended(&s);
}

bool
smtp_helo_valid(struct slice args)
{
	return smtp_domain_valid(args, false) || smtp_literal_valid(args);
}

bool
smtp_helo_valid_lax(struct slice args)
{
	for (size_t i = 0; i < args.n; i++)
		if (args.p[i] <= 32 || args.p[i] >= 127)
			return false;
	return args.n > 0 && args.n <= SMTP_DOMAIN_BYTES_MAX;
}

bool
smtp_mailbox_parse(struct slice text, bool utf8, struct arena *a, struct smtp_path *path_r)
{
	struct scan s = scan_of(text, utf8);

	*path_r = (struct smtp_path){0};
	return scan_mailbox(&s, a, path_r) && scan_ended(&s) && utf8_valid(text);
}

/* True when the local part is a Dot-string as it stands. */
static bool
local_is_dot_string(struct slice local)
{
	struct slice taken;
	struct scan s = scan_of(local, true);

	return scan_dot_string(&s, &taken) && scan_ended(&s);
}

bool
smtp_path_print(const struct smtp_path *path, struct buf *out)
{
	if (path->null)
		return true;
	if (path->postmaster)
		return buf_put_str(out, "postmaster");
	if (local_is_dot_string(path->local)) {
		buf_put_slice(out, path->local);
	} else {
		buf_put_u8(out, '"');
		for (size_t i = 0; i < path->local.n; i++) {
			if (path->local.p[i] == '"' || path->local.p[i] == '\\')
				buf_put_u8(out, '\\');
			buf_put_u8(out, path->local.p[i]);
		}
		buf_put_u8(out, '"');
	}
	buf_put_u8(out, '@');
	for (size_t i = 0; i < path->domain.n; i++)
		buf_put_u8(out, ascii_lower(path->domain.p[i]));
	return !out->failed;
}

const struct smtp_reply_words *
smtp_syntax_reply(enum smtp_syntax s)
{
	static const struct smtp_reply_words words[] = {
	    [SMTP_SYNTAX_OK] = {250, "2.0.0", "OK"},
	    [SMTP_SYNTAX_BAD_ARGS] = {501, "5.5.4", "Syntax error in the arguments"},
	    [SMTP_SYNTAX_BAD_SENDER] = {501, "5.1.7", "Bad sender address syntax"},
	    [SMTP_SYNTAX_BAD_RECIPIENT] = {501, "5.1.3", "Bad recipient address syntax"},
	    [SMTP_SYNTAX_BAD_PARAM] = {501, "5.5.4", "Bad parameter value"},
	    [SMTP_SYNTAX_UNKNOWN_PARAM] = {555, "5.5.4", "Parameter not recognized or not implemented"},
	    [SMTP_SYNTAX_NON_ASCII_SENDER] = {550, "5.6.7", "Internationalized addresses need SMTPUTF8"},
	    [SMTP_SYNTAX_NON_ASCII] = {553, "5.6.7", "Internationalized addresses need SMTPUTF8"},
	};

	return &words[s];
}
