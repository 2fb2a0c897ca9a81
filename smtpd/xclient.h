/*
 * xclient: the arguments of XCLIENT, as Postfix documents them (XCLIENT_README): attribute "=" value, separated by single spaces, each
 * attribute at most once, values in xtext (RFC 3461 4). Pure.
 */
#ifndef SMTPD_XCLIENT_H
#define SMTPD_XCLIENT_H

#include "common/slice.h"

#include <netinet/in.h>

#define XCLIENT_VALUE_BYTES_MAX 255 /* of one attribute [501 5.5.4] */

enum xclient_attribute {
	XCLIENT_NAME,	      /* the client's, which leads back to its address */
	XCLIENT_REVERSE_NAME, /* that its address has, whether it leads back or not */
	XCLIENT_ADDR,
	XCLIENT_PORT,
	XCLIENT_PROTO,
	XCLIENT_HELO,
	XCLIENT_LOGIN,
	XCLIENT_DESTADDR, /* where the client connected to */
	XCLIENT_DESTPORT,
	XCLIENT_ATTRIBUTES
};
/* All of them, as EHLO offers them. */
#define XCLIENT_OFFER "NAME ADDR PORT PROTO HELO REVERSE_NAME LOGIN DESTADDR DESTPORT"

enum xclient_said {
	XCLIENT_NOTHING,
	XCLIENT_VALUE,
	XCLIENT_UNAVAILABLE, /* for good: there is none */
	XCLIENT_TEMPORARY,   /* it could not be found out for the moment */
};

/* What is not a VALUE is empty. */
struct xclient {
	enum xclient_said said[XCLIENT_ATTRIBUTES];
	struct in6_addr address, destination; /* IPv4 as ::ffff:a.b.c.d */
	uint16_t port, destination_port;
	bool esmtp; /* of PROTO */
	char name[XCLIENT_VALUE_BYTES_MAX + 1];
	char reverse_name[XCLIENT_VALUE_BYTES_MAX + 1];
	char helo[XCLIENT_VALUE_BYTES_MAX + 1];
	char login[XCLIENT_VALUE_BYTES_MAX + 1];
};

/* Adds what args say to *x, in the place of what it had of the same attribute. False, with *x half filled, when they are malformed. */
bool xclient_parse(struct slice args, struct xclient *x) __attribute__((warn_unused_result));

#endif
