#include "smtpd/transport_body.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#define SCAN_BYTES 16384

static void
put_line_end(enum transport_stuff_state *state, struct buf *out)
{
	buf_put_str(out, "\r\n");
	*state = TRANSPORT_STUFF_START;
}

/* Octets of in from `at` on that are neither CR nor LF. */
static size_t
run_of_text(struct slice in, size_t at)
{
	size_t end = at;

	while (end < in.n && in.p[end] != '\r' && in.p[end] != '\n')
		end++;
	return end - at;
}

void
transport_stuff(enum transport_stuff_state *state, struct slice in, struct buf *out)
{
	size_t i = 0;

	while (i < in.n) {
		if (in.p[i] == '\n') {
			put_line_end(state, out);
			i++;
		} else if (*state == TRANSPORT_STUFF_CR) {
			put_line_end(state, out);
		} else if (in.p[i] == '\r') {
			*state = TRANSPORT_STUFF_CR;
			i++;
		} else {
			size_t n = run_of_text(in, i);

			if (*state == TRANSPORT_STUFF_START && in.p[i] == '.')
				buf_put_u8(out, '.');
			buf_put(out, in.p + i, n);
			*state = TRANSPORT_STUFF_TEXT;
			i += n;
		}
	}
	assert(!out->failed);
}

void
transport_stuff_end(enum transport_stuff_state *state, struct buf *out)
{
	if (*state != TRANSPORT_STUFF_START)
		put_line_end(state, out);
	buf_put_str(out, ".\r\n");
	assert(!out->failed);
}

/* The header ends with an empty line; *newlines counts the LFs with nothing but CRs between them. */
static void
scan_piece(struct slice piece, unsigned *newlines, struct transport_scan *scan)
{
	for (size_t i = 0; i < piece.n; i++) {
		uint8_t c = piece.p[i];

		if (c > 127) {
			scan->eightbit = true;
			scan->header = scan->header || *newlines < 2;
		}
		if (*newlines >= 2)
			continue;
		if (c == '\n')
			(*newlines)++;
		else if (c != '\r')
			*newlines = 0;
	}
}

bool
transport_body_scan(int fd, uint64_t from, uint64_t to, struct transport_scan *scan_r)
{
	uint8_t octets[SCAN_BYTES];
	unsigned newlines = 1;

	*scan_r = (struct transport_scan){.eightbit = false};
	while (from < to) {
		size_t ask = to - from < sizeof octets ? (size_t)(to - from) : sizeof octets;
		ssize_t n = pread(fd, octets, ask, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		scan_piece(slice_of(octets, (size_t)n), &newlines, scan_r);
		from += (uint64_t)n;
	}
	return true;
}
