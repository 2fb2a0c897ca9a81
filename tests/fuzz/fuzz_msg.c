/*
 * Messages: octets as a peer may send them. Octet 0 is the number of descriptors beside the packet.
 * What decodes must encode to the same octets.
 */
#include "common/msg.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct msg m;
	struct msg_fds fds = {.n = 0}, again;
	struct buf b;

	if (n == 0 || n - 1 > MSG_BYTES_MAX)
		return 0;
	for (unsigned i = 0; i < data[0] % (MSG_FDS_MAX + 1); i++)
		fds.fd[fds.n++] = 1000 + (int)i;
	struct slice in = slice_of(data + 1, n - 1);

	if (!msg_decode(in, &fds, &m))
		return 0;
	buf_init(&b, MSG_BYTES_MAX);
	bool ok = msg_encode(&m, &b, &again);

	assert(ok && slice_eq(buf_slice(&b), in));
	assert(again.n == fds.n && memcmp(again.fd, fds.fd, fds.n * sizeof fds.fd[0]) == 0);
	buf_fini(&b);
	return 0;
}
