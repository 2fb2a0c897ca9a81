/*
 * One encoder and one decoder a record. The checksum is our own, besides
 * DB_CHKSUM's of the page: it also catches a record that was written wrongly.
 */
#include "authd/directory_record.h"

#include "common/cursor.h"

#include <zlib.h>

#define RECORD_VERSION 1
#define CHECKSUM_BYTES 4

static uint32_t
checksum(struct slice s)
{
	return (uint32_t)crc32(crc32(0, NULL, 0), s.p, (uInt)s.n);
}

static void
record_begin(struct buf *b, enum dir_kind kind)
{
	buf_reset(b);
	put_u8(b, RECORD_VERSION);
	put_u8(b, (uint8_t)kind);
}

static bool
record_end(struct buf *b)
{
	put_u32(b, checksum(buf_slice(b)));
	return !b->failed;
}

/* The body of a record of that kind; a bad cursor when it is none. */
static struct cursor
record_open(struct slice in, enum dir_kind kind)
{
	struct cursor c = cursor_of(in);
	struct cursor tail;
	struct slice body;

	if (in.n < 2 + CHECKSUM_BYTES || in.n > DIR_RECORD_BYTES_MAX) {
		c.bad = true;
		return c;
	}
	body = slice_sub(in, 0, in.n - CHECKSUM_BYTES);
	tail = cursor_of(slice_sub(in, in.n - CHECKSUM_BYTES, in.n));
	c = cursor_of(body);
	if (cursor_u8(&c) != RECORD_VERSION || cursor_u8(&c) != (uint8_t)kind ||
	    cursor_u32(&tail) != checksum(body))
		c.bad = true;
	return c;
}

static void
put_quota(struct buf *b, struct quota q)
{
	put_u64(b, q.bytes);
	put_u64(b, q.messages);
}

static struct quota
take_quota(struct cursor *c)
{
	uint64_t bytes = cursor_u64(c);

	return (struct quota){bytes, cursor_u64(c)};
}

bool
dir_meta_encode(const struct dir_meta *m, struct buf *b)
{
	record_begin(b, DIR_KIND_META);
	put_u32(b, m->version);
	put_u64(b, m->next_account);
	put_u64(b, m->next_order);
	return record_end(b);
}

bool
dir_meta_decode(struct slice in, struct dir_meta *m_r)
{
	struct cursor c = record_open(in, DIR_KIND_META);

	if (c.bad)
		return false;
	m_r->version = cursor_u32(&c);
	m_r->next_account = cursor_u64(&c);
	m_r->next_order = cursor_u64(&c);
	return cursor_done(&c) && m_r->next_account > 0;
}

bool
dir_domain_encode(const struct dir_domain *d, struct buf *b)
{
	record_begin(b, DIR_KIND_DOMAIN);
	put_u64(b, d->order);
	put_u64(b, d->created);
	put_quota(b, d->limit);
	put_u8(b, d->rules.fold_letters);
	put_u8(b, d->rules.dots_ignored);
	put_slice(b, slice_str(d->rules.separators));
	return record_end(b) && address_separators_good(slice_str(d->rules.separators));
}

static bool
take_rules(struct cursor *c, struct address_rules *r)
{
	unsigned fold = cursor_u8(c);
	unsigned dots = cursor_u8(c);
	struct slice separators = cursor_slice(c, ADDRESS_SEPARATORS_MAX);

	*r = (struct address_rules){.fold_letters = fold != 0, .dots_ignored = dots != 0};
	return !c->bad && fold <= 1 && dots <= 1 && address_separators_good(separators) &&
	    slice_cstr(separators, r->separators, sizeof(r->separators));
}

bool
dir_domain_decode(struct slice in, struct dir_domain *d_r)
{
	struct cursor c = record_open(in, DIR_KIND_DOMAIN);

	if (c.bad)
		return false;
	d_r->order = cursor_u64(&c);
	d_r->created = cursor_u64(&c);
	d_r->limit = take_quota(&c);
	d_r->rules = ADDRESS_RULES_DEFAULT;
	if (!c.bad && cursor_left(&c) > 0 && !take_rules(&c, &d_r->rules))
		return false;
	return cursor_done(&c);
}

static bool
state_known(unsigned state)
{
	return state == DIR_ACCOUNT_ACTIVE || state == DIR_ACCOUNT_SUSPENDED;
}

bool
dir_account_encode(const struct dir_account *a, struct buf *b)
{
	record_begin(b, DIR_KIND_ACCOUNT);
	put_u64(b, a->id);
	put_u8(b, (uint8_t)a->state);
	put_u64(b, a->created);
	put_quota(b, a->limit);
	put_slice(b, a->login);
	put_slice(b, a->display);
	put_slice(b, a->hash);
	return record_end(b) && a->id != 0 && state_known(a->state) &&
	       a->login.n <= ADDRESS_BYTES_MAX && a->display.n <= DIR_DISPLAY_BYTES_MAX &&
	       a->hash.n <= DIR_HASH_BYTES_MAX;
}

bool
dir_account_decode(struct slice in, struct dir_account *a_r)
{
	struct cursor c = record_open(in, DIR_KIND_ACCOUNT);
	struct address_name name;
	unsigned state;

	if (c.bad)
		return false;
	a_r->id = cursor_u64(&c);
	state = cursor_u8(&c);
	a_r->created = cursor_u64(&c);
	a_r->limit = take_quota(&c);
	a_r->login = cursor_slice(&c, ADDRESS_BYTES_MAX);
	a_r->display = cursor_slice(&c, DIR_DISPLAY_BYTES_MAX);
	a_r->hash = cursor_slice(&c, DIR_HASH_BYTES_MAX);
	if (!cursor_done(&c) || !state_known(state) || a_r->id == 0)
		return false;
	a_r->state = (enum dir_account_state)state;
	return dir_name_of(a_r->login, &name) && name.local[0] != '\0';
}

bool
dir_alias_encode(const struct dir_alias *a, struct buf *b)
{
	if (a->n == 0 || a->n > DIR_ALIAS_TARGETS_MAX)
		return false;
	record_begin(b, DIR_KIND_ALIAS);
	put_u64(b, a->created);
	put_u32(b, a->n);
	for (uint32_t i = 0; i < a->n; i++) {
		if (a->target[i].n > ADDRESS_BYTES_MAX)
			return false;
		put_slice(b, a->target[i]);
	}
	return record_end(b);
}

bool
dir_alias_decode(struct slice in, struct dir_alias *a_r)
{
	struct cursor c = record_open(in, DIR_KIND_ALIAS);
	struct address_name name;

	if (c.bad)
		return false;
	a_r->created = cursor_u64(&c);
	a_r->n = cursor_u32(&c);
	if (a_r->n == 0 || a_r->n > DIR_ALIAS_TARGETS_MAX)
		return false;
	for (uint32_t i = 0; i < a_r->n; i++) {
		a_r->target[i] = cursor_slice(&c, ADDRESS_BYTES_MAX);
		if (!dir_name_of(a_r->target[i], &name) || name.local[0] == '\0')
			return false;
	}
	return cursor_done(&c);
}

bool
dir_secrets_encode(const struct srs_secrets *s, struct buf *b)
{
	record_begin(b, DIR_KIND_SECRET);
	put_slice(b, slice_of(s->newest, SRS_SECRET_BYTES));
	put_slice(b, slice_of(s->older, s->has_older ? SRS_SECRET_BYTES : 0));
	put_u64(b, s->since);
	return record_end(b);
}

bool
dir_secrets_decode(struct slice in, struct srs_secrets *s_r)
{
	struct cursor c = record_open(in, DIR_KIND_SECRET);
	struct slice newest, older = slice_of(NULL, 0);

	if (c.bad)
		return false;
	*s_r = (struct srs_secrets){.since = 0};
	newest = cursor_slice(&c, SRS_SECRET_BYTES);
	if (cursor_left(&c) > 0) {
		older = cursor_slice(&c, SRS_SECRET_BYTES);
		s_r->since = cursor_u64(&c);
	}
	if (!cursor_done(&c) || newest.n != SRS_SECRET_BYTES || (older.n != 0 && older.n != SRS_SECRET_BYTES))
		return false;
	memcpy(s_r->newest, newest.p, SRS_SECRET_BYTES);
	s_r->has_older = older.n > 0;
	if (s_r->has_older)
		memcpy(s_r->older, older.p, SRS_SECRET_BYTES);
	return true;
}

bool
dir_name_of(struct slice normal, struct address_name *name_r)
{
	size_t at = slice_rindex(normal, '@');

	return at < normal.n &&
	       slice_cstr(slice_sub(normal, 0, at), name_r->local, sizeof name_r->local) &&
	       slice_cstr(
		   slice_sub(normal, at + 1, normal.n), name_r->domain, sizeof name_r->domain) &&
	       name_r->domain[0] != '\0';
}
