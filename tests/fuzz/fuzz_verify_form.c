/* Form and ranges of a message: octet 0 is flags, the rest the message. Leaving the ranges out leaves nothing more to leave out. */
#include "common/rfc5322.h"
#include "smtpd/verify_form.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct verdict v;
	struct facts f = {.authserv_id = SLICE("mx.demo.test"), .submission = n > 0 && (data[0] & 1)};
	struct verify_scan scan = {.in_header = true};
	struct slice message = slice_of(data + (n > 0), n - (n > 0)), block;
	struct arena *a = arena_new(1 << 20);
	struct buf left;
	uint64_t at = 0;

	memset(&v, 0, sizeof v);
	block = slice_sub(message, 0, header_block_length(message));
	verify_form_header(block, &f, a, &v);
	verify_scan_feed(&scan, message, &v.form);
	verify_scan_end(&scan, &v.form);
	buf_init(&left, n + 1);
	for (uint16_t i = 0; i < v.range_count; i++) {
		assert(v.ranges[i].octets > 0 && v.ranges[i].offset >= at && (i == 0 || v.ranges[i].offset > at));
		buf_put_slice(&left, slice_sub(block, (size_t)at, (size_t)v.ranges[i].offset));
		at = v.ranges[i].offset + v.ranges[i].octets;
		assert(at <= block.n);
	}
	buf_put_slice(&left, slice_sub(block, (size_t)at, block.n));
	if (!v.form.ranges_overflow) {
		memset(&v, 0, sizeof v);
		verify_form_header(slice_sub(buf_slice(&left), 0, header_block_length(buf_slice(&left))), &f, a, &v);
		assert(v.range_count == 0);
	}
	buf_fini(&left);
	arena_free(&a);
	return 0;
}
