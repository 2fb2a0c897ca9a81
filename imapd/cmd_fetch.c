/*
 * FETCH (RFC 3501 6.4.5). What the view has (FLAGS, UID) is answered from it. For the rest records come from the keeper in
 * batches; while one is being sent the next is asked for. Each batch's messages get \Seen, where that is due, by one request
 * before they are sent, so that the flags in the response are true.
 *
 * A response is made item by item, and waits between two items when the client does not take what was said: no
 * message, however many of its parts are asked for, is held in memory.
 */
#include "imapd/cmd.h"

#include "common/log.h"
#include "imapd/fetch_batch.h"
#include "imapd/fetch_section.h"
#include "imapd/fetch_surrogate.h"
#include "imapd/imap_print.h"

#include <assert.h>

#define PIECE_BYTES (64u * 1024)

struct fetch_work {
	struct imap_fetch fetch;
	struct targets targets;
	uint8_t want;
	bool by_surrogate; /* the client takes no UTF-8 in headers, and asks for what would have it */
	struct fetch_batch batches[2];
	unsigned now;
	bool asking_seen;
	struct uidset seen; /* got \Seen by this command: their flags are told */
	/* The response being made. */
	bool open;
	size_t item;
	bool first;
	struct fetch_message message;
};

/* ---- one response ---- */

static void
put_space(struct session *s, struct fetch_work *w)
{
	if (!w->first)
		buf_put_u8(&s->out, ' ');
	w->first = false;
}

static struct store_entry
entry_of(struct session *s, const struct fetch_message *m)
{
	const struct store_entry *e = session_entry(s, m->record.uid);

	if (e)
		return *e;
	return (struct store_entry){.uid = m->record.uid, .flags = m->record.flags, .keywords = m->record.keywords};
}

static void
put_flags(struct session *s, struct fetch_work *w)
{
	struct store_entry e = entry_of(s, &w->message);

	put_space(s, w);
	session_put_flags(s, &e);
}

static void
put_uid(struct session *s, struct fetch_work *w)
{
	put_space(s, w);
	buf_putf(&s->out, "UID %u", w->message.record.uid);
}

static void
put_text(struct session *s, const char *name, struct slice text)
{
	buf_put_str(&s->out, name);
	buf_put_slice(&s->out, text);
}

/* False when the session has ended. */
static bool
put_item(struct session *s, struct fetch_work *w, const struct imap_fetch_item *item)
{
	const struct fetch_message *m = &w->message;

	switch (item->kind) {
	case IMAP_FETCH_FLAGS:
		put_flags(s, w);
		return true;
	case IMAP_FETCH_UID:
		put_uid(s, w);
		return true;
	default:
		break;
	}
	put_space(s, w);
	switch (item->kind) {
	case IMAP_FETCH_INTERNALDATE:
		buf_put_str(&s->out, "INTERNALDATE ");
		imap_put_date_time(&s->out, m->record.internal_date, m->record.zone_minutes);
		return true;
	case IMAP_FETCH_RFC822_SIZE:
		buf_putf(&s->out, "RFC822.SIZE %llu", (unsigned long long)m->record.size);
		return true;
	case IMAP_FETCH_ENVELOPE:
		put_text(s, "ENVELOPE ", m->summary.envelope);
		return true;
	case IMAP_FETCH_BODY_STRUCT:
		put_text(s, "BODY ", m->summary.body);
		return true;
	case IMAP_FETCH_BODYSTRUCTURE:
		put_text(s, "BODYSTRUCTURE ", m->summary.bodystructure);
		return true;
	default:
		return fetch_section(s, item, m->has_summary ? &m->summary : NULL, m->fd, m->record.size);
	}
}

static void
open_response(struct session *s, struct fetch_work *w)
{
	uint32_t uid = w->message.record.uid;
	bool seen = uidset_contains(&w->seen, uid);

	w->open = true;
	w->first = true;
	w->item = 0;
	buf_putf(&s->out, "* %zu FETCH (", session_seek(s, uid) + 1);
	if (s->uid && !w->fetch.want_uid)
		put_uid(s, w);
	if (seen && !w->fetch.want_flags)
		put_flags(s, w);
}

/* Goes on with the open response: true when it is whole, false when the client must read first, or the session ended. */
static bool
go_on_response(struct session *s, struct fetch_work *w)
{
	while (w->item < w->fetch.items_n) {
		if (!put_item(s, w, &w->fetch.items[w->item++]))
			return false;
		if (w->item < w->fetch.items_n && (s->out.n >= PIECE_BYTES || stream_full(s->stream)) &&
		    !session_push(s))
			return false;
	}
	buf_put_str(&s->out, ")\r\n");
	w->open = false;
	return true;
}

/* ---- from the view alone ---- */

static void
run_view(struct session *s, struct fetch_work *w)
{
	size_t i;

	while (s->out.n < PIECE_BYTES) {
		const struct store_entry *e;

		if (!targets_next(&w->targets, &i)) {
			session_ok(s, s->uid ? "UID FETCH completed" : "FETCH completed");
			return;
		}
		e = session_entry(s, s->uids[i]);
		if (e == NULL) {
			s->expunge_issued = true;
			continue;
		}
		w->message.record = (struct store_record){.uid = e->uid};
		open_response(s, w);
		(void)go_on_response(s, w);
	}
}

/* ---- from the keeper's records ---- */

static void
wake(struct session *s)
{
	if (s->phase == SESSION_WAIT)
		session_run(s);
}

static void
got_batch(struct session *s, unsigned slot, void *reply, const struct err *e)
{
	struct fetch_work *w = s->work;
	struct fetch_batch *b = &w->batches[slot];

	fetch_batch_got(b, reply, e);
	if (b->next_uid != 0) /* it had no room for all: the next one begins there */
		targets_seek(&w->targets, session_seek(s, b->next_uid));
	wake(s);
}

static void
got_batch_0(struct session *s, void *reply, const struct err *e)
{
	got_batch(s, 0, reply, e);
}

static void
got_batch_1(struct session *s, void *reply, const struct err *e)
{
	got_batch(s, 1, reply, e);
}

/* Asks for the next messages into that batch, if there are any. */
static void
ask_batch(struct session *s, struct fetch_work *w, unsigned slot)
{
	unsigned max = fetch_batch_messages(w->want);
	struct uidset uids = {0};
	struct msg m;
	size_t i;

	while (max-- > 0 && targets_next(&w->targets, &i))
		if (!uidset_add(&uids, s->uids[i], s->uids[i]))
			break;
	if (uids.n > 0 && fetch_batch_request(&w->batches[slot], s->box->mailbox, w->want, &uids, &m) == 0) {
		session_ask(s, slot, &m, slot == 0 ? got_batch_0 : got_batch_1);
		fetch_batch_sent(&w->batches[slot]);
	}
	uidset_fini(&uids);
}

static void
got_seen(struct session *s, void *reply, const struct err *e)
{
	const struct msg_MSG_FLAGS_REPLY *m = reply;
	struct fetch_work *w = s->work;

	(void)e; /* without \Seen the messages can be read all the same */
	w->asking_seen = false;
	if (m)
		session_forget_own(s, m->modseq);
	else
		uidset_reset(&w->seen);
	wake(s);
}

/* Asks for \Seen on what the batch has and lacks it. False when nothing needs it. */
static bool
ask_seen(struct session *s, struct fetch_work *w, struct fetch_batch *b)
{
	struct msg m = {.type = MSG_MSG_FLAGS};
	struct buf buf;
	struct err e;

	if (!w->fetch.sets_seen || s->readonly || b->seen_asked)
		return false;
	b->seen_asked = true;
	uidset_reset(&w->seen);
	fetch_batch_unseen(b, &s->box->view, &w->seen);
	if (w->seen.n == 0)
		return false;
	m.u.MSG_FLAGS.mailbox = s->box->mailbox;
	m.u.MSG_FLAGS.mode = STORE_FLAGS_ADD;
	m.u.MSG_FLAGS.flags = STORE_FLAG_SEEN;
	m.u.MSG_FLAGS.unchangedsince = UINT64_MAX;
	buf_init(&buf, UIDSET_FIELD_BYTES_MAX);
	w->asking_seen = uidset_send(&w->seen, &buf, &m.u.MSG_FLAGS.uids, &m.u.MSG_FLAGS.uids_fd, &e) == 0;
	if (w->asking_seen)
		session_ask(s, 2, &m, got_seen);
	if (w->asking_seen && m.u.MSG_FLAGS.uids_fd >= 0)
		fetch_fd_close(&m.u.MSG_FLAGS.uids_fd);
	buf_fini(&buf);
	return w->asking_seen;
}

/* From this message on the records have to bring more: its summary was lost, or a surrogate may be due. */
static void
restart_with(struct session *s, struct fetch_work *w, uint8_t more, uint32_t uid)
{
	w->want |= more;
	for (unsigned i = 0; i < 2; i++) {
		keeper_forget(&s->requests[i].request);
		fetch_batch_close(&w->batches[i]);
	}
	targets_seek(&w->targets, session_seek(s, uid));
}

static void
all_sent(struct session *s, struct fetch_work *w)
{
	session_look_expunged(s, &w->targets);
	session_ok(s, s->uid ? "UID FETCH completed" : "FETCH completed");
}

/* Only a summary tells whether some message of the batch needs a surrogate: asks again, before anything of it was said or done. */
static bool
lacks_summaries(struct session *s, struct fetch_work *w, struct fetch_batch *b)
{
	uint32_t uid = 0;

	if (w->by_surrogate && !(b->want & STORE_WANT_SUMMARY) && !b->looked_through)
		uid = fetch_batch_unsure(b);
	b->looked_through = true;
	if (uid == 0)
		return false;
	restart_with(s, w, STORE_WANT_SUMMARY, uid);
	return true;
}

/* Puts the message into the form that the client takes; false when it has to be asked for again, or the command is over. */
static bool
fit_to_client(struct session *s, struct fetch_work *w)
{
	struct fetch_message *m = &w->message;
	struct err e;

	if (!w->by_surrogate || m->record.ascii_headers || m->summary.ascii_headers)
		return true;
	if (m->fd < 0) {
		restart_with(s, w, STORE_WANT_OBJECT, m->record.uid);
		return false;
	}
	if (fetch_surrogate(s, m, &e) == 0)
		return true;
	log_event(LOG_ERROR, slice_str(s->name), "surrogate-failed", LOG_NUM("uid", m->record.uid), LOG_ERR(&e), LOG_END);
	session_failed(s, &e);
	return false;
}

/* Takes up the next message of the batch; at its end the other batch is the present one. */
static void
next_message(struct session *s, struct fetch_work *w, struct fetch_batch *b)
{
	size_t i;

	switch (fetch_batch_next(b, &w->message)) {
	case FETCH_BATCH_END:
		fetch_batch_close(b);
		w->now = !w->now;
		return;
	case FETCH_BATCH_NO_SUMMARY:
		restart_with(s, w, STORE_WANT_OBJECT, w->message.record.uid);
		return;
	case FETCH_BATCH_MESSAGE:
		if (w->message.made.n > 0)
			box_give_summary(s->box, w->message.record.uid, w->message.summary.sha256, w->message.made);
		i = session_seek(s, w->message.record.uid);
		if (!fit_to_client(s, w))
			return;
		if (i < s->exists && s->uids[i] == w->message.record.uid)
			open_response(s, w);
		return;
	}
}

/* One step; false when there is nothing to do but wait, or the command is over. */
static bool
run_batches(struct session *s, struct fetch_work *w)
{
	struct fetch_batch *b = &w->batches[w->now];

	if (w->open)
		return go_on_response(s, w);
	switch (b->state) {
	case FETCH_BATCH_IDLE:
		ask_batch(s, w, w->now);
		if (b->state == FETCH_BATCH_IDLE) {
			all_sent(s, w);
			return false;
		}
		return true;
	case FETCH_BATCH_ASKED:
		session_wait(s);
		return false;
	case FETCH_BATCH_FAILED:
		session_failed(s, &b->err);
		return false;
	case FETCH_BATCH_READY:
		break;
	}
	if (!w->asking_seen && lacks_summaries(s, w, b))
		return true;
	if (w->asking_seen || ask_seen(s, w, b)) {
		session_wait(s);
		return false;
	}
	if (w->batches[!w->now].state == FETCH_BATCH_IDLE)
		ask_batch(s, w, !w->now);
	next_message(s, w, b);
	return s->phase == SESSION_RUN;
}

/* ---- the command ---- */

static uint8_t
wanted(const struct imap_fetch *f)
{
	uint8_t want = 0;

	for (size_t i = 0; i < f->items_n; i++) {
		switch (f->items[i].kind) {
		case IMAP_FETCH_FLAGS:
		case IMAP_FETCH_UID:
			break;
		case IMAP_FETCH_INTERNALDATE:
		case IMAP_FETCH_RFC822_SIZE:
			want |= STORE_WANT_DETAIL;
			break;
		case IMAP_FETCH_SECTION:
			want |= STORE_WANT_DETAIL | STORE_WANT_OBJECT;
			if (fetch_section_needs_summary(&f->items[i]))
				want |= STORE_WANT_SUMMARY;
			break;
		default:
			want |= STORE_WANT_SUMMARY;
			break;
		}
	}
	return want;
}

/* True when some item is of the message's text. */
static bool
shows_text(const struct imap_fetch *f)
{
	for (size_t i = 0; i < f->items_n; i++)
		if (f->items[i].kind != IMAP_FETCH_FLAGS && f->items[i].kind != IMAP_FETCH_UID &&
		    f->items[i].kind != IMAP_FETCH_INTERNALDATE)
			return true;
	return false;
}

void
cmd_fetch_start(struct session *s, struct imap_scan *args)
{
	struct fetch_work *w = session_work(s, sizeof *w);

	if (w == NULL)
		return;
	fetch_batch_init(&w->batches[0]);
	fetch_batch_init(&w->batches[1]);
	w->message.fd = -1;
	if (!imap_fetch_args(args, &w->fetch)) {
		session_scan_failed(s, args);
		return;
	}
	if (!session_targets(s, &w->fetch.set, s->uid, &w->targets))
		return;
	w->want = wanted(&w->fetch);
	w->by_surrogate = !s->utf8 && shows_text(&w->fetch);
	session_run(s);
}

void
cmd_fetch_run(struct session *s)
{
	struct fetch_work *w = s->work;

	if (w->want == 0) {
		run_view(s, w);
		return;
	}
	while (s->out.n < PIECE_BYTES && !stream_full(s->stream) && run_batches(s, w))
		;
}

void
cmd_fetch_end(struct session *s)
{
	struct fetch_work *w = s->work;

	if (w == NULL)
		return;
	fetch_batch_close(&w->batches[0]);
	fetch_batch_close(&w->batches[1]);
	uidset_fini(&w->seen);
	fetch_surrogate_keep(s);
}
