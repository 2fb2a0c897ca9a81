/*
 * A range of the object is sent from its descriptor, which was passed by the keeper and never changes. Before that it is
 * looked through for NUL: messages are stored as they came, but a plain literal must not carry one
 * (RFC 3501 9); in such a message each NUL is sent as FETCH_NUL_REPLACEMENT, and all lengths stay true.
 */
#include "imapd/fetch_section.h"

#include "common/log.h"
#include "common/memfd.h"
#include "common/rfc5322.h"
#include "imapd/imap_print.h"
#include "imapd/session.h"

#include <assert.h>
#include <unistd.h>

bool
fetch_section_needs_summary(const struct imap_fetch_item *item)
{
	return item->numbers_n > 0 || item->section != SUMMARY_SECTION_BODY;
}

static bool
broken(struct session *s, const char *what)
{
	log_event(LOG_ERROR, slice_str(s->name), "object-unreadable", LOG_CSTR("error", what), LOG_END);
	session_bye(s, "[SERVERBUG] A message could not be read");
	return false;
}

/* Exactly n octets at offset into p, NULs replaced. */
static bool
read_text(int fd, uint64_t offset, uint8_t *p, size_t n)
{
	struct err e;

	if (memfd_read(fd, offset, p, n, &e) != (int64_t)n)
		return false;
	for (uint8_t *nul = memchr(p, 0, n); nul; nul = memchr(nul, 0, n - (size_t)(nul - p)))
		*nul = FETCH_NUL_REPLACEMENT;
	return true;
}

/* The part of n octets that a partial asks for. */
static void
clip(const struct imap_fetch_item *item, uint64_t *offset, uint64_t *n)
{
	if (!item->partial)
		return;
	if (item->partial_from >= *n) {
		*n = 0;
		return;
	}
	*offset += item->partial_from;
	*n -= item->partial_from;
	if (*n > item->partial_octets)
		*n = item->partial_octets;
}

static void
put_head(struct session *s, uint64_t n)
{
	if (n == 0)
		buf_put_str(&s->out, "\"\"");
	else
		imap_put_literal_head(&s->out, n);
}

/* -1 when it cannot be read, 1 with a NUL, 0 without. */
static int
has_nul(int fd, uint64_t offset, uint64_t n)
{
	static uint8_t scratch[FETCH_INLINE_BYTES_MAX];

	while (n > 0) {
		size_t piece = n < sizeof scratch ? (size_t)n : sizeof scratch;
		struct err e;

		if (memfd_read(fd, offset, scratch, piece, &e) != (int64_t)piece)
			return -1;
		if (memchr(scratch, 0, piece))
			return 1;
		offset += piece;
		n -= piece;
	}
	return 0;
}

/* A copy of the range with NULs replaced; the caller closes it. */
static int
copy_without_nul(int fd, uint64_t offset, uint64_t n)
{
	static uint8_t scratch[FETCH_INLINE_BYTES_MAX];
	struct err e;
	int copy = memfd_new(&e);

	while (copy >= 0 && n > 0) {
		size_t piece = n < sizeof scratch ? (size_t)n : sizeof scratch;

		if (!read_text(fd, offset, scratch, piece) ||
		    memfd_write(copy, slice_of(scratch, piece), &e) != 0) {
			close(copy);
			return -1;
		}
		offset += piece;
		n -= piece;
	}
	return copy;
}

static bool
send_file(struct session *s, int fd, uint64_t offset, uint64_t n)
{
	int nul = has_nul(fd, offset, n);
	int copy = -1;

	if (nul < 0)
		return broken(s, "it is shorter than its size");
	if (nul > 0) {
		copy = copy_without_nul(fd, offset, n);
		if (copy < 0)
			return broken(s, "no memory file for a copy");
	}
	(void)session_push(s);
	stream_write_file(s->stream, nul ? copy : fd, nul ? 0 : offset, n);
	if (copy >= 0)
		close(copy);
	return true;
}

static bool
send_range(struct session *s, const struct imap_fetch_item *item, int fd, uint64_t offset, uint64_t n)
{
	uint8_t *room;

	clip(item, &offset, &n);
	put_head(s, n);
	if (n == 0)
		return true;
	if (n > FETCH_INLINE_BYTES_MAX)
		return send_file(s, fd, offset, n);
	room = buf_room(&s->out, (size_t)n);
	assert(room != NULL);
	if (!read_text(fd, offset, room, (size_t)n))
		return broken(s, "it is shorter than its size");
	buf_added(&s->out, (size_t)n);
	return true;
}

/* ---- HEADER.FIELDS and HEADER.FIELDS.NOT ---- */

static bool
is_named(const struct imap_fetch_item *item, struct slice name)
{
	for (size_t i = 0; i < item->names_n; i++)
		if (slice_eq_nocase(item->names[i], name))
			return true;
	return false;
}

/* The fields wanted, and the empty line (RFC 3501 6.4.5). */
static void
filter(const struct imap_fetch_item *item, struct slice header, struct buf *out)
{
	struct header_iter it;
	struct header_field field;
	bool not= item->filter == IMAP_HEADER_FIELDS_NOT;

	header_iter_init(&it, header);
	while (header_next(&it, &field))
		if (is_named(item, field.name) != not)
			buf_put_slice(out, field.raw);
	buf_put_str(out, "\r\n");
}

static bool
send_fields(struct session *s, const struct imap_fetch_item *item, int fd, const struct summary_range *range)
{
	struct buf header;
	struct buf text;
	size_t n = range->octets < FETCH_HEADER_BYTES_MAX ? (size_t)range->octets : FETCH_HEADER_BYTES_MAX;
	uint64_t from = 0;
	uint64_t len;
	uint8_t *room;
	bool ok;

	buf_init(&header, FETCH_HEADER_BYTES_MAX + 1);
	buf_init(&text, FETCH_HEADER_BYTES_MAX + 2);
	room = buf_room(&header, n + 1);
	ok = n == 0 || read_text(fd, range->offset, room, n);
	if (ok) {
		buf_added(&header, n);
		filter(item, buf_slice(&header), &text);
		len = text.n;
		clip(item, &from, &len);
		put_head(s, len);
		buf_put_slice(&s->out, slice_of(text.p + from, (size_t)len));
	}
	buf_fini(&header);
	buf_fini(&text);
	return ok ? true : broken(s, "it is shorter than its summary says");
}

bool
fetch_section(struct session *s, const struct imap_fetch_item *item, const struct summary *sum, int fd, uint64_t size)
{
	struct summary_range range = {.octets = size};

	buf_put_slice(&s->out, item->label);
	buf_put_u8(&s->out, ' ');
	if (fetch_section_needs_summary(item)) {
		assert(sum != NULL);
		if (!summary_find_section(sum, item->numbers, item->numbers_n, item->section, &range)) {
			buf_put_str(&s->out, "NIL");
			return true;
		}
	}
	if (item->filter != IMAP_HEADER_ALL)
		return send_fields(s, item, fd, &range);
	return send_range(s, item, fd, range.offset, range.octets);
}
