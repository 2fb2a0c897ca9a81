/*
 * Settings as they cross an edge. What decodes must encode to the same octets.
 */
#include "common/config.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct config *c;
	struct err e;
	struct buf b;

	if (config_decode(slice_of(data, n), &c, &e) < 0)
		return 0;
	buf_init(&b, 1 << 20);
	config_encode(c, &b);
	assert(slice_eq(buf_slice(&b), slice_of(data, n)));
	buf_fini(&b);
	config_free(&c);
	return 0;
}
