/*
 * Order is what makes revocation sure: the check of the hash and the sending of
 * LEASE_OPEN happen in one callback, and LEASE_REVOKE follows a change on the
 * same edges, so a lease opened on the old password is always revoked behind it.
 *
 * What must be told survives a crash as an effect in the database. It is told
 * before it is forgotten; telling twice ends a session too many at worst.
 */
#include "authd/directory_lease.h"

#include "authd/directory_local.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"

#include <openssl/crypto.h>

#define LEASE_OPEN_MS 5000
#define ACCOUNT_DELETE_MS 60000
#define EFFECTS_RETRY_MS 2000
/* The pause doubles up to this while nothing gets better. */
#define EFFECTS_RETRY_MS_MAX 60000
/* Effects looked at in one go; the timer brings the rest. */
#define EFFECTS_BATCH 64

/* Who waits for a lease, a verifier or (for a user of this machine) a front; found again by its place, because its edge may end
 * meanwhile. */
struct waiting {
	struct edge_peer peer;
	uint64_t id;
	/* of a front */
	uint64_t account;
	uid_t user;
	char login[ADDRESS_BYTES_MAX + 1];
};

struct effect {
	enum dir_effect effect;
	uint64_t account;
};

struct effect_batch {
	struct effect v[EFFECTS_BATCH];
	unsigned n;
};

static struct directory *dir;
static struct loop_timer *retry;
static uint64_t retry_ms = EFFECTS_RETRY_MS;
static uint64_t deleting; /* the account that the store was asked to delete; 0: none */
static uint64_t refused;  /* the one that could not be deleted last: others have their turn first */

/* Which front may log in to what. */
static const struct {
	enum role front;
	const char *service;
} services[] = {
    {ROLE_IMAP_FRONT, "imap"},
    {ROLE_POP3_FRONT, "pop3"},
    {ROLE_SUBMISSION, "submission"},
};

static void
answer(const struct waiting *w, enum err_class class, enum err_code code)
{
	struct edge *e = role_edge(w->peer.role, w->peer.instance);

	if (e == NULL || edge_peer(e)->generation != w->peer.generation)
		return;
	if (w->peer.role == ROLE_VERIFIER)
		IPC_TELL(e, DIR_AUTHENTICATED_REPLY, .id = w->id, .class = class, .code = code);
	else
		IPC_TELL(e, DIR_LOCAL_REPLY, .id = w->id, .class = class, .account = class == ERR_NONE ? w->account : 0,
		    .login = slice_str(w->login), .user = w->user);
}

static void
on_lease_gone(void *obj, const struct err *e)
{
	struct waiting *w = obj;

	log_event(LOG_WARN, NO_SESSION, "lease-not-opened", LOG_ERR(e), LOG_END);
	answer(w, ERR_TEMP, ERR_CODE_UNAVAILABLE);
	free(w);
}

static bool
serves(uint32_t front, struct slice service)
{
	for (size_t i = 0; i < sizeof services / sizeof services[0]; i++)
		if (front == (uint32_t)services[i].front)
			return slice_eq(service, slice_str(services[i].service));
	return false;
}

/* Active, and the hash that was checked is still the one. */
static int
account_check(const struct msg_DIR_AUTHENTICATED *m, struct dir_account *a_r, struct err *e)
{
	int r = directory_account_get(dir, m->account, a_r, e);

	if (r < 0)
		return -1;
	if (r == 0 || a_r->state != DIR_ACCOUNT_ACTIVE || a_r->hash.n != m->hash.n ||
	    CRYPTO_memcmp(a_r->hash.p, m->hash.p, m->hash.n) != 0)
		return err_set(e, ERR_PERM, ERR_CODE_EXPIRED, "credential no longer good", NULL);
	return 0;
}

/* Whose connection the lease is for. */
struct holder {
	struct edge_peer front;
	uint64_t conn;
	struct slice service;
};

static void
lease_open(const struct waiting *who, const struct holder *h, const struct dir_account *a)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	struct waiting *w = MEM_NEW(struct waiting);
	uint64_t id;

	*w = *who;
	id = store ? ipc_expect(store, LEASE_OPEN_MS, on_lease_gone, w) : 0;
	if (id != 0 &&
	    IPC_SEND(store, LEASE_OPEN, .id = id, .account = a->id, .front_role = h->front.role,
		.front_instance = h->front.instance, .front_generation = h->front.generation,
		.conn = h->conn, .service = h->service, .login = a->login))
		return;
	if (id != 0)
		ipc_forget(store, id);
	answer(w, ERR_TEMP, ERR_CODE_UNAVAILABLE);
	free(w);
}

void
directory_lease_authenticated(struct edge *e, struct msg_DIR_AUTHENTICATED *m)
{
	const struct waiting w = {.peer = *edge_peer(e), .id = m->id};
	const struct holder h = {.front = {(enum role)m->front_role, m->front_instance, m->front_generation},
	    .conn = m->conn, .service = m->service};
	struct dir_account account;
	struct err why;

	if (!serves(m->front_role, m->service))
		(void)err_set(&why, ERR_PERM, ERR_CODE_DENIED, "no such service here", NULL);
	else if (account_check(m, &account, &why) == 0) {
		lease_open(&w, &h, &account);
		return;
	}
	answer(&w, why.class, why.code);
}

/* ---- users of this machine ---- */

/* The active account that the user at the other end sends for. */
static int
local_account(int fd, struct waiting *w, struct dir_account *a_r, struct err *e)
{
	const char *address = NULL;
	struct address_name name;
	int r;

	if (directory_local_peer(fd, &w->user))
		address = directory_local_address(w->user);
	if (address == NULL || !address_parse(slice_str(address), &name))
		return err_set(e, ERR_PERM, ERR_CODE_DENIED, "this user may not send", NULL);
	r = directory_account_find(dir, &name, a_r, e);
	if (r == 0 && (r = directory_name_meant(dir, &name, e)) == 1)
		r = directory_account_find(dir, &name, a_r, e);
	if (r < 0)
		return -1;
	if (r == 0 || a_r->state != DIR_ACCOUNT_ACTIVE)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such account, or it is suspended", "%s", address);
	w->account = a_r->id;
	return slice_cstr(a_r->login, w->login, sizeof w->login)
	    ? 0
	    : err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "directory damaged", "a login");
}

void
directory_lease_local(struct edge *e, struct msg_DIR_LOCAL *m)
{
	const struct holder h = {.front = *edge_peer(e), .conn = m->conn, .service = SLICE("submission")};
	struct waiting w = {.peer = *edge_peer(e), .id = m->id};
	struct dir_account account;
	struct err why;

	if (local_account(m->socket, &w, &account, &why) == 0) {
		lease_open(&w, &h, &account);
		return;
	}
	log_event(LOG_INFO, NO_SESSION, "local-refused", LOG_NUM("user", w.user), LOG_ERR(&why), LOG_END);
	answer(&w, why.class, why.code);
}

void
directory_lease_opened(struct edge *e, struct msg_LEASE_OPENED *m)
{
	struct waiting *w = ipc_answered(e, m->id);

	if (w == NULL)
		return;
	answer(w, (enum err_class)m->class, m->class == ERR_NONE ? ERR_CODE_NONE : ERR_CODE_UNAVAILABLE);
	free(w);
}

/* ---- effects ---- */

static void
retry_later(void)
{
	loop_timer_set(retry, retry_ms);
	retry_ms = retry_ms * 2 < EFFECTS_RETRY_MS_MAX ? retry_ms * 2 : EFFECTS_RETRY_MS_MAX;
}

static bool
batch_add(enum dir_effect effect, uint64_t account, void *arg)
{
	struct effect_batch *b = arg;

	b->v[b->n++] = (struct effect){effect, account};
	return b->n < EFFECTS_BATCH;
}

static void
effect_done(enum dir_effect effect, uint64_t account)
{
	struct err e;

	retry_ms = EFFECTS_RETRY_MS;
	if (directory_effect_done(dir, effect, account, &e) != 0)
		log_event(LOG_ERROR, NO_SESSION, "effect-not-noted", LOG_ERR(&e), LOG_END);
}

/* True when it need not be told again. */
static bool
revoke(uint64_t account)
{
	struct edge *e = role_edge(ROLE_STORE, 0);

	return e != NULL && IPC_SEND(e, LEASE_REVOKE, .account = account);
}

static void
on_delete_gone(void *obj, const struct err *e)
{
	(void)obj;
	log_event(LOG_WARN, NO_SESSION, "account-not-deleted-yet", LOG_NUM("account", deleting),
	    LOG_ERR(e), LOG_END);
	refused = deleting;
	deleting = 0;
	retry_later();
}

/* One at a time; its answer brings the next. */
static void
store_delete(uint64_t account)
{
	struct edge *e = role_edge(ROLE_STORE, 0);
	uint64_t id;

	if (e == NULL || deleting != 0)
		return;
	id = ipc_expect(e, ACCOUNT_DELETE_MS, on_delete_gone, &deleting);
	if (id == 0)
		return;
	if (!IPC_SEND(e, STORE_ACCOUNT_DELETE, .id = id, .account = account))
		ipc_forget(e, id);
	else
		deleting = account;
}

void
directory_lease_account_deleted(struct edge *e, struct msg_STORE_ACCOUNT_REPLY *m)
{
	if (ipc_answered(e, m->id) == NULL)
		return;
	if (m->class == ERR_NONE) {
		effect_done(DIR_EFFECT_DELETE, deleting);
		deleting = 0;
		directory_lease_effects();
		return;
	}
	log_event(LOG_WARN, NO_SESSION, "account-not-deleted-yet", LOG_NUM("account", deleting),
	    LOG_CSTR("class", err_class_name((enum err_class)m->class)), LOG_END);
	refused = deleting;
	deleting = 0;
	retry_later();
}

void
directory_lease_effects(void)
{
	struct effect_batch b = {.n = 0};
	bool left = false;
	struct err e;

	if (directory_effect_each(dir, batch_add, &b, &e) != 0) {
		log_event(LOG_ERROR, NO_SESSION, "effects-unread", LOG_ERR(&e), LOG_END);
		return;
	}
	for (unsigned i = 0; i < b.n; i++) {
		if (b.v[i].effect == DIR_EFFECT_DELETE) {
			if (b.v[i].account > refused)
				store_delete(b.v[i].account);
			left = true;
		} else if (revoke(b.v[i].account)) {
			effect_done(DIR_EFFECT_REVOKE, b.v[i].account);
		} else {
			left = true;
		}
	}
	if (deleting == 0)
		refused = 0;
	if (left || b.n == EFFECTS_BATCH)
		retry_later();
}

static void
on_retry(void *arg)
{
	(void)arg;
	directory_lease_effects();
}

void
directory_lease_init(struct directory *d)
{
	dir = d;
	retry = loop_timer_new(role_loop(), on_retry, NULL);
}
