/* Encoded words, charsets and folding: always valid UTF-8 without line ends; streams agree. */
#include "common/charset.h"
#include "common/mime_word.h"
#include "common/text.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_word(struct slice in, size_t max)
{
	struct buf out, folded;

	buf_init(&out, max);
	buf_init(&folded, max * TEXT_FOLD_GROWTH_MAX);
	bool ok = mime_word_decode(in, &out);

	assert(ok != out.failed);
	assert(utf8_valid(buf_slice(&out)));
	for (size_t i = 0; i < out.n; i++)
		assert(out.p[i] != '\r' && out.p[i] != '\n' && out.p[i] != 0);
	ok = text_fold(buf_slice(&out), &folded);
	assert(ok && utf8_valid(buf_slice(&folded)));
	if (folded.n > 0 && folded.n <= TEXT_NEEDLE_BYTES_MAX)
		assert(text_contains(buf_slice(&out), buf_slice(&folded)));
	buf_fini(&out);
	buf_fini(&folded);
}

/* The first line names a charset; the rest is text in it, whole and in chunks. */
static void
check_charset(struct slice in)
{
	struct slice name = slice_sub(in, 0, slice_index(in, '\n'));
	struct slice text = slice_sub(in, name.n + 1, in.n);
	struct buf whole, pieces;

	buf_init(&whole, 1 << 20);
	buf_init(&pieces, 1 << 20);
	bool sound = charset_to_utf8(name, text, &whole) == CHARSET_OK;

	assert(utf8_valid(buf_slice(&whole)));
	struct charset_stream *s = charset_stream_new(name);
	size_t chunk = 1 + in.n % 5;

	for (size_t i = 0; i < text.n; i += chunk)
		charset_stream_feed(s, slice_sub(text, i, i + chunk), &pieces);
	charset_stream_end(s, &pieces);
	assert(utf8_valid(buf_slice(&pieces)));
	if (sound)
		assert(slice_eq(buf_slice(&whole), buf_slice(&pieces)));
	charset_stream_free(&s);
	buf_fini(&whole);
	buf_fini(&pieces);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);

	charset_init();
	check_word(in, 1 << 20);
	check_word(in, 17);
	check_charset(in);
	return 0;
}
