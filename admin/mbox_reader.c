/*
 * To the child: LOOK or READ, with the file's descriptor. From it: to LOOK one BASE; to READ for each message OCTETS, as
 * many as it takes, and MARKS, and at the end END. The first octet of a packet says which it is; integers are big-endian.
 */
#include "admin/mbox_reader.h"

#include "admin/maildir_parse.h"
#include "common/cursor.h"
#include "store/store.h"

#include <errno.h>
#include <unistd.h>

enum packet {
	LOOK = 'L',
	READ = 'R',
	BASE = 'B',   /* u32 UIDVALIDITY, u32 last UID */
	OCTETS = 'O', /* the rest */
	MARKS = 'M',  /* u64 where it ends in the file, u64 date, u16 zone, u32 flags, u32 UID, u32 keywords lost, u8 internal,
		       * slice keywords */
	END = 'E',    /* u32 class of the error or ERR_NONE, u64 where in the file */
};

#define ALL_FLAGS                                                                                  \
	(STORE_FLAG_SEEN | STORE_FLAG_ANSWERED | STORE_FLAG_FLAGGED | STORE_FLAG_DELETED | STORE_FLAG_DRAFT)
#define ZONE_MINUTES_MAX (100 * 60)

/* ---- the child ---- */

struct reading {
	int link;
	int file;
	struct mbox mbox;
	struct buf out;
};

static int64_t
read_file(void *arg, uint64_t at, void *p, size_t n)
{
	const struct reading *r = arg;
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(r->file, (uint8_t *)p + done, n - done, (off_t)(at + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (int64_t)done;
}

static void
begin_packet(struct reading *r, enum packet what)
{
	buf_reset(&r->out);
	put_u8(&r->out, (uint8_t)what);
}

static void
give_octets(struct reading *r)
{
	if (r->out.n > 1)
		confined_give(r->link, buf_slice(&r->out));
	begin_packet(r, OCTETS);
}

static void
on_octets(void *arg, struct slice octets)
{
	struct reading *r = arg;

	while (octets.n > 0) {
		size_t n = r->out.max - r->out.n;

		n = n < octets.n ? n : octets.n;
		buf_put(&r->out, octets.p, n);
		octets = slice_sub(octets, n, octets.n);
		if (r->out.n == r->out.max)
			give_octets(r);
	}
}

static void
drop_octets(void *arg, struct slice octets)
{
	(void)arg;
	(void)octets;
}

static void
give_marks(struct reading *r, const struct mbox_message *m)
{
	give_octets(r);
	begin_packet(r, MARKS);
	put_u64(&r->out, r->mbox.at);
	put_u64(&r->out, (uint64_t)m->date.seconds);
	put_u16(&r->out, (uint16_t)m->date.zone_minutes);
	put_u32(&r->out, m->flags);
	put_u32(&r->out, m->uid);
	put_u32(&r->out, m->keywords_lost);
	put_u8(&r->out, m->internal);
	put_slice(&r->out, buf_slice(&m->keywords));
	confined_give(r->link, buf_slice(&r->out));
}

static void
read_all(struct reading *r, struct mbox_message *m)
{
	struct err e = {.class = ERR_NONE};
	int next;

	for (;;) {
		begin_packet(r, OCTETS);
		next = mbox_next(&r->mbox, m, on_octets, r, &e);
		if (next <= 0)
			break;
		give_marks(r, m);
	}
	begin_packet(r, END);
	put_u32(&r->out, next < 0 ? e.class : ERR_NONE);
	put_u64(&r->out, r->mbox.at);
	confined_give(r->link, buf_slice(&r->out));
}

static void
look_at_first(struct reading *r, struct mbox_message *m)
{
	struct err e;

	/* When there is none, it is said when the messages are read. */
	if (mbox_next(&r->mbox, m, drop_octets, NULL, &e) < 0)
		r->mbox.uidvalidity = r->mbox.last_uid = 0;
	begin_packet(r, BASE);
	put_u32(&r->out, r->mbox.uidvalidity);
	put_u32(&r->out, r->mbox.last_uid);
	confined_give(r->link, buf_slice(&r->out));
}

static void
work(int link, void *arg)
{
	static struct reading r;
	struct mbox_message m;
	struct slice request;
	struct msg_fds fds;

	(void)arg;
	r.link = link;
	buf_init(&r.out, CONFINED_PACKET_BYTES_MAX);
	buf_init(&m.keywords, MBOX_KEYWORDS_BYTES_MAX);
	while (confined_take(link, &request, &fds) && fds.n == 1) {
		r.file = fds.fd[0];
		mbox_init(&r.mbox, read_file, &r);
		if (request.p[0] == LOOK)
			look_at_first(&r, &m);
		else
			read_all(&r, &m);
		(void)close(r.file);
	}
}

/* ---- the command ---- */

enum command_status
mbox_reader_open(struct mbox_reader *r)
{
	r->at = 0;
	return confined_begin(&r->child, work, NULL);
}

void
mbox_reader_close(struct mbox_reader *r)
{
	confined_end(&r->child);
}

static enum command_status
ask(struct mbox_reader *r, enum packet what, int fd)
{
	uint8_t octet = (uint8_t)what;

	r->at = 0;
	return confined_ask(&r->child, slice_of(&octet, 1), &fd, 1);
}

enum command_status
mbox_reader_look(struct mbox_reader *r, int fd, uint32_t *uidvalidity_r, uint32_t *last_uid_r)
{
	enum command_status status = ask(r, LOOK, fd);
	struct slice answer;

	*uidvalidity_r = *last_uid_r = 0;
	if (status == COMMAND_OK)
		status = confined_answer(&r->child, &answer);
	if (status != COMMAND_OK)
		return status;
	struct cursor c = cursor_of(answer);
	uint8_t what = cursor_u8(&c);

	*uidvalidity_r = cursor_u32(&c);
	*last_uid_r = cursor_u32(&c);
	return what == BASE && cursor_done(&c) && *last_uid_r < UINT32_MAX ? COMMAND_OK : confined_nonsense();
}

enum command_status
mbox_reader_begin(struct mbox_reader *r, int fd)
{
	return ask(r, READ, fd);
}

/* Names, each with LF, that can be keywords. */
static bool
take_keywords(struct slice names, struct buf *b)
{
	struct slice rest = names, name;

	buf_reset(b);
	while (rest.n > 0 && slice_cut(&rest, '\n', &name))
		if (!maildir_keyword_ok(name))
			return false;
	return (names.n == 0 || names.p[names.n - 1] == '\n') && buf_put_slice(b, names);
}

static bool
take_marks(struct mbox_reader *r, struct cursor *c, struct mbox_message *m)
{
	uint64_t at = cursor_u64(c);

	m->date.seconds = (int64_t)cursor_u64(c);
	m->date.zone_minutes = (int16_t)cursor_u16(c);
	m->flags = cursor_u32(c);
	m->uid = cursor_u32(c);
	m->keywords_lost = cursor_u32(c);
	m->internal = cursor_u8(c) != 0;
	struct slice keywords = cursor_slice(c, MBOX_KEYWORDS_BYTES_MAX);

	if (!cursor_done(c) || at < r->at || (m->flags & ~ALL_FLAGS) != 0 || m->date.zone_minutes > ZONE_MINUTES_MAX ||
	    m->date.zone_minutes < -ZONE_MINUTES_MAX)
		return false;
	r->at = at;
	return take_keywords(keywords, &m->keywords);
}

static bool
take_end(struct cursor *c, int *next_r, struct err *e)
{
	uint32_t class = cursor_u32(c);
	uint64_t at = cursor_u64(c);

	*next_r = 0;
	if (class == ERR_TEMP)
		*next_r = err_set(e, ERR_TEMP, ERR_CODE_NONE, "it cannot be read", "it cannot be read");
	else if (class != ERR_NONE)
		*next_r = err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "no mbox", "no From_ line at octet %llu", (unsigned long long)at);
	return cursor_done(c);
}

enum command_status
mbox_reader_next(struct mbox_reader *r, struct mbox_message *msg_r, mbox_octets_fn *out, void *out_arg, int *next_r,
    struct err *e)
{
	enum command_status status;
	struct slice answer;

	while ((status = confined_answer(&r->child, &answer)) == COMMAND_OK) {
		struct cursor c = cursor_of(answer);
		uint8_t what = cursor_u8(&c);

		if (what == OCTETS) {
			out(out_arg, slice_sub(answer, 1, answer.n));
			continue;
		}
		*next_r = 1;
		if (what == MARKS ? take_marks(r, &c, msg_r) : what == END && take_end(&c, next_r, e))
			return COMMAND_OK;
		return confined_nonsense();
	}
	return status;
}
