/*
 * The PROXY header: read octet by octet and as fast as it allows the result is the same, and nothing behind it is taken. The same octets as
 * a list of networks.
 */
#include "smtpd/proxy_header.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum proxy_result
feed(struct slice in, size_t most, struct proxy_header *h, size_t *n_r)
{
	enum proxy_result got;
	size_t n = 0;

	while ((got = proxy_header_parse(slice_sub(in, 0, n), h)) == PROXY_MORE && n < in.n) {
		if (h->more == 0 || h->more > PROXY_HEADER_BYTES_MAX - n)
			abort();
		n += h->more < most ? h->more : most;
		if (n > in.n)
			n = in.n;
	}
	*n_r = n;
	return got;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct in6_addr ip = {{{[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}}};
	struct slice in = slice_of(data, size);
	struct proxy_header fast, slow;
	size_t fast_n, slow_n;
	enum proxy_result got = feed(in, SIZE_MAX, &fast, &fast_n);

	if (feed(in, 1, &slow, &slow_n) != got || fast.has_address != slow.has_address)
		abort();
	if (got == PROXY_DONE && (fast_n != slow_n || memcmp(&fast.peer, &slow.peer, sizeof(fast.peer)) != 0))
		abort();
	if (proxy_networks_have(in, &ip) && in.n == 0)
		abort();
	(void)!proxy_networks_valid(in);
	return 0;
}
