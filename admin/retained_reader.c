/*
 * To the child: a batch, u64 octets of records, with their descriptor and those of the objects. From it, for each
 * message of the batch: u8 meant, u8 known, u8 has a date, u64 date, slice From, slice Subject. Integers are big-endian.
 */
#include "admin/retained_reader.h"

#include "common/charset.h"
#include "common/cursor.h"
#include "common/memfd.h"
#include "common/search_text.h"
#include "common/text.h"
#include "store/record.h"
#include "store/retained.h"

#include <assert.h>
#include <unistd.h>


_Static_assert(2 * RETAINED_TEXT_BYTES_MAX + 64 <= CONFINED_PACKET_BYTES_MAX, "an answer fits");
_Static_assert(STORE_OBJECTS_MAX + 1 <= MSG_FDS_MAX, "a batch's descriptors fit");

/* ---- the child ---- */

struct reading {
	int link;
	const struct retained_needles *needles;
	struct buf made; /* a summary that was lost, made anew */
	struct buf answer;
};

static bool
has(struct slice hay, const struct buf *needle)
{
	return needle->n == 0 || text_contains(hay, buf_slice(needle));
}

/* s and fd (-1) may be missing: then what asks for them is not true. */
static bool
is_meant(const struct retained_needles *n, const struct summary *s, int fd)
{
	if (n->from.n + n->subject.n + n->summary.n + n->text.n == 0)
		return true;
	if (s == NULL || !has(s->from, &n->from) || !has(s->subject, &n->subject))
		return false;
	if (!has(s->from, &n->summary) && !has(s->to, &n->summary) && !has(s->cc, &n->summary) &&
	    !has(s->subject, &n->summary) && !has(s->preview, &n->summary))
		return false;
	return n->text.n == 0 ||
	    (fd >= 0 && (search_header_text(fd, s, buf_slice(&n->text)) || search_body(fd, s, buf_slice(&n->text))));
}

static struct slice
make_summary(struct reading *r, int fd)
{
	buf_reset(&r->made);
	return fd >= 0 && summary_of_file(fd, &r->made) ? buf_slice(&r->made) : slice_of(NULL, 0);
}

static void
answer(struct reading *r, const struct store_retained *m, int fd)
{
	struct buf *b = &r->answer;
	struct summary s;
	bool known = summary_decode(slice_empty(m->summary) ? make_summary(r, fd) : m->summary, &s);

	buf_reset(b);
	put_u8(b, is_meant(r->needles, known ? &s : NULL, fd));
	put_u8(b, known);
	put_u8(b, known && s.has_date);
	put_u64(b, known && s.has_date ? (uint64_t)s.date.seconds : 0);
	put_slice(b, known ? utf8_cut(s.from, RETAINED_TEXT_BYTES_MAX) : slice_of(NULL, 0));
	put_slice(b, known ? utf8_cut(s.subject, RETAINED_TEXT_BYTES_MAX) : slice_of(NULL, 0));
	confined_give(r->link, buf_slice(b));
}

static void
answer_batch(struct reading *r, uint64_t bytes, const struct msg_fds *fds)
{
	struct store_retained m;
	struct memfd_map map;
	unsigned object = 1;

	if (memfd_map(fds->fd[0], bytes, STORE_RECORDS_BYTES_MAX, &map, NULL) < 0)
		return;
	struct cursor c = cursor_of(map.octets);

	while (store_retained_next(&c, &m)) {
		int fd = m.object && object < fds->n ? fds->fd[object++] : -1;

		if (m.uid != 0)
			answer(r, &m, fd);
	}
	memfd_unmap(&map);
}

static void
work(int link, void *arg)
{
	struct reading r = {.link = link, .needles = arg};
	struct slice request;
	struct msg_fds fds;

	buf_init(&r.made, SUMMARY_BYTES_MAX);
	buf_init(&r.answer, CONFINED_PACKET_BYTES_MAX);
	while (confined_take(link, &request, &fds) && fds.n > 0) {
		struct cursor c = cursor_of(request);

		answer_batch(&r, cursor_u64(&c), &fds);
		for (unsigned i = 0; i < fds.n; i++)
			(void)close(fds.fd[i]);
	}
}

/* ---- the command ---- */

enum command_status
retained_reader_open(struct retained_reader *r, const struct retained_needles *needles)
{
	/* The child can open nothing. */
	charset_init();
	return confined_begin(&r->child, work, (void *)(uintptr_t)needles);
}

void
retained_reader_close(struct retained_reader *r)
{
	confined_end(&r->child);
}

enum command_status
retained_reader_batch(struct retained_reader *r, int records, uint64_t bytes, const int *objects, unsigned n)
{
	int fds[MSG_FDS_MAX];
	uint8_t octets[8];

	assert(n < MSG_FDS_MAX);
	fds[0] = records;
	memcpy(fds + 1, objects, n * sizeof(int));
	for (unsigned i = 0; i < sizeof octets; i++)
		octets[i] = (uint8_t)(bytes >> (8 * (sizeof octets - 1 - i)));
	return confined_ask(&r->child, slice_of(octets, sizeof octets), fds, n + 1);
}

enum command_status
retained_reader_next(struct retained_reader *r, bool *meant_r, struct retained_text *text_r)
{
	struct slice packet;
	enum command_status status = confined_answer(&r->child, &packet);

	if (status != COMMAND_OK)
		return status;
	struct cursor c = cursor_of(packet);

	*meant_r = cursor_u8(&c) != 0;
	text_r->known = cursor_u8(&c) != 0;
	text_r->has_date = cursor_u8(&c) != 0;
	text_r->date = (int64_t)cursor_u64(&c);
	text_r->from = cursor_slice(&c, RETAINED_TEXT_BYTES_MAX);
	text_r->subject = cursor_slice(&c, RETAINED_TEXT_BYTES_MAX);
	return cursor_done(&c) ? COMMAND_OK : confined_nonsense();
}
