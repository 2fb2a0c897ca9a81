/*
 * Names are checked after conversion, octet by octet: libidn2 refuses
 * disallowed characters (U+202E and its like) but passes "a_b" and other
 * ASCII through. Underscore stays allowed, since _dmarc, _domainkey and real
 * mail use it. What libidn2 does not need is not asked of it: a name that is
 * ASCII already is only lower-cased, so that names with a broken xn-- label
 * can still be looked up as they stand.
 */
#include "common/dns_name.h"

#include <idn2.h>

static bool
label_octet(uint8_t c)
{
	return ascii_alpha(c) || ascii_digit(c) || c == '-' || c == '_';
}

static bool
label_valid(struct slice label)
{
	if (label.n == 0 || label.n > DNS_LABEL_BYTES_MAX)
		return false;
	if (label.p[0] == '-' || label.p[label.n - 1] == '-')
		return false;
	for (size_t i = 0; i < label.n; i++)
		if (!label_octet(label.p[i]))
			return false;
	return true;
}

static struct slice
without_final_dot(struct slice name)
{
	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	return name;
}

/* Of a name in ASCII; one final dot is allowed. */
static bool
name_valid(struct slice name)
{
	struct slice label;

	name = without_final_dot(name);
	if (name.n == 0 || name.n > DNS_NAME_BYTES_MAX || name.p[name.n - 1] == '.')
		return false;
	while (slice_cut(&name, '.', &label))
		if (!label_valid(label))
			return false;
	return true;
}

static bool
put_lower(struct slice name, struct buf *out)
{
	uint8_t *to;

	if (!name_valid(name))
		return false;
	name = without_final_dot(name);
	to = buf_room(out, name.n);
	if (to == NULL)
		return false;
	for (size_t i = 0; i < name.n; i++)
		to[i] = ascii_lower(name.p[i]);
	buf_added(out, name.n);
	return true;
}

bool
dns_name_to_ascii(struct slice name, struct buf *out)
{
	/* A U-label is longer in UTF-8 than a label may be: 63 code points of 4 octets each. */
	char text[4 * DNS_NAME_BYTES_MAX + 1];
	uint8_t *ascii = NULL;
	bool ok;

	if (slice_is_ascii(name))
		return put_lower(name, out);
	if (slice_ends_nocase(name, SLICE("..")) || !slice_cstr(without_final_dot(name), text, sizeof text))
		return false;
	if (idn2_lookup_u8((const uint8_t *)text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) !=
	    IDN2_OK)
		return false;
	ok = put_lower(slice_str((const char *)ascii), out);
	idn2_free(ascii);
	return ok;
}

unsigned
dns_name_labels(struct slice name)
{
	unsigned n = name.n > 0;

	for (size_t i = 0; i < name.n; i++)
		n += name.p[i] == '.';
	return n;
}

bool
dns_name_within(struct slice name, struct slice parent)
{
	if (parent.n == 0 || name.n < parent.n || !slice_ends_nocase(name, parent))
		return false;
	return name.n == parent.n || name.p[name.n - parent.n - 1] == '.';
}
