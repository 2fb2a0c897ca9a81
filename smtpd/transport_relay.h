/*
 * transport_relay: which relay takes mail for a destination, and what it wants to know of us. Pure, but for
 * transport_credentials_load().
 *
 * A relay is HOST, ADDRESS or either with @PORT (smtpd/transport_route.h). Port 465 speaks TLS from the first octet (RFC 8314 3.3).
 */
#ifndef SMTPD_TRANSPORT_RELAY_H
#define SMTPD_TRANSPORT_RELAY_H

#include "common/buf.h"
#include "common/err.h"
#include "common/slice.h"

#define TRANSPORT_CREDENTIALS_BYTES_MAX (64u * 1024)
#define TRANSPORT_USER_BYTES_MAX 255
#define TRANSPORT_PASSWORD_BYTES_MAX 255
#define TRANSPORT_RELAY_BYTES_MAX 260

/*
 * routes: DOMAIN=RELAY, .DOMAIN=RELAY for all below it, or "-" for RELAY: the domain's own servers; separated by spaces. False when it is
 * not that; *wrong_r is the entry.
 */
bool transport_routes_valid(struct slice routes, struct slice *wrong_r);
/* The relay for destination, a domain in A-labels: the longest match of routes, else all (which may be empty). Empty: the domain's own
 * servers. Points into routes or all. */
struct slice transport_relay_for(struct slice routes, struct slice all, struct slice destination);

struct transport_credentials {
	struct slice user, password;
};

/*
 * file: lines of RELAY, user and password, with blanks between them; the password goes to the line's end. Empty lines and those that begin
 * with # are left out. False: there is none for relay. Points into file.
 */
bool transport_credentials_find(struct slice file, struct slice relay, struct transport_credentials *c_r);
/* The number of the first line that is not that, or 0. */
unsigned transport_credentials_wrong(struct slice file);
/* Reads such a file into out (of TRANSPORT_CREDENTIALS_BYTES_MAX). 0, or -1 and e. Blocks on the file. */
int transport_credentials_load(const char *path, struct buf *out, struct err *e);

#endif
