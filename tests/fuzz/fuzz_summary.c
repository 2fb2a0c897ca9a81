/*
 * A message through the MIME parser and the summary builder: whole and in
 * chunks give the same octets, which decode, and whose sections lie in the message.
 */
#include "common/charset.h"
#include "common/rfc5322.h"
#include "common/summary.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
build(struct slice in, size_t chunk, size_t bytes_max, struct buf *out)
{
	struct summary_builder *b = summary_builder_new(bytes_max);

	for (size_t i = 0; i < in.n; i += chunk)
		summary_builder_feed(b, slice_sub(in, i, i + chunk));
	bool ok = summary_builder_finish(b, out);

	assert(ok);
	summary_builder_free(&b);
}

static void
check_sections(const struct summary *s, struct slice in, uint64_t prefix)
{
	for (uint32_t i = 0; i < 27; i++) {
		const uint32_t numbers[] = {1 + i % 3, 1 + i / 3 % 3, 1 + i / 9};
		struct summary_range r;

		for (size_t n = 0; n <= 3; n++)
			for (int k = SUMMARY_SECTION_BODY; k <= SUMMARY_SECTION_MIME; k++) {
				enum summary_section section = (enum summary_section)k;

				if (summary_find_section(s, numbers, n, section, &r))
					assert(r.offset + r.octets <= in.n + prefix);
			}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	size_t max = n % 2 ? SUMMARY_BYTES_MIN : SUMMARY_BYTES_MAX;
	struct buf whole, pieces;
	struct summary s;

	charset_init();
	buf_init(&whole, SUMMARY_BYTES_MAX);
	buf_init(&pieces, SUMMARY_BYTES_MAX);
	build(in, n + 1, max, &whole);
	build(in, 1 + n % 7, max, &pieces);
	assert(whole.n <= max && slice_eq(buf_slice(&whole), buf_slice(&pieces)));
	bool ok = summary_decode(buf_slice(&whole), &s);

	assert(ok && s.octets == n && s.header_octets == header_block_length(in));
	check_sections(&s, in, 0);
	ok = summary_set_prefix(whole.p, whole.n, 500, 10, true) &&
	    summary_decode(buf_slice(&whole), &s);
	assert(ok && s.octets == n + 500);
	check_sections(&s, in, 500);
	buf_fini(&whole);
	buf_fini(&pieces);
	return 0;
}
