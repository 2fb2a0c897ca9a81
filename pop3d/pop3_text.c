/*
 * Messages are stored with CRLF, but one that a client APPENDed may hold a bare LF. A line begins
 * after any LF here: a client that reads up to CRLF and one that reads up to LF then both find the
 * end where it is, and no message can pretend to be the server's next answer. Nothing but dots is
 * ever added inside a message.
 */
#include "pop3d/pop3_text.h"

void
pop3_text_init(struct pop3_text *t)
{
	*t = (struct pop3_text){0};
}

void
pop3_text_init_top(struct pop3_text *t, uint32_t lines)
{
	*t = (struct pop3_text){.top = true, .lines_left = lines};
}

/* A line of a TOP has ended: is there more to come? */
static void
line_ended(struct pop3_text *t)
{
	if (!t->top)
		return;
	if (t->in_body)
		t->lines_left--;
	else if (t->line_empty)
		t->in_body = true;
	t->done = t->in_body && t->lines_left == 0;
}

/* Octets of piece up to and with the next LF, or all. */
static struct slice
next_part(struct slice piece, size_t from)
{
	struct slice rest = slice_sub(piece, from, piece.n);
	size_t lf = slice_index(rest, '\n');

	return slice_sub(rest, 0, lf + 1);
}

static void
remember_end(struct pop3_text *t, struct slice part)
{
	t->before_last = part.n > 1 ? part.p[part.n - 2] : t->last;
	t->last = part.p[part.n - 1];
	t->any = true;
}

bool
pop3_text_put(struct pop3_text *t, struct slice piece, struct buf *out)
{
	for (size_t at = 0; at < piece.n && !t->done;) {
		struct slice part = next_part(piece, at);
		bool ends = part.p[part.n - 1] == '\n';
		size_t content = part.n - (ends ? 1 : 0);

		if (!t->line_begun) {
			t->line_empty = true;
			if (part.p[0] == '.')
				buf_put_u8(out, '.');
		}
		/* Only a CR before the LF makes a line that is still empty. */
		t->line_empty = t->line_empty &&
				(content == 0 ||
				    (content == 1 && part.p[0] == '\r' && !t->line_begun));
		buf_put_slice(out, part);
		remember_end(t, part);
		t->line_begun = !ends;
		if (ends)
			line_ended(t);
		at += part.n;
	}
	return !out->failed;
}

bool
pop3_text_end(struct pop3_text *t, struct buf *out)
{
	if (t->any && !(t->before_last == '\r' && t->last == '\n'))
		buf_put_str(out, t->last == '\r' ? "\n" : "\r\n");
	return buf_put_str(out, ".\r\n");
}
