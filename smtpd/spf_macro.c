/*
 * The input has been checked by spf_macro_string_valid(): what would be an error
 * here was one there. Values come from outside and are put in as they are;
 * whoever uses the expansion as a name or as text for people checks it then.
 */
#include "smtpd/spf_macro.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>

/* More parts than a name has labels are never needed (RFC 7208 7.3 asks for 127). */
#define PARTS_MAX 128
#define VALUE_BYTES_MAX 2048

struct macro {
	uint8_t letter; /* lower case */
	bool escape;	/* the letter was upper case */
	unsigned digits; /* 0: not given */
	bool reverse;
	struct slice delimiters;
};

bool
spf_ip_is_v4(const uint8_t ip[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(ip, mapped, sizeof mapped) == 0;
}

/* "%{" letter digits "r" delimiters "}"; *i is at the letter and is moved behind the "}". */
static struct macro
read_macro(struct slice s, size_t *i)
{
	struct macro m = {.letter = ascii_lower(s.p[*i]), .escape = s.p[*i] < 'a'};
	size_t at = *i + 1, start;

	for (; at < s.n && ascii_digit(s.p[at]); at++)
		if (m.digits <= PARTS_MAX)
			m.digits = m.digits * 10 + (unsigned)(s.p[at] - '0');
	if (at < s.n && ascii_lower(s.p[at]) == 'r') {
		m.reverse = true;
		at++;
	}
	for (start = at; at < s.n && s.p[at] != '}'; at++)
		continue;
	m.delimiters = slice_sub(s, start, at);
	*i = at + 1;
	return m;
}

bool
spf_macro_uses(struct slice s, const char *letters)
{
	for (size_t i = 0; i + 2 < s.n; i++) {
		if (s.p[i] != '%')
			continue;
		i++;
		if (s.p[i] == '{' && s.p[i + 1] != '\0' &&
		    strchr(letters, ascii_lower(s.p[i + 1])) != NULL)
			return true;
	}
	return false;
}

/* "1.2.3.4", or 32 nibbles with dots (7.3). */
static void
put_dotted_ip(const uint8_t ip[16], struct buf *b)
{
	if (spf_ip_is_v4(ip)) {
		buf_putf(b, "%u.%u.%u.%u", ip[12], ip[13], ip[14], ip[15]);
		return;
	}
	for (int i = 0; i < 16; i++)
		buf_putf(b, "%s%X.%X", i ? "." : "", ip[i] >> 4, ip[i] & 15);
}

static void
put_readable_ip(const uint8_t ip[16], struct buf *b)
{
	char text[INET6_ADDRSTRLEN];

	if (spf_ip_is_v4(ip))
		inet_ntop(AF_INET, ip + 12, text, sizeof text);
	else
		inet_ntop(AF_INET6, ip, text, sizeof text);
	buf_put_str(b, text);
}

bool
spf_ip_arpa(const uint8_t ip[16], struct buf *out)
{
	if (spf_ip_is_v4(ip))
		return buf_putf(out, "%u.%u.%u.%u.in-addr.arpa", ip[15], ip[14], ip[13], ip[12]);
	for (int i = 15; i >= 0; i--)
		if (!buf_putf(out, "%x.%x.", ip[i] & 15, ip[i] >> 4))
			return false;
	return buf_put_str(out, "ip6.arpa");
}

static void
put_value(uint8_t letter, const struct spf_macro_values *v, struct buf *b)
{
	switch (letter) {
	case 's':
		buf_put_slice(b, v->local);
		buf_put_u8(b, '@');
		buf_put_slice(b, v->sender_domain);
		break;
	case 'l':
		buf_put_slice(b, v->local);
		break;
	case 'o':
		buf_put_slice(b, v->sender_domain);
		break;
	case 'd':
		buf_put_slice(b, v->domain);
		break;
	case 'i':
		put_dotted_ip(v->ip, b);
		break;
	case 'p':
		buf_put_slice(b, v->validated);
		break;
	case 'v':
		buf_put_str(b, spf_ip_is_v4(v->ip) ? "in-addr" : "ip6");
		break;
	case 'h':
		buf_put_slice(b, v->helo);
		break;
	case 'c':
		put_readable_ip(v->ip, b);
		break;
	case 'r':
		buf_put_slice(b, v->receiver);
		break;
	default:
		assert(letter == 't');
		buf_putf(b, "%" PRIu64, v->now);
	}
}

static bool
is_delimiter(const struct macro *m, uint8_t c)
{
	if (m->delimiters.n == 0)
		return c == '.';
	return slice_index(m->delimiters, c) < m->delimiters.n;
}

/* URL escaping of all but the unreserved characters (7.3, RFC 3986 2.3). */
static bool
put_part(struct slice part, bool escape, struct buf *out)
{
	if (!escape)
		return buf_put_slice(out, part);
	for (size_t i = 0; i < part.n; i++) {
		uint8_t c = part.p[i];
		bool plain = ascii_alpha(c) || ascii_digit(c) || c == '-' || c == '.' || c == '_' || c == '~';

		if (!(plain ? buf_put_u8(out, c) : buf_putf(out, "%%%02X", c)))
			return false;
	}
	return true;
}

/*
 * Splits at the delimiters, reverses, keeps the right-hand parts, joins with dots (7.3). Of more than PARTS_MAX
 * parts the middle ones past it stay together in one.
 */
static bool
put_transformed(struct slice value, const struct macro *m, struct buf *out)
{
	struct slice parts[PARTS_MAX];
	size_t n = 0, start = 0, from;

	for (size_t i = 0; i < value.n; i++)
		if (n < PARTS_MAX - 1 && is_delimiter(m, value.p[i])) {
			parts[n++] = slice_sub(value, start, i);
			start = i + 1;
		}
	parts[n++] = slice_sub(value, start, value.n);
	from = m->digits > 0 && m->digits < n ? n - m->digits : 0;
	for (size_t i = from; i < n; i++) {
		size_t at = m->reverse ? n - 1 - i : i;

		if ((i > from && !buf_put_u8(out, '.')) || !put_part(parts[at], m->escape, out))
			return false;
	}
	return true;
}

static bool
put_macro(const struct macro *m, const struct spf_macro_values *v, struct buf *out)
{
	struct buf value;
	bool ok;

	buf_init(&value, VALUE_BYTES_MAX);
	put_value(m->letter, v, &value);
	if (value.failed)
		ok = false;
	else if (m->digits == 0 && !m->reverse && m->delimiters.n == 0)
		ok = put_part(buf_slice(&value), m->escape, out);
	else
		ok = put_transformed(buf_slice(&value), m, out);
	buf_fini(&value);
	return ok;
}

bool
spf_macro_expand(struct slice s, const struct spf_macro_values *v, struct buf *out)
{
	bool ok = true;

	for (size_t i = 0; ok && i < s.n;) {
		if (s.p[i] != '%' || i + 1 >= s.n) {
			ok = buf_put_u8(out, s.p[i++]);
			continue;
		}
		uint8_t c = s.p[i + 1];

		i += 2;
		if (c == '{' && i < s.n) {
			struct macro m = read_macro(s, &i);

			ok = put_macro(&m, v, out);
		} else if (c == '_') {
			ok = buf_put_u8(out, ' ');
		} else if (c == '-') {
			ok = buf_put_str(out, "%20");
		} else {
			ok = buf_put_u8(out, c);
		}
	}
	return ok;
}
