/*
 * proxy_header: what a proxy puts before the first octet of a connection to tell whose it is: the PROXY protocol, versions 1
 * (text) and 2 (binary). And the list of networks that may say so. Pure and strict: what is not exactly the protocol is
 * nothing.
 */
#ifndef SMTPD_PROXY_HEADER_H
#define SMTPD_PROXY_HEADER_H

#include "common/slice.h"

#include <netinet/in.h>

#define PROXY_HEADER_TEXT_MAX 107   /* octets of version 1 with CRLF; a longer line is no header */
#define PROXY_HEADER_BYTES_MAX 4096 /* of version 2 with its extensions, which are skipped */

enum proxy_result {
	PROXY_MORE, /* it is not complete */
	PROXY_DONE,
	PROXY_BAD,
};

struct proxy_header {
	size_t more;	      /* PROXY_MORE: so many octets at least are the header's; to read no more is safe */
	bool has_address;     /* false: UNKNOWN, LOCAL, or what is not TCP; the connection's own addresses hold */
	struct sockaddr_in6 peer; /* IPv4 as v4-mapped */
	struct sockaddr_in6 local;
};

/* in is all of it so far, and never more than the header: read 1 octet, then header_r->more each time. */
enum proxy_result proxy_header_parse(struct slice in, struct proxy_header *header_r) __attribute__((warn_unused_result));

/* An address alone: "192.0.2.1" (v6 false), "2001:db8::1"; and the other way, into 64 octets. */
bool proxy_address_parse(struct slice text, bool v6, struct sockaddr_in6 *a) __attribute__((warn_unused_result));
void proxy_address_print(const struct sockaddr_in6 *a, char text[64]);

/* Networks, "192.0.2.1 10.0.0.0/8 2001:db8::/32", separated by spaces. False unless all of them are. */
bool proxy_networks_valid(struct slice list) __attribute__((warn_unused_result));
/* ip (IPv4 as v4-mapped) lies in one of them; what is no network holds nothing. */
bool proxy_networks_have(struct slice list, const struct in6_addr *ip) __attribute__((warn_unused_result));

#endif
