/*
 * Two passes over the summary's parts, whose headers lie one behind the other in the file: the first only looks whether one of them has
 * an octet over 127; the second writes. What lies between two headers is body and copied. The offsets of a surrogate
 * differ from its message's by what its headers have grown, so it gets a summary of its own, made while it is written.
 */
#include "common/surrogate.h"

#include "common/arena.h"
#include "common/downgrade.h"
#include "common/memfd.h"

#include <assert.h>
#include <unistd.h>

#define READ_BYTES (64u * 1024)
#define SCRATCH_BYTES_MAX (1u << 20)

struct maker {
	int from;
	int to; /* -1: nothing is written, octets are counted */
	uint64_t octets;
	struct summary_builder *builder;
	struct arena *scratch;
	size_t growth;
	struct buf in;	/* a header */
	struct buf out; /* made of it */
	struct err *e;
};

/* The part's header as a range of the file; false when it is not behind `from`: a summary from disk may say anything. */
static bool
header_range(const struct summary *sum, uint32_t index, uint64_t from, struct summary_part *part_r)
{
	summary_part_get(sum, index, part_r);
	return part_r->header_start >= from && part_r->body_start >= part_r->header_start && part_r->body_start <= sum->octets;
}

static int
cannot_read(struct err *e)
{
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "Temporary failure", "a message is shorter than its summary says");
}

/* ---- looking ---- */

/* 1: some octet of the range is over 127; 0: none; -1. */
static int
range_has_8bit(int fd, uint64_t from, uint64_t to, struct err *e)
{
	static uint8_t scratch[READ_BYTES];

	while (from < to) {
		size_t n = to - from < sizeof scratch ? (size_t)(to - from) : sizeof scratch;

		if (memfd_read(fd, from, scratch, n, NULL) != (int64_t)n)
			return cannot_read(e);
		if (!slice_is_ascii(slice_of(scratch, n)))
			return 1;
		from += n;
	}
	return 0;
}

static int
headers_have_8bit(int fd, const struct summary *sum, struct err *e)
{
	uint64_t at = 0;
	int has = 0;

	for (uint32_t i = 0; i < sum->parts_count && has == 0; i++) {
		struct summary_part part;

		if (!header_range(sum, i, at, &part))
			continue;
		has = range_has_8bit(fd, part.header_start, part.body_start, e);
		at = part.body_start;
	}
	return has;
}

/* ---- writing ---- */

static bool
put(struct maker *m, struct slice s)
{
	m->octets += s.n;
	if (m->to < 0)
		return true;
	summary_builder_feed(m->builder, s);
	return s.n == 0 || memfd_write(m->to, s, m->e) == 0;
}

/* Copies the range; header: without octets over 127. */
static bool
copy(struct maker *m, uint64_t from, uint64_t to, bool header)
{
	static uint8_t scratch[READ_BYTES];

	if (m->to < 0) {
		m->octets += to - from;
		return true;
	}
	while (from < to) {
		size_t n = to - from < sizeof scratch ? (size_t)(to - from) : sizeof scratch;

		if (memfd_read(m->from, from, scratch, n, NULL) != (int64_t)n)
			return cannot_read(m->e) == 0;
		for (size_t i = 0; header && i < n; i++)
			if (scratch[i] > 127)
				scratch[i] = '?';
		if (!put(m, slice_of(scratch, n)))
			return false;
		from += n;
	}
	return true;
}

/* What of a header is looked at as fields: all, or up to the last line's end within the limit. */
static struct slice
whole_lines(struct slice header, bool all)
{
	size_t end = all ? header.n : slice_rindex(header, '\n');

	return slice_sub(header, 0, all || end == header.n ? header.n : end + 1);
}

static bool
put_header(struct maker *m, const struct summary_part *part)
{
	uint64_t octets = part->body_start - part->header_start;
	size_t n = octets < SURROGATE_HEADER_BYTES_MAX ? (size_t)octets : SURROGATE_HEADER_BYTES_MAX;
	uint8_t *room;

	buf_reset(&m->in);
	buf_reset(&m->out);
	if (n == 0)
		return true;
	room = buf_room(&m->in, n);
	assert(room != NULL);
	if (memfd_read(m->from, part->header_start, room, n, NULL) != (int64_t)n)
		return cannot_read(m->e) == 0;
	buf_added(&m->in, n);
	struct slice lines = whole_lines(buf_slice(&m->in), n == octets);

	downgrade_header(lines, part->kind, &m->growth, m->scratch, &m->out);
	return put(m, buf_slice(&m->out)) && copy(m, part->header_start + lines.n, part->body_start, true);
}

static bool
put_all(struct maker *m, const struct summary *sum)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < sum->parts_count; i++) {
		struct summary_part part;

		if (!header_range(sum, i, at, &part))
			continue;
		if (!copy(m, at, part.header_start, false) || !put_header(m, &part))
			return false;
		at = part.body_start;
	}
	return copy(m, at, sum->octets, false);
}

static bool
take_summary(struct maker *m, struct surrogate *s)
{
	if (summary_builder_finish(m->builder, &s->encoded) && summary_decode(buf_slice(&s->encoded), &s->summary))
		return true;
	return err_set(m->e, ERR_BUG, ERR_CODE_NONE, "Server bug", "summary of a surrogate is not one") == 0;
}

void
surrogate_fini(struct surrogate *s)
{
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
	buf_fini(&s->encoded);
}

static bool
run(struct maker *m, const struct summary *sum)
{
	m->growth = SURROGATE_GROWTH_BYTES_MAX;
	m->scratch = arena_new(SCRATCH_BYTES_MAX);
	buf_init(&m->in, SURROGATE_HEADER_BYTES_MAX);
	buf_init(&m->out, SURROGATE_HEADER_BYTES_MAX + SURROGATE_GROWTH_BYTES_MAX);
	bool ok = put_all(m, sum);

	arena_free(&m->scratch);
	buf_fini(&m->in);
	buf_fini(&m->out);
	return ok;
}

int
surrogate_make(int fd, const struct summary *sum, struct surrogate *s_r, struct err *e)
{
	struct maker m = {.from = fd, .e = e};
	int has = sum->ascii_headers ? 0 : headers_have_8bit(fd, sum, e);

	if (has <= 0)
		return has;
	*s_r = (struct surrogate){.fd = memfd_new(e)};
	buf_init(&s_r->encoded, SUMMARY_BYTES_MAX);
	if (s_r->fd < 0)
		return -1;
	m.to = s_r->fd;
	m.builder = summary_builder_new(0);
	bool ok = run(&m, sum) && take_summary(&m, s_r);

	summary_builder_free(&m.builder);
	if (!ok) {
		surrogate_fini(s_r);
		return -1;
	}
	s_r->octets = s_r->summary.octets;
	return 1;
}

int
surrogate_measure(int fd, const struct summary *sum, uint64_t *octets_r, struct err *e)
{
	struct maker m = {.from = fd, .to = -1, .e = e};
	int has = sum->ascii_headers ? 0 : headers_have_8bit(fd, sum, e);

	if (has <= 0)
		return has;
	if (!run(&m, sum))
		return -1;
	*octets_r = m.octets;
	return 1;
}
