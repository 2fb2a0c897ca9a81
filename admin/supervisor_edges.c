/*
 * Who has an edge to whom, as docs/architecture.md explains it. The arrows form no cycle, but that
 * the directory opens leases at deliver, which asks it for addresses. Keepers and workers have
 * their first edge from the store; here they only get the recorder's, which everybody has.
 */
#include "admin/supervisor_private.h"

#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct edge_row table[] = {
    {ROLE_SMTP_FRONT, ROLE_DIRECTORY},
    {ROLE_SMTP_FRONT, ROLE_STORE},
    {ROLE_SMTP_FRONT, ROLE_DELIVER},
    {ROLE_SMTP_FRONT, ROLE_QUEUE},
    {ROLE_SMTP_FRONT, ROLE_KEY},
    {ROLE_SMTP_FRONT, ROLE_RESOLVER},
    {ROLE_SUBMISSION, ROLE_DIRECTORY},
    {ROLE_SUBMISSION, ROLE_STORE},
    {ROLE_SUBMISSION, ROLE_DELIVER},
    {ROLE_SUBMISSION, ROLE_QUEUE},
    {ROLE_SUBMISSION, ROLE_KEY},
    {ROLE_SUBMISSION, ROLE_VERIFIER},
    {ROLE_IMAP_FRONT, ROLE_VERIFIER},
    {ROLE_IMAP_FRONT, ROLE_KEY},
    {ROLE_IMAP_FRONT, ROLE_STORE},
    {ROLE_POP3_FRONT, ROLE_VERIFIER},
    {ROLE_POP3_FRONT, ROLE_KEY},
    {ROLE_POP3_FRONT, ROLE_STORE},
    {ROLE_VERIFIER, ROLE_DIRECTORY},
    {ROLE_DIRECTORY, ROLE_STORE},
    {ROLE_DELIVER, ROLE_DIRECTORY},
    {ROLE_DELIVER, ROLE_VERIFY},
    {ROLE_DELIVER, ROLE_SIGN},
    {ROLE_SIGN, ROLE_KEY},
    {ROLE_DELIVER, ROLE_STORE},
    {ROLE_DELIVER, ROLE_QUEUE},
    {ROLE_QUEUE, ROLE_TRANSPORT},
    {ROLE_TRANSPORT, ROLE_RESOLVER},
    {ROLE_TRANSPORT, ROLE_STS},
    {ROLE_STS, ROLE_RESOLVER},
    {ROLE_VERIFY, ROLE_RESOLVER},
    {ROLE_SUPERVISOR, ROLE_SUPERVISOR},
};

const struct edge_row *
supervisor_edge_table(void)
{
	return table;
}

bool
supervisor_edge_wanted(enum role a, enum role b)
{
	if (a == b)
		return false;
	if (a == ROLE_RECORDER || b == ROLE_RECORDER)
		return true;
	for (const struct edge_row *r = table; r->asks != ROLE_SUPERVISOR; r++)
		if ((r->asks == a && r->answers == b) || (r->asks == b && r->answers == a))
			return true;
	return false;
}

static bool
send_edge(struct child *to, const struct child *peer, int fd)
{
	return IPC_SEND(to->control, CTL_EDGE, .peer_role = peer->role,
	    .peer_instance = peer->instance, .peer_generation = peer->generation, .fd = fd);
}

/* The recorder of a server with many keepers and workers gets more edges than its control edge
 * takes at once: who is joined is remembered. */
static bool
joined_already(const struct child *a, const struct child *b)
{
	return (b->role == ROLE_RECORDER && a->recorder == b->generation) ||
	       (a->role == ROLE_RECORDER && b->recorder == a->generation);
}

static void
remember(struct child *a, struct child *b)
{
	if (a->role == ROLE_RECORDER)
		b->recorder = a->generation;
	else if (b->role == ROLE_RECORDER)
		a->recorder = b->generation;
}

/* An edge that could not be made now would never be: the new process ends, and its successor gets all of them. */
static bool
no_edge(struct child *fresh, const struct child *peer, const char *why)
{
	log_event(LOG_ERROR, NO_SESSION, "no-edge", LOG_CSTR("one", role_info(fresh->role)->name),
	    LOG_CSTR("other", role_info(peer->role)->name), LOG_CSTR("error", why), LOG_END);
	child_kill(fresh, SIGKILL);
	return false;
}

/* The recorder first: when its control edge is full, nobody has been told of the new edge yet. */
static bool
join(struct child *a, struct child *b)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0)
		return no_edge(a, b, strerror(errno));
	bool ok = send_edge(a, b, fd[0]) && send_edge(b, a, fd[1]);

	close(fd[0]);
	close(fd[1]);
	if (ok)
		remember(a, b);
	else if (a->role != ROLE_RECORDER && b->role != ROLE_RECORDER)
		return no_edge(a, b, "a control edge is full");
	return ok;
}

void
supervisor_join(struct child *c)
{
	assert(c->control);
	for (struct child *o = c->s->children; o; o = o->next)
		if (o != c && o->control && supervisor_edge_wanted(c->role, o->role) &&
		    !joined_already(c, o) && !join(c, o) && c->role == ROLE_RECORDER)
			return;
}
