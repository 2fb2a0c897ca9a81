/*
 * Headers and whole messages for clients without UTF-8: no octet over 127 comes out of a header, ASCII stays, a second
 * time changes nothing, growth keeps its bound, and a surrogate's summary is that of its octets.
 */
#include "common/charset.h"
#include "common/downgrade.h"
#include "common/memfd.h"
#include "common/rfc5322.h"
#include "common/surrogate.h"

#include <assert.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define GROWTH_MAX (4u << 20)

/* No line but what was one in the input is long, and with an encoded word none is over 76 octets. */
static void
check_lines(struct slice out, struct slice in)
{
	struct slice line;

	while (slice_cut(&out, '\n', &line)) {
		if (slice_find(in, line) < in.n || line.n == 0)
			continue;
		assert(line.n <= 999);
	}
}

static void
check_header(struct slice in, size_t growth_max, struct arena *a)
{
	struct slice block = slice_sub(in, 0, header_block_length(in));
	struct buf once, twice;
	size_t growth = growth_max;

	buf_init(&once, block.n + GROWTH_MAX);
	buf_init(&twice, block.n + GROWTH_MAX);
	downgrade_header(block, MIME_LEAF, &growth, a, &once);
	assert(!once.failed && growth <= growth_max && once.n <= block.n + (growth_max - growth));
	assert(slice_is_ascii(buf_slice(&once)));
	if (slice_is_ascii(block))
		assert(slice_eq(block, buf_slice(&once)));
	if (slice_index(block, '?') == block.n)
		check_lines(buf_slice(&once), block);
	growth = growth_max;
	downgrade_header(buf_slice(&once), MIME_LEAF, &growth, a, &twice);
	assert(growth == growth_max && slice_eq(buf_slice(&once), buf_slice(&twice)));
	buf_fini(&once);
	buf_fini(&twice);
}

static void
check_surrogate(const struct surrogate *s)
{
	struct buf encoded;
	struct summary_part part;
	struct buf text;
	struct err e;
	bool ok;

	buf_init(&encoded, SUMMARY_BYTES_MAX);
	ok = summary_of_file(s->fd, &encoded);
	assert(ok && slice_eq(buf_slice(&encoded), buf_slice(&s->encoded)));
	assert(memfd_size(s->fd, NULL) == (int64_t)s->octets && s->summary.octets == s->octets);
	assert(slice_is_ascii(s->summary.envelope) && (s->summary.flat || slice_is_ascii(s->summary.bodystructure)));
	summary_part_get(&s->summary, 0, &part);
	buf_init(&text, (size_t)s->octets);
	ok = memfd_read_all(s->fd, &text, &e) == 0;
	assert(ok && slice_is_ascii(slice_sub(buf_slice(&text), 0, (size_t)part.body_start)));
	buf_fini(&text);
	buf_fini(&encoded);
}

static void
check_message(struct slice in)
{
	struct err e;
	int fd = memfd_of(in, &e);
	struct buf encoded;
	struct summary sum;
	struct surrogate s;
	uint64_t octets = 0;
	bool ok;

	assert(fd >= 0);
	buf_init(&encoded, SUMMARY_BYTES_MAX);
	ok = summary_of_file(fd, &encoded) && summary_decode(buf_slice(&encoded), &sum);
	assert(ok);
	int got = surrogate_make(fd, &sum, &s, &e);
	int measured = surrogate_measure(fd, &sum, &octets, &e);

	assert(got >= 0 && got == measured && !(got == 1 && sum.ascii_headers));
	if (got == 1) {
		assert(octets == s.octets && octets <= in.n + SURROGATE_GROWTH_BYTES_MAX);
		check_surrogate(&s);
		surrogate_fini(&s);
	}
	buf_fini(&encoded);
	(void)close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct arena *a;
	struct slice in = slice_of(data, n);

	charset_init();
	if (a == NULL)
		a = arena_new(1u << 20);
	check_header(in, GROWTH_MAX, a);
	check_header(in, n % 100, a);
	check_message(in);
	return 0;
}
