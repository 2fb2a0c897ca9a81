/*
 * What was put aside is a sorted array: changes come mostly in ascending order
 * of keys (a walk over the chunks of a mailbox), so that insertion is cheap.
 */
#include "store/snapshot.h"

#include "common/mem.h"

#include <assert.h>

/* A record as it was; present is false for one that was not there. */
struct saved {
	bool present;
	size_t key_n;
	size_t value_n;
	uint8_t p[]; /* key, value */
};

struct snapshot {
	struct env *env;
	struct saved **saved; /* ascending by key */
	size_t n;
	size_t cap;
	size_t bytes;
	size_t bytes_max;
	bool lost;
	struct buf value;
};

static struct slice
saved_key(const struct saved *v)
{
	return slice_of(v->p, v->key_n);
}

/* Index of the first saved record whose key is >= key. */
static size_t
seek_saved(const struct snapshot *s, struct slice key)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (slice_cmp(saved_key(s->saved[mid]), key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool
is_saved(const struct snapshot *s, struct slice key)
{
	size_t at = seek_saved(s, key);

	return at < s->n && slice_eq(saved_key(s->saved[at]), key);
}

static void
insert(struct snapshot *s, size_t at, struct slice key, bool present, struct slice value)
{
	struct saved *v = mem_resize(NULL, sizeof *v + key.n + value.n, 1);

	*v = (struct saved){.present = present, .key_n = key.n, .value_n = value.n};
	memcpy(v->p, key.p, key.n);
	if (value.n > 0)
		memcpy(v->p + key.n, value.p, value.n);
	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 256;
		s->saved = mem_resize(s->saved, s->cap, sizeof(struct saved *));
	}
	memmove(&s->saved[at + 1], &s->saved[at], (s->n - at) * sizeof(struct saved *));
	s->saved[at] = v;
	s->n++;
	s->bytes += sizeof *v + sizeof(struct saved *) + key.n + value.n;
}

static void
drop_saved(struct snapshot *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->saved[i]);
	s->n = s->bytes = 0;
}

static void
on_change(void *arg, struct slice key)
{
	struct snapshot *s = arg;
	size_t at;
	int r;

	if (s->lost)
		return;
	at = seek_saved(s, key);
	if (at < s->n && slice_eq(saved_key(s->saved[at]), key))
		return;
	r = env_get(s->env, key, &s->value, NULL);
	if (r >= 0)
		insert(s, at, key, r == 1, buf_slice(&s->value));
	if (r < 0 || s->bytes > s->bytes_max) {
		s->lost = true;
		drop_saved(s);
	}
}

struct snapshot *
snapshot_begin(struct env *env)
{
	struct snapshot *s = MEM_NEW(struct snapshot);

	assert(!env_in_transaction(env));
	s->env = env;
	s->bytes_max = SNAPSHOT_BYTES_MAX;
	buf_init(&s->value, FORMAT_VALUE_BYTES_MAX);
	env_on_change(env, on_change, s);
	return s;
}

void
snapshot_limit(struct snapshot *s, size_t bytes_max)
{
	s->bytes_max = bytes_max;
}

void
snapshot_end(struct snapshot **s)
{
	if (*s == NULL)
		return;
	env_on_change((*s)->env, NULL, NULL);
	drop_saved(*s);
	free((*s)->saved);
	buf_fini(&(*s)->value);
	MEM_FREE(s);
}

/* ---- cursors ---- */

/* Past the records of the database that were put aside; r is from the cursor's last move. */
static int
skip_saved(struct snapshot *s, struct snapshot_cursor *c, int r, struct err *e)
{
	while (r == 1 && is_saved(s, c->db.key))
		r = env_cursor_next(&c->db, e);
	c->db_r = r;
	return r;
}

/* Gives the least record at or above key that either side has; the database's candidate is in place. */
static int
give(struct snapshot *s, struct snapshot_cursor *c, struct slice key)
{
	size_t at = seek_saved(s, key);
	const struct saved *v;

	while (at < s->n && !s->saved[at]->present)
		at++;
	v = at < s->n ? s->saved[at] : NULL;
	c->at_saved = v != NULL && (c->db_r == 0 || slice_cmp(saved_key(v), c->db.key) < 0);
	if (!c->at_saved && c->db_r == 0)
		return 0;
	c->key = c->at_saved ? saved_key(v) : c->db.key;
	c->value = c->at_saved ? slice_of(v->p + v->key_n, v->value_n) : c->db.value;
	buf_reset(&c->last);
	buf_put_slice(&c->last, c->key);
	return 1;
}

static int
lost(struct err *e)
{
	return err_set(e, ERR_TEMP, ERR_CODE_IN_USE, "too much was changed meanwhile", "a snapshot passed %u octets",
	    SNAPSHOT_BYTES_MAX);
}

int
snapshot_seek(struct snapshot *s, struct snapshot_cursor *c, struct slice key, struct err *e)
{
	assert(!env_in_transaction(s->env) && key.n <= FORMAT_KEY_BYTES_MAX);
	if (s->lost)
		return lost(e);
	if (c->last.max == 0)
		buf_init(&c->last, FORMAT_KEY_BYTES_MAX + 1);
	if (!c->open && env_cursor_open(s->env, &c->db, e) < 0)
		return -1;
	c->open = true;
	if (skip_saved(s, c, env_cursor_seek(&c->db, key, e), e) < 0)
		return -1;
	return give(s, c, key);
}

int
snapshot_next(struct snapshot *s, struct snapshot_cursor *c, struct err *e)
{
	uint8_t room[FORMAT_KEY_BYTES_MAX + 1];
	struct slice above = slice_of(room, c->last.n + 1);

	if (s->lost)
		return lost(e);
	/* The least key above the last one is that with a zero octet behind it; no key of the index is that long. */
	assert(c->last.n > 0 && c->last.n < FORMAT_KEY_BYTES_MAX);
	memcpy(room, c->last.p, c->last.n);
	room[c->last.n] = 0;
	if (!c->open)
		return snapshot_seek(s, c, above, e);
	if (!c->at_saved && skip_saved(s, c, env_cursor_next(&c->db, e), e) < 0)
		return -1;
	return give(s, c, above);
}

void
snapshot_pause(struct snapshot_cursor *c)
{
	if (c->open)
		env_cursor_close(&c->db);
	c->open = false;
}

void
snapshot_close(struct snapshot_cursor *c)
{
	snapshot_pause(c);
	buf_fini(&c->last);
	*c = (struct snapshot_cursor){.open = false};
}

/* ---- messages ---- */

void
snapshot_messages_begin(struct snapshot_messages *w, uint32_t mailbox)
{
	*w = (struct snapshot_messages){.mailbox = mailbox};
}

/* Loads the next chunk of one row. 1: loaded or at its end; SNAPSHOT_DAMAGED; -1. */
static int
load(struct snapshot *s, struct snapshot_messages *w, enum format_table table, struct err *e)
{
	bool entries = table == FORMAT_ENTRIES;
	struct snapshot_cursor *c = entries ? &w->entries_at : &w->details_at;
	struct format_key prefix = format_key_u32(table, w->mailbox);
	bool started = c->last.n > 0;
	int r = started ? snapshot_next(s, c, e) : snapshot_seek(s, c, format_key_slice(&prefix), e);

	if (r < 0)
		return -1;
	if (r == 0 || !slice_starts(c->key, format_key_slice(&prefix))) {
		*(entries ? &w->entries_end : &w->details_end) = true;
		*(entries ? &w->entries.n : &w->details.n) = 0;
		return 1;
	}
	*(entries ? &w->entry : &w->detail) = 0;
	if (entries ? format_entries_get(c->key, c->value, &w->entries) : format_details_get(c->key, c->value, &w->details))
		return 1;
	*(entries ? &w->entries.n : &w->details.n) = 0;
	return SNAPSHOT_DAMAGED;
}

/* Both rows have an element at hand, or are at their end: 1; or SNAPSHOT_DAMAGED, -1. */
static int
fill(struct snapshot *s, struct snapshot_messages *w, struct err *e)
{
	int r = 1;

	while (r == 1 && !w->entries_end && w->entry == w->entries.n)
		r = load(s, w, FORMAT_ENTRIES, e);
	while (r == 1 && !w->details_end && w->detail == w->details.n)
		r = load(s, w, FORMAT_DETAILS, e);
	return r;
}

int
snapshot_messages_next(struct snapshot *s, struct snapshot_messages *w, struct format_message *m_r, struct err *e)
{
	int r = fill(s, w, e);
	bool has_entry = w->entry < w->entries.n, has_detail = w->detail < w->details.n;
	uint32_t entry_uid, detail_uid;

	memset(m_r, 0, sizeof *m_r);
	if (r != 1)
		return r;
	if (!has_entry && !has_detail)
		return SNAPSHOT_END;
	entry_uid = has_entry ? w->entries.e[w->entry].uid : UINT32_MAX;
	detail_uid = has_detail ? w->details.d[w->detail].uid : UINT32_MAX;
	has_entry = has_entry && (entry_uid <= detail_uid || !has_detail);
	has_detail = has_detail && (detail_uid <= entry_uid || w->entry == w->entries.n);
	if (has_entry)
		m_r->entry = w->entries.e[w->entry++];
	if (has_detail)
		m_r->detail = w->details.d[w->detail++];
	if (has_entry && has_detail)
		return SNAPSHOT_MESSAGE;
	return has_entry ? SNAPSHOT_ENTRY_ONLY : SNAPSHOT_DETAIL_ONLY;
}

void
snapshot_messages_pause(struct snapshot_messages *w)
{
	snapshot_pause(&w->entries_at);
	snapshot_pause(&w->details_at);
}

void
snapshot_messages_close(struct snapshot_messages *w)
{
	snapshot_close(&w->entries_at);
	snapshot_close(&w->details_at);
}
