/*
 * XCLIENT: a relay of the operator's, named in smtp.xclient_from, says for whom it speaks. Only the address and port are offered: they
 * count for limits, SPF, trace fields and the log from then on, and the session begins anew. What the client called itself comes with
 * its own EHLO. Port 25 only: nobody is logged in by it.
 */
#include "smtpd/front.h"
#include "smtpd/front_client.h"
#include "smtpd/proxy_header.h"

const struct smtp_reply_words *
smtpd_xclient_check(const struct front *f)
{
	static const struct smtp_reply_words denied = {550, "5.7.0", "XCLIENT is not for you"};

	return f->may_xclient ? NULL : &denied;
}

/* "192.0.2.1", "IPV6:2001:db8::1", or what says that it is not known: then the connection's own stays. */
static bool
take_address(struct slice value, struct client_address *a)
{
	struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = a->peer.sin6_port};
	bool v6 = slice_starts_nocase(value, SLICE("IPV6:"));

	if (slice_eq_nocase(value, SLICE("[UNAVAILABLE]")) || slice_eq_nocase(value, SLICE("[TEMPUNAVAIL]")))
		return true;
	if (!proxy_address_parse(slice_sub(value, v6 ? 5 : 0, value.n), v6, &peer))
		return false;
	a->peer = peer;
	proxy_address_print(&peer, a->text);
	return true;
}

static bool
take_port(struct slice value, struct client_address *a)
{
	uint64_t port;

	if (slice_eq_nocase(value, SLICE("[UNAVAILABLE]")) || slice_eq_nocase(value, SLICE("[TEMPUNAVAIL]")))
		return true;
	if (!slice_u64(value, 65535, &port))
		return false;
	a->peer.sin6_port = htons((uint16_t)port);
	return true;
}

/* attribute "=" value, separated by single spaces; each attribute at most once. */
static bool
take_attributes(struct slice args, struct client_address *a)
{
	bool has_address = false, has_port = false;
	struct slice word, name;

	while (slice_cut(&args, ' ', &word)) {
		bool *had;
		bool good;

		if (!slice_cut(&word, '=', &name) || word.p == NULL)
			return false;
		had = slice_eq_nocase(name, SLICE("ADDR")) ? &has_address : &has_port;
		if (had == &has_port && !slice_eq_nocase(name, SLICE("PORT")))
			return false;
		good = had == &has_address ? take_address(word, a) : take_port(word, a);
		if (*had || !good)
			return false;
		*had = true;
	}
	return has_address || has_port;
}

void
smtpd_xclient(struct front *f, struct slice args)
{
	struct client_address a = f->client;

	if (!take_attributes(args, &a)) {
		f->bad_commands++;
		smtpd_reply_words(f, smtp_syntax_reply(SMTP_SYNTAX_BAD_ARGS));
		return;
	}
	smtpd_trace(f, "xclient", LOG_CSTR("relay", f->client.text), LOG_CSTR("peer", a.text), LOG_NUM("port", ntohs(a.peer.sin6_port)),
	    LOG_END);
	if (!listener_moved(f->port->group, &f->client, &a)) {
		/* It counts nowhere any more. */
		f->uncounted = true;
		smtpd_close(f, "4.7.0", "Too many connections from your network");
		return;
	}
	f->client = a;
	client_check_free(&f->check);
	smtpd_client_begin(f);
	f->esmtp = false;
	f->helo[0] = '\0';
	smtpd_set_state(f, FRONT_STATE_HELO);
	smtpd_greeting(f);
}
