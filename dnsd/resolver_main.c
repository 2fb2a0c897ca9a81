/*
 * The resolver role: questions from verify, the fronts and the command, answers from libunbound. Each edge may have a bounded number
 * of questions under way; what comes above is answered DNS_TEMP at once. The questions of an edge end with it.
 */
#include "common/control.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"
#include "dnsd/resolver.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Questions of one edge under way at once. */
#define EDGE_QUESTIONS_MAX 2048
#define WHY_BYTES_MAX 256
#define NAME_SIZE 256

struct question {
	struct question *next;
	struct edge *edge;
	struct resolver_query *query;
	uint64_t id;
};

static struct resolver *resolver;
static struct question *questions;

static unsigned
count_of(const struct edge *e)
{
	unsigned n = 0;

	for (const struct question *q = questions; q; q = q->next)
		n += q->edge == e;
	return n;
}

static void
unlink_question(struct question *q)
{
	struct question **at = &questions;

	while (*at != q) {
		assert(*at != NULL);
		at = &(*at)->next;
	}
	*at = q->next;
	free(q);
}

/* A full edge drops the answer: the asker's deadline passes, which it takes as DNS_TEMP too. */
static void
send_answer(struct edge *e, uint64_t id, const struct resolver_answer *answer)
{
	IPC_TELL(e, DNS_ANSWER, .id = id, .status = (uint8_t)answer->status, .secure = answer->secure,
	    .why_bogus = slice_sub(answer->why_bogus, 0, WHY_BYTES_MAX), .packet = answer->packet);
}

static void
on_done(void *arg, const struct resolver_answer *answer)
{
	struct question *q = arg;

	send_answer(q->edge, q->id, answer);
	unlink_question(q);
}

static void
on_query(struct edge *e, struct msg_DNS_QUERY *m)
{
	uint64_t longest = config_number(role_config(), OPT_DNS_TIMEOUT);
	uint32_t timeout_ms = m->timeout_ms < longest ? m->timeout_ms : (uint32_t)longest;
	char name[NAME_SIZE];

	if (!slice_cstr(m->name, name, sizeof name) || count_of(e) >= EDGE_QUESTIONS_MAX) {
		send_answer(e, m->id, &(struct resolver_answer){.status = DNS_TEMP});
		return;
	}
	struct question *q = MEM_NEW(struct question);

	q->edge = e;
	q->id = m->id;
	q->next = questions;
	questions = q;
	struct resolver_query *query = resolver_ask(resolver, name, m->type, timeout_ms, on_done, q);

	/* NULL: answered already, and q is gone. */
	if (query != NULL)
		q->query = query;
}

static void
on_cancel(struct edge *e, struct msg_DNS_CANCEL *m)
{
	struct question *q = questions;

	while (q && !(q->edge == e && q->id == m->id))
		q = q->next;
	if (q == NULL)
		return;
	resolver_cancel(&q->query);
	unlink_question(q);
}

static void
on_edge_down(struct edge *e)
{
	for (struct question *q = questions, *next; q; q = next) {
		next = q->next;
		if (q->edge == e) {
			resolver_cancel(&q->query);
			unlink_question(q);
		}
	}
}

static int
init(struct err *e)
{
	resolver = resolver_new(role_loop(), role_config(), e);
	return resolver ? 0 : -1;
}

static const struct ipc_dispatch from_asker = {.DNS_QUERY = on_query, .DNS_CANCEL = on_cancel};

static void
on_admin_gone(struct edge *e, void *arg)
{
	(void)arg;
	on_edge_down(e);
}

static void
on_listener(const char *name, int fd)
{
	if (strcmp(name, "control") == 0)
		(void)control_new(role_loop(), fd, ROLE_RESOLVER, &from_asker, on_admin_gone, NULL);
	else
		(void)close(fd);
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_recorder;
	static const struct role_spec spec = {
	    .role = ROLE_RESOLVER,
	    .dispatch = {[ROLE_VERIFY] = &from_asker,
		[ROLE_TRANSPORT] = &from_asker,
		[ROLE_STS] = &from_asker,
		[ROLE_SMTP_FRONT] = &from_asker,
		[ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_listener = on_listener,
	    .on_edge_down = on_edge_down,
	};

	return role_main(argc, argv, &spec);
}
