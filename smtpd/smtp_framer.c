/*
 * Where a line and where a message ends is what SMTP smuggling is about: two
 * servers that disagree let one message carry another. So there is one small
 * machine for it, with one transition per octet, and what is not CRLF never
 * ends anything. After a CR or LF alone the message is refused (port 25) and the
 * connection closed by the session, so that nothing behind it can be read as a command
 * even where the sender meant other ends than these.
 */
#include "smtpd/smtp_framer.h"

#include <assert.h>

/* One octet of a command line; false when it may not stand there. */
static bool
line_octet(struct smtp_line_framer *f, uint8_t c, bool *ended_r)
{
	*ended_r = false;
	if (c == '\0')
		return false;
	if (f->cr) {
		*ended_r = c == '\n';
		f->cr = false;
		return *ended_r;
	}
	f->cr = c == '\r';
	return c != '\n';
}

enum smtp_frame
smtp_line_next(struct smtp_line_framer *f, struct slice in, size_t line_bytes_max,
    struct slice *line_r, size_t *used_r)
{
	bool ended = false;
	size_t at = f->scanned;

	assert(at <= in.n);
	*used_r = 0;
	*line_r = slice_of(NULL, 0);
	while (at < in.n && !ended)
		if (!line_octet(f, in.p[at++], &ended))
			return SMTP_FRAME_BAD;
	if (!ended && f->thrown == 0 && at < line_bytes_max) {
		f->scanned = at;
		return SMTP_FRAME_MORE;
	}
	*used_r = at;
	f->scanned = 0;
	if (!ended) {
		f->thrown += at;
		return SMTP_FRAME_MORE;
	}
	bool too_long = f->thrown > 0 || at > line_bytes_max;
	f->thrown = 0;
	if (too_long)
		return SMTP_FRAME_LONG;
	*line_r = slice_sub(in, 0, at - 2);
	return SMTP_FRAME_LINE;
}

void
smtp_data_init(struct smtp_data_framer *f, enum smtp_bare rule)
{
	*f = (struct smtp_data_framer){.state = SMTP_DATA_LINE_START, .bare_rule = rule};
}

/* A CR or LF alone, c: noted, and CRLF in its place when that is the rule. */
static struct slice
bare_octet(struct smtp_data_framer *f, enum smtp_data_state next, struct slice as_it_is)
{
	f->bare = true;
	f->state = next;
	return f->bare_rule == SMTP_BARE_FIX ? SLICE("\r\n") : as_it_is;
}

/* The octet c of a line's start or of its text, the dot of stuffing apart. */
static struct slice
text_octet(struct smtp_data_framer *f, struct slice c, size_t *used_r)
{
	*used_r = 1;
	switch (c.p[0]) {
	case '\r':
		f->state = SMTP_DATA_CR;
		return slice_of(NULL, 0);
	case '\n':
		return bare_octet(f, SMTP_DATA_TEXT, SLICE("\n"));
	case '\0':
		f->nul = true;
		break;
	default:
		break;
	}
	f->state = SMTP_DATA_TEXT;
	return slice_sub(c, 0, 1);
}

/* As many octets as need no thought, at least one, from a state where text goes on. */
static struct slice
text_run(struct smtp_data_framer *f, struct slice in, size_t *used_r)
{
	size_t n = 0;

	while (n < in.n && in.p[n] != '\r' && in.p[n] != '\n' && in.p[n] != '\0')
		n++;
	if (n == 0)
		return text_octet(f, in, used_r);
	*used_r = n;
	return slice_sub(in, 0, n);
}

/* CR was held back: LF makes it a line's end, anything else leaves it alone. The octet itself is
 * not taken then, unless it is needed to go on. */
static struct slice
after_cr(struct smtp_data_framer *f, struct slice in, size_t *used_r)
{
	*used_r = 1;
	if (in.p[0] == '\n') {
		f->state = SMTP_DATA_LINE_START;
		return SLICE("\r\n");
	}
	if (in.p[0] == '\r') /* the first CR is alone, the second one is held back now */
		return bare_octet(f, SMTP_DATA_CR, SLICE("\r"));
	*used_r = 0;
	return bare_octet(f, SMTP_DATA_TEXT, SLICE("\r"));
}

static struct slice
one_step(struct smtp_data_framer *f, struct slice in, size_t *used_r)
{
	switch (f->state) {
	case SMTP_DATA_LINE_START:
		if (in.p[0] != '.')
			return text_octet(f, in, used_r);
		f->state = SMTP_DATA_DOT;
		*used_r = 1;
		return slice_of(NULL, 0);
	case SMTP_DATA_DOT:
		/* The dot was stuffing, or it is the end's; either way it is no part of the message. */
		if (in.p[0] != '\r')
			return text_octet(f, in, used_r);
		f->state = SMTP_DATA_DOT_CR;
		*used_r = 1;
		return slice_of(NULL, 0);
	case SMTP_DATA_DOT_CR:
		if (in.p[0] == '\n') {
			f->state = SMTP_DATA_END;
			*used_r = 1;
			return slice_of(NULL, 0);
		}
		return after_cr(f, in, used_r);
	case SMTP_DATA_CR:
		return after_cr(f, in, used_r);
	case SMTP_DATA_TEXT:
	case SMTP_DATA_END:
		break;
	}
	return text_run(f, in, used_r);
}

struct slice
smtp_data_next(struct smtp_data_framer *f, struct slice in, size_t *used_r)
{
	size_t used = 0;
	struct slice out = slice_of(NULL, 0);

	assert(f->state != SMTP_DATA_END);
	*used_r = 0;
	while (*used_r < in.n && out.n == 0 && f->state != SMTP_DATA_END) {
		out = one_step(f, slice_sub(in, *used_r, in.n), &used);
		*used_r += used;
	}
	return out;
}
