/*
 * POP3's framer, command grammar and dot stuffing: any octets, whole or one at a time, give the
 * same; and what was stuffed unstuffs to what went in.
 */
#include "pop3d/pop3_command.h"
#include "pop3d/pop3_text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Frames all of in by pieces of step octets and notes each frame and its command in out. */
static void
run(struct slice in, size_t step, struct buf *out)
{
	struct pop3_framer f = {0};
	size_t begin = 0, end = 0;

	while (end < in.n) {
		enum pop3_frame frame = POP3_FRAME_LINE;

		end = end + step < in.n ? end + step : in.n;
		while (frame != POP3_FRAME_MORE) {
			struct slice line;
			struct pop3_command c;
			size_t used;

			frame = pop3_frame_next(&f, slice_sub(in, begin, end), 64, &used, &line);
			begin += used;
			if (frame == POP3_FRAME_MORE)
				break;
			bool ok = frame == POP3_FRAME_LINE && pop3_command_parse(line, &c);

			buf_put_u8(out, (uint8_t)frame);
			buf_put_u8(out, ok ? (uint8_t)c.verb : 0xff);
			buf_put_slice(out, line);
		}
	}
}

/* Undoes the stuffing; false when the end is not exactly at the end. */
static bool
unstuff(struct slice in, struct buf *out)
{
	size_t at = 0;

	while (at < in.n) {
		size_t n = slice_index(slice_sub(in, at, in.n), '\n') + 1;
		struct slice line = slice_sub(in, at, at + n);

		if (slice_eq(line, SLICE(".\r\n")))
			return at + n == in.n;
		buf_put_slice(out, line.p[0] == '.' ? slice_sub(line, 1, line.n) : line);
		at += n;
	}
	return false;
}

static void
text(struct slice in)
{
	struct pop3_text t;
	struct buf whole, pieces, back;

	buf_init(&whole, 2 * in.n + 8);
	buf_init(&pieces, 2 * in.n + 8);
	buf_init(&back, 2 * in.n + 8);
	pop3_text_init(&t);
	if (!pop3_text_put(&t, in, &whole) || !pop3_text_end(&t, &whole))
		abort();
	pop3_text_init(&t);
	for (size_t i = 0; i < in.n; i++) {
		if (!pop3_text_put(&t, slice_sub(in, i, i + 1), &pieces))
			abort();
	}
	if (!pop3_text_end(&t, &pieces) || !slice_eq(buf_slice(&whole), buf_slice(&pieces)))
		abort();
	if (!unstuff(buf_slice(&whole), &back) || back.n < in.n ||
	    memcmp(back.p ? back.p : in.p, in.p, in.n) != 0)
		abort();
	buf_fini(&whole);
	buf_fini(&pieces);
	buf_fini(&back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct buf whole, pieces;

	if (size == 0 || size > 65536)
		return 0;
	buf_init(&whole, 16 * size + 64);
	buf_init(&pieces, 16 * size + 64);
	run(in, size, &whole);
	run(in, 1, &pieces);
	if (!slice_eq(buf_slice(&whole), buf_slice(&pieces)))
		abort();
	buf_fini(&whole);
	buf_fini(&pieces);
	text(in);
	return 0;
}
