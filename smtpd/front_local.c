/*
 * Users of this machine, on the submission front's Unix socket (mailstead-sendmail): nobody logs in there. The directory gets the
 * connection, asks the kernel who is at its other end, and opens a lease for the account that submission.local names for that user. After
 * that it is a submission as any other, with the rights of that account. The reply to EHLO tells whom the client sends for (XACCOUNT), so
 * that it can complete what it has no domain for.
 */
#include "smtpd/front.h"
#include "smtpd/front_login.h"

#include <assert.h>

static void
refused(struct front *f, unsigned code, const char *enhanced, const char *text)
{
	smtpd_trace(f, "local-refused", LOG_NUM("code", code), LOG_CSTR("text", text), LOG_END);
	smtpd_reply(f, code, enhanced, text);
	smtpd_close(f, NULL, NULL);
}

static void
local_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	(void)e;
	smtpd_gone(f);
	refused(f, 421, "4.3.0", "Not possible for the moment, try again later");
}

void
smtpd_local_begin(struct front *f, int fd)
{
	struct edge *dir = role_edge(ROLE_DIRECTORY, 0);
	uint64_t id = dir ? ipc_expect(dir, FRONT_ASK_MS, local_gone, f) : 0;

	assert(f->port->local);
	if (id != 0 && IPC_SEND(dir, DIR_LOCAL, .id = id, .conn = f->conn, .socket = fd)) {
		smtpd_wait_for(f, FRONT_WAIT_LOCAL, dir, id);
		return;
	}
	if (id != 0)
		ipc_forget(dir, id);
	refused(f, 421, "4.3.0", "Not possible for the moment, try again later");
}

void
smtpd_on_local(struct edge *e, struct msg_DIR_LOCAL_REPLY *m)
{
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_LOCAL);

	if (f == NULL)
		return;
	if (m->class == ERR_NONE && m->account != 0 && slice_cstr(m->login, f->login, sizeof(f->login))) {
		f->account = m->account;
		smtpd_trace(f, "local", LOG_NUM("user", m->user), LOG_CSTR("login", f->login), LOG_NUM("account", f->account), LOG_END);
		smtpd_greet(f);
		smtpd_step(f);
	} else if (m->class == ERR_PERM) {
		refused(f, 554, "5.7.1", "You may not send mail here (submission.local)");
	} else {
		refused(f, 421, "4.3.0", "Not possible for the moment, try again later");
	}
}
