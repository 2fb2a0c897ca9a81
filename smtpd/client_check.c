/*
 * All questions are asked at once, but those that depend on the names of the address. Each has a place in one
 * array; the check has ended when no place waits, or when its time is up.
 */
#include "smtpd/client_check.h"

#include "common/loop.h"
#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>

#define QUESTIONS_MAX (1 + CLIENT_NAMES_MAX + CLIENT_LISTS_MAX)

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

struct question {
	struct client_check *check;
	struct client_zone zone; /* of a list; its text is `name` */
	char name[DNS_NAME_BYTES_MAX + 1];
	bool waiting;
	uint64_t ticket;
};

struct client_check {
	const struct dns_asker *dns;
	client_done_fn *done;
	void *arg;
	struct loop_timer *timer;
	uint8_t ip[16];
	struct question *questions[QUESTIONS_MAX];
	unsigned count;
	struct client_facts facts;
	char client_name[DNS_NAME_BYTES_MAX + 1];
	bool starting;
	bool doubtful; /* a name of the address could not be looked up */
	bool ended;
};

static bool
is_ipv4(const uint8_t ip[16])
{
	return memcmp(ip, mapped, sizeof(mapped)) == 0;
}

bool
client_reverse_name(const uint8_t ip[16], struct slice zone, struct buf *out)
{
	size_t before = out->n;

	if (is_ipv4(ip))
		buf_putf(out, "%u.%u.%u.%u.", ip[15], ip[14], ip[13], ip[12]);
	for (size_t i = 16; i-- > 0 && !is_ipv4(ip);)
		buf_putf(out, "%x.%x.", ip[i] & 15u, ip[i] >> 4);
	buf_put_slice(out, zone);
	return !out->failed && out->n - before <= DNS_NAME_BYTES_MAX;
}

/* ---- the end ---- */

static void
end(struct client_check *c)
{
	if (c->ended)
		return;
	c->ended = true;
	loop_timer_stop(c->timer);
	if (!c->starting)
		c->done(c->arg);
}

static void
end_if_complete(struct client_check *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->questions[i]->waiting)
			return;
	/* Every name was followed, and none leads back. */
	if (c->facts.iprev == CLIENT_IPREV_NONE)
		c->facts.iprev = c->doubtful ? CLIENT_IPREV_TEMPERROR : CLIENT_IPREV_FAIL;
	end(c);
}

static void
cancel_all(struct client_check *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->questions[i]->waiting) {
			c->dns->cancel(c->dns->ctx, c->questions[i]->ticket);
			c->questions[i]->waiting = false;
		}
}

static void
on_timer(void *arg)
{
	struct client_check *c = arg;

	cancel_all(c);
	if (c->facts.iprev == CLIENT_IPREV_NONE)
		c->facts.iprev = CLIENT_IPREV_TEMPERROR;
	end(c);
}

/* ---- asking ---- */

static struct question *
question_new(struct client_check *c)
{
	struct question *q;

	if (c->count == QUESTIONS_MAX)
		return NULL;
	q = c->questions[c->count++] = MEM_NEW(struct question);
	q->check = c;
	return q;
}

/* False when it is not even asked. */
static bool
ask(struct question *q, struct slice name, uint16_t type, dns_done_fn *done)
{
	const struct dns_asker *dns = q->check->dns;

	q->waiting = dns->ask(dns->ctx, name, type, done, q, &q->ticket);
	return q->waiting;
}

static bool
ask_reverse(struct question *q, struct slice zone, uint16_t type, dns_done_fn *done)
{
	struct buf name;
	bool asked;

	buf_init(&name, DNS_NAME_BYTES_MAX + 1);
	asked = client_reverse_name(q->check->ip, zone, &name) && ask(q, buf_slice(&name), type, done);
	buf_fini(&name);
	return asked;
}

/* ---- iprev ---- */

static void
on_forward(void *arg, const struct dns_answer *a)
{
	struct question *q = arg;
	struct client_check *c = q->check;
	struct slice own = is_ipv4(c->ip) ? slice_of(c->ip + 12, 4) : slice_of(c->ip, 16);

	q->waiting = false;
	c->doubtful |= a->status == DNS_TEMP || a->status == DNS_BOGUS;
	for (unsigned i = 0; a->status == DNS_OK && i < a->count; i++)
		if (c->facts.iprev == CLIENT_IPREV_NONE && slice_eq(a->records[i].data, own)) {
			c->facts.iprev = CLIENT_IPREV_PASS;
			memcpy(c->client_name, q->name, sizeof(c->client_name));
			c->facts.name = slice_str(c->client_name);
		}
	end_if_complete(c);
}

static void
follow(struct client_check *c, struct slice name)
{
	struct question *q;
	struct buf ascii;

	/* A name that no host has (RFC 8601 2.7.3 wants a host name) is passed over. */
	buf_init(&ascii, DNS_NAME_BYTES_MAX);
	if (dns_name_to_ascii(name, &ascii) && (q = question_new(c)) != NULL) {
		bool fits = slice_cstr(buf_slice(&ascii), q->name, sizeof(q->name));

		assert(fits);
		c->doubtful |= !ask(q, buf_slice(&ascii), is_ipv4(c->ip) ? DNS_A : DNS_AAAA, on_forward);
	}
	buf_fini(&ascii);
}

static void
on_names(void *arg, const struct dns_answer *a)
{
	struct question *q = arg;
	struct client_check *c = q->check;

	q->waiting = false;
	if (a->status == DNS_TEMP || a->status == DNS_BOGUS)
		c->facts.iprev = CLIENT_IPREV_TEMPERROR;
	else if (a->status != DNS_OK)
		c->facts.iprev = CLIENT_IPREV_PERMERROR;
	for (unsigned i = 0; a->status == DNS_OK && i < a->count && i < CLIENT_NAMES_MAX; i++)
		follow(c, a->records[i].name);
	end_if_complete(c);
}

static void
ask_names(struct client_check *c)
{
	struct question *q = question_new(c);

	if (!ask_reverse(q, is_ipv4(c->ip) ? SLICE("in-addr.arpa") : SLICE("ip6.arpa"), DNS_PTR, on_names))
		c->facts.iprev = CLIENT_IPREV_TEMPERROR;
}

static void
take_names(struct client_check *c, const struct client_query *q)
{
	c->facts.iprev = q->iprev;
	if (q->iprev != CLIENT_IPREV_PASS)
		return;
	if (slice_cstr(q->name, c->client_name, sizeof(c->client_name)))
		c->facts.name = slice_str(c->client_name);
	else
		c->facts.iprev = CLIENT_IPREV_PERMERROR;
}

/* ---- lists ---- */

static void
on_list(void *arg, const struct dns_answer *a)
{
	struct question *q = arg;
	struct client_check *c = q->check;

	q->waiting = false;
	for (unsigned i = 0; a->status == DNS_OK && i < a->count; i++) {
		const uint8_t *answer = a->records[i].data.p;
		struct client_list *l = &c->facts.lists[c->facts.count];

		if (a->records[i].data.n != 4 || !client_zone_lists(&q->zone, answer))
			continue;
		assert(c->facts.count < CLIENT_LISTS_MAX);
		*l = (struct client_list){.zone = slice_str(q->name), .white = q->zone.white, .weight = q->zone.weight};
		memcpy(l->answer, answer, sizeof(l->answer));
		c->facts.count++;
		break;
	}
	end_if_complete(c);
}

static void
ask_lists(struct client_check *c, struct slice zones, bool white, unsigned *left)
{
	struct client_zone z;
	int got;

	while (*left > 0 && (got = client_zone_next(&zones, &z)) != 0) {
		struct question *q = got > 0 ? question_new(c) : NULL;

		if (q == NULL || !slice_cstr(z.zone, q->name, sizeof(q->name)))
			continue;
		q->zone = z;
		q->zone.white = white;
		(*left)--;
		(void)ask_reverse(q, slice_str(q->name), DNS_A, on_list);
	}
}

/* ---- life ---- */

struct client_check *
client_check_new(struct loop *loop, const struct dns_asker *dns, const struct client_query *q, client_done_fn *done, void *arg)
{
	struct client_check *c = MEM_NEW(struct client_check);
	unsigned left = CLIENT_LISTS_MAX;

	c->dns = dns;
	c->done = done;
	c->arg = arg;
	c->timer = loop_timer_new(loop, on_timer, c);
	memcpy(c->ip, q->ip, sizeof(c->ip));
	c->starting = true;
	loop_timer_set(c->timer, q->timeout_ms);
	if (q->iprev == CLIENT_IPREV_NONE)
		ask_names(c);
	else
		take_names(c, q);
	ask_lists(c, q->black, false, &left);
	ask_lists(c, q->white, true, &left);
	end_if_complete(c);
	c->starting = false;
	return c;
}

bool
client_check_ended(const struct client_check *c)
{
	return c->ended;
}

const struct client_facts *
client_check_facts(const struct client_check *c)
{
	return &c->facts;
}

void
client_check_free(struct client_check **cp)
{
	struct client_check *c = *cp;

	if (c == NULL)
		return;
	cancel_all(c);
	loop_timer_free(&c->timer);
	for (unsigned i = 0; i < c->count; i++)
		free(c->questions[i]);
	MEM_FREE(cp);
}
