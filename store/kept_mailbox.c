/*
 * Mailboxes: the table of them, their changes, and views.
 */
#include "store/kept.h"

#include "common/memfd.h"
#include "store/mailbox_list.h"

#include <unistd.h>

/* Octets of a view collected before they are written to its file. */
#define VIEW_PIECE_BYTES (64u * 1024u)

void
keeper_on_mbox_list(struct edge *e, struct msg_MBOX_LIST *m)
{
	struct err why = {0};
	struct buf b;
	int fd = -1;

	buf_init(&b, STORE_LIST_BYTES_MAX);
	if (index_list(keeper.index, &b, &why) == 0)
		fd = memfd_of(buf_slice(&b), &why);
	KEEPER_SAY(e, MBOX_LIST_REPLY, .id = m->id, .class = why.class, .code = why.code, .bytes = fd < 0 ? 0 : b.n, .table = fd);
	if (fd >= 0)
		close(fd);
	buf_fini(&b);
}

void
keeper_on_mbox_change(struct edge *e, struct msg_MBOX_CHANGE *m)
{
	struct msg answer = {.type = MSG_MBOX_CHANGE_REPLY};
	struct msg_MBOX_CHANGE_REPLY *r = &answer.u.MBOX_CHANGE_REPLY;
	struct err why = {0};

	if (keeper_answered_before(e, m->id, m->origin, m->sequence, &why))
		return;
	if (why.class == ERR_NONE && keeper_begin(&why)) {
		if (index_mailbox_change(keeper.index, m->verb, m->name, m->new_name, m->special_use, &r->mailbox, &r->uidvalidity,
			&why) < 0)
			keeper_abort();
		else
			(void)keeper_commit(e, m->origin, m->sequence, &answer, &why);
	}
	r->id = m->id;
	r->class = why.class;
	r->code = why.code;
	r->text = slice_str(why.client);
	keeper_say(e, &answer);
}

struct view_file {
	int fd;
	uint32_t count;
	struct buf piece;
	struct err *why;
	bool failed;
};

static bool
write_piece(struct view_file *v)
{
	if (memfd_write(v->fd, buf_slice(&v->piece), v->why) < 0)
		v->failed = true;
	buf_reset(&v->piece);
	return !v->failed;
}

static bool
add_entries(void *arg, const struct store_entry *entries, size_t n)
{
	struct view_file *v = arg;

	v->count += (uint32_t)n;
	if (v->piece.n + n * STORE_ENTRY_BYTES > VIEW_PIECE_BYTES && !write_piece(v))
		return false;
	return store_entries_put(&v->piece, entries, n);
}

/* The sealed file of all entries, or -1 and why. */
static int
make_view(uint32_t mailbox, uint32_t *count_r, struct err *why)
{
	struct view_file v = {.fd = memfd_new(why), .why = why};

	if (v.fd < 0)
		return -1;
	buf_init(&v.piece, VIEW_PIECE_BYTES);
	bool ok = index_view(keeper.index, mailbox, add_entries, &v, why) == 0 && !v.failed && write_piece(&v) &&
	    memfd_seal(v.fd, why) == 0;

	buf_fini(&v.piece);
	*count_r = v.count;
	if (ok)
		return v.fd;
	close(v.fd);
	return -1;
}

/* Moves the \Recent mark; gives where it was. */
static uint32_t
claim_recent(struct edge *e, uint32_t mailbox, uint32_t uid, struct err *why)
{
	const struct format_mailbox *box = index_mailbox(keeper.index, mailbox);
	uint32_t was = box->recent_uid;

	if (uid <= was || !keeper_begin(why))
		return was;
	if (index_recent(keeper.index, mailbox, uid, why) < 0)
		keeper_abort();
	else
		(void)keeper_commit(e, slice_of(NULL, 0), 0, NULL, why);
	return was;
}

static int
open_view(struct edge *e, const struct msg_MBOX_OPEN *m, struct msg_MBOX_OPEN_REPLY *r, struct err *why)
{
	if (!keeper_may_use(e, m->mailbox, why))
		return -1;
	const struct format_mailbox *box = index_mailbox(keeper.index, m->mailbox);

	if (box == NULL)
		return err_set(why, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", "mailbox %u", m->mailbox);
	if (!keeper_watch(keeper_peer(e), m->mailbox))
		return err_set(why, ERR_LIMIT, ERR_CODE_UNAVAILABLE, "too many mailboxes open", "more than %u watched",
		    KEEPER_WATCHED_MAX);
	r->recent_uid = m->claim_recent ? claim_recent(e, m->mailbox, box->uidnext, why) : box->recent_uid;
	if (why->class == ERR_NONE)
		r->view = make_view(m->mailbox, &r->count, why);
	if (r->view < 0) {
		keeper_unwatch(keeper_peer(e), m->mailbox);
		return -1;
	}
	box = index_mailbox(keeper.index, m->mailbox);
	r->uidvalidity = box->uidvalidity;
	r->uidnext = box->uidnext;
	r->highestmodseq = box->highestmodseq;
	r->keywords = index_keywords(keeper.index, m->mailbox);
	return 0;
}

void
keeper_on_mbox_open(struct edge *e, struct msg_MBOX_OPEN *m)
{
	struct msg answer = {.type = MSG_MBOX_OPEN_REPLY};
	struct msg_MBOX_OPEN_REPLY *r = &answer.u.MBOX_OPEN_REPLY;
	struct err why = {0};

	r->view = -1;
	(void)open_view(e, m, r, &why);
	r->id = m->id;
	r->mailbox = m->mailbox;
	r->class = why.class;
	r->code = why.code;
	int view = r->view;

	keeper_say(e, &answer);
	if (view >= 0)
		close(view);
}

void
keeper_on_mbox_close(struct edge *e, struct msg_MBOX_CLOSE *m)
{
	keeper_unwatch(keeper_peer(e), m->mailbox);
}

/* Not answered: a mark that is lost makes messages \Recent once more. */
void
keeper_on_mbox_recent(struct edge *e, struct msg_MBOX_RECENT *m)
{
	struct err why = {0};
	const struct format_mailbox *box = index_mailbox(keeper.index, m->mailbox);

	if (box)
		(void)claim_recent(e, m->mailbox, m->uid < box->uidnext ? m->uid : box->uidnext, &why);
}
