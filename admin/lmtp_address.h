/*
 * lmtp_address: the setting lmtp.listen: words separated by spaces, each the absolute path of a Unix socket, or
 * ADDRESS@PORT with an address of this machine alone (127.0.0.0/8, ::1). Pure.
 *
 * Who can connect is believed about what the message has been through, so no network is: and RFC 2033 5 forbids port 25.
 */
#ifndef ADMIN_LMTP_ADDRESS_H
#define ADMIN_LMTP_ADDRESS_H

#include "common/slice.h"

#include <netinet/in.h>
#include <sys/un.h>

struct lmtp_address {
	struct slice text; /* the word */
	uint16_t port;	   /* 0: a path */
	char host[INET6_ADDRSTRLEN];
	socklen_t size;	   /* of what follows */
	union {
		struct sockaddr any;
		struct sockaddr_un path;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} to;
};

/* Takes the next word of *text. 1, 0 at the end, -1 for a word that is none: then only address_r->text is set. */
int lmtp_address_next(struct slice *text, struct lmtp_address *address_r) __attribute__((warn_unused_result));

#endif
