/*
 * A struct dns_asker that answers from a table, for unit tests and fuzz targets:
 * answers are given by fake_dns_run(), never from inside ask(). A CNAME in the table is followed;
 * a loop of them, and a status row, answer as a real resolver would.
 */
#ifndef TESTS_FAKE_DNS_H
#define TESTS_FAKE_DNS_H

#include "common/dns.h"

#include <assert.h>

#define FAKE_ROWS_MAX 4096
#define FAKE_PENDING_MAX 64

struct fake_row {
	const char *name; /* compared without case; "*" answers for every name */
	uint16_t type;
	enum dns_status status; /* DNS_OK: a record; else what any look-up of it without records answers */
	struct slice data;
	const char *target;
	uint16_t preference;
	bool insecure; /* its answers are not proved, whatever the others are */
};

struct fake_pending {
	uint64_t ticket;
	char name[1024];
	uint16_t type;
	dns_done_fn *done;
	void *arg;
};

struct fake_dns {
	struct dns_asker asker;
	struct fake_row rows[FAKE_ROWS_MAX];
	unsigned row_count;
	struct fake_pending pending[FAKE_PENDING_MAX];
	unsigned pending_count;
	uint64_t tickets;
	unsigned asked;
	unsigned refuse_at; /* that ask() returns false; 0: none */
	unsigned fail_at;   /* that question is answered with DNS_TEMP; 0: none */
	unsigned cancelled;
	bool secure; /* DNSSEC proves the answers */
	char last_name[1024];
};

/* The text form of common/dns.h back to octets; false when it does not fit. */
static inline bool
fake_unescape(struct slice name, char *to, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < name.n; i++) {
		char c = (char)name.p[i];

		if (c == '\\' && i + 3 < name.n + 0 && ascii_digit(name.p[i + 1])) {
			c = (char)((name.p[i + 1] - '0') * 100 + (name.p[i + 2] - '0') * 10 + (name.p[i + 3] - '0'));
			i += 3;
		}
		if (n + 1 >= size)
			return false;
		to[n++] = c;
	}
	to[n] = '\0';
	return true;
}

static inline bool
fake_ask(void *ctx, struct slice name, uint16_t type, dns_done_fn *done, void *arg, uint64_t *ticket_r)
{
	struct fake_dns *d = ctx;
	struct fake_pending *p = &d->pending[d->pending_count];

	if (++d->asked == d->refuse_at || d->pending_count == FAKE_PENDING_MAX)
		return false;
	assert(name.n > 0);
	if (!fake_unescape(name, p->name, sizeof p->name))
		return false;
	memcpy(d->last_name, p->name, sizeof d->last_name);
	p->ticket = *ticket_r = ++d->tickets;
	p->type = type;
	p->done = done;
	p->arg = arg;
	d->pending_count++;
	return true;
}

static inline void
fake_cancel(void *ctx, uint64_t ticket)
{
	struct fake_dns *d = ctx;

	for (unsigned i = 0; i < d->pending_count; i++)
		if (d->pending[i].ticket == ticket) {
			d->pending[i] = d->pending[--d->pending_count];
			d->cancelled++;
			return;
		}
}

static inline void
fake_dns_init(struct fake_dns *d)
{
	memset(d, 0, sizeof *d);
	d->asker = (struct dns_asker){.ctx = d, .ask = fake_ask, .cancel = fake_cancel};
}

static inline struct fake_row *
fake_row(struct fake_dns *d, const char *name, uint16_t type)
{
	struct fake_row *r = &d->rows[d->row_count++];

	assert(d->row_count <= FAKE_ROWS_MAX);
	*r = (struct fake_row){.name = name, .type = type};
	return r;
}

static inline void
fake_txt(struct fake_dns *d, const char *name, const char *text)
{
	fake_row(d, name, DNS_TXT)->data = slice_str(text);
}

static inline void
fake_status(struct fake_dns *d, const char *name, enum dns_status status)
{
	fake_row(d, name, 0)->status = status;
}

static inline bool
fake_name_matches(const struct fake_row *r, struct slice name)
{
	return strcmp(r->name, "*") == 0 || slice_eq_nocase(slice_str(r->name), name);
}

static inline enum dns_status
fake_lookup(struct fake_dns *d, struct slice name, uint16_t type, unsigned depth, struct dns_answer *a)
{
	enum dns_status status = DNS_NXDOMAIN;

	if (depth > 16)
		return DNS_TEMP;
	for (unsigned i = 0; i < d->row_count; i++) {
		const struct fake_row *r = &d->rows[i];

		if (!fake_name_matches(r, name))
			continue;
		a->secure = a->secure && !r->insecure;
		if (r->status != DNS_OK) {
			status = r->status;
			continue;
		}
		if (status == DNS_NXDOMAIN)
			status = DNS_NODATA;
		if (r->type == type && a->count < DNS_RECORDS_MAX)
			a->records[a->count++] = (struct dns_record){.data = r->data,
			    .name = slice_str(r->target), .preference = r->preference};
		else if (r->type == DNS_CNAME) {
			a->alias = slice_str(r->target);
			return fake_lookup(d, a->alias, type, depth + 1, a);
		}
	}
	return a->count > 0 ? DNS_OK : status;
}

/* Answers the oldest question; false when there is none. */
static inline bool
fake_dns_step(struct fake_dns *d)
{
	static struct dns_record records[DNS_RECORDS_MAX];
	struct dns_answer a = {.records = records, .ttl = 300, .secure = d->secure};
	struct fake_pending p = d->pending[0];

	if (d->pending_count == 0)
		return false;
	memmove(d->pending, d->pending + 1, (--d->pending_count) * sizeof p);
	a.status = fake_lookup(d, slice_str(p.name), p.type, 0, &a);
	if (p.ticket == d->fail_at)
		a = (struct dns_answer){.status = DNS_TEMP};
	p.done(p.arg, &a);
	return true;
}

static inline void
fake_dns_run(struct fake_dns *d)
{
	while (fake_dns_step(d))
		continue;
}

#endif
