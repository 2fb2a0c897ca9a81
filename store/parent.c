/*
 * What the store's parent is asked. Nobody is believed about an account: a
 * front has a lease or nothing, a worker is bound to the account it was
 * started for, deliver names one because it has no other way to say where.
 */
#include "store/parent_quota.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/role.h"

#include <errno.h>
#include <jansson.h>
#include <sys/socket.h>
#include <unistd.h>

/* Accounts named in the status; the totals count all. */
#define STATUS_ACCOUNTS_MAX 200u

static uint64_t last_session_no;

/* ---- leases ---- */

static void
on_lease_open(struct edge *e, struct msg_LEASE_OPEN *m)
{
	struct edge_peer front = {(enum role)m->front_role, m->front_instance, m->front_generation};
	struct err err;
	uint32_t class = ERR_NONE;

	if (m->front_role >= ROLE_COUNT || m->account == 0)
		class = ERR_PERM;
	else if (parent_lease_open(&front, m->conn, m->account, m->login, &err) < 0)
		class = err.class;
	IPC_TELL(e, LEASE_OPENED, .id = m->id, .class = class);
}

static void
on_lease_revoke(struct edge *e, struct msg_LEASE_REVOKE *m)
{
	(void)e;
	parent_lease_revoke(m->account);
}

static void
on_lease_close(struct edge *e, struct msg_LEASE_CLOSE *m)
{
	parent_lease_close(edge_peer(e), m->conn);
}

static void
on_lease_ask(struct edge *e, struct msg_LEASE_ASK *m)
{
	struct edge_peer front = {ROLE_SUBMISSION, m->front_instance, m->front_generation};
	const struct parent_lease *l = parent_lease_find(&front, m->conn);

	IPC_TELL(e, LEASE_TOLD, .id = m->id, .account = l != NULL ? l->account : 0,
	    .login = slice_str(l != NULL ? l->login : ""));
}

/* ---- attach ---- */

/* Joins the connection to the worker. The front's end in *relay_r. */
static int
attach(struct parent_lease *l, enum role worker_role, const struct msg_STORE_ATTACH *m, int *relay_r, struct err *e)
{
	struct parent_account *a = parent_account(l->account);
	struct parent_process *worker;
	int pair[2];

	if (a == NULL)
		return err_set(e, ERR_LIMIT, ERR_CODE_UNAVAILABLE, "too many accounts in use", NULL);
	/* RFC 1939 4: a maildrop is for one session at a time. */
	if (worker_role == ROLE_POP3_WORKER && a->pop3 != NULL && a->pop3->sessions > 0)
		return err_set(e, ERR_PERM, ERR_CODE_IN_USE, "the mailbox is in use", NULL);
	worker = parent_process(a, worker_role, e);
	if (worker == NULL)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_sys(e, errno, "socketpair");
	bool ok = IPC_SEND(worker->edge, WORKER_SESSION, .session_no = ++last_session_no, .utf8 = m->utf8, .login = slice_str(l->login),
	    .session = m->session, .facts = m->facts, .relay = pair[1]);

	(void)close(pair[1]);
	if (!ok) {
		(void)close(pair[0]);
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "the worker takes no session");
	}
	worker->sessions++;
	l->worker = worker;
	l->session_no = last_session_no;
	*relay_r = pair[0];
	return 0;
}

static void
on_attach(struct edge *e, struct msg_STORE_ATTACH *m)
{
	struct parent_lease *l = parent_lease_find(edge_peer(e), m->conn);
	enum role role = edge_peer(e)->role == ROLE_IMAP_FRONT ? ROLE_IMAP_WORKER : ROLE_POP3_WORKER;
	struct err err = {0};
	int relay = -1;

	if (l == NULL || l->session_no != 0)
		err_set(&err, ERR_PERM, ERR_CODE_EXPIRED, "no lease", "a front asked to attach without a lease");
	else
		(void)attach(l, role, m, &relay, &err);
	if (err.class != ERR_NONE)
		log_event(err.code == ERR_CODE_IN_USE ? LOG_INFO : LOG_WARN, m->session, "attach-refused", LOG_ERR(&err), LOG_END);
	IPC_TELL(e, STORE_ATTACHED, .id = m->id, .class = err.class, .code = err.code, .relay = relay);
	if (relay >= 0)
		(void)close(relay);
}

static void
on_session_end(struct edge *e, struct msg_WORKER_SESSION_END *m)
{
	struct parent_process *p = parent_process_of(e);

	if (p->sessions > 0)
		p->sessions--;
	parent_lease_session_end(p, m->session_no);
}

/* ---- connect ---- */

/* A new edge from asker to the account's keeper; the asker's end in *fd_r. */
static int
connect_keeper(uint64_t account, const struct edge_peer *asker, int *fd_r, struct err *e)
{
	struct parent_account *a = parent_account(account);
	struct parent_process *keeper;
	int pair[2];

	if (a == NULL)
		return err_set(e, ERR_LIMIT, ERR_CODE_UNAVAILABLE, "too many accounts in use", NULL);
	if (a->deleter != NULL)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such account", NULL);
	keeper = parent_process(a, ROLE_KEEPER, e);
	if (keeper == NULL)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socketpair");
	bool ok = IPC_SEND(keeper->edge, KEEPER_PEER, .peer_role = asker->role, .peer_generation = asker->generation,
	    .fd = pair[1]);

	(void)close(pair[1]);
	if (!ok) {
		(void)close(pair[0]);
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "the keeper takes no peer");
	}
	keeper->peers_sent++;
	*fd_r = pair[0];
	return 0;
}

static void
on_connect(struct edge *e, struct msg_STORE_CONNECT *m)
{
	const struct edge_peer *asker = edge_peer(e);
	bool names_one = asker->role == ROLE_DELIVER || asker->role == ROLE_ADMIN;
	uint64_t account = names_one ? m->account : parent_process_of(e)->account->id;
	struct err err = {0};
	int fd = -1;

	if (connect_keeper(account, asker, &fd, &err) < 0)
		log_event(LOG_WARN, NO_SESSION, "connect-refused", LOG_NUM("account", account), LOG_ERR(&err), LOG_END);
	IPC_TELL(e, STORE_CONNECTED, .id = m->id, .account = account, .class = err.class, .code = err.code,
	    .fd = fd);
	if (fd >= 0)
		(void)close(fd);
}

/* ---- coming and going ---- */

static void
on_worker_idle(struct edge *e, struct msg_PROCESS_IDLE *m)
{
	struct parent_process *p = parent_process_of(e);

	(void)m;
	/* A session that it does not know of yet is counted here already. */
	if (p->sessions == 0)
		parent_process_leave(p);
}

static void
on_keeper_idle(struct edge *e, struct msg_PROCESS_IDLE *m)
{
	struct parent_process *p = parent_process_of(e);

	/* One that it has not seen is on its way: it stays. */
	if (p->peers_sent == m->peers_seen)
		parent_process_leave(p);
}

static void
on_usage(struct edge *e, struct msg_KEEPER_USAGE *m)
{
	struct parent_process *p = parent_process_of(e);

	p->opened = true;
	p->account->failures = 0;
	parent_quota_used(p, (struct quota){m->bytes, m->messages});
}

void
parent_deletion_end(struct parent_account *a, bool done)
{
	struct edge *deleter = a->deleter;

	a->deleter = NULL;
	if (deleter == NULL)
		return;
	IPC_TELL(deleter, STORE_ACCOUNT_REPLY, .id = a->delete_id,
	    .class = done ? (uint32_t)ERR_NONE : (uint32_t)ERR_TEMP);
	if (done)
		parent_quota_account_gone(a);
}

static void
on_deleted(struct edge *e, struct msg_KEEPER_DELETED *m)
{
	(void)m;
	parent_deletion_end(parent_process_of(e)->account, true);
}

static void
on_delete(struct edge *e, struct msg_STORE_ACCOUNT_DELETE *m)
{
	struct parent_account *a = parent_account(m->account);
	struct parent_process *keeper;
	struct err err = {0};

	parent_lease_revoke(m->account);
	keeper = a != NULL && a->deleter == NULL ? parent_process(a, ROLE_KEEPER, &err) : NULL;
	if (keeper != NULL && IPC_SEND(keeper->edge, KEEPER_DELETE, )) {
		keeper->leaving = true;
		a->deleter = e;
		a->delete_id = m->id;
		return;
	}
	IPC_TELL(e, STORE_ACCOUNT_REPLY, .id = m->id, .class = ERR_TEMP);
}

static void
forget_deleter(const struct parent_account *a, void *arg)
{
	struct parent_account *mine = parent_account_find(a->id);

	if (mine->deleter == arg)
		mine->deleter = NULL;
}

void
parent_edge_down(struct edge *e)
{
	switch (edge_peer(e)->role) {
	case ROLE_KEEPER:
	case ROLE_IMAP_WORKER:
	case ROLE_POP3_WORKER:
		parent_process_down(e);
		break;
	case ROLE_IMAP_FRONT:
	case ROLE_POP3_FRONT:
	case ROLE_SUBMISSION:
		parent_lease_front_down(edge_peer(e));
		break;
	case ROLE_DIRECTORY:
		parent_account_each(forget_deleter, e);
		break;
	default:
		break;
	}
}

/* ---- an account for the command alone ---- */

void
parent_hold_settle(struct parent_account *a)
{
	uint64_t id = a->hold_id;

	if (a->holder == NULL || id == 0 || a->keepers > 0)
		return;
	a->hold_id = 0;
	IPC_TELL(a->holder, STORE_HELD, .id = id, .class = ERR_NONE);
}

static int
hold(struct parent_account *a, struct edge *e, uint64_t id, struct err *err)
{
	if (a == NULL)
		return err_set(err, ERR_LIMIT, ERR_CODE_UNAVAILABLE, "too many accounts in use", NULL);
	if (a->holder != NULL || a->deleter != NULL)
		return err_set(err, ERR_TEMP, ERR_CODE_IN_USE, "this account is being worked on already", NULL);
	a->holder = e;
	a->hold_id = id;
	parent_lease_revoke(a->id);
	if (a->keeper != NULL)
		parent_process_leave(a->keeper);
	parent_hold_settle(a);
	return 0;
}

static void
on_hold(struct edge *e, struct msg_STORE_HOLD *m)
{
	struct err err;

	if (hold(parent_account(m->account), e, m->id, &err) < 0)
		IPC_TELL(e, STORE_HELD, .id = m->id, .class = err.class, .code = err.code,
		    .text = slice_str(err.client));
	else
		log_event(LOG_INFO, NO_SESSION, "account-held", LOG_NUM("account", m->account), LOG_END);
}

static void
release(const struct parent_account *a, void *arg)
{
	struct parent_account *mine = parent_account_find(a->id);

	if (mine->holder != arg)
		return;
	mine->holder = NULL;
	mine->hold_id = 0;
	parent_quota_unsure(mine);
	log_event(LOG_INFO, NO_SESSION, "account-free", LOG_NUM("account", a->id), LOG_END);
}

void
parent_admin_gone(struct edge *e, void *arg)
{
	(void)arg;
	parent_account_each(release, e);
}

/* ---- status ---- */

static void
list_account(const struct parent_account *a, void *arg)
{
	json_t *list = arg, *o;
	bool aside = a->failures >= PARENT_FAILURES_MAX;

	if (a->keeper == NULL && a->imap == NULL && a->pop3 == NULL && !aside)
		return;
	if (json_array_size(list) >= STATUS_ACCOUNTS_MAX)
		return;
	o = json_pack("{sI sb sI sI sb}", "account", (json_int_t)a->id, "keeper", a->keeper != NULL, "imap_sessions",
	    (json_int_t)(a->imap ? a->imap->sessions : 0), "pop3_sessions",
	    (json_int_t)(a->pop3 ? a->pop3->sessions : 0), "set_aside", aside);
	if (o != NULL && a->usage_known) {
		(void)json_object_set_new(o, "bytes", json_integer((json_int_t)a->usage.bytes));
		(void)json_object_set_new(o, "messages", json_integer((json_int_t)a->usage.messages));
	}
	if (o != NULL)
		(void)json_array_append_new(list, o);
}

static void
on_status(struct edge *e, struct msg_STORE_STATUS *m)
{
	json_t *list = json_array();
	json_t *o;
	char *text;

	parent_account_each(list_account, list);
	o = json_pack("{sI sI sI sI so}", "leases", (json_int_t)parent_lease_count(), "keepers",
	    (json_int_t)parent_count(ROLE_KEEPER), "imap_workers", (json_int_t)parent_count(ROLE_IMAP_WORKER),
	    "pop3_workers", (json_int_t)parent_count(ROLE_POP3_WORKER), "accounts", list);
	text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
	IPC_TELL(e, STORE_STATUS_REPLY, .id = m->id, .json = slice_str(text));
	free(text);
	json_decref(o);
}

const struct ipc_dispatch parent_from_directory = {
    .LEASE_OPEN = on_lease_open,
    .LEASE_REVOKE = on_lease_revoke,
    .STORE_ACCOUNT_DELETE = on_delete,
    .QUOTA_ROWS = parent_quota_on_rows,
};
const struct ipc_dispatch parent_from_front = {.LEASE_CLOSE = on_lease_close, .STORE_ATTACH = on_attach};
const struct ipc_dispatch parent_from_smtp = {.STORE_USAGE = parent_quota_on_usage};
const struct ipc_dispatch parent_from_submission = {.STORE_USAGE = parent_quota_on_usage, .LEASE_CLOSE = on_lease_close};
const struct ipc_dispatch parent_from_deliver = {.STORE_CONNECT = on_connect, .LEASE_ASK = on_lease_ask};
const struct ipc_dispatch parent_from_worker = {
    .STORE_CONNECT = on_connect,
    .WORKER_SESSION_END = on_session_end,
    .PROCESS_IDLE = on_worker_idle,
};
const struct ipc_dispatch parent_from_keeper = {
    .KEEPER_USAGE = on_usage,
    .KEEPER_CEILING = parent_quota_on_ceiling,
    .KEEPER_WANT = parent_quota_on_want,
    .PROCESS_IDLE = on_keeper_idle,
    .KEEPER_DELETED = on_deleted,
};
const struct ipc_dispatch parent_from_admin = {
    .STORE_STATUS = on_status,
    .STORE_CONNECT = on_connect,
    .STORE_HOLD = on_hold,
    .STORE_QUOTA = parent_quota_on_question,
};
