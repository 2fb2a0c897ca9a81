/*
 * A question keeps its place in the list from the moment that it is asked: an answer that comes fills it in, one that is cancelled
 * leaves it "none". Playing looks for the first place with the same name and type that was not given yet, since a check may
 * ask the same twice; what is not there is never answered, and the player's check ends as one whose time is up.
 */
#include "smtpd/answers.h"

#include "common/mem.h"

#include <arpa/inet.h>
#include <assert.h>

#define ANSWER_ARENA_BYTES (512 * 1024)
#define NAME_BYTES_MAX 1024

struct place {
	struct answers *all;
	size_t name_at, name_n, text_at, text_n;
	uint16_t type;
	unsigned status;
	bool waiting;
	bool given;
	dns_done_fn *done;
	void *arg;
	uint64_t ticket;
};

struct answers {
	struct dns_asker asker;
	const struct dns_asker *dns;
	struct place places[ANSWERS_MAX];
	unsigned count;
	struct buf octets; /* names and texts */
	bool cut;
	uint64_t tickets; /* playing */
};

static const char *const status_names[ANSWERS_STATUS_COUNT] = {[DNS_OK] = "ok", [DNS_NODATA] = "nodata", [DNS_NXDOMAIN] = "nxdomain",
    [DNS_TEMP] = "temp", [DNS_BOGUS] = "bogus", [ANSWERS_NONE] = "none", [ANSWERS_UNASKED] = "unasked"};

const char *
answers_status_name(unsigned status)
{
	assert(status < ANSWERS_STATUS_COUNT);
	return status_names[status];
}

unsigned
answers_status_named(struct slice name)
{
	unsigned status = 0;

	while (status < ANSWERS_STATUS_COUNT && !slice_eq(name, slice_str(status_names[status])))
		status++;
	return status;
}

/* ---- text ---- */

void
answers_escape(struct slice octets, struct buf *out)
{
	for (size_t i = 0; i < octets.n; i++) {
		uint8_t c = octets.p[i];

		if (c >= ' ' && c < 0x7f && strchr("%|\"\\", c) == NULL)
			buf_put_u8(out, c);
		else
			buf_putf(out, "%%%02x", c);
	}
}

bool
answers_unescape(struct slice text, struct buf *out)
{
	for (size_t i = 0; i < text.n; i++) {
		uint8_t high, low;

		if (text.p[i] != '%') {
			buf_put_u8(out, text.p[i]);
		} else {
			if (text.n - i < 3 || !ascii_hex_value(text.p[i + 1], &high) || !ascii_hex_value(text.p[i + 2], &low))
				return false;
			buf_put_u8(out, (uint8_t)(high << 4 | low));
			i += 2;
		}
	}
	return !out->failed;
}

static void
put_record(struct buf *b, uint16_t type, const struct dns_record *r)
{
	char ip[INET6_ADDRSTRLEN];
	bool address = (type == DNS_A && r->data.n == 4) || (type == DNS_AAAA && r->data.n == 16);

	if (address && inet_ntop(type == DNS_A ? AF_INET : AF_INET6, r->data.p, ip, sizeof(ip)) != NULL) {
		buf_put_str(b, ip);
	} else if (type == DNS_MX || type == DNS_PTR) {
		if (type == DNS_MX)
			buf_putf(b, "%u ", r->preference);
		answers_escape(r->name, b);
	} else {
		answers_escape(r->data, b);
	}
}

/* One record of a text; its octets are put into the arena. */
static bool
read_record(struct slice text, uint16_t type, struct arena *a, struct dns_record *r)
{
	struct buf b;
	struct slice octets, number;
	uint64_t preference = 0;
	char ip[INET6_ADDRSTRLEN];
	uint8_t address[16];
	bool good;

	buf_init(&b, ANSWERS_BYTES_MAX);
	good = answers_unescape(text, &b) && arena_copy(a, buf_slice(&b), &octets);
	buf_fini(&b);
	if (!good)
		return false;
	*r = (struct dns_record){.data = octets};
	if (type == DNS_A || type == DNS_AAAA) {
		good = slice_cstr(octets, ip, sizeof(ip)) && inet_pton(type == DNS_A ? AF_INET : AF_INET6, ip, address) == 1;
		return good && arena_copy(a, slice_of(address, type == DNS_A ? 4 : 16), &r->data);
	}
	if (type == DNS_MX) {
		good = slice_cut(&octets, ' ', &number) && slice_u64(number, UINT16_MAX, &preference);
		r->preference = (uint16_t)preference;
	}
	if (type == DNS_MX || type == DNS_PTR)
		*r = (struct dns_record){.name = octets, .preference = r->preference};
	return good;
}

/* ---- places ---- */

static struct slice
octets_of(const struct answers *a, size_t at, size_t n)
{
	return slice_sub(buf_slice(&a->octets), at, at + n);
}

/* A new place for the question; NULL at a limit, which cuts. */
static struct place *
new_place(struct answers *a, struct slice name, uint16_t type)
{
	struct place *p = &a->places[a->count];

	if (a->cut || a->count == ANSWERS_MAX || a->octets.n + name.n > ANSWERS_BYTES_MAX) {
		a->cut = true;
		return NULL;
	}
	*p = (struct place){.all = a, .name_at = a->octets.n, .name_n = name.n, .type = type, .status = ANSWERS_NONE};
	buf_put_slice(&a->octets, name);
	a->count++;
	return p;
}

/* Writes the answer into the place. What does not fit is not kept at all. */
static void
write_down(struct place *p, const struct dns_answer *answer)
{
	struct answers *a = p->all;
	size_t before = a->octets.n;

	p->status = answer->status;
	for (unsigned i = 0; answer->status == DNS_OK && i < answer->count && !a->octets.failed; i++) {
		if (i > 0)
			buf_put_u8(&a->octets, '|');
		put_record(&a->octets, p->type, &answer->records[i]);
	}
	if (a->octets.failed) {
		a->octets.n = before;
		a->octets.failed = false;
		a->cut = true;
	}
	p->text_at = before;
	p->text_n = a->octets.n - before;
}

/* ---- writing ---- */

static void
on_answer(void *arg, const struct dns_answer *answer)
{
	struct place *p = arg;

	assert(p->waiting);
	p->waiting = false;
	write_down(p, answer);
	p->done(p->arg, answer);
}

static bool
writing_ask(void *ctx, struct slice name, uint16_t type, dns_done_fn *done, void *arg, uint64_t *ticket_r)
{
	struct answers *a = ctx;
	struct place *p = new_place(a, name, type);

	if (p == NULL)
		return a->dns->ask(a->dns->ctx, name, type, done, arg, ticket_r);
	p->done = done;
	p->arg = arg;
	p->waiting = a->dns->ask(a->dns->ctx, name, type, on_answer, p, &p->ticket);
	if (!p->waiting)
		p->status = ANSWERS_UNASKED;
	*ticket_r = p->ticket;
	return p->waiting;
}

static void
forget(struct answers *a, uint64_t ticket)
{
	for (unsigned i = 0; i < a->count; i++)
		if (a->places[i].waiting && a->places[i].ticket == ticket)
			a->places[i].waiting = false;
}

static void
writing_cancel(void *ctx, uint64_t ticket)
{
	struct answers *a = ctx;

	forget(a, ticket);
	a->dns->cancel(a->dns->ctx, ticket);
}

/* ---- playing ---- */

static bool
playing_ask(void *ctx, struct slice name, uint16_t type, dns_done_fn *done, void *arg, uint64_t *ticket_r)
{
	struct answers *a = ctx;

	*ticket_r = ++a->tickets;
	for (unsigned i = 0; i < a->count; i++) {
		struct place *p = &a->places[i];

		if (p->given || p->type != type || !slice_eq_nocase(octets_of(a, p->name_at, p->name_n), name))
			continue;
		p->given = true;
		p->waiting = p->status < ANSWERS_NONE;
		p->done = done;
		p->arg = arg;
		p->ticket = *ticket_r;
		return p->status != ANSWERS_UNASKED;
	}
	return true;
}

static void
playing_cancel(void *ctx, uint64_t ticket)
{
	forget(ctx, ticket);
}

/* The place's answer as it was; what its text does not say any more is a temporary error. */
static void
give(struct place *p)
{
	struct arena *arena = arena_new(ANSWER_ARENA_BYTES);
	struct dns_answer answer = {.status = (enum dns_status)p->status};
	struct slice rest = octets_of(p->all, p->text_at, p->text_n), record;
	size_t most = 1;

	for (size_t i = 0; i < rest.n; i++)
		most += rest.p[i] == '|';
	if (answer.status == DNS_OK)
		answer.records = arena_array(arena, most, sizeof(*answer.records));
	for (size_t i = 0; answer.records != NULL && i < most; i++) {
		if (!slice_cut(&rest, '|', &record))
			record = slice_of(NULL, 0);
		if (!read_record(record, p->type, arena, &answer.records[answer.count++]))
			answer.status = DNS_TEMP;
	}
	if (answer.status == DNS_OK && answer.count == 0)
		answer.status = DNS_TEMP;
	p->waiting = false;
	p->done(p->arg, &answer);
	arena_free(&arena);
}

void
answers_play(struct answers *a)
{
	for (unsigned i = 0; i < a->count;) {
		if (a->places[i].waiting) {
			give(&a->places[i]);
			i = 0;
		} else {
			i++;
		}
	}
}

bool
answers_add(struct answers *a, const struct answers_item *item)
{
	bool good = item->status < ANSWERS_STATUS_COUNT && item->name.n <= NAME_BYTES_MAX;
	struct place *p = good ? new_place(a, item->name, item->type) : NULL;

	if (p == NULL || a->octets.n + item->text.n > ANSWERS_BYTES_MAX)
		return false;
	p->status = item->status;
	p->text_at = a->octets.n;
	p->text_n = item->text.n;
	return buf_put_slice(&a->octets, item->text);
}

/* ---- life ---- */

struct answers *
answers_new(const struct dns_asker *dns)
{
	struct answers *a = MEM_NEW(struct answers);

	a->dns = dns;
	a->asker = dns != NULL ? (struct dns_asker){a, writing_ask, writing_cancel} : (struct dns_asker){a, playing_ask, playing_cancel};
	buf_init(&a->octets, ANSWERS_BYTES_MAX);
	return a;
}

void
answers_free(struct answers **a)
{
	if (*a == NULL)
		return;
	buf_fini(&(*a)->octets);
	MEM_FREE(a);
}

const struct dns_asker *
answers_asker(struct answers *a)
{
	return &a->asker;
}

unsigned
answers_count(const struct answers *a)
{
	return a->count;
}

struct answers_item
answers_item(const struct answers *a, unsigned i)
{
	const struct place *p = &a->places[i];

	assert(i < a->count);
	return (struct answers_item){octets_of(a, p->name_at, p->name_n), p->type, p->status, octets_of(a, p->text_at, p->text_n)};
}

bool
answers_cut(const struct answers *a)
{
	return a->cut;
}
