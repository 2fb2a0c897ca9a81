/*
 * A chunk's key holds the least UID that it was made for; its entries are at
 * or above that and below the next chunk's. So the chunk of a UID is the last
 * one whose key is not above it.
 */
#include "store/index_private.h"

#include <assert.h>

int
walk_open(struct walk *w, struct index *ix, enum format_table table, uint32_t mailbox, const struct uidset *set,
    struct err *e)
{
	w->ix = ix;
	w->table = table;
	w->mailbox = mailbox;
	w->set = set;
	w->range = 0;
	return env_cursor_open(ix->env, &w->c, e);
}

void
walk_close(struct walk *w)
{
	env_cursor_close(&w->c);
}

/* Is the cursor (r from its last move) at a chunk of this mailbox? */
static bool
at_home(const struct walk *w, int r)
{
	struct format_key prefix = format_key_u32(w->table, w->mailbox);

	return r == 1 && slice_starts(w->c.key, format_key_slice(&prefix));
}

static int
load(struct walk *w, struct err *e)
{
	bool ok = w->table == FORMAT_ENTRIES ? format_entries_get(w->c.key, w->c.value, &w->entries)
					     : format_details_get(w->c.key, w->c.value, &w->details);

	if (!ok || (w->table == FORMAT_ENTRIES ? w->entries.n : w->details.n) == 0)
		return env_refuse(w->ix->env, "a chunk of messages", e);
	w->last = w->table == FORMAT_ENTRIES ? w->entries.e[w->entries.n - 1].uid
					     : w->details.d[w->details.n - 1].uid;
	return 1;
}

/* The result of a move of the cursor as one of the walk. */
static int
arrive(struct walk *w, int r, struct err *e)
{
	if (r < 0)
		return -1;
	return at_home(w, r) ? load(w, e) : 0;
}

/* To the chunk before the cursor's place; r is the result of the seek that put it there. */
static int
step_back(struct walk *w, int r, struct err *e)
{
	r = r == 0 ? env_cursor_last(&w->c, e) : env_cursor_prev(&w->c, e);
	return arrive(w, r, e);
}

static int
seek(struct walk *w, uint32_t uid, struct err *e)
{
	struct format_key key = format_key_u32_u32(w->table, w->mailbox, uid);
	int r = env_cursor_seek(&w->c, format_key_slice(&key), e);

	if (r < 0)
		return -1;
	if (r == 1 && slice_eq(w->c.key, format_key_slice(&key)))
		return load(w, e);
	r = step_back(w, r, e);
	if (r < 0 || (r == 1 && w->last >= uid))
		return r;
	return arrive(w, env_cursor_seek(&w->c, format_key_slice(&key), e), e);
}

int
walk_first(struct walk *w, struct err *e)
{
	if (w->set != NULL && w->set->n == 0)
		return 0;
	return seek(w, w->set != NULL ? w->set->ranges[0].first : 1, e);
}

int
walk_next(struct walk *w, struct err *e)
{
	uint32_t last = w->last, target = last;
	int r;

	if (last == UINT32_MAX)
		return 0;
	if (w->set != NULL) {
		size_t range = uidset_seek(w->set, last + 1);

		if (range == w->set->n)
			return 0;
		target = w->set->ranges[range].first;
	}
	r = arrive(w, env_cursor_next(&w->c, e), e);
	return r == 1 && w->last < target ? seek(w, target, e) : r;
}

int
walk_tail(struct walk *w, struct err *e)
{
	struct format_key key = format_key_u32_u32(w->table, w->mailbox, UINT32_MAX);
	int r = env_cursor_seek(&w->c, format_key_slice(&key), e);

	if (r < 0)
		return -1;
	if (r == 1 && slice_eq(w->c.key, format_key_slice(&key)))
		return load(w, e);
	return step_back(w, r, e);
}

bool
walk_wants(struct walk *w, uint32_t uid)
{
	if (w->set == NULL)
		return true;
	while (w->range < w->set->n && w->set->ranges[w->range].last < uid)
		w->range++;
	return w->range < w->set->n && w->set->ranges[w->range].first <= uid;
}

int
walk_save(struct walk *w, struct err *e)
{
	struct buf *b = &w->ix->value;
	bool ok;

	if ((w->table == FORMAT_ENTRIES ? w->entries.n : w->details.n) == 0)
		return env_cursor_delete(&w->c, e);
	ok = w->table == FORMAT_ENTRIES ? format_entries_put(b, w->c.key, &w->entries)
					: format_details_put(b, w->c.key, &w->details);
	assert(ok);
	return env_cursor_put(&w->c, buf_slice(b), e);
}
