/*
 * Reading a summary. Everything in it is checked in summary_decode(), once, so
 * that what follows may rely on it: parts lie in the message and in
 * their parents, links go forward only, IMAP text is one closed list. An index or
 * offset is never used before that.
 */
#include "common/summary.h"

#include "common/cursor.h"
#include "common/summary_imap.h"
#include "common/summary_private.h"

#include <assert.h>

#define OCTETS_MAX (UINT64_MAX / 4) /* so that sums of two cannot overflow */
#define NO_PARENT UINT32_MAX

/* A part as it is stored, without the prefix. */
struct record {
	uint8_t kind;
	uint8_t encoding;
	uint16_t charset_n;
	uint32_t charset_at;
	uint32_t next;
	uint64_t header_start;
	uint64_t body_start;
	uint64_t body_octets;
	uint32_t header_lines;
	uint32_t body_lines;
	uint32_t parent;
};

static struct record
record_at(const struct summary *s, uint32_t index)
{
	size_t at = (size_t)index * SUMMARY_PART_BYTES;
	struct cursor c = cursor_of(slice_sub(s->parts, at, at + SUMMARY_PART_BYTES));
	struct record r;

	r.kind = cursor_u8(&c);
	r.encoding = cursor_u8(&c);
	r.charset_n = cursor_u16(&c);
	r.charset_at = cursor_u32(&c);
	r.next = cursor_u32(&c);
	r.header_start = cursor_u64(&c);
	r.body_start = cursor_u64(&c);
	r.body_octets = cursor_u64(&c);
	r.header_lines = cursor_u32(&c);
	r.body_lines = cursor_u32(&c);
	r.parent = cursor_u32(&c);
	assert(cursor_done(&c));
	return r;
}

/* ---- checks ---- */

static bool
record_is_sound(const struct summary *s, const struct record *r, uint64_t octets)
{
	return r->kind <= MIME_MESSAGE && r->encoding <= TRANSFER_UNKNOWN &&
	    r->header_start <= r->body_start && r->body_start <= octets &&
	    r->body_octets <= octets - r->body_start && r->charset_at <= s->strings.n &&
	    r->charset_n <= s->strings.n - r->charset_at;
}

/* Part index and the links to and from it. */
static bool
check_part(const struct summary *s, uint32_t index, uint64_t octets)
{
	struct record r = record_at(s, index);

	if (!record_is_sound(s, &r, octets))
		return false;
	if (index == 0)
		return r.parent == NO_PARENT && r.next == 0 && r.header_start == 0;
	if (r.parent >= index)
		return false;
	struct record parent = record_at(s, r.parent);

	if (parent.kind == MIME_LEAF || r.header_start < parent.body_start ||
	    r.body_start + r.body_octets > parent.body_start + parent.body_octets)
		return false;
	return r.next == 0 ||
	    (parent.kind == MIME_MULTIPART && r.next > index && r.next < s->parts_count &&
		record_at(s, r.next).parent == r.parent);
}

static bool
check_parts(struct summary *s, uint64_t octets)
{
	if (s->parts.n == 0 || s->parts.n % SUMMARY_PART_BYTES != 0)
		return false;
	s->parts_count = (uint32_t)(s->parts.n / SUMMARY_PART_BYTES);
	for (uint32_t i = 0; i < s->parts_count; i++) {
		if (!check_part(s, i, octets))
			return false;
		bool first_follows = i + 1 < s->parts_count && record_at(s, i + 1).parent == i;

		if (first_follows != (record_at(s, i).kind != MIME_LEAF))
			return false;
	}
	return true;
}

/* ---- decoding ---- */

static void
read_fixed(struct cursor *c, struct summary *s, uint8_t *version_r, uint8_t *flags_r)
{
	*version_r = cursor_u8(c);
	*flags_r = cursor_u8(c);
	s->prefix_octets = cursor_u64(c);
	s->prefix_lines = cursor_u64(c);
	s->octets = cursor_u64(c);
	s->lines = cursor_u64(c);
	s->header_octets = cursor_u64(c);
	s->header_lines = cursor_u64(c);
	s->sha256 = cursor_take(c, SUMMARY_SHA256_BYTES).p;
	s->date.seconds = (int64_t)cursor_u64(c);
	s->date.zone_minutes = (int16_t)cursor_u16(c);
	s->flat = *flags_r & SUMMARY_FLAG_FLAT;
	s->has_date = *flags_r & SUMMARY_FLAG_DATE;
	s->text_cut = *flags_r & SUMMARY_FLAG_CUT;
	s->ascii_headers = *flags_r & SUMMARY_FLAG_ASCII_HEADERS;
}

static void
read_slices(struct cursor *c, struct summary *s)
{
	struct slice *const slices[] = {&s->envelope, &s->body, &s->bodystructure, &s->subject,
	    &s->from, &s->to, &s->cc, &s->bcc, &s->message_id, &s->in_reply_to, &s->references,
	    &s->preview, &s->strings, &s->parts};

	for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++)
		*slices[i] = cursor_slice(c, SUMMARY_BYTES_MAX);
}

static bool
numbers_are_sound(const struct summary *s)
{
	return s->prefix_octets <= OCTETS_MAX && s->prefix_lines <= s->prefix_octets &&
	    s->octets <= OCTETS_MAX && s->lines <= s->octets && s->header_octets <= s->octets &&
	    s->header_lines <= s->lines;
}

bool
summary_decode(struct slice encoded, struct summary *summary_r)
{
	struct cursor c = cursor_of(encoded);
	struct summary *s = summary_r;
	uint8_t version, flags;

	*s = (struct summary){0};
	if (encoded.n > SUMMARY_BYTES_MAX)
		return false;
	read_fixed(&c, s, &version, &flags);
	read_slices(&c, s);
	if (!cursor_done(&c) || version != SUMMARY_VERSION ||
	    flags > SUMMARY_FLAGS_ALL ||
	    !numbers_are_sound(s) || !check_parts(s, s->octets) ||
	    record_at(s, 0).body_start != s->header_octets || !summary_imap_valid(s->envelope) ||
	    !summary_imap_valid(s->body) || !summary_imap_valid(s->bodystructure))
		return false;
	s->octets += s->prefix_octets;
	s->lines += s->prefix_lines;
	s->header_octets += s->prefix_octets;
	s->header_lines += s->prefix_lines;
	return true;
}

bool
summary_headers_ascii(struct slice encoded)
{
	return encoded.n >= SUMMARY_FIXED_BYTES && encoded.p[0] == SUMMARY_VERSION &&
	    (encoded.p[SUMMARY_FLAGS_AT] & SUMMARY_FLAG_ASCII_HEADERS);
}

bool
summary_set_prefix(uint8_t *encoded, size_t n, uint64_t octets, uint64_t lines, bool ascii)
{
	struct buf b;

	if (n < SUMMARY_FIXED_BYTES || encoded[0] != SUMMARY_VERSION || octets > OCTETS_MAX ||
	    lines > octets)
		return false;
	buf_init(&b, 16);
	put_u64(&b, octets);
	put_u64(&b, lines);
	memcpy(encoded + SUMMARY_PREFIX_AT, b.p, b.n);
	if (!ascii)
		encoded[SUMMARY_FLAGS_AT] &= (uint8_t)~SUMMARY_FLAG_ASCII_HEADERS;
	buf_fini(&b);
	return true;
}

/* ---- parts and sections ---- */

void
summary_part_get(const struct summary *s, uint32_t index, struct summary_part *part_r)
{
	assert(index < s->parts_count);
	struct record r = record_at(s, index);
	uint64_t prefix = s->prefix_octets;

	*part_r = (struct summary_part){
	    .kind = (enum mime_kind)r.kind,
	    .encoding = (enum transfer_encoding)r.encoding,
	    .charset = slice_sub(s->strings, r.charset_at, (size_t)r.charset_at + r.charset_n),
	    .header_start = index == 0 ? 0 : r.header_start + prefix,
	    .body_start = r.body_start + prefix,
	    .body_octets = r.body_octets,
	    .header_lines = r.header_lines + (index == 0 ? s->prefix_lines : 0),
	    .body_lines = r.body_lines,
	    .parent = r.parent,
	    .next = r.next,
	};
}

/* The number-th child of a multipart, or the only child of a message; false when there is none. */
static bool
child_at(const struct summary *s, uint32_t index, uint32_t number, uint32_t *child_r)
{
	uint32_t child = index + 1;

	if (number == 0)
		return false;
	while (--number > 0) {
		child = record_at(s, child).next;
		if (child == 0)
			return false;
	}
	*child_r = child;
	return true;
}

/*
 * One number of a section. `index` is an entity; a number counts the parts of
 * a multipart, or is 1 for the body of a message that is none. `entered` says whether
 * index is itself what a number named: then a message's parts are those of the message in it.
 */
static bool
step(const struct summary *s, uint32_t *index, bool *entered, uint32_t number)
{
	uint8_t kind = record_at(s, *index).kind;

	if (*entered && kind == MIME_LEAF)
		return false;
	if (*entered && kind == MIME_MESSAGE) {
		++*index;
		*entered = false;
		kind = record_at(s, *index).kind;
	}
	bool multipart = kind == MIME_MULTIPART;

	*entered = true;
	return multipart ? child_at(s, *index, number, index) : number == 1;
}

static void
set_range(const struct summary *s, uint32_t index, enum summary_section section,
    struct summary_range *range_r)
{
	struct summary_part part;
	bool header = section == SUMMARY_SECTION_HEADER || section == SUMMARY_SECTION_MIME;

	summary_part_get(s, index, &part);
	*range_r = (struct summary_range){
	    .offset = header ? part.header_start : part.body_start,
	    .octets = header ? part.body_start - part.header_start : part.body_octets,
	    .part = index,
	};
}

bool
summary_find_section(const struct summary *s, const uint32_t *numbers, size_t n,
    enum summary_section section, struct summary_range *range_r)
{
	uint32_t index = 0;
	bool entered = false;

	for (size_t i = 0; i < n; i++)
		if (!step(s, &index, &entered, numbers[i]))
			return false;
	if (n == 0 && section == SUMMARY_SECTION_MIME)
		return false;
	if (n == 0 && section == SUMMARY_SECTION_BODY) {
		*range_r = (struct summary_range){.octets = s->octets, .whole = true};
		return true;
	}
	if (n > 0 && (section == SUMMARY_SECTION_HEADER || section == SUMMARY_SECTION_TEXT)) {
		if (record_at(s, index).kind != MIME_MESSAGE)
			return false;
		index++;
	}
	set_range(s, index, section, range_r);
	return true;
}
