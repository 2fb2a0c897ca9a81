/*
 * A connection of a configured proxy begins with a header or is closed: whether there is one is never guessed, and what
 * follows it stays in the socket, so that TLS may begin right behind it.
 */
#include "smtpd/proxy_header.h"

#include "common/cursor.h"

#include <arpa/inet.h>
#include <assert.h>

#define SIGNATURE SLICE("\r\n\r\n\0\r\nQUIT\n")
#define BINARY_BYTES_MIN 16
/* Before so many octets are there it is not decided which version it is; both have more. */
#define FIRST_BYTES 12

static void
put_ipv4(struct sockaddr_in6 *a, struct slice octets)
{
	memset(a->sin6_addr.s6_addr + 10, 0xff, 2);
	memcpy(a->sin6_addr.s6_addr + 12, octets.p, 4);
}

static void
put_ipv6(struct sockaddr_in6 *a, struct slice octets)
{
	memcpy(&a->sin6_addr, octets.p, 16);
}

/* ---- version 1 ---- */

/* inet_pton() is as strict as the protocol: four numbers without leading zeros, or RFC 4291 text. */
bool
proxy_address_parse(struct slice s, bool v6, struct sockaddr_in6 *a)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t octets[16];

	if (!slice_cstr(s, text, sizeof(text)) || inet_pton(v6 ? AF_INET6 : AF_INET, text, octets) != 1)
		return false;
	if (v6)
		put_ipv6(a, slice_of(octets, 16));
	else
		put_ipv4(a, slice_of(octets, 4));
	return true;
}

static bool
text_port(struct slice s, in_port_t *port_r)
{
	uint64_t n;

	if ((s.n > 1 && s.p[0] == '0') || !slice_u64(s, 65535, &n))
		return false;
	*port_r = htons((uint16_t)n);
	return true;
}

/* "TCP4" SP address SP address SP port SP port, or "UNKNOWN" and anything. */
static bool
text_fields(struct slice rest, struct proxy_header *h)
{
	struct slice f[6];
	size_t n = 0;

	if (slice_eq(rest, SLICE("UNKNOWN")) || slice_starts(rest, SLICE("UNKNOWN ")))
		return true;
	while (n < 6 && slice_cut(&rest, ' ', &f[n]))
		n++;
	if (n != 5 || (!slice_eq(f[0], SLICE("TCP4")) && !slice_eq(f[0], SLICE("TCP6"))))
		return false;
	bool v6 = f[0].p[3] == '6';
	h->has_address = proxy_address_parse(f[1], v6, &h->peer) && proxy_address_parse(f[2], v6, &h->local) &&
	    text_port(f[3], &h->peer.sin6_port) && text_port(f[4], &h->local.sin6_port);
	return h->has_address;
}

static enum proxy_result
text_parse(struct slice in, struct proxy_header *h)
{
	size_t cr = slice_index(in, '\r');

	if (!slice_starts(in, SLICE("PROXY ")) || slice_index(in, '\n') < cr || slice_index(in, '\0') < in.n ||
	    (cr + 1 < in.n && in.p[cr + 1] != '\n'))
		return PROXY_BAD;
	if (cr + 1 < in.n)
		return cr + 2 == in.n && text_fields(slice_sub(in, 6, cr), h) ? PROXY_DONE : PROXY_BAD;
	h->more = 1;
	return in.n < PROXY_HEADER_TEXT_MAX ? PROXY_MORE : PROXY_BAD;
}

/* ---- version 2 ---- */

enum { FAMILY_UNSPEC, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, FAMILY_LAST = FAMILY_UNIX };
enum { TRANSPORT_UNSPEC, TRANSPORT_STREAM, TRANSPORT_DGRAM, TRANSPORT_LAST = TRANSPORT_DGRAM };
enum { COMMAND_LOCAL, COMMAND_PROXY };

/* The block behind the first 16 octets; false when it is too short for its addresses. */
static bool
binary_addresses(struct slice block, unsigned family, struct proxy_header *h)
{
	struct cursor c = cursor_of(block);
	size_t each = family == FAMILY_INET ? 4 : 16;
	struct slice peer = cursor_take(&c, each);
	struct slice local = cursor_take(&c, each);

	h->peer.sin6_port = htons(cursor_u16(&c));
	h->local.sin6_port = htons(cursor_u16(&c));
	if (c.bad)
		return false;
	h->has_address = true;
	(family == FAMILY_INET ? put_ipv4 : put_ipv6)(&h->peer, peer);
	(family == FAMILY_INET ? put_ipv4 : put_ipv6)(&h->local, local);
	return true;
}

static enum proxy_result
binary_parse(struct slice in, struct proxy_header *h)
{
	if (in.n < BINARY_BYTES_MIN) {
		h->more = BINARY_BYTES_MIN - in.n;
		return PROXY_MORE;
	}
	unsigned command = in.p[12] & 15u;
	unsigned family = in.p[13] >> 4;
	unsigned transport = in.p[13] & 15u;
	size_t whole = BINARY_BYTES_MIN + (size_t)in.p[14] * 256 + in.p[15];
	if (in.p[12] >> 4 != 2 || command > COMMAND_PROXY || whole > PROXY_HEADER_BYTES_MAX)
		return PROXY_BAD;
	/* LOCAL: the family is ignored, whatever it says. */
	if (command == COMMAND_PROXY && (family > FAMILY_LAST || transport > TRANSPORT_LAST))
		return PROXY_BAD;
	if (in.n < whole) {
		h->more = whole - in.n;
		return PROXY_MORE;
	}
	if (command == COMMAND_PROXY && transport == TRANSPORT_STREAM && (family == FAMILY_INET || family == FAMILY_INET6) &&
	    !binary_addresses(slice_sub(in, BINARY_BYTES_MIN, in.n), family, h))
		return PROXY_BAD;
	return in.n == whole ? PROXY_DONE : PROXY_BAD;
}

enum proxy_result
proxy_header_parse(struct slice in, struct proxy_header *header_r)
{
	size_t n = in.n < FIRST_BYTES ? in.n : FIRST_BYTES;

	*header_r = (struct proxy_header){.peer.sin6_family = AF_INET6, .local.sin6_family = AF_INET6};
	if (n < FIRST_BYTES) {
		header_r->more = FIRST_BYTES - n;
		/* What cannot become a header is told at once. */
		if (slice_starts(SIGNATURE, in) || (n <= 6 ? slice_starts(SLICE("PROXY "), in) : slice_starts(in, SLICE("PROXY "))))
			return PROXY_MORE;
		return PROXY_BAD;
	}
	return slice_starts(in, SIGNATURE) ? binary_parse(in, header_r) : text_parse(in, header_r);
}

void
proxy_address_print(const struct sockaddr_in6 *a, char text[64])
{
	const char *got = IN6_IS_ADDR_V4MAPPED(&a->sin6_addr) ? inet_ntop(AF_INET, a->sin6_addr.s6_addr + 12, text, 64)
							       : inet_ntop(AF_INET6, &a->sin6_addr, text, 64);

	assert(got != NULL);
}

/* ---- networks ---- */

struct network {
	struct in6_addr ip;
	unsigned bits;
};

/* address ["/" bits] */
static bool
network_parse(struct slice text, struct network *network_r)
{
	struct sockaddr_in6 a = {0};
	struct slice address, bits = {0};
	uint64_t n;
	bool v6;

	if (!slice_cut(&text, '/', &address))
		return false;
	bits = text;
	v6 = slice_index(address, ':') < address.n;
	if (!proxy_address_parse(address, v6, &a))
		return false;
	n = v6 ? 128 : 32;
	if (bits.p != NULL && !slice_u64(bits, n, &n))
		return false;
	*network_r = (struct network){a.sin6_addr, (unsigned)n + (v6 ? 0 : 96)};
	return true;
}

static bool
network_has(const struct network *w, const struct in6_addr *ip)
{
	unsigned octets = w->bits / 8;
	unsigned rest = w->bits % 8;

	return memcmp(w->ip.s6_addr, ip->s6_addr, octets) == 0 &&
	    (rest == 0 || ((w->ip.s6_addr[octets] ^ ip->s6_addr[octets]) >> (8 - rest)) == 0);
}

bool
proxy_networks_valid(struct slice list)
{
	struct network w;
	struct slice word;

	while (slice_cut(&list, ' ', &word))
		if (word.n > 0 && !network_parse(word, &w))
			return false;
	return true;
}

bool
proxy_networks_have(struct slice list, const struct in6_addr *ip)
{
	struct network w;
	struct slice word;

	while (slice_cut(&list, ' ', &word))
		if (word.n > 0 && network_parse(word, &w) && network_has(&w, ip))
			return true;
	return false;
}
