/*
 * The records inside a block of a base copy.
 */
#include "store/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct cursor c = cursor_of(slice_of(data, n));
	struct slice key, value;
	size_t octets = 0;

	while (base_record_next(&c, &key, &value))
		for (size_t i = 0; i < value.n; i++)
			octets += value.p[i];
	return octets == SIZE_MAX;
}
