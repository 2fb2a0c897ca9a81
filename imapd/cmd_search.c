/*
 * SEARCH (RFC 3501 6.4.4). Messages are looked at in windows. What the view decides is decided; the rest of a window is asked for
 * with records, and what these leave open with objects, which are read one message a turn so that other sessions of the
 * account are served in between. Numbers are told at the end, in order.
 */
#include "imapd/cmd.h"
#include "imapd/fetch_batch.h"
#include "imapd/search_eval.h"

#include "common/mem.h"

#include <assert.h>

#define PIECE_BYTES (64u * 1024)
/* Messages looked at in one turn by the view alone. */
#define SCAN_MESSAGES 65536

enum search_stage {
	SEARCH_SCAN,	/* the view */
	SEARCH_RECORDS, /* the window's records */
	SEARCH_OBJECTS, /* the objects of those that are still open */
	SEARCH_TELL,
};

struct search_work {
	struct imap_search search;
	struct search_needs needs;
	enum search_stage stage;
	size_t at;		/* next message to look at; in TELL: next result */
	struct uidset open;	/* of the window, not decided */
	struct uidset deep;	/* of these, those that need their objects */
	struct fetch_batch batch;
	uint32_t *found; /* UIDs */
	size_t found_n;
	size_t found_cap;
};

static void
found(struct search_work *w, uint32_t uid)
{
	if (w->found_n == w->found_cap) {
		w->found_cap = w->found_cap ? w->found_cap * 2 : 256;
		w->found = mem_resize(w->found, w->found_cap, sizeof *w->found);
	}
	w->found[w->found_n++] = uid;
}

/* ---- asking ---- */

static void
got_batch(struct session *s, void *reply, const struct err *e)
{
	struct search_work *w = s->work;

	fetch_batch_got(&w->batch, reply, e);
	session_run(s);
}

/* Asks for the messages of the set; those that did not fit are asked for when the batch is done. */
static void
ask(struct session *s, struct search_work *w, const struct uidset *uids, uint8_t want)
{
	struct msg m;

	fetch_batch_close(&w->batch);
	if (fetch_batch_request(&w->batch, s->box->mailbox, want, uids, &m) != 0) {
		session_failed(s, &w->batch.err);
		return;
	}
	session_wait(s);
	session_ask(s, 0, &m, got_batch);
	fetch_batch_sent(&w->batch);
}

static uint8_t
records_want(const struct search_work *w)
{
	return (uint8_t)((w->needs.detail ? STORE_WANT_DETAIL : 0) | (w->needs.summary ? STORE_WANT_SUMMARY : 0));
}

/* Takes UIDs below from out of the set: they are done. */
static void
drop_below(struct uidset *set, uint32_t from)
{
	size_t i = uidset_seek(set, from);

	if (i < set->n && set->ranges[i].first < from)
		set->ranges[i].first = from;
	memmove(set->ranges, set->ranges + i, (set->n - i) * sizeof *set->ranges);
	set->n -= i;
}

/* ---- the stages ---- */

/* False when the set can take no more. */
static bool
scan_one(struct session *s, struct search_work *w, size_t i)
{
	uint32_t uid = s->uids[i];
	struct search_message m = {.number = (uint32_t)i + 1, .entry = session_entry(s, uid), .fd = -1};

	if (m.entry == NULL) {
		s->expunge_issued = true;
		return true;
	}
	m.recent = session_recent(s, uid);
	switch (search_eval(&w->search, &m)) {
	case SEARCH_YES:
		found(w, uid);
		return true;
	case SEARCH_MAYBE:
		return uidset_add(&w->open, uid, uid);
	case SEARCH_NO:
		break;
	}
	return true;
}

/* Fills a window from the view. */
static void
run_scan(struct session *s, struct search_work *w)
{
	unsigned window = fetch_batch_messages(records_want(w));
	unsigned turn = SCAN_MESSAGES;
	unsigned opened = 0;

	while (w->at < s->exists && opened < window && turn-- > 0) {
		size_t before = w->open.n;
		uint32_t last = before ? w->open.ranges[before - 1].last : 0;

		if (!scan_one(s, w, w->at))
			break;
		w->at++;
		opened += w->open.n != before || (before && w->open.ranges[before - 1].last != last);
	}
	if (w->open.n > 0) {
		w->stage = SEARCH_RECORDS;
		ask(s, w, &w->open, records_want(w));
	} else if (w->at >= s->exists) {
		w->stage = SEARCH_TELL;
		w->at = 0;
	}
}

/* The message as the batch has it; false when it is gone from the view. */
static bool
message_of(struct session *s, struct fetch_message *f, bool object, struct search_message *m_r)
{
	size_t i = session_seek(s, f->record.uid);

	*m_r = (struct search_message){
	    .number = (uint32_t)i + 1,
	    .entry = session_entry(s, f->record.uid),
	    .recent = session_recent(s, f->record.uid),
	    .record = &f->record,
	    .summary = f->has_summary ? &f->summary : NULL,
	    .fd = object ? f->fd : -1,
	};
	return m_r->entry != NULL && i < s->exists && s->uids[i] == f->record.uid;
}

/* The batch is at its end: the rest of the set, or the next stage. */
static void
records_done(struct session *s, struct search_work *w)
{
	if (w->batch.next_uid != 0) {
		drop_below(&w->open, w->batch.next_uid);
		ask(s, w, &w->open, records_want(w));
		return;
	}
	uidset_reset(&w->open);
	if (w->deep.n == 0) {
		w->stage = SEARCH_SCAN;
		return;
	}
	w->stage = SEARCH_OBJECTS;
	ask(s, w, &w->deep, STORE_WANT_DETAIL | STORE_WANT_SUMMARY | STORE_WANT_OBJECT);
}

static void
run_records(struct session *s, struct search_work *w)
{
	struct fetch_message f;
	struct search_message m;
	enum fetch_batch_next next;

	while ((next = fetch_batch_next(&w->batch, &f)) != FETCH_BATCH_END) {
		enum search_truth t = SEARCH_NO;

		if (message_of(s, &f, false, &m))
			t = search_eval(&w->search, &m);
		if (t == SEARCH_YES)
			found(w, f.record.uid);
		else if (t == SEARCH_MAYBE && !uidset_add(&w->deep, f.record.uid, f.record.uid))
			break;
	}
	records_done(s, w);
}

/* One message a turn: it may be long. */
static void
run_objects(struct session *s, struct search_work *w)
{
	struct fetch_message f;
	struct search_message m;

	if (fetch_batch_next(&w->batch, &f) == FETCH_BATCH_MESSAGE) {
		if (f.made.n > 0)
			box_give_summary(s->box, f.record.uid, f.summary.sha256, f.made);
		if (message_of(s, &f, true, &m) && search_eval(&w->search, &m) == SEARCH_YES)
			found(w, f.record.uid);
		return;
	}
	if (w->batch.next_uid != 0) {
		drop_below(&w->deep, w->batch.next_uid);
		ask(s, w, &w->deep, STORE_WANT_DETAIL | STORE_WANT_SUMMARY | STORE_WANT_OBJECT);
		return;
	}
	uidset_reset(&w->deep);
	w->stage = SEARCH_SCAN;
}

static int
uid_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void
run_tell(struct session *s, struct search_work *w)
{
	if (w->at == 0) {
		if (w->found_n > 1)
			qsort(w->found, w->found_n, sizeof *w->found, uid_order);
		buf_put_str(&s->out, "* SEARCH");
	}
	while (w->at < w->found_n && s->out.n < PIECE_BYTES) {
		uint32_t uid = w->found[w->at++];

		buf_putf(&s->out, " %u", s->uid ? uid : (uint32_t)session_seek(s, uid) + 1);
	}
	if (w->at < w->found_n)
		return;
	buf_put_str(&s->out, "\r\n");
	session_ok(s, s->uid ? "UID SEARCH completed" : "SEARCH completed");
}

void
cmd_search_run(struct session *s)
{
	struct search_work *w = s->work;

	if (w->stage == SEARCH_RECORDS || w->stage == SEARCH_OBJECTS) {
		if (w->batch.state == FETCH_BATCH_FAILED) {
			session_failed(s, &w->batch.err);
			return;
		}
		assert(w->batch.state == FETCH_BATCH_READY);
	}
	switch (w->stage) {
	case SEARCH_SCAN:
		run_scan(s, w);
		break;
	case SEARCH_RECORDS:
		run_records(s, w);
		break;
	case SEARCH_OBJECTS:
		run_objects(s, w);
		break;
	case SEARCH_TELL:
		run_tell(s, w);
		break;
	}
}

/* ---- the command ---- */

/* US-ASCII and UTF-8, of which one is part of the other. */
static bool
charset_supported(struct slice charset)
{
	return charset.p == NULL || slice_eq_nocase(charset, SLICE("UTF-8")) ||
	    slice_eq_nocase(charset, SLICE("US-ASCII"));
}

void
cmd_search_start(struct session *s, struct imap_scan *args)
{
	struct search_work *w = session_work(s, sizeof *w);
	struct search_context context;
	struct err e;

	if (w == NULL)
		return;
	fetch_batch_init(&w->batch);
	if (!imap_search_args(args, &w->search)) {
		session_scan_failed(s, args);
		return;
	}
	/* RFC 6855 3: all strings are UTF-8 already. */
	if (s->utf8 && w->search.charset.p != NULL) {
		session_bad(s, "CHARSET is not allowed with UTF8=ACCEPT");
		return;
	}
	if (!charset_supported(w->search.charset)) {
		session_answer(s, "NO", "[BADCHARSET (US-ASCII UTF-8)] ", "Charset is not supported");
		return;
	}
	context = (struct search_context){
	    .arena = s->arena,
	    .exists = (uint32_t)s->exists,
	    .last_uid = s->exists ? s->uids[s->exists - 1] : s->uid_next,
	    .keywords = buf_slice(&s->box->view.keywords),
	};
	if (search_prepare(&w->search, &context, &w->needs, &e) != 0)
		session_failed(s, &e);
	else
		session_run(s);
}

void
cmd_search_end(struct session *s)
{
	struct search_work *w = s->work;

	if (w == NULL)
		return;
	fetch_batch_close(&w->batch);
	uidset_fini(&w->open);
	uidset_fini(&w->deep);
	MEM_FREE(&w->found);
}
