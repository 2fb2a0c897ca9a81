/*
 * Three stages, each with a buffer that is sized for the worst that
 * STEP_OCTETS of input can become, so that none of them can be full. (Should a
 * converter of the C library ever give more, the search ends there.)
 */
#include "common/text_part.h"

#include "common/charset.h"
#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>

#define STEP_OCTETS 4096
/* What a decoder may have held back comes out besides. */
#define DECODED_MAX (STEP_OCTETS + TRANSFER_QP_HELD_MAX + 16)
/* Four octets for each of a charset's, and for what a converter held back. */
#define CONVERTED_MAX (4 * DECODED_MAX + 256)
#define FOLDED_MAX (CONVERTED_MAX * TEXT_FOLD_GROWTH_MAX)

struct text_part {
	struct transfer_decoder decoder;
	struct charset_stream *charset;
	struct buf decoded;
	struct buf converted;
	struct buf folded;
};

struct text_part *
text_part_new(enum transfer_encoding encoding, struct slice charset)
{
	struct text_part *t = MEM_NEW(struct text_part);

	transfer_decoder_init(&t->decoder, encoding);
	t->charset = charset_stream_new(charset);
	buf_init(&t->decoded, DECODED_MAX);
	buf_init(&t->converted, CONVERTED_MAX);
	buf_init(&t->folded, FOLDED_MAX);
	return t;
}

void
text_part_free(struct text_part **t)
{
	if (*t == NULL)
		return;
	charset_stream_free(&(*t)->charset);
	buf_fini(&(*t)->decoded);
	buf_fini(&(*t)->converted);
	buf_fini(&(*t)->folded);
	MEM_FREE(t);
}

/* Folds what is in converted and gives it to the finders. */
static void
search(struct text_part *t, struct text_finder *finders, size_t n)
{
	bool ok = text_fold(buf_slice(&t->converted), &t->folded);

	assert(ok);
	for (size_t i = 0; i < n; i++)
		text_finder_feed(&finders[i], buf_slice(&t->folded));
	buf_reset(&t->decoded);
	buf_reset(&t->converted);
	buf_reset(&t->folded);
}

void
text_part_feed(struct text_part *t, struct slice in, struct text_finder *finders, size_t n)
{
	while (in.n > 0) {
		bool ok = transfer_decode(&t->decoder, slice_sub(in, 0, STEP_OCTETS), &t->decoded);

		assert(ok);
		charset_stream_feed(t->charset, buf_slice(&t->decoded), &t->converted);
		search(t, finders, n);
		in = slice_sub(in, STEP_OCTETS, in.n);
	}
}

void
text_part_end(struct text_part *t, struct text_finder *finders, size_t n)
{
	bool ok = transfer_decode_end(&t->decoder, &t->decoded);

	assert(ok);
	charset_stream_feed(t->charset, buf_slice(&t->decoded), &t->converted);
	charset_stream_end(t->charset, &t->converted);
	search(t, finders, n);
}
