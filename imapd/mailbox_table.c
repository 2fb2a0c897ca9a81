/*
 * The keeper answers MBOX_LIST with the table as it is when the answer leaves; so an answer contains all that events
 * before it told, and only events after it make it stale.
 */
#include "imapd/mailbox_table.h"

#include "common/mem.h"
#include "common/memfd.h"

#include <assert.h>

struct mailbox_wait {
	struct mailbox_wait *next;
	struct mailbox_wait **where; /* the owner's pointer to this */
	mailbox_list_fn *fn;
	void *owner;
};

struct mailbox_table {
	struct keeper_link *link;
	struct mailbox_list *list;
	bool stale;
	struct keeper_request *request;
	struct mailbox_wait *waits;
};

/* ---- lists ---- */

void
mailbox_list_ref(struct mailbox_list *l)
{
	l->refs++;
}

void
mailbox_list_unref(struct mailbox_list **lp)
{
	struct mailbox_list *l = *lp;

	*lp = NULL;
	if (l == NULL || --l->refs > 0)
		return;
	free(l->v);
	buf_fini(&l->octets);
	free(l);
}

/* Reads the entries in l->octets; false when they are not what the keeper makes. */
static bool
list_decode(struct mailbox_list *l)
{
	struct cursor c = cursor_of(buf_slice(&l->octets));
	struct store_mailbox m;
	size_t cap = 0;

	while (store_mailbox_next(&c, &m)) {
		if (l->n > 0 && slice_cmp(l->v[l->n - 1].name, m.name) >= 0)
			return false;
		if (l->n == cap) {
			cap = cap ? cap * 2 : 16;
			l->v = mem_resize(l->v, cap, sizeof *l->v);
		}
		l->v[l->n++] = m;
	}
	return cursor_done(&c);
}

static struct mailbox_list *
list_read(int fd, uint64_t bytes, struct err *e)
{
	struct mailbox_list *l = MEM_NEW(struct mailbox_list);

	l->refs = 1;
	buf_init(&l->octets, STORE_LIST_BYTES_MAX);
	if (memfd_read_all(fd, &l->octets, e) == 0) {
		if (l->octets.n == bytes && list_decode(l))
			return l;
		err_set(e, ERR_TEMP, ERR_CODE_MALFORMED, "Temporary failure", "table of mailboxes is malformed");
	}
	mailbox_list_unref(&l);
	return NULL;
}

/* Index of the first name >= name. */
static size_t
list_seek(const struct mailbox_list *l, struct slice name)
{
	size_t low = 0;
	size_t high = l->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (slice_cmp(l->v[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct store_mailbox *
mailbox_list_find(const struct mailbox_list *l, struct slice name)
{
	size_t i;

	if (slice_eq_nocase(name, SLICE("INBOX")))
		name = SLICE("INBOX");
	i = list_seek(l, name);
	return i < l->n && slice_eq(l->v[i].name, name) ? &l->v[i] : NULL;
}

/* ---- the table ---- */

struct mailbox_table *
mailbox_table_new(struct keeper_link *k)
{
	struct mailbox_table *t = MEM_NEW(struct mailbox_table);

	t->link = k;
	t->stale = true;
	return t;
}

void
mailbox_table_free(struct mailbox_table **tp)
{
	struct mailbox_table *t = *tp;

	*tp = NULL;
	if (t == NULL)
		return;
	keeper_forget(&t->request);
	while (t->waits) {
		struct mailbox_wait *w = t->waits;

		t->waits = w->next;
		if (w->where)
			*w->where = NULL;
		free(w);
	}
	mailbox_list_unref(&t->list);
	free(t);
}

void
mailbox_table_stale(struct mailbox_table *t)
{
	t->stale = true;
}

bool
mailbox_table_is_stale(const struct mailbox_table *t)
{
	return t->stale;
}

struct mailbox_list *
mailbox_table_peek(struct mailbox_table *t)
{
	return t->list;
}

/* Tells all who waited at this moment; each of them may ask anew. */
static void
tell(struct mailbox_table *t, struct mailbox_list *l, const struct err *e)
{
	struct mailbox_wait *waits = t->waits;

	t->waits = NULL;
	if (l)
		mailbox_list_ref(l);
	while (waits) {
		struct mailbox_wait *w = waits;

		waits = w->next;
		if (w->where)
			*w->where = NULL;
		if (w->fn)
			w->fn(w->owner, l, e);
		free(w);
	}
	mailbox_list_unref(&l);
}

static void ask(struct mailbox_table *t);

static void
on_list(void *owner, void *reply, const struct err *e)
{
	struct mailbox_table *t = owner;
	struct msg_MBOX_LIST_REPLY *m = reply;
	struct mailbox_list *l = NULL;
	struct err why;

	t->request = NULL;
	if (m) {
		l = list_read(m->table, m->bytes, &why);
		e = &why;
	}
	if (l == NULL) {
		tell(t, NULL, e);
		return;
	}
	mailbox_list_unref(&t->list);
	t->list = l;
	t->stale = false;
	tell(t, l, NULL);
}

static void
ask(struct mailbox_table *t)
{
	struct msg m = {.type = MSG_MBOX_LIST};

	t->request = keeper_ask(t->link, &m, on_list, t);
}

struct mailbox_list *
mailbox_table_get(struct mailbox_table *t, mailbox_list_fn *fn, void *owner, struct mailbox_wait **wait_r)
{
	struct mailbox_wait *w;

	*wait_r = NULL;
	if (!t->stale)
		return t->list;
	w = MEM_NEW(struct mailbox_wait);
	w->fn = fn;
	w->owner = owner;
	w->where = wait_r;
	w->next = t->waits;
	t->waits = w;
	*wait_r = w;
	if (t->request == NULL)
		ask(t);
	return NULL;
}

void
mailbox_wait_forget(struct mailbox_wait **wp)
{
	struct mailbox_wait *w = *wp;

	*wp = NULL;
	if (w == NULL)
		return;
	w->fn = NULL;
	w->where = NULL;
}
