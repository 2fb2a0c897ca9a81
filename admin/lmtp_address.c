#include "admin/lmtp_address.h"

#include <arpa/inet.h>

static bool
take_path(struct slice word, struct lmtp_address *a)
{
	a->to.path = (struct sockaddr_un){.sun_family = AF_UNIX};
	a->size = sizeof a->to.path;
	return slice_cstr(word, a->to.path.sun_path, sizeof a->to.path.sun_path);
}

static bool
take_loopback(struct slice word, struct lmtp_address *a)
{
	size_t at = slice_index(word, '@');
	struct in_addr four;
	struct in6_addr six;
	uint64_t port;

	if (!slice_u64(slice_sub(word, at + 1, word.n), 65535, &port) || port == 0 || port == 25 ||
	    !slice_cstr(slice_sub(word, 0, at), a->host, sizeof a->host))
		return false;
	a->port = (uint16_t)port;
	if (inet_pton(AF_INET, a->host, &four) == 1) {
		a->to.four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(a->port), .sin_addr = four};
		a->size = sizeof a->to.four;
		return ntohl(four.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	if (inet_pton(AF_INET6, a->host, &six) != 1)
		return false;
	a->to.six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(a->port), .sin6_addr = six};
	a->size = sizeof a->to.six;
	return IN6_IS_ADDR_LOOPBACK(&six);
}

int
lmtp_address_next(struct slice *text, struct lmtp_address *address_r)
{
	struct slice word = {NULL, 0};

	while (word.n == 0)
		if (!slice_cut(text, ' ', &word))
			return 0;
	*address_r = (struct lmtp_address){.text = word};
	return (word.p[0] == '/' ? take_path(word, address_r) : take_loopback(word, address_r)) ? 1 : -1;
}
