/*
 * A question lives in `live` from ask() until its answer, its end or its
 * cancellation. The edge's own table of waiting requests (common/ipc.h) tells of deadlines and of an
 * edge that ends; since it may tell of the latter only from the next round of the loop, a cancelled
 * question stays in memory until then, without its callback.
 */
#include "common/dns.h"

#include "common/config.h"
#include "common/ipc.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/role.h"

#include <assert.h>

/* How much longer than the resolver this side waits, for the way there and back. */
#define GRACE_MS 1000
#define NAME_BYTES_MAX 255
/* The records of one answer of 64 KiB, their array included. */
#define ANSWER_ARENA_BYTES (512 * 1024)

struct question {
	struct question *next;
	uint64_t id;
	dns_done_fn *done; /* NULL: cancelled */
	void *arg;
	uint16_t type;
	uint16_t name_octets;
	uint8_t name[NAME_BYTES_MAX];
};

static struct question *live;

static void
question_free(struct question *q)
{
	struct question **at = &live;

	while (*at != q) {
		assert(*at != NULL);
		at = &(*at)->next;
	}
	*at = q->next;
	free(q);
}

/* Takes q out first: the callback may ask again. */
static void
question_end(struct question *q, const struct dns_answer *answer)
{
	dns_done_fn *done = q->done;
	void *arg = q->arg;

	question_free(q);
	if (done != NULL)
		done(arg, answer);
}

static void
on_gone(void *obj, const struct err *e)
{
	struct dns_answer answer = {.status = DNS_TEMP};

	(void)e;
	question_end(obj, &answer);
}

static bool
client_ask(void *ctx, struct slice name, uint16_t type, dns_done_fn *done, void *arg,
    uint64_t *ticket_r)
{
	struct edge *e = role_edge(ROLE_RESOLVER, 0);
	uint32_t timeout_ms = (uint32_t)config_number(role_config(), OPT_DNS_TIMEOUT);
	struct question *q;

	(void)ctx;
	if (e == NULL || name.n == 0 || name.n > NAME_BYTES_MAX)
		return false;
	q = MEM_NEW(struct question);
	q->id = ipc_expect(e, timeout_ms + GRACE_MS, on_gone, q);
	if (q->id == 0) {
		free(q);
		return false;
	}
	if (!IPC_SEND(e, DNS_QUERY, .id = q->id, .name = name, .type = type,
		.timeout_ms = timeout_ms)) {
		ipc_forget(e, q->id);
		free(q);
		return false;
	}
	q->done = done;
	q->arg = arg;
	q->type = type;
	q->name_octets = (uint16_t)name.n;
	memcpy(q->name, name.p, name.n);
	q->next = live;
	live = q;
	*ticket_r = q->id;
	return true;
}

static void
client_cancel(void *ctx, uint64_t ticket)
{
	struct edge *e = role_edge(ROLE_RESOLVER, 0);
	struct question *q = live;

	(void)ctx;
	while (q != NULL && q->id != ticket)
		q = q->next;
	if (q == NULL)
		return;
	q->done = NULL;
	if (e == NULL || ipc_answered(e, ticket) == NULL)
		return;
	question_free(q);
	/* Should this one be lost, the answer comes and finds nobody. */
	(void)!IPC_SEND(e, DNS_CANCEL, .id = ticket);
}

void
dns_client_answer(struct edge *e, struct msg_DNS_ANSWER *m)
{
	struct question *q = ipc_answered(e, m->id);
	struct dns_answer answer;
	struct arena *a;

	if (q == NULL)
		return;
	a = arena_new(ANSWER_ARENA_BYTES);
	if (m->status != DNS_OK && m->status != DNS_NODATA && m->status != DNS_NXDOMAIN) {
		answer = (struct dns_answer){.status = m->status == DNS_BOGUS ? DNS_BOGUS : DNS_TEMP};
		if (!slice_cstr(m->why_bogus, answer.why_bogus, sizeof answer.why_bogus))
			answer.why_bogus[0] = '\0';
	} else if (!dns_answer_parse(m->packet, slice_of(q->name, q->name_octets), q->type, a,
		       &answer)) {
		answer = (struct dns_answer){.status = DNS_TEMP};
	}
	answer.secure = m->secure != 0;
	question_end(q, &answer);
	arena_free(&a);
}

const struct dns_asker *
dns_client(void)
{
	static const struct dns_asker asker = {.ask = client_ask, .cancel = client_cancel};

	return &asker;
}
