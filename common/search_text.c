#include "common/search_text.h"

#include "common/charset.h"
#include "common/memfd.h"
#include "common/mime_param.h"
#include "common/mime_word.h"
#include "common/rfc5322.h"
#include "common/text.h"

#include <assert.h>

/* Octets of a body taken at a time; what they grow to at most is bounded by the two factors. */
#define PIECE_BYTES (16u * 1024)
#define UTF8_GROWTH_MAX 4

/* ---- headers ---- */

/* Reads a header into b, as far as it is looked at. */
static bool
header_read(int fd, uint64_t offset, uint64_t octets, struct buf *b)
{
	size_t n = octets < SEARCH_HEADER_BYTES_MAX ? (size_t)octets : SEARCH_HEADER_BYTES_MAX;
	uint8_t *room = buf_room(b, n + 1);

	if (room == NULL || memfd_read(fd, offset, room, n, NULL) != (int64_t)n)
		return false;
	buf_added(b, n);
	return true;
}

static bool
text_has(struct slice value, struct slice needle)
{
	struct buf text;
	bool found;

	buf_init(&text, (size_t)SEARCH_HEADER_BYTES_MAX * 2);
	(void)mime_word_decode(value, &text);
	found = text_contains(buf_slice(&text), needle);
	buf_fini(&text);
	return found;
}

/* Any field, with its name, has the text. */
static bool
block_has(struct slice block, struct slice needle)
{
	struct header_iter it;
	struct header_field field;

	header_iter_init(&it, block);
	while (header_next(&it, &field))
		if (text_has(field.raw, needle))
			return true;
	return false;
}

static bool
header_has(int fd, uint64_t offset, uint64_t octets, struct slice needle)
{
	struct buf b;
	bool found;

	buf_init(&b, SEARCH_HEADER_BYTES_MAX + 1);
	found = header_read(fd, offset, octets, &b) && block_has(buf_slice(&b), needle);
	buf_fini(&b);
	return found;
}

bool
search_header_text(int fd, const struct summary *sum, struct slice needle_folded)
{
	return header_has(fd, 0, sum->header_octets, needle_folded);
}

bool
search_header_field(int fd, const struct summary *sum, struct slice name, struct slice needle_folded)
{
	struct header_iter it;
	struct header_field field;
	struct buf b;
	bool found = false;

	buf_init(&b, SEARCH_HEADER_BYTES_MAX + 1);
	if (header_read(fd, 0, sum->header_octets, &b)) {
		header_iter_init(&it, buf_slice(&b));
		while (!found && header_next(&it, &field))
			found = slice_eq_nocase(field.name, name) &&
			    (needle_folded.n == 0 || text_has(field.value, needle_folded));
	}
	buf_fini(&b);
	return found;
}

/* ---- bodies ---- */

struct body_search {
	struct transfer_decoder decoder;
	struct charset_stream *charset;
	struct text_finder finder;
	struct buf decoded;
	struct buf utf8;
	struct buf folded;
};

static void
body_init(struct body_search *b, const struct summary_part *part, struct slice needle)
{
	transfer_decoder_init(&b->decoder, part->encoding);
	b->charset = charset_stream_new(part->charset);
	text_finder_init(&b->finder, needle);
	buf_init(&b->decoded, PIECE_BYTES + TRANSFER_QP_HELD_MAX);
	buf_init(&b->utf8, (size_t)(PIECE_BYTES + TRANSFER_QP_HELD_MAX) * UTF8_GROWTH_MAX);
	buf_init(&b->folded, b->utf8.max * TEXT_FOLD_GROWTH_MAX);
}

static void
body_fini(struct body_search *b)
{
	charset_stream_free(&b->charset);
	text_finder_fini(&b->finder);
	buf_fini(&b->decoded);
	buf_fini(&b->utf8);
	buf_fini(&b->folded);
}

/* What was decoded goes on to the finder. */
static void
body_pass(struct body_search *b, bool last)
{
	(void)charset_stream_feed(b->charset, buf_slice(&b->decoded), &b->utf8);
	if (last)
		(void)charset_stream_end(b->charset, &b->utf8);
	(void)text_fold(buf_slice(&b->utf8), &b->folded);
	text_finder_feed(&b->finder, buf_slice(&b->folded));
	buf_reset(&b->decoded);
	buf_reset(&b->utf8);
	buf_reset(&b->folded);
}

static bool
part_has(int fd, const struct summary_part *part, struct slice needle)
{
	static uint8_t scratch[PIECE_BYTES];
	struct body_search b;
	uint64_t offset = part->body_start;
	uint64_t left = part->body_octets;
	bool found;

	body_init(&b, part, needle);
	while (left > 0 && !b.finder.found) {
		size_t n = left < sizeof scratch ? (size_t)left : sizeof scratch;

		if (memfd_read(fd, offset, scratch, n, NULL) != (int64_t)n)
			break;
		(void)transfer_decode(&b.decoder, slice_of(scratch, n), &b.decoded);
		body_pass(&b, false);
		offset += n;
		left -= n;
	}
	(void)transfer_decode_end(&b.decoder, &b.decoded);
	body_pass(&b, true);
	found = b.finder.found;
	body_fini(&b);
	return found;
}

/* A leaf is text when its Content-Type says so, or when it has none (RFC 2045 5.2). */
static bool
is_text(int fd, const struct summary_part *part)
{
	struct header_field field;
	struct buf b;
	bool text = true;

	buf_init(&b, SEARCH_HEADER_BYTES_MAX + 1);
	if (header_read(fd, part->header_start, part->body_start - part->header_start, &b) &&
	    header_find(buf_slice(&b), SLICE("Content-Type"), &field))
		text = slice_starts_nocase(slice_trim(field.value), SLICE("text"));
	buf_fini(&b);
	return text;
}

/* An embedded message's header is part of the body of the message around it. */
static bool
is_embedded_message(const struct summary *sum, const struct summary_part *part)
{
	struct summary_part parent;

	if (part->parent == UINT32_MAX)
		return false;
	summary_part_get(sum, part->parent, &parent);
	return parent.kind == MIME_MESSAGE;
}

bool
search_body(int fd, const struct summary *sum, struct slice needle_folded)
{
	for (uint32_t i = 0; i < sum->parts_count; i++) {
		struct summary_part part;

		summary_part_get(sum, i, &part);
		if (part.body_start < part.header_start)
			continue;
		if (is_embedded_message(sum, &part) &&
		    header_has(fd, part.header_start, part.body_start - part.header_start, needle_folded))
			return true;
		if (part.kind == MIME_LEAF && (sum->flat || is_text(fd, &part)) &&
		    part_has(fd, &part, needle_folded))
			return true;
	}
	return false;
}
