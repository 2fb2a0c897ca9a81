#include "smtpd/xclient.h"

#include "common/buf.h"
#include "smtpd/proxy_header.h"
#include "smtpd/smtp_grammar.h"

#include <string.h>

/* ---- values ---- */

static bool
keep(struct slice value, char to[XCLIENT_VALUE_BYTES_MAX + 1])
{
	return slice_cstr(value, to, XCLIENT_VALUE_BYTES_MAX + 1);
}

static bool
take_name(struct slice value, char to[XCLIENT_VALUE_BYTES_MAX + 1])
{
	return smtp_domain_valid(value, false) && keep(value, to);
}

/* Printable ASCII, as it will be in the time line and perhaps a trace field. */
static bool
take_login(struct slice value, char to[XCLIENT_VALUE_BYTES_MAX + 1])
{
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] < 32 || value.p[i] > 126)
			return false;
	return keep(value, to);
}

/* "192.0.2.1" or "IPV6:2001:db8::1" */
static bool
take_address(struct slice value, struct in6_addr *to)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6};
	bool v6 = slice_starts_nocase(value, SLICE("IPV6:"));

	if (!proxy_address_parse(slice_sub(value, v6 ? 5 : 0, value.n), v6, &a))
		return false;
	*to = a.sin6_addr;
	return true;
}

static bool
take_port(struct slice value, uint16_t *to)
{
	uint64_t port;

	if (!slice_u64(value, 65535, &port))
		return false;
	*to = (uint16_t)port;
	return true;
}

static bool
take_proto(struct slice value, bool *esmtp)
{
	*esmtp = slice_eq_nocase(value, SLICE("ESMTP"));
	return *esmtp || slice_eq_nocase(value, SLICE("SMTP"));
}

static bool
take_value(enum xclient_attribute a, struct slice value, struct xclient *x)
{
	switch (a) {
	case XCLIENT_NAME:
		return take_name(value, x->name);
	case XCLIENT_REVERSE_NAME:
		return take_name(value, x->reverse_name);
	case XCLIENT_ADDR:
		return take_address(value, &x->address);
	case XCLIENT_PORT:
		return take_port(value, &x->port);
	case XCLIENT_PROTO:
		return take_proto(value, &x->esmtp);
	case XCLIENT_HELO:
		return smtp_helo_valid_lax(value) && keep(value, x->helo);
	case XCLIENT_LOGIN:
		return take_login(value, x->login);
	case XCLIENT_DESTADDR:
		return take_address(value, &x->destination);
	case XCLIENT_DESTPORT:
		return take_port(value, &x->destination_port);
	default:
		return false;
	}
}

/* ---- attributes ---- */

static enum xclient_attribute
attribute_of(struct slice name)
{
	static const char *const names[XCLIENT_ATTRIBUTES] = {
	    [XCLIENT_NAME] = "NAME",
	    [XCLIENT_REVERSE_NAME] = "REVERSE_NAME",
	    [XCLIENT_ADDR] = "ADDR",
	    [XCLIENT_PORT] = "PORT",
	    [XCLIENT_PROTO] = "PROTO",
	    [XCLIENT_HELO] = "HELO",
	    [XCLIENT_LOGIN] = "LOGIN",
	    [XCLIENT_DESTADDR] = "DESTADDR",
	    [XCLIENT_DESTPORT] = "DESTPORT",
	};
	unsigned a = 0;

	while (a < XCLIENT_ATTRIBUTES && !slice_eq_nocase(name, slice_str(names[a])))
		a++;
	return (enum xclient_attribute)a;
}

static void
forget(enum xclient_attribute a, struct xclient *x)
{
	if (a == XCLIENT_NAME)
		x->name[0] = '\0';
	else if (a == XCLIENT_REVERSE_NAME)
		x->reverse_name[0] = '\0';
	else if (a == XCLIENT_HELO)
		x->helo[0] = '\0';
	else if (a == XCLIENT_LOGIN)
		x->login[0] = '\0';
}

static bool
take(enum xclient_attribute a, struct slice raw, struct xclient *x)
{
	struct buf value;
	bool good = true;

	buf_init(&value, XCLIENT_VALUE_BYTES_MAX);
	/* Before Postfix 2.3 it was no xtext, and what is none is taken so. */
	if (!smtp_xtext_decode(raw, &value)) {
		buf_reset(&value);
		buf_put_slice(&value, raw);
	}
	forget(a, x);
	if (slice_eq_nocase(buf_slice(&value), SLICE("[UNAVAILABLE]"))) {
		x->said[a] = XCLIENT_UNAVAILABLE;
	} else if (slice_eq_nocase(buf_slice(&value), SLICE("[TEMPUNAVAIL]"))) {
		x->said[a] = XCLIENT_TEMPORARY;
	} else {
		x->said[a] = XCLIENT_VALUE;
		good = take_value(a, buf_slice(&value), x);
	}
	buf_fini(&value);
	return good;
}

bool
xclient_parse(struct slice args, struct xclient *x)
{
	struct slice word, name;
	unsigned had = 0;

	while (slice_cut(&args, ' ', &word)) {
		enum xclient_attribute a;

		if (!slice_cut(&word, '=', &name) || word.n == 0 || word.n > XCLIENT_VALUE_BYTES_MAX)
			return false;
		a = attribute_of(name);
		if (a == XCLIENT_ATTRIBUTES || (had & 1u << a) || !take(a, word, x))
			return false;
		had |= 1u << a;
	}
	return had != 0;
}
