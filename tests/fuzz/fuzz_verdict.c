/* Verdicts and facts from another process: what is taken encodes to the same octets again. */
#include "smtpd/facts.h"
#include "smtpd/verdict.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct verdict v;
	struct slice in = slice_of(data, n);
	struct facts f;
	struct buf b;

	buf_init(&b, VERDICT_BYTES_MAX);
	if (n <= VERDICT_BYTES_MAX && verdict_decode(in, &v)) {
		assert(verdict_encode(&v, &b));
		assert(slice_eq(buf_slice(&b), in));
	}
	buf_reset(&b);
	if (facts_decode(in, &f)) {
		assert(facts_encode(&f, &b));
		assert(slice_eq(buf_slice(&b), in));
	}
	buf_fini(&b);
	return 0;
}
