/*
 * Message data and command lines: fed whole and in pieces the result is the same, and data ends where
 * CRLF "." CRLF first stands.
 */
#include "common/buf.h"
#include "smtpd/smtp_framer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	struct buf out;
	size_t used;
	bool ended, bare, nul;
};

static void
feed(struct slice in, enum smtp_bare rule, size_t step, struct outcome *o)
{
	struct smtp_data_framer f;

	buf_init(&o->out, 2 * in.n + 16);
	smtp_data_init(&f, rule);
	o->used = 0;
	while (o->used < in.n && f.state != SMTP_DATA_END) {
		struct slice piece = slice_sub(in, o->used, o->used + step);
		size_t used = 0;
		while (used < piece.n && f.state != SMTP_DATA_END) {
			size_t n;
			struct slice got = smtp_data_next(&f, slice_sub(piece, used, piece.n), &n);
			if (n == 0 && got.n == 0)
				abort();
			if (!buf_put_slice(&o->out, got))
				abort();
			used += n;
		}
		o->used += used;
	}
	o->ended = f.state == SMTP_DATA_END;
	o->bare = f.bare;
	o->nul = f.nul;
}

static void
check_data(struct slice in, enum smtp_bare rule)
{
	struct outcome whole, octets, odd;

	feed(in, rule, in.n, &whole);
	feed(in, rule, 1, &octets);
	feed(in, rule, 7, &odd);
	if (whole.used != octets.used || whole.ended != octets.ended || whole.bare != octets.bare ||
	    whole.nul != octets.nul || !slice_eq(buf_slice(&whole.out), buf_slice(&octets.out)) ||
	    whole.used != odd.used || !slice_eq(buf_slice(&whole.out), buf_slice(&odd.out)))
		abort();
	size_t at = slice_starts(in, SLICE(".\r\n")) ? 0 : slice_find(in, SLICE("\r\n.\r\n"));
	if (whole.ended != (at < in.n))
		abort();
	if (whole.ended && whole.used != (at == 0 && in.p[0] == '.' ? 3 : at + 5))
		abort();
	buf_fini(&whole.out);
	buf_fini(&octets.out);
	buf_fini(&odd.out);
}

/* Reads lines from a buffer that grows by step; gives a hash of what came. */
static uint64_t
lines(struct slice in, size_t step)
{
	struct smtp_line_framer f = {0};
	size_t from = 0, to = 0;
	uint64_t hash = 14695981039346656037u;

	for (;;) {
		struct slice line;
		size_t used;
		enum smtp_frame got = smtp_line_next(&f, slice_sub(in, from, to), 100, &line, &used);
		from += used;
		if (got == SMTP_FRAME_MORE) {
			if (to == in.n)
				return hash;
			to = to + step < in.n ? to + step : in.n;
			continue;
		}
		hash = (hash ^ (uint64_t)got) * 1099511628211u;
		for (size_t i = 0; i < line.n; i++)
			hash = (hash ^ line.p[i]) * 1099511628211u;
		if (got == SMTP_FRAME_BAD)
			return hash;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size < 4096 ? size : 4096);

	if (in.n == 0)
		return 0;
	check_data(in, SMTP_BARE_REFUSE);
	check_data(in, SMTP_BARE_FIX);
	if (lines(in, 1) != lines(in, 13) || lines(in, 1) != lines(in, in.n))
		abort();
	return 0;
}
