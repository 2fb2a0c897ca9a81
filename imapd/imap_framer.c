/*
 * Why the literals are not found by the grammar: the octets after "{n}" are not text, and whether they come at
 * all depends on the answer; so the one thing the framer understands is a line's end. RFC 7888 3 says the same:
 * "{" number ["+"] "}" right before CRLF is a literal, even inside what the grammar will refuse.
 *
 * A refused command is still read to its end when non-synchronising literals belong to it, so
 * that none of their octets is ever taken for a command (the trap of RFC 7888 4).
 */
#include "imapd/imap_framer.h"

#include <assert.h>

/* Enough for "{" INT64_MAX "+}". */
#define TAIL_BYTES 32
/* A buffer that grew beyond this is given back between commands. */
#define KEEP_BYTES 8192

void
imap_framer_init(struct imap_framer *f, struct imap_framer_limits limits)
{
	assert(limits.command_bytes >= limits.line_bytes);
	assert(limits.command_bytes / 2 > TAIL_BYTES);
	*f = (struct imap_framer){.limits = limits};
	buf_init(&f->text, limits.command_bytes);
}

void
imap_framer_fini(struct imap_framer *f)
{
	buf_fini(&f->text);
}

void
imap_framer_limits(struct imap_framer *f, struct imap_framer_limits limits)
{
	f->limits = limits;
	f->text.max = limits.command_bytes > f->text.n ? limits.command_bytes : f->text.n;
}

void
imap_framer_plain(struct imap_framer *f, bool on)
{
	f->plain = on;
}

struct slice
imap_framer_command(const struct imap_framer *f)
{
	return buf_slice(&f->text);
}

bool
imap_framer_idle(const struct imap_framer *f)
{
	return f->state == IMAP_FRAMER_LINE && f->text.n == 0 && f->line_bytes == 0;
}

void
imap_framer_next(struct imap_framer *f)
{
	if (f->text.cap > KEEP_BYTES)
		buf_fini(&f->text);
	buf_reset(&f->text);
	f->text.max = f->limits.command_bytes;
	f->state = IMAP_FRAMER_LINE;
	f->line_start = 0;
	f->line_bytes = 0;
	f->cr = false;
	f->bad = false;
	f->answered = false;
	f->why = NULL;
	f->literal_left = 0;
}

static void
fail(struct imap_framer *f, const char *why)
{
	f->bad = true;
	if (f->why == NULL)
		f->why = why;
}

/* "{" 1*DIGIT ["+"] "}" at the end of the line just read. */
static bool
line_announces(struct imap_framer *f)
{
	struct slice line = slice_sub(buf_slice(&f->text), f->line_start, f->text.n);
	size_t open = slice_rindex(line, '{');
	struct slice number;

	if (f->plain || open == line.n || line.p[line.n - 1] != '}')
		return false;
	number = slice_sub(line, open + 1, line.n - 1);
	f->literal_sync = number.n == 0 || number.p[number.n - 1] != '+';
	if (!f->literal_sync)
		number.n--;
	return slice_u64(number, INT64_MAX, &f->literal_octets);
}

static enum imap_frame
command_done(struct imap_framer *f)
{
	if (f->answered) {
		imap_framer_next(f);
		return IMAP_FRAME_MORE;
	}
	f->state = IMAP_FRAMER_DONE;
	return f->bad ? IMAP_FRAME_ERROR : IMAP_FRAME_COMMAND;
}

/* Starts to drop the literal that was announced; the command is refused. */
static enum imap_frame
drop_literal(struct imap_framer *f)
{
	if (f->literal_octets > f->limits.drop_bytes) {
		f->why = "Literal is too long";
		f->state = IMAP_FRAMER_DONE;
		return IMAP_FRAME_FATAL;
	}
	f->literal_left = f->literal_octets;
	f->state = IMAP_FRAMER_DROPPING;
	return IMAP_FRAME_MORE;
}

/* A line is in text, its LF just read. */
static enum imap_frame
line_done(struct imap_framer *f, bool crlf)
{
	bool announces;

	if (!crlf)
		fail(f, "Lines end in CRLF");
	announces = line_announces(f);
	f->line_bytes = 0;
	f->cr = false;
	if (!announces)
		return command_done(f);
	if (f->bad && f->literal_sync) /* it will be refused, and so never sent */
		return command_done(f);
	if (f->bad)
		return drop_literal(f);
	f->state = IMAP_FRAMER_LITERAL;
	return IMAP_FRAME_LITERAL;
}

/*
 * Keeps the octet. In a command that is too long the first half of the limit is kept (for the tag) and behind it
 * the last octets, so that a non-synchronising literal at the line's end is still seen: its octets must
 * not be taken for commands.
 */
static void
keep(struct imap_framer *f, uint8_t c)
{
	size_t half = f->text.max / 2;

	if (f->text.n == f->text.max) {
		fail(f, "Command is too long");
		memmove(f->text.p + half, f->text.p + f->text.n - TAIL_BYTES, TAIL_BYTES);
		f->text.n = half + TAIL_BYTES;
		f->line_start = half;
	}
	(void)buf_put_u8(&f->text, c);
}

static enum imap_frame
take_octet(struct imap_framer *f, uint8_t c)
{
	bool cr = f->cr;

	f->line_bytes++;
	if (c == '\n')
		return line_done(f, cr);
	f->cr = c == '\r';
	if (cr)
		fail(f, "CR without LF");
	if (c == '\r')
		return IMAP_FRAME_MORE;
	if (c == 0)
		fail(f, "NUL in a command");
	if (f->line_bytes + 1 >= f->limits.line_bytes)
		fail(f, "Line is too long");
	keep(f, c);
	return IMAP_FRAME_MORE;
}

static enum imap_frame
feed_line(struct imap_framer *f, struct slice in, size_t *used_r)
{
	enum imap_frame got = IMAP_FRAME_MORE;
	size_t i = 0;

	while (i < in.n && got == IMAP_FRAME_MORE && f->state == IMAP_FRAMER_LINE)
		got = take_octet(f, in.p[i++]);
	*used_r = i;
	return got;
}

/* The octets of in that belong to the literal; counts them. */
static struct slice
literal_part(struct imap_framer *f, struct slice in)
{
	struct slice part = in;

	if (part.n > f->literal_left)
		part.n = (size_t)f->literal_left;
	f->literal_left -= part.n;
	return part;
}

static void
literal_done(struct imap_framer *f)
{
	if (f->literal_left > 0)
		return;
	f->state = IMAP_FRAMER_LINE;
	f->line_start = f->text.n;
	f->line_bytes = 0;
	f->cr = false;
}

static enum imap_frame
feed_literal(struct imap_framer *f, struct slice in, size_t *used_r)
{
	bool spooling = f->state == IMAP_FRAMER_SPOOLING;
	struct slice part = literal_part(f, in);

	*used_r = part.n;
	if (spooling)
		f->spool = part;
	else if (f->state == IMAP_FRAMER_INLINE && !buf_put_slice(&f->text, part))
		fail(f, "Command is too long");
	literal_done(f);
	return spooling && part.n > 0 ? IMAP_FRAME_SPOOL : IMAP_FRAME_MORE;
}

enum imap_frame
imap_framer_feed(struct imap_framer *f, struct slice in, size_t *used_r)
{
	enum imap_frame got = IMAP_FRAME_MORE;
	size_t total = 0;

	assert(f->state != IMAP_FRAMER_DONE && f->state != IMAP_FRAMER_LITERAL);
	while (in.n > 0 && got == IMAP_FRAME_MORE) {
		size_t used = 0;

		got = f->state == IMAP_FRAMER_LINE ? feed_line(f, in, &used)
						   : feed_literal(f, in, &used);
		total += used;
		in = slice_sub(in, used, in.n);
	}
	*used_r = total;
	return got;
}

static void
literal_begin(struct imap_framer *f, enum imap_framer_state state)
{
	f->literal_left = f->literal_octets;
	f->state = state;
	literal_done(f);
}

bool
imap_framer_accept(struct imap_framer *f)
{
	assert(f->state == IMAP_FRAMER_LITERAL);
	if (f->literal_octets + 2 > f->text.max - f->text.n)
		return false;
	(void)buf_put(&f->text, "\r\n", 2);
	literal_begin(f, IMAP_FRAMER_INLINE);
	return true;
}

void
imap_framer_spool(struct imap_framer *f)
{
	assert(f->state == IMAP_FRAMER_LITERAL);
	literal_begin(f, IMAP_FRAMER_SPOOLING);
}

/* The caller has answered the command: its end is no event any more. */
static void
answered(struct imap_framer *f)
{
	f->bad = true;
	f->answered = true;
}

bool
imap_framer_refuse(struct imap_framer *f)
{
	assert(f->state == IMAP_FRAMER_LITERAL);
	if (f->literal_sync) {
		imap_framer_next(f);
		return true;
	}
	answered(f);
	if (drop_literal(f) == IMAP_FRAME_FATAL)
		return false;
	literal_done(f);
	return true;
}
