/*
 * What is over for good. Three steps, each durable before the next: the record
 * of the expunged messages goes and their objects lose a reference; those that
 * lost the last one are listed as garbage in the same transaction; their files are removed, durably,
 * and then the list. After a crash the list is worked off again.
 */
#include "store/index_private.h"

#include "common/mem.h"
#include "store/mutant.h"
#include "store/object.h"

#define RECORDS_PER_STEP 64u
#define TOMBSTONES_MAX 4096u

struct key_list {
	struct format_key keys[RECORDS_PER_STEP];
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
	return index_commit(ix, e) < 0 || (!MUTANT(PURGE_FLUSH) && index_flush(ix, e) < 0) ? -1 : 0;
}

/* ---- expunged messages ---- */

static bool
is_due(struct slice key, uint64_t before)
{
	struct cursor c = cursor_of(key);

	return cursor_u8(&c) == FORMAT_EXPUNGED && cursor_u64(&c) < before;
}

static int
collect_due(struct index *ix, uint64_t before, struct key_list *keys, struct message_list *l, struct err *e)
{
	struct format_key first = format_key(FORMAT_EXPUNGED);
	struct format_expunged x;
	struct env_cursor c;
	int r = env_cursor_open(ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, format_key_slice(&first), e);

	while (r == 1 && keys->n < RECORDS_PER_STEP && is_due(c.key, before)) {
		if (!format_expunged_get(c.key, c.value, &x)) {
			r = env_refuse(ix->env, "a record of expunged messages", e);
			break;
		}
		key_add(keys, c.key);
		l->m = mem_resize(l->m, l->n + x.n + 1, sizeof *l->m);
		memcpy(l->m + l->n, x.m, x.n * sizeof x.m[0]);
		l->n += x.n;
		r = env_cursor_next(&c, e);
	}
	env_cursor_close(&c);
	return r < 0 ? index_failed(ix) : 0;
}

static int
purge_expunged(struct index *ix, uint64_t before, struct err *e)
{
	struct key_list keys = {.n = 0};
	struct message_list l = {0};
	int failed = collect_due(ix, before, &keys, &l, e);

	if (failed == 0 && keys.n > 0) {
		failed = index_begin(ix, e);
		if (failed == 0)
			failed = settle(ix, messages_refer(ix, l.m, l.n, -1, e) < 0 || delete_keys(ix, &keys, e) < 0, e);
	}
	message_list_fini(&l);
	return failed ? -1 : keys.n == RECORDS_PER_STEP;
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

	while (r == 1 && keys->n < RECORDS_PER_STEP && c.key.n == 9 && c.key.p[0] == FORMAT_GARBAGE) {
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
	int failed = remove_files(ix, &keys, e) < 0 ? -1 : sync_removals(ix, &keys, e);

	if (failed == 0 && keys.n > 0) {
		failed = index_begin(ix, e);
		if (failed == 0)
			failed = settle(ix, delete_keys(ix, &keys, e) < 0 || delete_summaries(ix, &keys, e) < 0, e);
	}
	return failed ? -1 : keys.n == RECORDS_PER_STEP;
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
		if (keys->n < RECORDS_PER_STEP) {
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

static int
purge_mailbox(struct index *ix, struct index_mailbox *mb, uint64_t before, struct err *e)
{
	bool over = mb->m.gone_at != 0 && mb->m.gone_at < before;
	struct format_key key = format_key_u32(FORMAT_MAILBOX, mb->m.number);
	struct format_key keywords = format_key_u32(FORMAT_KEYWORDS, mb->m.number);
	struct key_list keys = {.n = 0};
	uint64_t modseq = 0;
	size_t count;

	if (list_tombstones(ix, mb->m.number, &keys, &modseq, &count, e) < 0)
		return -1;
	if (!over && count <= TOMBSTONES_MAX)
		return 0;
	if (index_begin(ix, e) < 0)
		return -1;
	mb->m.tombstone_floor = modseq > mb->m.tombstone_floor ? modseq : mb->m.tombstone_floor;
	mb->dirty = true;
	int failed = delete_keys(ix, &keys, e);

	if (failed == 0 && over && count <= keys.n) {
		failed = env_delete(ix->env, format_key_slice(&key), e) < 0 ||
		    env_delete(ix->env, format_key_slice(&keywords), e) < 0;
		index_mailbox_forget(ix, mb);
	}
	return settle(ix, failed, e) < 0 ? -1 : 1;
}

static int
purge_mailboxes(struct index *ix, uint64_t before, struct err *e)
{
	for (size_t i = 0; i < ix->mailbox_count; i++) {
		int r = purge_mailbox(ix, ix->mailboxes[i], before, e);

		if (r != 0)
			return r;
	}
	return 0;
}

int
index_purge(struct index *ix, uint64_t before, struct err *e)
{
	int expunged = purge_expunged(ix, before, e);
	int garbage = expunged < 0 ? -1 : purge_garbage(ix, e);
	int mailboxes = garbage < 0 ? -1 : purge_mailboxes(ix, before, e);

	if (mailboxes < 0)
		return -1;
	return expunged > 0 || garbage > 0 || mailboxes > 0;
}
