/*
 * LIST and LSUB (RFC 3501 6.3.8, 6.3.9) with CHILDREN (RFC 3348), SPECIAL-USE (RFC 6154), LIST-EXTENDED (RFC 5258) and
 * LIST-STATUS (RFC 5819). The table has every level of the hierarchy as a name of its own, so that "%" finds levels
 * that are no mailboxes by plain matching. Only LSUB has to look further: a level above a subscribed name is
 * shown for "%" though it is not subscribed itself.
 */
#include "imapd/cmd.h"
#include "imapd/imap_print.h"
#include "imapd/list_match.h"

#include <assert.h>

/* One piece of work: the account's other sessions wait for no more. */
#define PIECE_BYTES (64u * 1024)
#define PIECE_NAMES 256u

struct list_work {
	struct imap_list list;
	bool lsub;
	struct mailbox_list *names; /* a reference */
	size_t at;
	struct slice above; /* LSUB: the last subscribed name whose levels were looked at */
};

/* ---- patterns ---- */

/* Reference and pattern as one UTF-8 pattern; what is no name matches nothing. */
static bool
pattern_make(struct session *s, const struct list_work *w, struct slice *pattern)
{
	struct buf wire;
	struct buf text;
	bool ok;

	buf_init(&wire, LIST_PATTERN_BYTES_MAX);
	buf_init(&text, LIST_PATTERN_BYTES_MAX);
	buf_put_slice(&wire, w->list.reference);
	buf_put_slice(&wire, *pattern);
	if (wire.failed || !session_name_read(s, buf_slice(&wire), &text))
		buf_reset(&text);
	ok = arena_copy(s->arena, buf_slice(&text), pattern);
	buf_fini(&wire);
	buf_fini(&text);
	if (!ok)
		session_answer(s, "NO", "[LIMIT] ", "Command is too long");
	return ok;
}

static bool
matches(const struct list_work *w, struct slice name)
{
	for (size_t i = 0; i < w->list.patterns_n; i++)
		if (list_match(w->list.patterns[i], name))
			return true;
	return false;
}

/* ---- one name ---- */

static void
put_attribute(struct buf *b, const char *word)
{
	if (b->p[b->n - 1] != '(')
		buf_put_u8(b, ' ');
	buf_put_str(b, word);
}

/* What a descendant can be looked for. */
enum wanted {
	EXISTS,
	SELECTED_ONES, /* by the selection options */
};

static bool
is_selected(const struct list_work *w, const struct store_mailbox *m)
{
	if ((w->list.select & IMAP_LIST_SUBSCRIBED) && !m->subscribed)
		return false;
	if ((w->list.select & IMAP_LIST_SPECIAL_USE) && m->special_use == 0)
		return false;
	return true;
}

/* Names below follow in the table, but names like "a-b" may stand between "a" and "a/b". */
static bool
has_below(const struct list_work *w, size_t at, enum wanted wanted)
{
	struct slice name = w->names->v[at].name;

	for (size_t i = at + 1; i < w->names->n; i++) {
		const struct store_mailbox *m = &w->names->v[i];

		if (!slice_starts(m->name, name))
			return false;
		if (m->name.p[name.n] > '/')
			return false;
		if (m->name.p[name.n] != '/')
			continue;
		if (wanted == EXISTS ? m->selectable : is_selected(w, m))
			return true;
	}
	return false;
}

static void
put_attributes(struct session *s, const struct list_work *w, size_t at)
{
	const struct store_mailbox *m = &w->names->v[at];
	struct buf *b = &s->out;

	buf_put_u8(b, '(');
	if (!m->selectable)
		put_attribute(b, w->list.extended ? "\\NonExistent" : "\\Noselect");
	put_attribute(b, has_below(w, at, EXISTS) ? "\\HasChildren" : "\\HasNoChildren");
	if (m->subscribed && ((w->list.select | w->list.return_) & IMAP_LIST_SUBSCRIBED))
		put_attribute(b, "\\Subscribed");
	imap_put_special_use(b, m->special_use);
	buf_put_str(b, ") \"/\" ");
}

static void
put_childinfo(struct session *s, const struct list_work *w)
{
	buf_put_str(&s->out, " (\"CHILDINFO\" (");
	if (w->list.select & IMAP_LIST_SUBSCRIBED)
		buf_put_str(&s->out, "\"SUBSCRIBED\"");
	if ((w->list.select & IMAP_LIST_SUBSCRIBED) && (w->list.select & IMAP_LIST_SPECIAL_USE))
		buf_put_u8(&s->out, ' ');
	if (w->list.select & IMAP_LIST_SPECIAL_USE)
		buf_put_str(&s->out, "\"SPECIAL-USE\"");
	buf_put_str(&s->out, "))");
}

/* A name that exists nowhere but in subscriptions is no answer to LIST. */
static bool
is_name(const struct list_work *w, size_t at)
{
	return w->names->v[at].selectable || (w->list.select & IMAP_LIST_SUBSCRIBED) ||
	    has_below(w, at, EXISTS);
}

static void
list_one(struct session *s, const struct list_work *w, size_t at)
{
	const struct store_mailbox *m = &w->names->v[at];
	bool below = false;

	if (!matches(w, m->name) || !is_name(w, at))
		return;
	if (w->list.select & IMAP_LIST_RECURSIVEMATCH)
		below = has_below(w, at, SELECTED_ONES);
	if (!below && !is_selected(w, m))
		return;
	buf_put_str(&s->out, "* LIST ");
	put_attributes(s, w, at);
	imap_put_mailbox(&s->out, m->name, s->utf8);
	if (below)
		put_childinfo(s, w);
	buf_put_str(&s->out, "\r\n");
	if (w->list.status_items && m->selectable)
		cmd_put_status(s, m, w->list.status_items);
}

/* ---- LSUB ---- */

/* The levels above a subscribed name that match, each once (RFC 3501 6.3.9, the "%" wildcard). */
static void
lsub_levels(struct session *s, struct list_work *w, struct slice name)
{
	for (size_t i = 1; i < name.n; i++) {
		struct slice level = slice_sub(name, 0, i);
		const struct store_mailbox *m;

		if (name.p[i] != '/' || slice_starts(w->above, slice_sub(name, 0, i + 1)))
			continue;
		m = mailbox_list_find(w->names, level);
		if ((m && m->subscribed) || !matches(w, level))
			continue;
		buf_put_str(&s->out, "* LSUB (\\Noselect) \"/\" ");
		imap_put_mailbox(&s->out, level, s->utf8);
		buf_put_str(&s->out, "\r\n");
	}
	w->above = name;
}

static void
lsub_one(struct session *s, struct list_work *w, size_t at)
{
	const struct store_mailbox *m = &w->names->v[at];

	if (!m->subscribed)
		return;
	if (!matches(w, m->name)) {
		lsub_levels(s, w, m->name);
		return;
	}
	buf_put_str(&s->out, m->selectable ? "* LSUB () \"/\" " : "* LSUB (\\Noselect) \"/\" ");
	imap_put_mailbox(&s->out, m->name, s->utf8);
	buf_put_str(&s->out, "\r\n");
}

/* ---- the commands ---- */

static void
start(struct session *s, struct list_work *w)
{
	/* LIST "" "" asks for the delimiter alone (RFC 3501 6.3.8). */
	if (!w->list.extended && w->list.patterns_n == 1 && w->list.patterns[0].n == 0) {
		buf_put_str(&s->out, w->lsub ? "* LSUB" : "* LIST");
		buf_put_str(&s->out, " (\\Noselect) \"/\" \"\"\r\n");
		session_ok(s, w->lsub ? "LSUB completed" : "LIST completed");
		return;
	}
	for (size_t i = 0; i < w->list.patterns_n; i++)
		if (!pattern_make(s, w, &w->list.patterns[i]))
			return;
	session_run(s);
}

void
cmd_list_start(struct session *s, struct imap_scan *args)
{
	struct list_work *w = session_work(s, sizeof *w);

	if (w == NULL)
		return;
	if (imap_list_args(args, &w->list))
		start(s, w);
	else
		session_scan_failed(s, args);
}

void
cmd_lsub_start(struct session *s, struct imap_scan *args)
{
	struct list_work *w = session_work(s, sizeof *w);

	if (w == NULL)
		return;
	w->lsub = true;
	if (imap_lsub_args(args, &w->list))
		start(s, w);
	else
		session_scan_failed(s, args);
}

void
cmd_list_run(struct session *s)
{
	struct list_work *w = s->work;

	if (w->names == NULL) {
		struct mailbox_list *l = session_mailboxes(s);

		if (l == NULL)
			return;
		mailbox_list_ref(l);
		w->names = l;
	}
	for (unsigned i = 0; i < PIECE_NAMES && w->at < w->names->n && s->out.n < PIECE_BYTES; i++) {
		if (w->lsub)
			lsub_one(s, w, w->at);
		else
			list_one(s, w, w->at);
		w->at++;
	}
	if (w->at == w->names->n)
		session_ok(s, w->lsub ? "LSUB completed" : "LIST completed");
}

void
cmd_list_end(struct session *s)
{
	struct list_work *w = s->work;

	if (w)
		mailbox_list_unref(&w->names);
}
