/*
 * What is over for good. Three steps, each durable before the next: the record
 * of the expunged messages goes and their objects lose a reference; those that
 * lost the last one are listed as garbage in the same transaction; their files are removed, durably,
 * and then the list. After a crash the list is worked off again.
 *
 * Each call does one of them, files first: so what waits to be removed from the
 * disk never is much more than what one transaction let go.
 */
#include "store/index_private.h"

#include "common/mem.h"
#include "common/mutant.h"
#include "store/object.h"

#define TOMBSTONES_MAX 4096u

struct key_list {
	struct format_key keys[INDEX_PURGE_RECORDS];
	size_t n;
};

static void
key_add(struct key_list *list, struct slice key)
{
	struct format_key *k = &list->keys[list->n++];

	k->n = key.n;
	memcpy(k->p, key.p, key.n);
}

static int
delete_keys(struct index *ix, const struct key_list *list, struct err *e)
{
	for (size_t i = 0; i < list->n; i++)
		if (env_delete(ix->env, format_key_slice(&list->keys[i]), e) < 0)
			return index_failed(ix);
	return 0;
}

/* Commits and flushes what failed == 0 did, undoes the rest. */
static int
settle(struct index *ix, int failed, struct err *e)
{
	if (failed) {
		index_abort(ix);
		return index_failed(ix);
	}
	if (index_commit(ix, e) < 0 || (!MUTANT(PURGE_FLUSH) && index_flush(ix, e) < 0))
		return -1;
	/* Of what nobody sees. */
	index_changes_reset(ix);
	return 0;
}

/* ---- what is due ---- */

struct purge {
	struct index *ix;
	uint64_t before;
	uint64_t bytes_max;
	struct index_mailbox *oldest; /* the deleted mailbox whose turn is first, or NULL */
};

/* Must something go that was expunged or deleted at that time, when so much (of index_retained_cost()) goes already? */
static bool
is_due(const struct purge *p, uint64_t time, uint64_t cost)
{
	return time < p->before || index_retained_over(p->ix, p->bytes_max, cost);
}

/* Is there anything to take from a deleted mailbox? What was expunged of it before goes by its own time. */
static bool
can_shrink(const struct index_mailbox *mb)
{
	return mb->m.gone_at != 0 && (mb->m.messages > 0 || mb->m.retained == 0);
}

static struct index_mailbox *
oldest_deleted(const struct index *ix)
{
	struct index_mailbox *oldest = NULL;

	for (size_t i = 0; i < ix->mailbox_count; i++) {
		struct index_mailbox *mb = ix->mailboxes[i];

		if (can_shrink(mb) && (oldest == NULL || mb->m.gone_at < oldest->m.gone_at))
			oldest = mb;
	}
	return oldest;
}

/* ---- expunged messages ---- */

struct expunged {
	struct key_list keys;
	struct format_expunged x[INDEX_PURGE_RECORDS]; /* their values */
	uint64_t cost;
};

/* From the oldest on, while they are due and not younger than the deleted mailbox whose turn it would be. */
static int
collect_expunged(const struct purge *p, struct expunged *out, struct err *e)
{
	struct format_key first = format_key(FORMAT_EXPUNGED);
	struct env_cursor c;
	int r = env_cursor_open(p->ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, format_key_slice(&first), e);

	while (r == 1 && out->keys.n < INDEX_PURGE_RECORDS && c.key.p[0] == FORMAT_EXPUNGED) {
		struct cursor k = cursor_of(slice_sub(c.key, 1, c.key.n));
		struct format_expunged *x = &out->x[out->keys.n];
		uint64_t time = cursor_u64(&k);

		if (!is_due(p, time, out->cost) || (p->oldest != NULL && p->oldest->m.gone_at < time))
			break;
		if (!format_expunged_get(c.key, c.value, x)) {
			r = env_refuse(p->ix->env, "a record of expunged messages", e);
			break;
		}
		key_add(&out->keys, c.key);
		for (unsigned i = 0; i < x->n; i++)
			out->cost += x->m[i].detail.size + INDEX_RETAINED_MESSAGE_BYTES;
		r = env_cursor_next(&c, e);
	}
	env_cursor_close(&c);
	return r < 0 ? index_failed(p->ix) : 0;
}

/* A record's messages leave the counts and give up their references. */
static int
drop_expunged(struct index *ix, const struct format_expunged *x, struct err *e)
{
	struct index_mailbox *mb = index_mailbox_get(ix, x->mailbox);

	if (mb == NULL)
		return env_refuse(ix->env, "an expunged message of no mailbox", e);
	if (messages_unretain(ix, mb, x->m, x->n, e) < 0)
		return -1;
	return messages_refer(ix, x->m, x->n, -1, e);
}

static int
purge_expunged(const struct purge *p, struct err *e)
{
	struct expunged *out = MEM_NEW(struct expunged);
	int failed = collect_expunged(p, out, e);
	int more = out->keys.n > 0;

	if (failed == 0 && more) {
		failed = index_begin(p->ix, e);
		if (failed == 0) {
			for (size_t i = 0; failed == 0 && i < out->keys.n; i++)
				failed = drop_expunged(p->ix, &out->x[i], e);
			failed = settle(p->ix, failed < 0 || delete_keys(p->ix, &out->keys, e) < 0, e);
		}
	}
	free(out);
	return failed ? -1 : more;
}

/* ---- garbage ---- */

static int
remove_file(struct index *ix, struct slice key, struct slice value, struct err *e)
{
	struct cursor c;
	unsigned count;
	struct slice id;

	if (!format_check(key, value, &count, &c))
		return env_refuse(ix->env, "a record of garbage", e);
	id = cursor_take(&c, STORE_OBJECT_ID_BYTES);
	if (!cursor_done(&c))
		return env_refuse(ix->env, "a record of garbage", e);
	return object_remove(ix->root, id.p, e);
}

static int
remove_files(struct index *ix, struct key_list *keys, struct err *e)
{
	struct format_key first = format_key(FORMAT_GARBAGE);
	struct env_cursor c;
	int r = env_cursor_open(ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, format_key_slice(&first), e);

	while (r == 1 && keys->n < INDEX_PURGE_RECORDS && c.key.n == 9 && c.key.p[0] == FORMAT_GARBAGE) {
		key_add(keys, c.key);
		r = remove_file(ix, c.key, c.value, e) < 0 ? -1 : env_cursor_next(&c, e);
	}
	env_cursor_close(&c);
	return r < 0 ? index_failed(ix) : 0;
}

static uint64_t
garbage_object(const struct format_key *key)
{
	struct cursor c = cursor_of(slice_sub(format_key_slice(key), 1, key->n));

	return cursor_u64(&c);
}

/* The removals are durable before the list forgets them: else a file could come back that nothing knows. */
static int
sync_removals(struct index *ix, const struct key_list *keys, struct err *e)
{
	unsigned last = OBJECT_SHARDS;

	for (size_t i = 0; i < keys->n; i++) {
		unsigned shard = object_shard(garbage_object(&keys->keys[i]));

		if (shard != last && !MUTANT(PURGE_SYNC) && object_sync_removals(ix->root, shard, e) < 0)
			return index_failed(ix);
		last = shard;
	}
	return 0;
}

static int
delete_summaries(struct index *ix, const struct key_list *keys, struct err *e)
{
	for (size_t i = 0; i < keys->n; i++) {
		if (env_summary_delete(ix->env, garbage_object(&keys->keys[i]), e) < 0)
			return index_failed(ix);
	}
	return 0;
}

static int
purge_garbage(struct index *ix, struct err *e)
{
	struct key_list keys = {.n = 0};
	/* A request of the same step may have put it there, and nothing of that is durable. */
	int failed = !MUTANT(PURGE_FLUSH) && index_flush(ix, e) < 0 ? -1 : 0;

	if (failed == 0)
		failed = remove_files(ix, &keys, e) < 0 ? -1 : sync_removals(ix, &keys, e);

	if (failed == 0 && keys.n > 0) {
		failed = index_begin(ix, e);
		if (failed == 0)
			failed = settle(ix, delete_keys(ix, &keys, e) < 0 || delete_summaries(ix, &keys, e) < 0, e);
	}
	return failed ? -1 : keys.n > 0;
}

/* ---- tombstones and deleted mailboxes ---- */

/* Keys of a mailbox's tombstones from the oldest on; their number in all in *count_r. */
static int
list_tombstones(struct index *ix, uint32_t mailbox, struct key_list *keys, uint64_t *modseq_r, size_t *count_r,
    struct err *e)
{
	struct format_key prefix = format_key_u32(FORMAT_TOMBSTONES, mailbox);
	struct env_cursor c;
	int r = env_cursor_open(ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, format_key_slice(&prefix), e);

	*count_r = 0;
	while (r == 1 && slice_starts(c.key, format_key_slice(&prefix))) {
		if (keys->n < INDEX_PURGE_RECORDS) {
			struct cursor k = cursor_of(slice_sub(c.key, prefix.n, c.key.n));

			key_add(keys, c.key);
			*modseq_r = cursor_u64(&k);
		}
		++*count_r;
		r = env_cursor_next(&c, e);
	}
	env_cursor_close(&c);
	return r < 0 ? index_failed(ix) : 0;
}

/* The tombstones of one step go. keys: list_tombstones(). */
static int
drop_tombstones(struct index *ix, struct index_mailbox *mb, const struct key_list *keys, uint64_t modseq, struct err *e)
{
	mb->m.tombstone_floor = modseq > mb->m.tombstone_floor ? modseq : mb->m.tombstone_floor;
	mb->dirty = true;
	return delete_keys(ix, keys, e);
}

/* Of those that are told apart the oldest go when they are too many. */
static int
purge_tombstones(struct index *ix, struct err *e)
{
	for (size_t i = 0; i < ix->mailbox_count; i++) {
		struct index_mailbox *mb = ix->mailboxes[i];
		struct key_list keys = {.n = 0};
		uint64_t modseq = 0;
		size_t count;

		if (list_tombstones(ix, mb->m.number, &keys, &modseq, &count, e) < 0)
			return -1;
		if (count <= TOMBSTONES_MAX)
			continue;
		if (index_begin(ix, e) < 0)
			return -1;
		return settle(ix, drop_tombstones(ix, mb, &keys, modseq, e), e) < 0 ? -1 : 1;
	}
	return 0;
}

/* The first messages of a mailbox, as many as one step takes. */
static int
first_messages(struct index *ix, uint32_t mailbox, struct uid_range *range_r, struct err *e)
{
	struct walk w;
	size_t n = 0;
	int r = walk_open(&w, ix, FORMAT_ENTRIES, mailbox, NULL, e) < 0 ? -1 : walk_first(&w, e);

	*range_r = (struct uid_range){1, 1};
	while (r == 1 && n + w.entries.n <= INDEX_PURGE_MESSAGES) {
		n += w.entries.n;
		range_r->last = w.last;
		r = walk_next(&w, e);
	}
	walk_close(&w);
	return r < 0 ? index_failed(ix) : 0;
}

static int
drop_messages(struct index *ix, struct index_mailbox *mb, struct err *e)
{
	struct uid_range range;
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct message_list l = {0};
	int failed = first_messages(ix, mb->m.number, &range, e);

	if (failed == 0)
		failed = messages_remove(ix, mb, &set, 0, &l, e) < 0 || messages_refer(ix, l.m, l.n, -1, e) < 0;
	if (failed == 0 && l.n == 0)
		failed = env_refuse(ix->env, "the counts of a mailbox", e);
	message_list_fini(&l);
	return failed ? -1 : 0;
}

/* One step of the end of a deleted mailbox of which nothing is retained: its tombstones, then itself. */
static int
drop_mailbox(struct index *ix, struct index_mailbox *mb, bool *done_r, struct err *e)
{
	struct key_list keys = {.n = 0};
	uint64_t modseq = 0;
	size_t count;

	*done_r = false;
	if (list_tombstones(ix, mb->m.number, &keys, &modseq, &count, e) < 0 ||
	    drop_tombstones(ix, mb, &keys, modseq, e) < 0)
		return -1;
	if (count > keys.n)
		return 0;
	*done_r = true;
	return index_mailbox_erase(ix, mb, e);
}

static int
purge_deleted(const struct purge *p, struct err *e)
{
	struct index_mailbox *mb = p->oldest;
	bool done;

	if (mb == NULL || !is_due(p, mb->m.gone_at, 0))
		return 0;
	if (index_begin(p->ix, e) < 0)
		return -1;
	int failed = mb->m.messages > 0 ? drop_messages(p->ix, mb, e) : drop_mailbox(p->ix, mb, &done, e);

	return settle(p->ix, failed, e) < 0 ? -1 : 1;
}

int
index_forget_mailbox(struct index *ix, uint32_t number, bool *done_r, struct err *e)
{
	struct index_mailbox *mb = index_mailbox_get(ix, number);

	*done_r = true;
	if (mb == NULL || !can_shrink(mb) || mb->m.messages > 0)
		return 0;
	return drop_mailbox(ix, mb, done_r, e);
}

int
index_purge_files(struct index *ix, struct err *e)
{
	return purge_garbage(ix, e);
}

int
index_purge(struct index *ix, uint64_t before, uint64_t bytes_max, struct err *e)
{
	struct purge p = {.ix = ix, .before = before, .bytes_max = bytes_max, .oldest = oldest_deleted(ix)};
	int r = purge_garbage(ix, e);

	if (r == 0)
		r = purge_expunged(&p, e);
	if (r == 0)
		r = purge_deleted(&p, e);
	if (r == 0)
		r = purge_tombstones(ix, e);
	return r;
}
