/* Rewritten senders: whatever comes back is refused or was made here, and what is made leads back to the same. */
#include "authd/srs.h"

#include <assert.h>

#define NOW (20000u * 86400)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t secret[SRS_SECRET_BYTES] = "of the fuzzer alone";

static void
there_and_back(struct slice sender, struct buf *there, struct buf *back, struct buf *again)
{
	static const struct slice ours = {(const uint8_t *)"ours.example", 12};

	if (!srs_forward(secret, sender, ours, NOW, there)) {
		assert(there->n == 0);
		return;
	}
	assert(there->n <= SRS_ADDRESS_BYTES_MAX);
	assert(srs_reverse(secret, buf_slice(there), NOW, back) == SRS_GOOD);
	/* It may have lost quotes that it did not need; one of a forwarder before us is that one's again. */
	assert(srs_forward(secret, buf_slice(back), ours, NOW, again));
	assert(slice_eq(buf_slice(there), buf_slice(again)) || slice_starts_nocase(buf_slice(back), SLICE("SRS0")) ||
	    slice_starts_nocase(buf_slice(back), SLICE("\"SRS0")));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct buf there, back, again;

	buf_init(&there, SRS_ADDRESS_BYTES_MAX);
	buf_init(&back, SRS_ADDRESS_BYTES_MAX);
	buf_init(&again, SRS_ADDRESS_BYTES_MAX);
	if (srs_reverse(secret, slice_of(data, n), NOW, &back) != SRS_GOOD)
		assert(back.n == 0);
	buf_reset(&back);
	there_and_back(slice_of(data, n), &there, &back, &again);
	buf_fini(&again);
	buf_fini(&back);
	buf_fini(&there);
	return 0;
}
