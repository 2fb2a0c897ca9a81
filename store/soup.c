/*
 * A tree of the C library (tsearch) holds the records: one allocation for each.
 */
#include "store/soup.h"

#include "common/mem.h"
#include "store/format.h"

#include <assert.h>
#include <search.h>

struct record {
	size_t key_n;
	size_t value_n;
	bool gone; /* taken out for good */
	uint8_t *value;
	uint8_t key[FORMAT_KEY_BYTES_MAX];
};

struct soup {
	void *tree;
	struct buf scratch;
	struct buf joined;
};

static int
record_cmp(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	return slice_cmp(slice_of(x->key, x->key_n), slice_of(y->key, y->key_n));
}

struct soup *
soup_new(void)
{
	struct soup *s = MEM_NEW(struct soup);

	buf_init(&s->scratch, FORMAT_VALUE_BYTES_MAX);
	buf_init(&s->joined, FORMAT_VALUE_BYTES_MAX);
	return s;
}

static void
record_free(void *p)
{
	struct record *r = p;

	free(r->value);
	free(r);
}

void
soup_free(struct soup **s)
{
	if (*s == NULL)
		return;
	tdestroy((*s)->tree, record_free);
	buf_fini(&(*s)->scratch);
	buf_fini(&(*s)->joined);
	MEM_FREE(s);
}

static struct record *
find(const struct soup *s, struct slice key)
{
	struct record wanted = {.key_n = key.n};
	struct record *const *found;

	if (key.n == 0 || key.n > sizeof wanted.key)
		return NULL;
	memcpy(wanted.key, key.p, key.n);
	found = tfind(&wanted, &s->tree, record_cmp);
	return found != NULL ? *found : NULL;
}

static struct record *
find_or_make(struct soup *s, struct slice key)
{
	struct record *r = find(s, key);

	if (r != NULL)
		return r;
	r = MEM_NEW(struct record);
	r->key_n = key.n;
	memcpy(r->key, key.p, key.n);
	void *added = tsearch(r, &s->tree, record_cmp);

	assert(added != NULL);
	(void)added;
	return r;
}

static void
set_value(struct record *r, struct slice value)
{
	uint8_t *copy = mem_resize(NULL, value.n + 1, 1);

	memcpy(copy, value.p, value.n);
	free(r->value);
	r->value = copy;
	r->value_n = value.n;
	r->gone = false;
}

static bool
key_ok(struct slice key)
{
	return key.n > 0 && key.n <= FORMAT_KEY_BYTES_MAX;
}

void
soup_put(struct soup *s, struct slice key, struct slice value)
{
	if (key_ok(key))
		set_value(find_or_make(s, key), value);
}

/* For good. */
static void
soup_delete(struct soup *s, struct slice key)
{
	struct record *r;

	if (!key_ok(key))
		return;
	r = find_or_make(s, key);
	MEM_FREE(&r->value);
	r->value_n = 0;
	r->gone = true;
}

/* Empty when there is none. */
static struct slice
soup_get(const struct soup *s, struct slice key)
{
	const struct record *r = find(s, key);

	return r != NULL && r->value != NULL ? slice_of(r->value, r->value_n) : slice_of(NULL, 0);
}

struct each {
	soup_each_fn *fn;
	void *arg;
	bool over;
};

static void
on_node(const void *node, VISIT visit, void *closure)
{
	struct each *each = closure;
	const struct record *const *r = node;

	if ((visit != postorder && visit != leaf) || each->over || (*r)->value == NULL)
		return;
	each->over = !each->fn(each->arg, slice_of((*r)->key, (*r)->key_n), slice_of((*r)->value, (*r)->value_n));
}

void
soup_each(const struct soup *s, soup_each_fn *fn, void *arg)
{
	struct each each = {fn, arg, false};

	twalk_r(s->tree, on_node, &each);
}

/* ---- joining two values of one key ---- */

#define MAX(a, b) ((a) > (b) ? (a) : (b))

static bool
join_account(struct buf *b, struct slice x, struct slice y)
{
	struct format_account one, other;

	if (!format_account_get(x, &one) || !format_account_get(y, &other))
		return false;
	/* What is counted is computed again. */
	one.serial = MAX(one.serial, other.serial);
	one.modseq = MAX(one.modseq, other.modseq);
	one.next_object = MAX(one.next_object, other.next_object);
	one.next_mailbox = MAX(one.next_mailbox, other.next_mailbox);
	one.next_uidvalidity = MAX(one.next_uidvalidity, other.next_uidvalidity);
	one.retired_uidvalidity = MAX(one.retired_uidvalidity, other.retired_uidvalidity);
	return format_account_put(b, &one);
}

static bool
join_mailbox(struct buf *b, struct slice key, struct slice x, struct slice y, bool later)
{
	struct format_mailbox one, other;

	if (!format_mailbox_get(key, x, &one) || !format_mailbox_get(key, y, &other))
		return false;
	/* Names, uses and marks change without a modseq: then the later one in a log counts, else the one that was met first. */
	bool newer = other.highestmodseq > one.highestmodseq ||
	    (other.highestmodseq == one.highestmodseq && (other.uidnext > one.uidnext || (later && other.uidnext == one.uidnext)));
	struct format_mailbox *m = newer ? &other : &one;
	const struct format_mailbox *old = newer ? &one : &other;

	m->uidnext = MAX(m->uidnext, old->uidnext);
	m->recent_uid = MAX(m->recent_uid, old->recent_uid);
	m->tombstone_floor = MAX(m->tombstone_floor, old->tombstone_floor);
	return format_mailbox_put(b, m);
}

/* The members of both, of each UID the one with the higher modseq. More than a chunk may hold: some were expunged before the last
 * came, so the value with the highest UID is the newer one, and whole. */
static bool
join_entries(struct buf *b, struct slice key, struct slice x, struct slice y)
{
	static struct format_entries one, other, both;
	unsigned i = 0, k = 0;

	if (!format_entries_get(key, x, &one) || !format_entries_get(key, y, &other))
		return false;
	for (both.n = 0; i < one.n || k < other.n;) {
		bool first = k == other.n || (i < one.n && one.e[i].uid <= other.e[k].uid);
		bool same = i < one.n && k < other.n && one.e[i].uid == other.e[k].uid;

		if (both.n == FORMAT_ENTRIES_MAX)
			return one.e[one.n - 1].uid < other.e[other.n - 1].uid && format_entries_put(b, key, &other);
		both.e[both.n++] = first && !(same && other.e[k].modseq > one.e[i].modseq) ? one.e[i] : other.e[k];
		i += first;
		k += !first || same;
	}
	return format_entries_put(b, key, &both);
}

static bool
join_details(struct buf *b, struct slice key, struct slice x, struct slice y)
{
	static struct format_details one, other, both;
	unsigned i = 0, k = 0;

	if (!format_details_get(key, x, &one) || !format_details_get(key, y, &other))
		return false;
	for (both.n = 0; i < one.n || k < other.n;) {
		bool first = k == other.n || (i < one.n && one.d[i].uid <= other.d[k].uid);
		bool same = i < one.n && k < other.n && one.d[i].uid == other.d[k].uid;

		if (both.n == FORMAT_DETAILS_MAX)
			return one.n > 0 && other.n > 0 && one.d[one.n - 1].uid < other.d[other.n - 1].uid &&
			    format_details_put(b, key, &other);
		both.d[both.n++] = first ? one.d[i] : other.d[k];
		i += first;
		k += !first || same;
	}
	return format_details_put(b, key, &both);
}

/* later: it was written after what is there, as far as that came from the same log. */
static void
merge(struct soup *s, struct slice key, struct slice value, bool later)
{
	struct record *r;
	struct slice old;
	bool joined = false;

	if (!key_ok(key))
		return;
	r = find_or_make(s, key);
	old = slice_of(r->value, r->value_n);
	if (r->gone || (r->value != NULL && slice_eq(old, value)))
		return;
	if (r->value == NULL) {
		set_value(r, value);
		return;
	}
	switch (key.p[0]) {
	case FORMAT_ACCOUNT:
		joined = join_account(&s->joined, old, value);
		break;
	case FORMAT_MAILBOX:
		joined = join_mailbox(&s->joined, key, old, value, later);
		break;
	case FORMAT_ENTRIES:
		joined = join_entries(&s->joined, key, old, value);
		break;
	case FORMAT_DETAILS:
		joined = join_details(&s->joined, key, old, value);
		break;
	case FORMAT_KEYWORDS:
		/* Names are only ever added. */
		if (value.n > old.n)
			set_value(r, value);
		break;
	default:
		break;
	}
	if (joined)
		set_value(r, buf_slice(&s->joined));
}

void
soup_merge(struct soup *s, struct slice key, struct slice value)
{
	merge(s, key, value, false);
}

/* ---- redo ---- */

static bool
value_ok(struct slice key, struct slice value)
{
	struct cursor payload;
	unsigned count;

	return value.n >= FORMAT_HEADER_BYTES && format_check(key, value, &count, &payload);
}

/* What a patch makes of the value that is there, in s->scratch; false when there is none. */
static bool
patched(struct soup *s, const struct redo_op *op)
{
	struct slice old = soup_get(s, op->key);

	buf_reset(&s->scratch);
	if (old.n == 0 || !buf_put_slice(&s->scratch, old))
		return false;
	redo_patch(op, s->scratch.p, s->scratch.n);
	return true;
}

static bool
check_one(void *arg, struct slice key, struct slice value)
{
	bool *ok = arg;

	*ok = value_ok(key, value);
	return *ok;
}

static bool
apply_record(struct soup *s, const struct carve_redo *c, bool exact)
{
	struct redo r;
	struct redo_op op;

	if (!redo_open(c->record, &r))
		return false;
	while (redo_next(&r, &op)) {
		if (!key_ok(op.key))
			return false;
		if (op.kind == REDO_DELETE) {
			soup_delete(s, op.key);
			continue;
		}
		if (op.kind == REDO_PATCH && !patched(s, &op))
			continue;
		struct slice value = op.kind == REDO_PATCH ? buf_slice(&s->scratch) : op.value;

		/* On a base copy that was written meanwhile a value may be newer than the patch: true again after the last one. */
		if (exact)
			soup_put(s, op.key, value);
		else if (value_ok(op.key, value))
			merge(s, op.key, value, true);
	}
	return !r.ops.bad;
}

/* A transaction in the log: its records, from .. from + n. */
struct transaction {
	uint64_t serial;
	size_t from;
	size_t n;
	bool complete;
};

/* Those that count, as store/redo.h has the rule; for the caller to free(). */
static struct transaction *
transactions(const struct carve_log *log, size_t records, size_t *n_r)
{
	struct transaction *list = mem_new_array(records + 1, sizeof *list);
	size_t n = 0;

	for (size_t i = 0; i < records; i++) {
		const struct carve_redo *c = &log->list[i];
		struct transaction *top = n > 0 ? &list[n - 1] : NULL;

		if (c->part > 0) {
			if (top != NULL && top->serial == c->serial && top->n == c->part && !top->complete && top->from + top->n == i) {
				top->n++;
				top->complete = c->last;
			}
			continue;
		}
		while (n > 0 && list[n - 1].serial >= c->serial)
			n--;
		list[n++] = (struct transaction){c->serial, i, 1, c->last};
	}
	*n_r = n;
	return list;
}

bool
soup_apply(struct soup *s, const struct carve_log *log, bool exact, uint64_t base_serial, uint64_t *serial_r)
{
	size_t n;
	struct transaction *list = transactions(log, exact ? log->sure : log->n, &n);
	bool ok = true;

	*serial_r = base_serial;
	for (size_t i = 0; ok && i < n; i++) {
		const struct transaction *t = &list[i];

		if (exact && t->serial <= base_serial)
			continue;
		/* The last one may have been on its way; before it nothing may be missing. */
		if (!t->complete && i + 1 == n)
			break;
		if (exact && (!t->complete || t->serial != *serial_r + 1))
			ok = false;
		for (size_t k = 0; ok && k < t->n; k++)
			ok = apply_record(s, &log->list[t->from + k], exact) || !exact;
		*serial_r = MAX(*serial_r, t->serial);
	}
	free(list);
	if (exact && ok)
		soup_each(s, check_one, &ok);
	return ok;
}
