/*
 * Rows are made from the database when they are sent, and all go over one edge, in order: whatever a page
 * and a change say of the same account, the later one is right. What cannot be sent is told anew from the start,
 * after a pause. The store needs all of it before it answers for a domain, and an account's row before its
 * keeper takes a message; so nothing here is kept for it on the disk.
 */
#include "authd/directory_quota.h"

#include "common/cursor.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"

#include <assert.h>

#define PAGE_MS 30000
#define RETRY_MS 2000

/* A row that was sent and not taken yet. */
struct telling {
	struct edge *admin;
	uint64_t id;
	struct telling *next;
};

static struct {
	struct directory *d;
	directory_quota_done *done;
	struct loop_timer *again;
	struct telling *tellings;
	/* The telling of everything: domains first, then accounts, from behind that key on. */
	bool accounts;
	struct buf after;
	enum quota_part part; /* of the next page; QUOTA_CHANGE: none is to come */
	struct buf rows;
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1]; /* of the row before, and its number */
	uint64_t number;
} me;

static void
put_row(struct buf *b, uint64_t account, uint64_t domain, struct quota limit)
{
	put_u64(b, account);
	put_u64(b, domain);
	put_u64(b, limit.bytes);
	put_u64(b, limit.messages);
}

static void
tell_again_later(void)
{
	me.part = QUOTA_CHANGE;
	loop_timer_set(me.again, RETRY_MS);
}

/* ---- pages ---- */

static bool
page_full(struct slice key)
{
	buf_reset(&me.after);
	(void)buf_put_slice(&me.after, key);
	return me.rows.n == (size_t)QUOTA_ROWS_MAX * QUOTA_ROW_BYTES;
}

static bool
domain_row(struct slice key, const char *domain, const struct dir_domain *record, void *arg)
{
	(void)domain;
	(void)arg;
	put_row(&me.rows, 0, record->order, record->limit);
	return !page_full(key);
}

/* Accounts come domain by domain, so that each domain is looked up once. */
static bool
account_row(struct slice key, const struct dir_account *a, void *arg)
{
	struct err *e = arg;
	uint64_t id = a->id;
	struct quota limit = a->limit;
	struct address_name name;
	struct dir_domain record;

	/* The record is gone with the next look-up. */
	bool named = dir_name_of(a->login, &name);

	assert(named);
	if (strcmp(name.domain, me.domain) != 0) {
		int r = directory_domain_find(me.d, name.domain, &record, e);

		if (r != 1) {
			log_event(LOG_ERROR, NO_SESSION, "account-without-domain", LOG_NUM("account", id), LOG_END);
			return true;
		}
		memcpy(me.domain, name.domain, sizeof me.domain);
		me.number = record.order;
	}
	put_row(&me.rows, id, me.number, limit);
	return !page_full(key);
}

/* The rows of the next page. False when the database failed. */
static bool
page_make(void)
{
	struct err e = {0};
	int r;

	buf_reset(&me.rows);
	if (!me.accounts) {
		r = directory_domain_each(me.d, buf_slice(&me.after), domain_row, NULL, &e);
		if (r == 0 && me.rows.n < (size_t)QUOTA_ROWS_MAX * QUOTA_ROW_BYTES) {
			me.accounts = true;
			buf_reset(&me.after);
		}
	} else {
		me.domain[0] = '\0';
		r = directory_account_each(me.d, NULL, buf_slice(&me.after), account_row, &e, &e);
	}
	if (r != 0)
		log_event(LOG_ERROR, NO_SESSION, "quota-unread", LOG_ERR(&e), LOG_END);
	return r == 0;
}

static void
on_page_gone(void *obj, const struct err *e)
{
	(void)obj;
	log_event(LOG_WARN, NO_SESSION, "quota-untold", LOG_ERR(e), LOG_END);
	tell_again_later();
}

static void
page_send(void)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	bool was_accounts = me.accounts;
	uint64_t id;

	if (store == NULL)
		return;
	id = page_make() ? ipc_expect(store, PAGE_MS, on_page_gone, &me) : 0;
	if (id == 0) {
		tell_again_later();
		return;
	}
	bool last = was_accounts && me.rows.n < (size_t)QUOTA_ROWS_MAX * QUOTA_ROW_BYTES;
	uint8_t part = (uint8_t)(last ? QUOTA_LAST : me.part);

	if (!IPC_SEND(store, QUOTA_ROWS, .id = id, .part = part, .rows = buf_slice(&me.rows))) {
		ipc_forget(store, id);
		tell_again_later();
		return;
	}
	me.part = last ? QUOTA_CHANGE : QUOTA_NEXT;
}

void
directory_quota_tell_all(void)
{
	loop_timer_stop(me.again);
	me.accounts = false;
	buf_reset(&me.after);
	me.part = QUOTA_FIRST;
	page_send();
}

static void
on_again(void *arg)
{
	(void)arg;
	directory_quota_tell_all();
}

/* ---- single rows ---- */

static void
telling_end(struct telling *t, bool in_force)
{
	struct telling **link = &me.tellings;

	while (*link != t)
		link = &(*link)->next;
	*link = t->next;
	if (t->admin != NULL)
		me.done(t->admin, t->id, in_force);
	free(t);
}

static void
on_telling_gone(void *obj, const struct err *e)
{
	log_event(LOG_WARN, NO_SESSION, "quota-untold", LOG_ERR(e), LOG_END);
	telling_end(obj, false);
	tell_again_later();
}

void
directory_quota_tell(const struct dir_quota_row *row, struct edge *admin, uint64_t admin_id)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	struct telling *t = MEM_NEW(struct telling);
	uint64_t id = store != NULL ? ipc_expect(store, DIRECTORY_QUOTA_MS, on_telling_gone, t) : 0;
	struct buf b;

	*t = (struct telling){admin, admin_id, me.tellings};
	me.tellings = t;
	buf_init(&b, QUOTA_ROW_BYTES);
	put_row(&b, row->account, row->domain, row->limit);
	if (id == 0 || !IPC_SEND(store, QUOTA_ROWS, .id = id, .part = QUOTA_CHANGE, .rows = buf_slice(&b))) {
		if (id != 0) {
			ipc_forget(store, id);
			tell_again_later();
		}
		telling_end(t, false);
	}
	buf_fini(&b);
}

void
directory_quota_taken(struct edge *e, struct msg_QUOTA_TAKEN *m)
{
	void *obj = ipc_answered(e, m->id);

	if (obj == NULL)
		return;
	if (obj != &me)
		telling_end(obj, true);
	else if (me.part == QUOTA_NEXT)
		page_send();
}

void
directory_quota_admin_gone(struct edge *admin)
{
	for (struct telling *t = me.tellings; t != NULL; t = t->next)
		if (t->admin == admin)
			t->admin = NULL;
}

void
directory_quota_init(struct directory *d, directory_quota_done *done)
{
	me.d = d;
	me.done = done;
	me.again = loop_timer_new(role_loop(), on_again, NULL);
	buf_init(&me.after, DIR_ADMIN_TEXT_BYTES_MAX);
	buf_init(&me.rows, (size_t)QUOTA_ROWS_MAX * QUOTA_ROW_BYTES);
}
