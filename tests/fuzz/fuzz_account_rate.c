/* What accounts have sent, as it is kept on disk: whatever is read is refused, or known as it was, and counted on. */
#include "smtpd/account_rate.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
count(struct account_rates *r, uint64_t now_ms)
{
	static const struct account_limits limits = {.messages = 100, .recipients = 1000, .addresses = 10};
	const struct slice to[] = {SLICE("a@client.example"), SLICE("b@client.example")};
	const struct account_message m = {1, to, 2};
	bool first;

	(void)account_rate_count(r, &limits, &m, now_ms, &first);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct account_rates *r = account_rates_decode(slice_of(data, n)), *again;
	struct buf once, twice;

	if (r == NULL)
		return 0;
	buf_init(&once, ACCOUNT_RATE_IMAGE_BYTES_MAX);
	buf_init(&twice, ACCOUNT_RATE_IMAGE_BYTES_MAX);
	account_rates_encode(r, &once);
	assert(!once.failed && once.n <= n);
	again = account_rates_decode(buf_slice(&once));
	assert(again != NULL);
	account_rates_encode(again, &twice);
	assert(once.n == twice.n); /* the order of the hashes may be another one */
	count(r, 1000000);
	count(r, UINT64_MAX);
	account_rates_free(&again);
	account_rates_free(&r);
	buf_fini(&twice);
	buf_fini(&once);
	return 0;
}
