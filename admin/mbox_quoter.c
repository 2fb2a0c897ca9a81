/*
 * To the child: one octet, with the message's descriptor. From it OCTETS, as many packets as it takes, and END. The first octet of
 * a packet says which it is.
 */
#include "admin/mbox_quoter.h"

#include "common/cursor.h"
#include "common/memfd.h"

#include <unistd.h>

/* Of a line so much is looked at, as in reading (admin/mbox.c). */
#define START_BYTES MBOX_FROM_BYTES_MAX
#define PIECE_BYTES (64u * 1024)

enum packet {
	OCTETS = 'O', /* the rest */
	END = 'E',    /* u8 it could be read, u8 in the header */
};

/* ---- the child ---- */

struct quoting {
	int link;
	bool in_header;
	bool dropping; /* a field that would be taken for a mark */
	bool in_line;  /* the start of the line is given out, or dropped */
	struct buf start;
	struct buf out;
};

static void
give_octets(struct quoting *q)
{
	if (q->out.n > 1)
		confined_give(q->link, buf_slice(&q->out));
	buf_reset(&q->out);
	put_u8(&q->out, OCTETS);
}

static void
put(struct quoting *q, struct slice octets)
{
	while (octets.n > 0) {
		size_t n = q->out.max - q->out.n;

		n = n < octets.n ? n : octets.n;
		buf_put(&q->out, octets.p, n);
		octets = slice_sub(octets, n, octets.n);
		if (q->out.n == q->out.max)
			give_octets(q);
	}
}

static bool
needs_quote(struct slice line)
{
	size_t n = 0;

	while (n < line.n && line.p[n] == '>')
		n++;
	return slice_starts(slice_sub(line, n, line.n), SLICE("From "));
}

/* The start of a line, or all of it: decides what becomes of the line. */
static void
line_start(struct quoting *q, struct slice line)
{
	bool empty = slice_eq(line, SLICE("\n")) || slice_eq(line, SLICE("\r\n"));

	if (q->in_header && !(line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t')))
		q->dropping = mbox_field_is_ours(slice_sub(line, 0, slice_index(line, ':')));
	if (empty)
		q->in_header = q->dropping = false;
	else if (!q->in_header && needs_quote(line))
		put(q, SLICE(">"));
	if (!q->dropping)
		put(q, line);
}

static void
quote(struct quoting *q, struct slice octets)
{
	while (octets.n > 0) {
		size_t n = slice_index(octets, '\n') + 1;

		n = n < octets.n ? n : octets.n;
		if (!q->in_line && n > START_BYTES - q->start.n)
			n = START_BYTES - q->start.n;
		struct slice piece = slice_sub(octets, 0, n);
		bool ends = piece.p[n - 1] == '\n';

		if (q->in_line && !q->dropping)
			put(q, piece);
		else if (!q->in_line)
			buf_put_slice(&q->start, piece);
		if (!q->in_line && (ends || q->start.n == START_BYTES)) {
			line_start(q, buf_slice(&q->start));
			buf_reset(&q->start);
			q->in_line = true;
		}
		if (ends)
			q->in_line = false;
		octets = slice_sub(octets, n, octets.n);
	}
}

static void
quote_message(struct quoting *q, int fd)
{
	static uint8_t piece[PIECE_BYTES];
	uint64_t at = 0;
	int64_t n;

	q->in_header = true;
	q->dropping = q->in_line = false;
	buf_reset(&q->start);
	give_octets(q);
	while ((n = memfd_read(fd, at, piece, sizeof piece, NULL)) > 0) {
		quote(q, slice_of(piece, (size_t)n));
		at += (uint64_t)n;
	}
	if (q->start.n > 0)
		line_start(q, buf_slice(&q->start));
	give_octets(q);
	buf_reset(&q->out);
	put_u8(&q->out, END);
	put_u8(&q->out, n == 0);
	put_u8(&q->out, q->in_header);
	confined_give(q->link, buf_slice(&q->out));
	buf_reset(&q->out);
}

static void
work(int link, void *arg)
{
	struct quoting q = {.link = link};
	struct slice request;
	struct msg_fds fds;

	(void)arg;
	buf_init(&q.start, START_BYTES);
	buf_init(&q.out, CONFINED_PACKET_BYTES_MAX);
	while (confined_take(link, &request, &fds) && fds.n == 1) {
		quote_message(&q, fds.fd[0]);
		(void)close(fds.fd[0]);
	}
}

/* ---- the command ---- */

enum command_status
mbox_quoter_open(struct mbox_quoter *q)
{
	return confined_begin(&q->child, work, NULL);
}

void
mbox_quoter_close(struct mbox_quoter *q)
{
	confined_end(&q->child);
}

int
mbox_quoter_message(struct mbox_quoter *q, int fd, mbox_octets_fn *out, void *out_arg, bool *in_header_r, struct err *e)
{
	enum command_status status = confined_ask(&q->child, SLICE("M"), &fd, 1);
	struct slice answer;

	while (status == COMMAND_OK && (status = confined_answer(&q->child, &answer)) == COMMAND_OK) {
		struct cursor c = cursor_of(answer);
		uint8_t what = cursor_u8(&c);

		if (what == OCTETS) {
			out(out_arg, slice_sub(answer, 1, answer.n));
			continue;
		}
		bool could_be_read = cursor_u8(&c) != 0;

		*in_header_r = cursor_u8(&c) != 0;
		if (what != END || !cursor_done(&c))
			status = confined_nonsense();
		else if (could_be_read)
			return 0;
		break;
	}
	return err_set(e, ERR_TEMP, ERR_CODE_NONE, "it cannot be read", "it cannot be read");
}
