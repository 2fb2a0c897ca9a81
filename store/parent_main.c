/*
 * The store's parent: holds the leases that the directory opens, brings a front's connection to its account's worker under one, and
 * gives workers and deliver their edges to keepers. It opens no path and reads no message. Everything it is asked for is
 * answered at once: a process that has just been asked for can already be written to.
 */
#include "common/control.h"
#include "common/log.h"
#include "common/role.h"
#include "store/lease.h"
#include "store/process.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define STATUS_BYTES_MAX 65536

static struct lease_table *leases;
static uint64_t last_session_no;

/* ---- leases ---- */

static void
on_lease_open(struct edge *e, struct msg_LEASE_OPEN *m)
{
	struct edge_peer front = {m->front_role, m->front_instance, m->front_generation};
	bool ours = m->front_role == ROLE_IMAP_FRONT || m->front_role == ROLE_POP3_FRONT;
	struct lease *l = ours && m->account ? lease_open(leases, &front, m->conn, m->account, m->login) : NULL;

	if (l == NULL)
		log_event(LOG_WARN, NO_SESSION, "lease-refused", LOG_NUM("account", m->account),
		    LOG_NUM("open", lease_count(leases)), LOG_END);
	if (!IPC_SEND(e, LEASE_OPENED, .id = m->id, .class = l ? ERR_NONE : ERR_LIMIT))
		lease_close(leases, &front, m->conn);
}

/* The worker ends the session; the front sees its relay end. */
static void
end_session(const struct lease *l, void *arg)
{
	struct account *a = process_account_find(l->account);
	enum role role = l->front.role == ROLE_IMAP_FRONT ? ROLE_IMAP_WORKER : ROLE_POP3_WORKER;
	struct process *p = a ? process_of(a, role) : NULL;

	(void)arg;
	if (l->session_no == 0 || p == NULL || p->edge == NULL)
		return;
	/* A worker that cannot even be told must not go on in the name of a lease that is gone. */
	if (!IPC_SEND(p->edge, WORKER_REVOKE, .session_no = l->session_no))
		process_end(p);
}

static void
revoke_account(uint64_t account)
{
	if (account)
		lease_revoke(leases, account, end_session, NULL);
}

static void
on_lease_revoke(struct edge *e, struct msg_LEASE_REVOKE *m)
{
	(void)e;
	revoke_account(m->account);
}

static void
on_lease_close(struct edge *e, struct msg_LEASE_CLOSE *m)
{
	lease_close(leases, edge_peer(e), m->conn);
}

/* ---- a connection comes to its worker ---- */

/* The front's end of a fresh stream to the account's worker, or -1 and e. */
static int
join(struct lease *l, enum role worker, const struct msg_STORE_ATTACH *m, struct err *e)
{
	struct process *p = process_of(process_account(l->account), worker);
	int pair[2];

	if (!process_run(p, e))
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_sys(e, errno, "socketpair");
	bool sent = IPC_SEND(p->edge, WORKER_SESSION, .session_no = ++last_session_no, .login = slice_str(l->login),
	    .session = m->session, .facts = m->facts, .relay = pair[1]);

	close(pair[1]);
	if (!sent) {
		close(pair[0]);
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "the worker takes no session");
	}
	p->sessions++;
	l->session_no = last_session_no;
	return pair[0];
}

static void
on_attach(struct edge *e, struct msg_STORE_ATTACH *m)
{
	struct lease *l = lease_find(leases, edge_peer(e), m->conn);
	enum role worker = edge_peer(e)->role == ROLE_IMAP_FRONT ? ROLE_IMAP_WORKER : ROLE_POP3_WORKER;
	struct err why = {0};
	int relay = -1;

	if (l == NULL || l->session_no != 0)
		err_set(&why, ERR_PERM, ERR_CODE_DENIED, "not permitted", "no lease for this connection");
	else
		relay = join(l, worker, m, &why);
	if (relay < 0)
		log_event(LOG_WARN, m->session, "attach-refused", LOG_CSTR("front", role_info(edge_peer(e)->role)->name),
		    LOG_NUM("conn", m->conn), LOG_ERR(&why), LOG_END);
	if (!IPC_SEND(e, STORE_ATTACHED, .id = m->id, .class = why.class, .code = why.code, .relay = relay))
		log_event(LOG_WARN, m->session, "attach-answer-lost", LOG_END);
	if (relay >= 0)
		close(relay);
}

static void
on_session_end(struct edge *e, struct msg_WORKER_SESSION_END *m)
{
	struct process *p = process_by_edge(e);

	(void)m;
	if (p && p->sessions > 0)
		p->sessions--;
}

/* ---- edges to keepers ---- */

/* The peer's end of a fresh edge to that account's keeper, or -1 and e. */
static int
connect_keeper(struct account *a, const struct edge_peer *peer, struct err *e)
{
	struct process *p = &a->keeper;
	int pair[2];

	if (!process_run(p, e))
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_sys(e, errno, "socketpair");
	bool sent = IPC_SEND(p->edge, KEEPER_PEER, .peer_role = peer->role, .peer_generation = peer->generation, .fd = pair[1]);

	close(pair[1]);
	if (!sent) {
		close(pair[0]);
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "the keeper takes no peer");
	}
	p->peers_sent++;
	return pair[0];
}

static void
answer_connect(struct edge *e, const struct msg_STORE_CONNECT *m, uint64_t account)
{
	struct err why = {0};
	int fd = -1;

	if (account == 0)
		err_set(&why, ERR_PERM, ERR_CODE_DENIED, "not permitted", "no account");
	else
		fd = connect_keeper(process_account(account), edge_peer(e), &why);
	if (fd < 0)
		log_event(LOG_WARN, NO_SESSION, "connect-refused", LOG_CSTR("peer", role_info(edge_peer(e)->role)->name),
		    LOG_NUM("account", account), LOG_ERR(&why), LOG_END);
	if (!IPC_SEND(e, STORE_CONNECTED, .id = m->id, .account = account, .class = why.class, .code = why.code, .fd = fd))
		log_event(LOG_WARN, NO_SESSION, "connect-answer-lost", LOG_END);
	if (fd >= 0)
		close(fd);
}

static void
on_deliver_connect(struct edge *e, struct msg_STORE_CONNECT *m)
{
	answer_connect(e, m, m->account);
}

/* A worker's account is the one it was started for, whatever it says. */
static void
on_worker_connect(struct edge *e, struct msg_STORE_CONNECT *m)
{
	struct process *p = process_by_edge(e);

	answer_connect(e, m, p ? p->account->id : 0);
}

/* ---- idle processes leave ---- */

static void
on_idle(struct edge *e, struct msg_PROCESS_IDLE *m)
{
	struct process *p = process_by_edge(e);
	bool awaited = p && (p->role == ROLE_KEEPER ? p->peers_sent != m->peers_seen : p->sessions != 0);

	if (p && !awaited && IPC_SEND(e, PROCESS_LEAVE, ))
		process_end(p);
}

/* ---- usage, deletion, status ---- */

static void
on_keeper_usage(struct edge *e, struct msg_KEEPER_USAGE *m)
{
	struct process *p = process_by_edge(e);

	if (p == NULL)
		return;
	p->account->bytes = m->bytes;
	p->account->messages = m->messages;
	p->account->usage_known = true;
}

static void
on_usage(struct edge *e, struct msg_STORE_USAGE *m)
{
	const struct account *a = process_account_find(m->account);
	bool known = a && a->usage_known;

	if (!IPC_SEND(e, STORE_USAGE_REPLY, .id = m->id, .class = known ? ERR_NONE : ERR_TEMP, .bytes = known ? a->bytes : 0,
		.messages = known ? a->messages : 0))
		log_event(LOG_WARN, NO_SESSION, "usage-answer-lost", LOG_END);
}

/* Numbers are never used again, so no request will come for this one; its directory stays until it is purged. */
static void
on_account_delete(struct edge *e, struct msg_STORE_ACCOUNT_DELETE *m)
{
	struct account *a = process_account(m->account);

	revoke_account(m->account);
	a->deleted = true;
	process_end(&a->imap);
	process_end(&a->pop3);
	process_end(&a->keeper);
	if (!IPC_SEND(e, STORE_ACCOUNT_REPLY, .id = m->id, .class = ERR_NONE))
		log_event(LOG_WARN, NO_SESSION, "delete-answer-lost", LOG_END);
}

static void
put_status(struct account *a, void *arg)
{
	struct buf *b = arg;

	if (a->keeper.edge == NULL && a->imap.edge == NULL && a->pop3.edge == NULL)
		return;
	/* Room for the end of the list is kept: what does not fit is left out. */
	if (b->n + 256 > STATUS_BYTES_MAX)
		return;
	buf_putf(b, "%s{\"account\":%llu,\"keeper\":%s,\"imap_sessions\":%u,\"pop3_sessions\":%u,\"bytes\":%llu,\"messages\":%llu}",
	    b->p[b->n - 1] == '[' ? "" : ",", (unsigned long long)a->id, a->keeper.edge ? "true" : "false", a->imap.sessions,
	    a->pop3.sessions, (unsigned long long)a->bytes, (unsigned long long)a->messages);
}

static void
on_status(struct edge *e, struct msg_STORE_STATUS *m)
{
	struct buf b;

	buf_init(&b, STATUS_BYTES_MAX);
	buf_putf(&b, "{\"leases\":%u,\"processes\":%u,\"accounts\":[", lease_count(leases), process_count());
	process_account_each(put_status, &b);
	buf_put_str(&b, "]}");
	if (!IPC_SEND(e, STORE_STATUS_REPLY, .id = m->id, .json = buf_slice(&b)))
		log_event(LOG_WARN, NO_SESSION, "status-answer-lost", LOG_END);
	buf_fini(&b);
}

/* ---- the role ---- */

static void
on_edge_down(struct edge *e)
{
	const struct edge_peer *peer = edge_peer(e);
	struct process *p;

	switch (peer->role) {
	case ROLE_IMAP_FRONT:
	case ROLE_POP3_FRONT:
		lease_close_front(leases, peer);
		break;
	case ROLE_KEEPER:
	case ROLE_IMAP_WORKER:
	case ROLE_POP3_WORKER:
		p = process_by_edge(e);
		if (p)
			process_ended(p);
		break;
	default:
		break;
	}
}

static void
on_listener(const char *name, int fd)
{
	static const struct ipc_dispatch from_admin = {.STORE_STATUS = on_status};

	if (strcmp(name, "control") == 0)
		(void)control_new(role_loop(), fd, ROLE_STORE, &from_admin, NULL, NULL);
	else
		close(fd);
}

static int
init(struct err *e)
{
	(void)e;
	leases = lease_table_new();
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_directory = {.LEASE_OPEN = on_lease_open,
	    .LEASE_REVOKE = on_lease_revoke,
	    .STORE_ACCOUNT_DELETE = on_account_delete};
	static const struct ipc_dispatch from_front = {.LEASE_CLOSE = on_lease_close, .STORE_ATTACH = on_attach};
	static const struct ipc_dispatch from_smtp = {.STORE_USAGE = on_usage};
	static const struct ipc_dispatch from_deliver = {.STORE_CONNECT = on_deliver_connect};
	static const struct ipc_dispatch from_worker = {
	    .STORE_CONNECT = on_worker_connect, .WORKER_SESSION_END = on_session_end, .PROCESS_IDLE = on_idle};
	static const struct ipc_dispatch from_keeper = {.KEEPER_USAGE = on_keeper_usage, .PROCESS_IDLE = on_idle};
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
	    .role = ROLE_STORE,
	    .dispatch = {[ROLE_DIRECTORY] = &from_directory, [ROLE_IMAP_FRONT] = &from_front, [ROLE_POP3_FRONT] = &from_front,
		[ROLE_SMTP_FRONT] = &from_smtp, [ROLE_SUBMISSION] = &from_smtp, [ROLE_DELIVER] = &from_deliver,
		[ROLE_IMAP_WORKER] = &from_worker, [ROLE_POP3_WORKER] = &from_worker, [ROLE_KEEPER] = &from_keeper,
		[ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_listener = on_listener,
	    .on_edge_down = on_edge_down,
	    .on_spawn_exit = process_exit_status,
	};

	return role_main(argc, argv, &spec);
}
