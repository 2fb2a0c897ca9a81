/*
 * Every start gets a fresh socketpair; the supervisor is given one end. Between the end of an edge and the supervisor's report that
 * the process has ended, a successor's end waits here: never two keepers on an account, whoever was killed when (the lock in the
 * account's directory says so once more).
 */
#include "store/process.h"

#include "common/log.h"
#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUCKETS 1024u

static struct account *buckets[BUCKETS];
static unsigned running;

struct account *
process_account_find(uint64_t id)
{
	struct account *a = buckets[id % BUCKETS];

	while (a && a->id != id)
		a = a->next;
	return a;
}

struct account *
process_account(uint64_t id)
{
	struct account *a = process_account_find(id);

	if (a)
		return a;
	a = MEM_NEW(struct account);
	a->id = id;
	a->keeper = (struct process){.account = a, .role = ROLE_KEEPER, .waiting_fd = -1};
	a->imap = (struct process){.account = a, .role = ROLE_IMAP_WORKER, .waiting_fd = -1};
	a->pop3 = (struct process){.account = a, .role = ROLE_POP3_WORKER, .waiting_fd = -1};
	a->next = buckets[id % BUCKETS];
	buckets[id % BUCKETS] = a;
	return a;
}

void
process_account_each(void (*fn)(struct account *a, void *arg), void *arg)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct account *a = buckets[i]; a; a = a->next)
			fn(a, arg);
}

struct process *
process_of(struct account *a, enum role role)
{
	switch (role) {
	case ROLE_KEEPER:
		return &a->keeper;
	case ROLE_IMAP_WORKER:
		return &a->imap;
	default:
		assert(role == ROLE_POP3_WORKER);
		return &a->pop3;
	}
}

/* The edge's peer generation is the account's id: see start(). */
struct process *
process_by_edge(const struct edge *e)
{
	struct account *a = process_account_find(edge_peer(e)->generation);
	struct process *p = a ? process_of(a, edge_peer(e)->role) : NULL;

	return p && p->edge == e ? p : NULL;
}

/* Hands the waiting end to the supervisor. */
static bool
spawn(struct process *p)
{
	p->spawn_id = role_spawn(p->role, p->account->id, p->waiting_fd);
	close(p->waiting_fd);
	p->waiting_fd = -1;
	return p->spawn_id != 0;
}

static bool
start(struct process *p, struct err *e)
{
	int pair[2];

	assert(p->waiting_fd < 0);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		err_sys(e, errno, "socketpair");
		return false;
	}
	p->waiting_fd = pair[1];
	if (p->spawn_id == 0 && !spawn(p)) {
		close(pair[0]);
		err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "the supervisor takes no request");
		return false;
	}
	p->peers_sent = 0;
	p->sessions = 0;
	p->edge = role_edge_add(pair[0], (struct edge_peer){.role = p->role, .generation = p->account->id});
	assert(p->edge);
	running++;
	return true;
}

bool
process_run(struct process *p, struct err *e)
{
	if (p->edge)
		return true;
	if (p->account->deleted) {
		err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such account", "account %llu is deleted",
		    (unsigned long long)p->account->id);
		return false;
	}
	if (p->aside_until_ms > clock_ms()) {
		err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "mailbox unavailable", "the %s of account %llu is set aside",
		    role_info(p->role)->name, (unsigned long long)p->account->id);
		return false;
	}
	if (running >= PROCESSES_MAX) {
		err_set(e, ERR_LIMIT, ERR_CODE_UNAVAILABLE, "server busy", "%u keepers and workers run", running);
		return false;
	}
	return start(p, e);
}

void
process_ended(struct process *p)
{
	assert(p->edge && running > 0);
	p->edge = NULL;
	p->sessions = 0;
	running--;
	if (p->waiting_fd >= 0)
		close(p->waiting_fd);
	p->waiting_fd = -1;
}

/* What was sent before stays readable for it: it finds PROCESS_LEAVE first, or just the end. */
void
process_end(struct process *p)
{
	struct edge *e = p->edge;

	if (e == NULL)
		return;
	process_ended(p);
	role_edge_close(&e);
}

static void
note_exit(struct process *p, uint64_t spawn_id, uint32_t status)
{
	if (p->spawn_id != spawn_id)
		return;
	p->spawn_id = 0;
	/* When even this fails, the closed end tells the edge. */
	if (p->waiting_fd >= 0)
		(void)spawn(p);
	p->failures = status == ROLE_EXIT_INIT ? p->failures + 1 : 0;
	if (p->failures < PROCESS_FAILURES_MAX)
		return;
	p->aside_until_ms = clock_ms() + PROCESS_ASIDE_MS;
	log_event(LOG_ERROR, NO_SESSION, "set-aside", LOG_CSTR("role", role_info(p->role)->name),
	    LOG_NUM("account", p->account->id), LOG_NUM("failures", p->failures), LOG_NUM("seconds", PROCESS_ASIDE_MS / 1000),
	    LOG_END);
}

struct exit_note {
	uint64_t spawn_id;
	uint32_t status;
};

static void
note_account(struct account *a, void *arg)
{
	const struct exit_note *n = arg;

	note_exit(&a->keeper, n->spawn_id, n->status);
	note_exit(&a->imap, n->spawn_id, n->status);
	note_exit(&a->pop3, n->spawn_id, n->status);
}

void
process_exit_status(uint64_t spawn_id, uint32_t status)
{
	process_account_each(note_account, &(struct exit_note){spawn_id, status});
}

unsigned
process_count(void)
{
	return running;
}
