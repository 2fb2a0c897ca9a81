/*
 * Searching a body: octet 0 picks the transfer encoding, the first line the charset, the second the
 * needle; the rest is the body. Without an encoding or faults it agrees with a search in the whole.
 */
#include "common/charset.h"
#include "common/text_part.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct slice
take_line(struct slice *s)
{
	struct slice line = slice_sub(*s, 0, slice_index(*s, '\n'));

	*s = slice_sub(*s, line.n + 1, s->n);
	return line;
}

static void
check_whole(struct slice charset, struct slice body, struct slice needle, bool found)
{
	struct buf text;

	buf_init(&text, 1 << 20);
	if (charset_to_utf8(charset, body, &text) == CHARSET_OK)
		assert(text_contains(buf_slice(&text), needle) == found);
	buf_fini(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	enum transfer_encoding encoding = (enum transfer_encoding)(n ? data[0] % 6 : 0);
	struct buf needle;
	struct text_finder f;

	if (n == 0 || n > 65536)
		return 0;
	charset_init();
	in = slice_sub(in, 1, n);
	struct slice charset = take_line(&in);

	buf_init(&needle, TEXT_NEEDLE_BYTES_MAX);
	text_fold(slice_sub(take_line(&in), 0, 1000), &needle);
	text_finder_init(&f, buf_slice(&needle));
	struct text_part *t = text_part_new(encoding, charset);
	size_t chunk = n % 3 ? 1 + n % 11 : n;

	for (size_t i = 0; i < in.n; i += chunk)
		text_part_feed(t, slice_sub(in, i, i + chunk), &f, 1);
	text_part_end(t, &f, 1);
	if (encoding <= TRANSFER_BINARY)
		check_whole(charset, in, buf_slice(&needle), f.found);
	text_part_free(&t);
	text_finder_fini(&f);
	buf_fini(&needle);
	return 0;
}
