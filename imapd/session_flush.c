/*
 * Telling a session what has changed in its mailbox, in the order that keeps numbers right: EXPUNGE from the highest
 * number down (so that none of them shifts another), then EXISTS and RECENT, new keywords, and flags. Each call
 * tells at most LINES_PER_CALL lines, so that a million changes meet back-pressure like everything else.
 *
 * Whose change was it? The keeper gives each change one modseq and sends its events before its reply. The messages
 * of the last modseq are kept apart (`last`): when the reply to a STORE has that modseq, they are this
 * session's own change and .SILENT drops them; any other change moved them to `pending` before.
 */
#include "imapd/session.h"

#include "common/mem.h"
#include "imapd/imap_print.h"

#include <assert.h>

#define LINES_PER_CALL 2048
#define BYTES_PER_CALL (256u * 1024)
/* Ranges of out-of-order changes that are collected before they are sorted and joined. */
#define SORT_AT_RANGES 4096

/* ---- noting ---- */

static void
set_add(struct uidset *set, uint32_t first, uint32_t last)
{
	if (set->unsorted && set->n >= SORT_AT_RANGES && (set->n & (set->n - 1)) == 0)
		uidset_sort(set);
	if (uidset_add(set, first, last))
		return;
	uidset_sort(set);
	if (uidset_add(set, first, last))
		return;
	uidset_reset(set); /* telling too much is right too */
	if (!uidset_add(set, 1, UINT32_MAX))
		abort(); /* an empty set takes one range */
}

static void
set_move(struct uidset *to, struct uidset *from)
{
	for (size_t i = 0; i < from->n; i++)
		set_add(to, from->ranges[i].first, from->ranges[i].last);
	uidset_reset(from);
}

void
session_box_flags(struct session *s, const struct store_entry *e)
{
	if (!s->selected || e->uid >= s->uid_next)
		return;
	if (e->modseq != s->last_modseq) {
		set_move(&s->pending, &s->last);
		s->last_modseq = e->modseq;
	}
	set_add(&s->last, e->uid, e->uid);
}

void
session_box_recent(struct session *s, uint32_t first, uint32_t last)
{
	set_add(&s->recent, first, last);
	uidset_sort(&s->recent);
}

void
session_forget_own(struct session *s, uint64_t modseq)
{
	if (s->last_modseq == modseq)
		uidset_reset(&s->last);
}

void
session_tell_flags(struct session *s, const struct uidset *uids)
{
	for (size_t i = 0; i < uids->n; i++)
		set_add(&s->pending, uids->ranges[i].first, uids->ranges[i].last);
}

/* ---- the numbering ---- */

static void
uids_push(struct session *s, uint32_t uid)
{
	if (s->exists == s->uids_cap) {
		s->uids_cap = s->uids_cap ? s->uids_cap * 2 : 64;
		s->uids = mem_resize(s->uids, s->uids_cap, sizeof *s->uids);
	}
	s->uids[s->exists++] = uid;
}

/* Appends the view's messages that are not numbered yet. */
static void
take_new(struct session *s)
{
	const struct store_view *v = &s->box->view;

	for (size_t i = store_view_seek(v, s->uid_next); i < v->count; i++)
		uids_push(s, v->entries[i].uid);
	if (v->uidnext > s->uid_next)
		s->uid_next = v->uidnext;
}

void
session_flush_start(struct session *s)
{
	session_flush_end(s);
	s->uid_next = 1;
	take_new(s);
	s->keywords_told = s->box->view.keywords.n;
	s->selected = true;
}

void
session_flush_end(struct session *s)
{
	MEM_FREE(&s->uids);
	MEM_FREE(&s->expunged);
	s->exists = 0;
	s->uids_cap = 0;
	s->expunged_n = 0;
	s->new_due = false;
	s->expunge_due = false;
	s->selected = false;
	s->last_modseq = 0;
	s->telling_uid = 0;
	s->telling_at = 0;
	uidset_fini(&s->recent);
	uidset_fini(&s->pending);
	uidset_fini(&s->last);
	uidset_fini(&s->telling);
}

size_t
session_seek(const struct session *s, uint32_t uid)
{
	size_t low = 0;
	size_t high = s->exists;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->uids[mid] < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

size_t
session_recent_count(const struct session *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->recent.n; i++) {
		const struct uid_range *r = &s->recent.ranges[i];
		size_t from = session_seek(s, r->first);
		size_t to = r->last == UINT32_MAX ? s->exists : session_seek(s, r->last + 1);

		n += to - from;
	}
	return n;
}

bool
session_recent(const struct session *s, uint32_t uid)
{
	return uidset_contains(&s->recent, uid);
}

const struct store_entry *
session_entry(const struct session *s, uint32_t uid)
{
	return store_view_find(&s->box->view, uid);
}

/* ---- telling ---- */

/* Finds what is numbered but no longer in the view, and takes it out of the numbering. */
static void
collect_expunged(struct session *s)
{
	const struct store_view *v = &s->box->view;
	size_t kept = 0;
	size_t cap = 0;
	size_t k = 0;

	s->expunge_due = false;
	for (size_t i = 0; i < s->exists; i++) {
		while (k < v->count && v->entries[k].uid < s->uids[i])
			k++;
		if (k < v->count && v->entries[k].uid == s->uids[i]) {
			s->uids[kept++] = s->uids[i];
			continue;
		}
		if (s->expunged_n == cap) {
			cap = cap ? cap * 2 : 64;
			s->expunged = mem_resize(s->expunged, cap, sizeof *s->expunged);
		}
		s->expunged[s->expunged_n++] = (uint32_t)(i + 1);
	}
	s->exists = kept;
}

static bool
tell_expunged(struct session *s, unsigned *lines)
{
	while (s->expunged_n > 0 && *lines > 0) {
		buf_putf(&s->out, "* %u EXPUNGE\r\n", s->expunged[--s->expunged_n]);
		--*lines;
	}
	if (s->expunged_n > 0)
		return false;
	MEM_FREE(&s->expunged);
	return true;
}

static void
tell_new(struct session *s)
{
	size_t before = s->exists;

	s->new_due = false;
	take_new(s);
	if (s->exists == before)
		return;
	buf_putf(&s->out, "* %zu EXISTS\r\n* %zu RECENT\r\n", s->exists, session_recent_count(s));
}

void
session_put_flag_names(struct session *s)
{
	struct slice keywords = buf_slice(&s->box->view.keywords);

	s->keywords_told = keywords.n;
	buf_put_str(&s->out, "* FLAGS ");
	imap_put_all_flags(&s->out, keywords, false);
	buf_put_str(&s->out, "\r\n* OK [PERMANENTFLAGS ");
	if (s->readonly)
		buf_put_str(&s->out, "()");
	else
		imap_put_all_flags(&s->out, keywords, true);
	buf_put_str(&s->out, "] Flags permitted\r\n");
}

void
session_put_flags(struct session *s, const struct store_entry *e)
{
	buf_put_str(&s->out, "FLAGS ");
	imap_put_flags(&s->out, e->flags, e->keywords, buf_slice(&s->box->view.keywords),
	    session_recent(s, e->uid));
}

static void
tell_one(struct session *s, uint32_t uid)
{
	size_t i = session_seek(s, uid);
	const struct store_entry *e = i < s->exists && s->uids[i] == uid ? session_entry(s, uid) : NULL;

	if (e == NULL)
		return;
	buf_putf(&s->out, "* %zu FETCH (", i + 1);
	session_put_flags(s, e);
	if (s->uid) /* RFC 3501 6.4.8 */
		buf_putf(&s->out, " UID %u", uid);
	buf_put_str(&s->out, ")\r\n");
}

/* A range told as "everything" must not be walked number by number. */
static void
clip(struct session *s, struct uidset *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (set->ranges[i].last >= s->uid_next)
			set->ranges[i].last = s->uid_next - 1;
}

static void
begin_flags(struct session *s)
{
	struct uidset old = s->telling;

	set_move(&s->pending, &s->last);
	uidset_sort(&s->pending);
	s->telling = s->pending;
	clip(s, &s->telling);
	s->pending = old;
	uidset_reset(&s->pending);
	s->telling_at = 0;
	s->telling_uid = 0;
}

static bool
tell_flags(struct session *s, unsigned *lines)
{
	if (s->telling.n == 0 && (s->pending.n > 0 || s->last.n > 0))
		begin_flags(s);
	while (s->telling.n > 0 && *lines > 0 && s->out.n < BYTES_PER_CALL) {
		if (!uidset_next(&s->telling, &s->telling_at, &s->telling_uid)) {
			uidset_fini(&s->telling);
			break;
		}
		tell_one(s, s->telling_uid);
		--*lines;
	}
	return s->telling.n == 0;
}

bool
session_dirty(const struct session *s)
{
	if (!s->selected || s->box == NULL || s->box->state != BOX_OPEN)
		return false;
	return s->new_due || s->expunge_due || s->expunged_n > 0 || s->pending.n > 0 || s->last.n > 0 ||
	    s->telling.n > 0 || s->keywords_told != s->box->view.keywords.n;
}

bool
session_flush(struct session *s, bool expunge)
{
	unsigned lines = LINES_PER_CALL;

	if (!session_dirty(s))
		return true;
	if (expunge && s->expunge_due && s->expunged_n == 0)
		collect_expunged(s);
	if (!tell_expunged(s, &lines))
		return false;
	if (s->new_due)
		tell_new(s);
	if (s->keywords_told != s->box->view.keywords.n)
		session_put_flag_names(s);
	return tell_flags(s, &lines);
}
