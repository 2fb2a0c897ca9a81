/* An mbox of any octets: it ends, no octet comes out that was not there, and no field of ours or border is in a message. */
#include "admin/mbox.h"
#include "store/store.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t
read_slice(void *arg, uint64_t at, void *p, size_t n)
{
	struct slice s = *(struct slice *)arg;

	s = slice_sub(s, at < s.n ? (size_t)at : s.n, s.n);
	n = n < s.n ? n : s.n;
	if (n > 0)
		memcpy(p, s.p, n);
	return (int64_t)n;
}

static void
count(void *arg, struct slice octets)
{
	*(size_t *)arg += octets.n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mbox m;
	struct slice in = slice_of(data, size);
	struct mbox_message msg;
	size_t octets = 0;
	uint64_t at = 0;
	struct err e;

	buf_init(&msg.keywords, MBOX_KEYWORDS_BYTES_MAX);
	mbox_init(&m, read_slice, &in);
	while (mbox_next(&m, &msg, count, &octets, &e) == 1) {
		assert(m.at > at && m.at <= size);
		at = m.at;
		assert(octets <= at && (msg.flags & ~STORE_FLAGS_ALL) == 0 && msg.keywords.n <= MBOX_KEYWORDS_BYTES_MAX);
	}
	buf_fini(&msg.keywords);
	return 0;
}
