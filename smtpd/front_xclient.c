/*
 * XCLIENT: a relay of the operator's, named in smtp.xclient_from, says for whom it speaks. Address and port count for limits, SPF, trace
 * fields and the log from then on, and the session begins anew. A name takes the place of our own look-up (iprev); what the client
 * greeted with (HELO, PROTO) that of the relay's EHLO, for SPF, policy and trace fields; a login and the address that the client
 * connected to are recorded. Port 25 only, and nobody is logged in by it: who somebody is only authd says.
 *
 * What is said in several commands before the next EHLO is of one client, the last word on an attribute counts; the first XCLIENT
 * after an EHLO begins with nothing but the address so far. A name that comes without an address is that address's. STARTTLS forgets all of
 * it (RFC 3207 4.2): it came in clear, from anybody between the relay and us.
 */
#include "smtpd/front.h"

#include "common/mem.h"
#include "smtpd/front_client.h"
#include "smtpd/proxy_header.h"

#include <stdlib.h>

const struct smtp_reply_words *
smtpd_xclient_check(const struct front *f)
{
	static const struct smtp_reply_words denied = {550, "5.7.0", "XCLIENT is not for you"};

	return f->may_xclient ? NULL : &denied;
}

/* ---- what counts of it ---- */

void
smtpd_xclient_names(const struct front *f, struct client_query *q)
{
	const struct xclient *x = f->told;

	switch (x ? x->said[XCLIENT_NAME] : XCLIENT_NOTHING) {
	case XCLIENT_VALUE:
		q->iprev = CLIENT_IPREV_PASS;
		q->name = slice_str(x->name);
		break;
	case XCLIENT_TEMPORARY:
		q->iprev = CLIENT_IPREV_TEMPERROR;
		break;
	case XCLIENT_UNAVAILABLE:
		q->iprev = x->said[XCLIENT_REVERSE_NAME] == XCLIENT_VALUE ? CLIENT_IPREV_FAIL : CLIENT_IPREV_PERMERROR;
		break;
	default:
		break;
	}
}

void
smtpd_xclient_helo(struct front *f)
{
	_Static_assert(sizeof(f->helo) >= sizeof(f->told->helo), "a HELO that was told fits");

	f->telling = false;
	if (f->told && f->told->said[XCLIENT_HELO] == XCLIENT_VALUE)
		memcpy(f->helo, f->told->helo, sizeof(f->told->helo));
}

bool
smtpd_xclient_esmtp(const struct front *f)
{
	return f->told && f->told->said[XCLIENT_PROTO] == XCLIENT_VALUE ? f->told->esmtp : f->esmtp;
}

/* ---- the command ---- */

/* What is not known leaves the connection its own. */
static void
move(const struct xclient *x, struct client_address *a)
{
	if (x->said[XCLIENT_ADDR] == XCLIENT_VALUE) {
		a->peer.sin6_addr = x->address;
		proxy_address_print(&a->peer, a->text);
	}
	if (x->said[XCLIENT_PORT] == XCLIENT_VALUE)
		a->peer.sin6_port = htons(x->port);
	if (x->said[XCLIENT_DESTADDR] == XCLIENT_VALUE) {
		a->local.sin6_addr = x->destination;
		proxy_address_print(&a->local, a->local_text);
	}
	if (x->said[XCLIENT_DESTPORT] == XCLIENT_VALUE)
		a->local.sin6_port = htons(x->destination_port);
}

static void
trace(struct front *f, const struct xclient *x, const struct client_address *a)
{
	const char *proto = x->said[XCLIENT_PROTO] != XCLIENT_VALUE ? "" : x->esmtp ? "ESMTP" : "SMTP";

	smtpd_trace(f, "xclient", LOG_CSTR("relay", f->client.text), LOG_CSTR("peer", a->text), LOG_NUM("port", ntohs(a->peer.sin6_port)),
	    LOG_CSTR("local", a->local_text), LOG_NUM("local_port", ntohs(a->local.sin6_port)), LOG_CSTR("name", x->name),
	    LOG_CSTR("reverse_name", x->reverse_name), LOG_CSTR("helo", x->helo), LOG_CSTR("proto", proto), LOG_CSTR("login", x->login),
	    LOG_END);
}

/* The session is of that client from now on. False, and it is closed, when its network has too many. */
static bool
change_client(struct front *f, const struct client_address *a)
{
	if (!listener_moved(f->port->group, &f->client, a)) {
		/* It counts nowhere any more. */
		f->uncounted = true;
		smtpd_close(f, "4.7.0", "Too many connections from your network");
		return false;
	}
	f->client = *a;
	return true;
}

bool
smtpd_xclient_forget(struct front *f)
{
	if (f->told == NULL)
		return true;
	free(f->told);
	f->told = NULL;
	f->telling = false;
	if (!change_client(f, &f->relay))
		return false;
	smtpd_client_begin(f);
	return true;
}

void
smtpd_xclient(struct front *f, struct slice args)
{
	struct client_address a = f->client;
	struct xclient x = {.port = 0};

	if (f->telling)
		x = *f->told;
	if (!xclient_parse(args, &x)) {
		f->bad_commands++;
		smtpd_reply_words(f, smtp_syntax_reply(SMTP_SYNTAX_BAD_ARGS));
		return;
	}
	move(&x, &a);
	trace(f, &x, &a);
	if (f->told == NULL)
		f->relay = f->client;
	if (!change_client(f, &a))
		return;
	if (f->told == NULL)
		f->told = MEM_NEW(struct xclient);
	*f->told = x;
	f->telling = true;
	client_check_free(&f->check);
	smtpd_client_begin(f);
	f->esmtp = false;
	f->helo[0] = '\0';
	if (f->state != FRONT_STATE_HELO)
		smtpd_set_state(f, FRONT_STATE_HELO);
	smtpd_greeting(f);
}
