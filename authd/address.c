/*
 * A local part is opaque to everyone but us (RFC 5321 2.3.11); here its ASCII
 * letters compare without case and its UTF-8 in NFC. Case folding beyond ASCII is not part of the normal
 * form, since it differs by language; a domain's rules may ask for it.
 */
#include "authd/address.h"

#include "common/buf.h"

#include <assert.h>
#include <idn2.h>
#include <utf8proc.h>

/* Octets of an address as it may come in, before NFC and punycode. */
#define INPUT_BYTES_MAX 320

/* LDH labels of 1 to 63 octets; the last one not all digits, so that no IPv4 address passes for a
 * name. */
static bool
domain_is_ldh(struct slice s)
{
	struct slice label = {NULL, 0};
	bool digits = false;

	if (s.n == 0 || s.n > ADDRESS_DOMAIN_BYTES_MAX)
		return false;
	for (size_t at = 0; at <= s.n; at += label.n + 1) {
		label = slice_sub(s, at, at + slice_index(slice_sub(s, at, s.n), '.'));
		if (label.n == 0 || label.n > 63 || label.p[0] == '-' ||
		    label.p[label.n - 1] == '-')
			return false;
		digits = true;
		for (size_t i = 0; i < label.n; i++) {
			if (!ascii_alpha(label.p[i]) && !ascii_digit(label.p[i]) &&
			    label.p[i] != '-')
				return false;
			digits = digits && ascii_digit(label.p[i]);
		}
	}
	return !digits;
}

static void
lower_in_place(char *s)
{
	for (; *s != '\0'; s++)
		*s = (char)ascii_lower((uint8_t)*s);
}

bool
address_domain(struct slice in, char out[ADDRESS_DOMAIN_BYTES_MAX + 1])
{
	char text[INPUT_BYTES_MAX + 1];
	uint8_t *ascii = NULL;
	bool ok;

	if (in.n > 0 && in.p[in.n - 1] == '.')
		in.n--;
	if (!slice_cstr(in, text, sizeof text) || text[0] == '\0')
		return false;
	if (slice_is_ascii(in)) {
		ok = slice_cstr(in, out, ADDRESS_DOMAIN_BYTES_MAX + 1);
	} else {
		ok = idn2_lookup_u8((const uint8_t *)text, &ascii,
			 IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL | IDN2_USE_STD3_ASCII_RULES) ==
			 IDN2_OK &&
		     slice_cstr(slice_str((const char *)ascii), out, ADDRESS_DOMAIN_BYTES_MAX + 1);
		idn2_free(ascii);
	}
	if (!ok || !domain_is_ldh(slice_str(out)))
		return false;
	lower_in_place(out);
	return true;
}

/* atext of RFC 5322 3.2.3, with UTF8-non-ascii (RFC 6532 3.2). */
static bool
octet_is_atext(uint8_t c)
{
	return ascii_alpha(c) || ascii_digit(c) || c >= 0x80 ||
	       (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* Dot-string = Atom *("."  Atom) */
bool
address_is_dot_string(struct slice s)
{
	bool after_dot = true;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '.' ? after_dot : !octet_is_atext(s.p[i]))
			return false;
		after_dot = s.p[i] == '.';
	}
	return !after_dot;
}

/* Quoted-string = DQUOTE *QcontentSMTP DQUOTE; appends what is meant. */
static bool
quoted_string_read(struct slice s, struct buf *out)
{
	if (s.n < 2 || s.p[0] != '"' || s.p[s.n - 1] != '"')
		return false;
	s = slice_sub(s, 1, s.n - 1);
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"' || (s.p[i] == '\\' && ++i == s.n))
			return false;
		if (s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
		(void)buf_put_u8(out, s.p[i]);
	}
	return !out->failed && out->n > 0;
}

/* To NFC and lower case; false for what is no UTF-8 or does not fit. */
static bool
local_normalise(struct slice in, char out[ADDRESS_LOCAL_BYTES_MAX + 1])
{
	utf8proc_uint8_t *nfc = NULL;
	utf8proc_ssize_t n;
	bool ok;

	if (slice_is_ascii(in)) {
		ok = slice_cstr(in, out, ADDRESS_LOCAL_BYTES_MAX + 1);
	} else {
		n = utf8proc_map(
		    in.p, (utf8proc_ssize_t)in.n, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
		ok = n > 0 &&
		     slice_cstr(slice_of(nfc, (size_t)n), out, ADDRESS_LOCAL_BYTES_MAX + 1);
		free(nfc);
	}
	if (ok)
		lower_in_place(out);
	return ok;
}

bool
address_local(struct slice in, char out[ADDRESS_LOCAL_BYTES_MAX + 1])
{
	struct buf text;
	bool ok;

	/* Each octet may be quoted, and NFC may shorten. */
	if (in.n == 0 || in.n > INPUT_BYTES_MAX)
		return false;
	if (address_is_dot_string(in))
		return local_normalise(in, out);
	buf_init(&text, INPUT_BYTES_MAX);
	ok = quoted_string_read(in, &text) && local_normalise(buf_slice(&text), out);
	buf_fini(&text);
	return ok;
}

/* Where the "@" before the domain is: a domain has none itself. */
static bool
address_cut(struct slice in, struct slice *local_r, struct slice *domain_r)
{
	size_t at = slice_rindex(in, '@');

	if (in.n > INPUT_BYTES_MAX || at == in.n)
		return false;
	*local_r = slice_sub(in, 0, at);
	*domain_r = slice_sub(in, at + 1, in.n);
	return true;
}

bool
address_parse(struct slice in, struct address_name *name_r)
{
	struct slice local, domain;

	return address_cut(in, &local, &domain) && address_local(local, name_r->local) &&
	       address_domain(domain, name_r->domain);
}

int
address_admin_parse(struct slice in, bool catch_all, struct address_name *name_r, struct err *e)
{
	struct slice local, domain;

	if (!address_cut(in, &local, &domain))
		return err_set(
		    e, ERR_PERM, ERR_CODE_BAD_NAME, "not an address: it must be NAME@DOMAIN", NULL);
	if (!address_domain(domain, name_r->domain))
		return err_set(
		    e, ERR_PERM, ERR_CODE_BAD_NAME, "not a domain name behind the @", NULL);
	if (local.n == 0 && catch_all) {
		name_r->local[0] = '\0';
		return 0;
	}
	if (!address_is_dot_string(local))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME,
		    "not a name before the @: letters, digits, dots between them and "
		    "!#$%&'*+-/=?^_`{|}~",
		    NULL);
	if (!local_normalise(local, name_r->local))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME,
		    "the name before the @ is too long (64 octets) or no UTF-8", NULL);
	return 0;
}

bool
address_split_detail(
    struct address_name *base, const struct address_name *whole, const char *separators, const char **detail_r)
{
	for (size_t at = strlen(base->local); at-- > 1;) {
		if (strchr(separators, base->local[at]) == NULL)
			continue;
		base->local[at] = '\0';
		*detail_r = whole->local + at + 1;
		return true;
	}
	return false;
}

bool
address_separators_good(struct slice separators)
{
	for (size_t i = 0; i < separators.n; i++) {
		uint8_t c = separators.p[i];

		if (c >= 0x80 || !octet_is_atext(c) || ascii_alpha(c) || ascii_digit(c) ||
		    memchr(separators.p, c, i) != NULL)
			return false;
	}
	return separators.n <= ADDRESS_SEPARATORS_MAX;
}

/* Unicode case folding, then NFC again. */
static bool
fold_letters(const char *in, char out[ADDRESS_LOCAL_BYTES_MAX + 1])
{
	utf8proc_uint8_t *text = NULL;
	utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)in, (utf8proc_ssize_t)strlen(in), &text,
	    UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);
	bool ok = n > 0 && slice_cstr(slice_of(text, (size_t)n), out, ADDRESS_LOCAL_BYTES_MAX + 1);

	free(text);
	return ok;
}

bool
address_fold(const char *local, const struct address_rules *rules, char out[ADDRESS_LOCAL_BYTES_MAX + 1])
{
	size_t n = 0;

	if (rules->fold_letters ? !fold_letters(local, out) : !slice_cstr(slice_str(local), out, ADDRESS_LOCAL_BYTES_MAX + 1))
		return false;
	for (const char *p = out; *p != '\0'; p++)
		if (!rules->dots_ignored || *p != '.')
			out[n++] = *p;
	out[n] = '\0';
	return n > 0;
}

void
address_print(const struct address_name *name, char *out)
{
	int n = snprintf(out, ADDRESS_BYTES_MAX + 1, "%s@%s", name->local, name->domain);

	assert(n > 0 && n <= ADDRESS_BYTES_MAX);
}

bool
address_is_role(const char *local)
{
	return strcmp(local, "postmaster") == 0 || strcmp(local, "abuse") == 0;
}
