/*
 * Envelopes, queue items, results, records and .meta files: hostile octets are safe, and what decodes encodes to the same.
 */
#include "smtpd/envelope.h"
#include "smtpd/queue.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
same(const struct buf *b, struct slice in)
{
	if (!slice_eq(buf_slice(b), in))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct arena *a = arena_new(8u << 20);
	struct buf b;
	struct envelope e;
	struct queue_item item;
	struct queue_results results;
	struct queue_message m;
	struct slice one, two;

	buf_init(&b, ENVELOPE_BYTES_MAX);
	if (envelope_decode(in, a, &e)) {
		if (!envelope_encode(&e, &b))
			abort();
		same(&b, in);
	}
	buf_reset(&b);
	if (queue_item_decode(in, a, &item)) {
		if (!queue_item_encode(&item, &b))
			abort();
		same(&b, in);
		if (queue_results_decode(in, a, &results))
			(void)queue_item_apply(&item, &results);
	}
	buf_reset(&b);
	if (queue_results_decode(in, a, &results)) {
		if (!queue_results_encode(&results, &b))
			abort();
		same(&b, in);
	}
	if (queue_record_decode(in, &m, &one) && one.n > in.n)
		abort();
	if (queue_meta_decode(in, &one, &two) && one.n + two.n > in.n)
		abort();
	buf_fini(&b);
	arena_free(&a);
	return 0;
}
