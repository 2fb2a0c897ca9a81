/* Rewritten senders: whatever comes back is refused or was made here, and what is made leads back to the same. */
#include "authd/srs.h"

#include <assert.h>

#define NOW (20000u * 86400)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t secret[SRS_SECRET_BYTES] = "of the fuzzer alone";

static void
there_and_back(struct slice sender, struct buf *there, struct buf *back, struct buf *again)
{
	struct srs_message m = {.sender = sender, .domain = SLICE("ours.example"), .times = 1 + sender.n % SRS_TIMES_MAX, .now = NOW};
	unsigned times = 0;

	if (!srs_forward(secret, &m, there)) {
		assert(there->n == 0);
		return;
	}
	assert(there->n <= SRS_ADDRESS_BYTES_MAX);
	assert(srs_reverse(secret, buf_slice(there), NOW, back, &times) == SRS_GOOD && times == m.times);
	/* Who has not the secret reads the same of it. */
	assert(srs_within(buf_slice(there), again) && slice_eq(buf_slice(again), buf_slice(back)));
	buf_reset(again);
	/* It may have lost quotes that it did not need; one of a forwarder before us is that one's again. */
	m.sender = buf_slice(back);
	assert(srs_forward(secret, &m, again));
	assert(slice_eq(buf_slice(there), buf_slice(again)) || slice_starts_nocase(buf_slice(back), SLICE("SRS0")) ||
	    slice_starts_nocase(buf_slice(back), SLICE("\"SRS0")));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct buf there, back, again;
	unsigned times = 0;

	buf_init(&there, SRS_ADDRESS_BYTES_MAX);
	buf_init(&back, SRS_ADDRESS_BYTES_MAX);
	buf_init(&again, SRS_ADDRESS_BYTES_MAX);
	if (srs_reverse(secret, slice_of(data, n), NOW, &back, &times) != SRS_GOOD)
		assert(back.n == 0);
	buf_reset(&back);
	if (!srs_within(slice_of(data, n), &back))
		assert(back.n == 0);
	buf_reset(&back);
	there_and_back(slice_of(data, n), &there, &back, &again);
	buf_fini(&again);
	buf_fini(&back);
	buf_fini(&there);
	return 0;
}
