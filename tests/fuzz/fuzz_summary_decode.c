/* Any octets as a stored summary: refused, or safe to use in every way. */
#include "common/summary.h"
#include "common/summary_imap.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	struct summary s;

	summary_imap_valid(in);
	if (!summary_decode(in, &s))
		return 0;
	for (uint32_t i = 0; i < s.parts_count; i++) {
		struct summary_part p;

		summary_part_get(&s, i, &p);
		assert(p.header_start <= p.body_start && p.body_start + p.body_octets <= s.octets);
	}
	for (uint32_t i = 0; i < 64; i++) {
		const uint32_t numbers[] = {i & 3, i >> 2 & 3, i >> 4};
		struct summary_range r;

		for (size_t k = 0; k <= 3; k++)
			for (int what = SUMMARY_SECTION_BODY; what <= SUMMARY_SECTION_MIME; what++)
				if (summary_find_section(&s, numbers, k,
					(enum summary_section)what, &r))
					assert(r.offset + r.octets <= s.octets);
	}
	return 0;
}
