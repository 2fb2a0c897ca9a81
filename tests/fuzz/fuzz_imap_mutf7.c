/* Mailbox names: what is taken comes back octet for octet; what is UTF-8 survives the wire; patterns end in time. */
#include "common/charset.h"
#include "imapd/list_match.h"
#include "common/mutf7.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct buf text;
	struct buf wire;

	buf_init(&text, 1u << 20);
	buf_init(&wire, 1u << 20);
	if (mutf7_decode(in, &text)) {
		assert(utf8_valid(buf_slice(&text)));
		assert(mutf7_encode(buf_slice(&text), &wire));
		assert(slice_eq(buf_slice(&wire), in));
	}
	buf_reset(&wire);
	buf_reset(&text);
	if (slice_index(in, 0) == in.n && mutf7_encode(in, &wire)) {
		assert(mutf7_decode(buf_slice(&wire), &text));
		assert(slice_eq(buf_slice(&text), in));
	}
	if (size > 1)
		(void)list_match(slice_sub(in, 0, size / 2), slice_sub(in, size / 2, size));
	buf_fini(&text);
	buf_fini(&wire);
	return 0;
}
