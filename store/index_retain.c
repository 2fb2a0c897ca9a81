/*
 * What was expunged comes back, or goes for good, message by message. Both take
 * it out of where it is retained (a record of expunged messages, or the chunks
 * of a deleted mailbox) together with its reference to the object: coming back
 * gives that to a mailbox, going gives it up.
 *
 * A message is named by the mailbox it was in and its UID there. The records lie
 * in the order of time, so they are looked through from the oldest on until all are found.
 */
#include "store/index_private.h"

#include "common/mem.h"

#include <assert.h>

struct quota
index_retained(const struct index *ix)
{
	return (struct quota){ix->account.retained_bytes, ix->account.retained_messages};
}

uint64_t
index_retained_cost(const struct index *ix)
{
	return ix->account.retained_bytes + INDEX_RETAINED_MESSAGE_BYTES * ix->account.retained_messages;
}

static bool
too_many_deleted(const struct index *ix)
{
	size_t n = 0;

	/* Asked often, and seldom true. */
	if (ix->mailbox_count <= STORE_DELETED_MAILBOXES_MAX)
		return false;
	for (size_t i = 0; i < ix->mailbox_count; i++)
		n += ix->mailboxes[i]->m.gone_at != 0;
	return n > STORE_DELETED_MAILBOXES_MAX;
}

bool
index_retained_over(const struct index *ix, uint64_t bytes_max, uint64_t less)
{
	uint64_t cost = index_retained_cost(ix);

	return (cost > less && cost - less > bytes_max) || too_many_deleted(ix);
}

int
messages_unretain(struct index *ix, struct index_mailbox *mb, const struct format_message *m, size_t n, struct err *e)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += m[i].detail.size;
	if (mb->m.retained < n || ix->account.retained_messages < n || ix->account.retained_bytes < bytes)
		return env_refuse(ix->env, "the count of what is retained", e);
	mb->m.retained -= (uint32_t)n;
	mb->dirty = true;
	ix->account.retained_messages -= n;
	ix->account.retained_bytes -= bytes;
	return 0;
}

/* ---- which ones ---- */

struct wanted {
	struct store_retained_id *ids; /* ascending, each once */
	bool *found;
	size_t n;
	size_t left; /* not yet found */
};

static int
id_cmp(const void *a, const void *b)
{
	const struct store_retained_id *x = a, *y = b;

	if (x->mailbox != y->mailbox)
		return x->mailbox < y->mailbox ? -1 : 1;
	return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static void
wanted_init(struct wanted *w, struct store_retained_id *ids, size_t n)
{
	size_t kept = 0;

	qsort(ids, n, sizeof *ids, id_cmp);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || id_cmp(&ids[kept - 1], &ids[i]) != 0)
			ids[kept++] = ids[i];
	*w = (struct wanted){.ids = ids, .n = kept, .left = kept, .found = mem_new_array(kept + 1, sizeof(bool))};
}

/* Is it wanted, for the first time? Then it counts as found. */
static bool
wanted_take(struct wanted *w, uint32_t mailbox, uint32_t uid)
{
	struct store_retained_id key = {mailbox, uid};
	struct store_retained_id *at = w->n > 0 ? bsearch(&key, w->ids, w->n, sizeof key, id_cmp) : NULL;

	if (at == NULL || w->found[at - w->ids])
		return false;
	w->found[at - w->ids] = true;
	w->left--;
	return true;
}

/* ---- taking out ---- */

/* Messages with the mailbox that each was in, in the order of ids. */
struct taken {
	struct taken_one {
		uint32_t mailbox;
		struct format_message m;
	} *list;
	size_t n;
	size_t cap;
};

static void
taken_add(struct taken *t, uint32_t mailbox, const struct format_message *m)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		t->list = mem_resize(t->list, t->cap, sizeof *t->list);
	}
	t->list[t->n++] = (struct taken_one){mailbox, *m};
}

static int
taken_cmp(const void *a, const void *b)
{
	const struct taken_one *x = a, *y = b;
	struct store_retained_id i = {x->mailbox, x->m.entry.uid}, j = {y->mailbox, y->m.entry.uid};

	return id_cmp(&i, &j);
}

/* The wanted ones of one record; what is left of it stays. */
static int
take_record(struct index *ix, struct env_cursor *c, struct wanted *w, struct taken *t, struct err *e)
{
	struct format_expunged x, rest = {.n = 0};
	struct format_message out[FORMAT_EXPUNGED_MAX];
	struct index_mailbox *mb;
	unsigned n = 0;

	if (!format_expunged_get(c->key, c->value, &x) || (mb = index_mailbox_get(ix, x.mailbox)) == NULL)
		return env_refuse(ix->env, "a record of expunged messages", e);
	rest.mailbox = x.mailbox;
	for (unsigned i = 0; i < x.n; i++) {
		if (wanted_take(w, x.mailbox, x.m[i].entry.uid))
			out[n++] = x.m[i];
		else
			rest.m[rest.n++] = x.m[i];
	}
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		taken_add(t, x.mailbox, &out[i]);
	if (messages_unretain(ix, mb, out, n, e) < 0)
		return -1;
	if (rest.n == 0)
		return env_cursor_delete(c, e);
	bool ok = format_expunged_put(&ix->value, c->key, &rest);

	assert(ok);
	return env_cursor_put(c, buf_slice(&ix->value), e);
}

static int
take_expunged(struct index *ix, struct wanted *w, struct taken *t, struct err *e)
{
	struct format_key first = format_key(FORMAT_EXPUNGED);
	struct env_cursor c;
	int r = env_cursor_open(ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, format_key_slice(&first), e);

	while (r == 1 && w->left > 0 && c.key.p[0] == FORMAT_EXPUNGED)
		r = take_record(ix, &c, w, t, e) < 0 ? -1 : env_cursor_next(&c, e);
	env_cursor_close(&c);
	return r < 0 ? index_failed(ix) : 0;
}

/* Those wanted of one deleted mailbox; ids[at] is its first. *next_r: the first of another one. */
static int
take_deleted(struct index *ix, struct wanted *w, size_t at, size_t *next_r, struct taken *t, struct err *e)
{
	struct index_mailbox *mb = index_mailbox_get(ix, w->ids[at].mailbox);
	struct uidset set = {0};
	struct message_list l = {0};
	size_t i = at;
	int failed = 0;

	for (; i < w->n && w->ids[i].mailbox == w->ids[at].mailbox; i++)
		if (!w->found[i] && !uidset_add(&set, w->ids[i].uid, w->ids[i].uid))
			failed = err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many messages at once", NULL);
	*next_r = i;
	if (failed == 0 && set.n > 0 && mb != NULL && mb->m.gone_at != 0)
		failed = messages_remove(ix, mb, &set, 0, &l, e);
	for (size_t k = 0; failed == 0 && k < l.n; k++)
		taken_add(t, mb->m.number, &l.m[k]);
	message_list_fini(&l);
	uidset_fini(&set);
	return failed;
}

static int
take(struct index *ix, struct store_retained_id *ids, size_t n, struct taken *t, struct err *e)
{
	struct wanted w;
	int failed;

	assert(n <= STORE_RETAINED_IDS_MAX);
	wanted_init(&w, ids, n);
	failed = take_expunged(ix, &w, t, e);
	for (size_t at = 0; failed == 0 && at < w.n;)
		failed = take_deleted(ix, &w, at, &at, t, e);
	free(w.found);
	if (failed == 0 && t->n > 0)
		qsort(t->list, t->n, sizeof *t->list, taken_cmp);
	return failed;
}

/* ---- coming back ---- */

/* The mailbox that what was in source goes to. */
static struct index_mailbox *
target_of(struct index *ix, struct index_mailbox *source, struct err *e)
{
	if (source->m.gone_at == 0 && source->m.selectable)
		return source;
	return index_mailbox_named(ix, source->m.name, e);
}

/* Those of one mailbox, list[0..n). */
static int
put_back(struct index *ix, const struct taken_one *list, size_t n, struct err *e)
{
	struct index_mailbox *source = index_mailbox_get(ix, list[0].mailbox);
	struct index_mailbox *target = target_of(ix, source, e);
	struct message_list l = {.n = n, .cap = n, .m = mem_new_array(n, sizeof(struct format_message))};
	int failed = target == NULL ? -1 : 0;

	for (size_t i = 0; i < n; i++) {
		l.m[i] = list[i].m;
		l.m[i].entry.flags &= ~STORE_FLAG_DELETED;
	}
	if (failed == 0)
		failed = messages_map_keywords(source, target, &l, e) < 0 || messages_add(ix, target, &l, e) < 0;
	message_list_fini(&l);
	return failed ? -1 : 0;
}

int
index_undelete(struct index *ix, struct store_retained_id *ids, size_t n, struct quota limit, uint32_t *count_r,
    struct err *e)
{
	struct taken t = {0};
	int failed = take(ix, ids, n, &t, e);
	struct quota more = {.messages = t.n};

	for (size_t i = 0; i < t.n; i++)
		more.bytes += t.list[i].m.detail.size;
	if (failed == 0)
		failed = index_quota_check(ix, limit, more, e);
	for (size_t at = 0, end = 0; failed == 0 && at < t.n; at = end) {
		while (end < t.n && t.list[end].mailbox == t.list[at].mailbox)
			end++;
		failed = put_back(ix, &t.list[at], end - at, e);
	}
	*count_r = (uint32_t)t.n;
	free(t.list);
	return failed;
}

/* ---- going ---- */

int
index_forget(struct index *ix, struct store_retained_id *ids, size_t n, struct quota *usage_r, struct err *e)
{
	struct taken t = {0};
	int failed = take(ix, ids, n, &t, e);
	struct format_message *list = mem_new_array(t.n + 1, sizeof *list);

	*usage_r = (struct quota){.messages = t.n};
	for (size_t i = 0; i < t.n; i++) {
		list[i] = t.list[i].m;
		usage_r->bytes += list[i].detail.size;
	}
	if (failed == 0)
		failed = messages_refer(ix, list, t.n, -1, e);
	free(list);
	free(t.list);
	return failed;
}
