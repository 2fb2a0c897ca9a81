/*
 * The directory role: the one process that has the directory's database open.
 * It answers where an address leads, what a login's hash is, and opens leases;
 * it sees no message and no password. Every request is answered from one
 * callback, so it keeps no state of its callers but what directory_lease holds.
 */
#include "authd/directory.h"
#include "authd/directory_admin.h"
#include "authd/directory_forward.h"
#include "authd/directory_lease.h"
#include "authd/directory_local.h"
#include "authd/directory_quota.h"
#include "authd/directory_resolve.h"
#include "common/control.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/password.h"
#include "common/role.h"

#include <limits.h>

static struct {
	struct directory *d;
	struct control *control;
	struct dir_admin_reply reply;
	struct dir_forwarded forwarded; /* the answer being given */
	char nobody[PASSWORD_HASH_SIZE]; /* what unknown logins are checked against */
} me;

static const char *
hostname(void)
{
	return config_string(role_config(), OPT_HOSTNAME);
}

/* A database that failed cannot be believed: a successor recovers it. */
static void
check_database(void)
{
	if (directory_failed(me.d)) {
		log_event(LOG_ERROR, NO_SESSION, "directory-failed", LOG_END);
		role_exit(1);
	}
}

static uint32_t
class_of(int r)
{
	return r < 0 ? (uint32_t)ERR_TEMP : (uint32_t)ERR_NONE;
}

/* ---- addresses ---- */

static void
on_resolve(struct edge *e, struct msg_DIR_RESOLVE *m)
{
	const struct dir_envelope envelope = {.sender = m->sender, .recipient = m->address, .hostname = hostname(),
	    .now = clock_wall_us() / 1000000};
	const struct dir_resolved *r = &me.forwarded.resolved;
	struct buf accounts;

	directory_forward(me.d, &envelope, &me.forwarded);
	buf_init(&accounts, sizeof r->account);
	for (unsigned i = 0; i < r->n; i++)
		put_u64(&accounts, r->account[i]);
	IPC_TELL(e, DIR_RESOLVE_REPLY, .id = m->id, .status = (uint8_t)r->status,
	    .accounts = buf_slice(&accounts), .detail = slice_str(r->detail),
	    .outside = slice_of(r->outside, r->outside_bytes), .forward_from = slice_str(me.forwarded.sender),
	    .looped = me.forwarded.looped);
	buf_fini(&accounts);
	check_database();
}

static void
on_sender(struct edge *e, struct msg_DIR_SENDER *m)
{
	struct err why;
	int r = directory_may_send(me.d, m->account, m->address, hostname(), &why);

	if (r < 0)
		log_event(LOG_ERROR, NO_SESSION, "sender-failed", LOG_ERR(&why), LOG_END);
	IPC_TELL(e, DIR_SENDER_REPLY, .id = m->id, .class = class_of(r), .allowed = r > 0 ? (uint8_t)r : 0);
	check_database();
}

/* ---- logins ---- */

/* 1 and the account when the login may be tried; suspended ones are as unknown. */
static int
login_find(struct slice login, struct dir_account *a_r, struct err *e)
{
	struct address_name name;
	int r;

	if (!address_parse(login, &name))
		return 0;
	r = directory_account_find(me.d, &name, a_r, e);
	if (r == 0 && (r = directory_name_meant(me.d, &name, e)) == 1)
		r = directory_account_find(me.d, &name, a_r, e);
	return r == 1 && a_r->state != DIR_ACCOUNT_ACTIVE ? 0 : r;
}

static void
on_credential(struct edge *e, struct msg_DIR_CREDENTIAL *m)
{
	struct dir_account a;
	struct err why;
	int r = login_find(m->login, &a, &why);

	if (r == 1) {
		IPC_TELL(e, DIR_CREDENTIAL_REPLY, .id = m->id, .found = 1,
		    .account = a.id, .login = a.login, .hash = a.hash);
	} else {
		if (r < 0)
			log_event(
			    LOG_ERROR, NO_SESSION, "credential-failed", LOG_ERR(&why), LOG_END);
		IPC_TELL(e, DIR_CREDENTIAL_REPLY, .id = m->id, .class = class_of(r),
		    .hash = slice_str(me.nobody));
	}
	check_database();
}

/* ---- administration ---- */

static void
on_admin(struct edge *e, struct msg_DIR_ADMIN *m)
{
	struct dir_admin_reply *r = &me.reply;

	directory_admin(me.d, m, clock_wall_us() / 1000000, config_bool(role_config(), OPT_TRANSPORT_ENABLED), r);
	log_event(LOG_INFO, NO_SESSION, "admin", LOG_STR("verb", m->verb), LOG_STR("name", m->name),
	    LOG_CSTR("result", err_class_name(r->class)), LOG_END);
	/* Sessions end before the one who ended them is told so. */
	directory_lease_effects();
	if (r->row.domain != 0)
		directory_quota_tell(&r->row, r->wait ? e : NULL, m->id);
	if (!r->wait)
		IPC_TELL(e, DIR_ADMIN_REPLY, .id = m->id, .class = r->class, .code = r->code,
		    .text = buf_slice(&r->text), .more = r->more, .json = buf_slice(&r->json));
	check_database();
}

/* A limit was stored: it is told so when it is in force, or when that takes too long. */
static void
on_quota_done(struct edge *admin, uint64_t id, bool in_force)
{
	IPC_TELL(admin, DIR_ADMIN_REPLY, .id = id, .class = in_force ? (uint32_t)ERR_NONE : (uint32_t)ERR_TEMP,
	    .text = slice_str(in_force ? "" : "the limit is stored; it is in force when the store is there again"));
}

static void
on_admin_gone(struct edge *e, void *arg)
{
	(void)arg;
	directory_quota_admin_gone(e);
}

static const struct ipc_dispatch from_admin = {.DIR_ADMIN = on_admin};

static void
on_listener(const char *name, int fd)
{
	(void)name;
	me.control = control_new(role_loop(), fd, ROLE_DIRECTORY, &from_admin, on_admin_gone, NULL);
}

/* ---- the role ---- */

static int
init(struct err *e)
{
	char path[PATH_MAX];
	bool rebuilt;
	int n = snprintf(path, sizeof path, "%s/directory", role_state_dir());

	if (n < 0 || (size_t)n >= sizeof path)
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "path too long", NULL);
	if (directory_open(path, &me.d, &rebuilt, e) != 0)
		return -1;
	if (rebuilt)
		log_event(LOG_WARN, NO_SESSION, "directory-rebuilt", LOG_END);
	if (password_hash_nobody(me.nobody, e) != 0)
		return -1;
	directory_local_init(slice_str(config_string(role_config(), OPT_SUBMISSION_LOCAL)), config_string(role_config(), OPT_RUN_DIR));
	dir_admin_reply_init(&me.reply);
	directory_lease_init(me.d);
	directory_quota_init(me.d, on_quota_done);
	return 0;
}

static void
on_edge_up(struct edge *e)
{
	enum role peer = edge_peer(e)->role;

	if (peer == ROLE_STORE) {
		directory_lease_effects();
		directory_quota_tell_all();
	}
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_front = {
	    .DIR_RESOLVE = on_resolve,
	};
	static const struct ipc_dispatch from_submission = {
	    .DIR_RESOLVE = on_resolve,
	    .DIR_SENDER = on_sender,
	    .DIR_LOCAL = directory_lease_local,
	};
	static const struct ipc_dispatch from_deliver = {
	    .DIR_RESOLVE = on_resolve,
	    .DIR_SENDER = on_sender,
	};
	static const struct ipc_dispatch from_store = {
	    .LEASE_OPENED = directory_lease_opened,
	    .STORE_ACCOUNT_REPLY = directory_lease_account_deleted,
	    .QUOTA_TAKEN = directory_quota_taken,
	};
	static const struct ipc_dispatch from_verifier = {
	    .DIR_CREDENTIAL = on_credential,
	    .DIR_AUTHENTICATED = directory_lease_authenticated,
	};
	static const struct ipc_dispatch nothing = {.TRACE_EVENT = NULL};
	static const struct role_spec spec = {
	    .role = ROLE_DIRECTORY,
	    .dispatch =
		{
		    [ROLE_SMTP_FRONT] = &from_front,
		    [ROLE_SUBMISSION] = &from_submission,
		    [ROLE_DELIVER] = &from_deliver,
		    [ROLE_STORE] = &from_store,
		    [ROLE_VERIFIER] = &from_verifier,
		    [ROLE_RECORDER] = &nothing,
		},
	    .init = init,
	    .on_listener = on_listener,
	    .on_edge_up = on_edge_up,
	};
	int status = role_main(argc, argv, &spec);

	/* A checkpoint on the way out makes the next start short. */
	directory_close(&me.d);
	return status;
}
