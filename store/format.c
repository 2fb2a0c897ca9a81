/*
 * The checksum covers the key, so that a value that strayed to another key is
 * refused as well. CRC-32 is zlib's: what it must find is damage, not malice;
 * whoever can write here owns the account already.
 */
#include "store/format.h"

#include "common/mutant.h"

#include <assert.h>
#include <endian.h>
#include <zlib.h>

#define CRC_AT 4u

static void
key_byte(struct format_key *k, uint8_t c)
{
	assert(k->n < FORMAT_KEY_BYTES_MAX);
	k->p[k->n++] = c;
}

static void
key_number(struct format_key *k, uint64_t v, unsigned octets)
{
	while (octets-- > 0)
		key_byte(k, (uint8_t)(v >> (8 * octets)));
}

struct format_key
format_key(enum format_table table)
{
	struct format_key k = {.n = 0};

	key_byte(&k, (uint8_t)table);
	return k;
}

struct format_key
format_key_u32(enum format_table table, uint32_t a)
{
	struct format_key k = format_key(table);

	key_number(&k, a, 4);
	return k;
}

struct format_key
format_key_u32_u32(enum format_table table, uint32_t a, uint32_t b)
{
	struct format_key k = format_key_u32(table, a);

	key_number(&k, b, 4);
	return k;
}

struct format_key
format_key_u64(enum format_table table, uint64_t a)
{
	struct format_key k = format_key(table);

	key_number(&k, a, 8);
	return k;
}

struct format_key
format_key_tombstones(uint32_t mailbox, uint64_t modseq, uint32_t piece)
{
	struct format_key k = format_key_u32(FORMAT_TOMBSTONES, mailbox);

	key_number(&k, modseq, 8);
	key_number(&k, piece, 4);
	return k;
}

struct format_key
format_key_expunged(uint64_t time, uint64_t serial, uint32_t piece)
{
	struct format_key k = format_key_u64(FORMAT_EXPUNGED, time);

	key_number(&k, serial, 8);
	key_number(&k, piece, 4);
	return k;
}

struct format_key
format_key_request(uint8_t ring, uint32_t slot)
{
	struct format_key k = format_key(FORMAT_REQUEST);

	key_byte(&k, ring);
	key_number(&k, slot, 4);
	return k;
}

/* ---- header ---- */

void
format_begin(struct buf *b, enum format_table table, unsigned count)
{
	assert(count <= UINT16_MAX);
	buf_reset(b);
	put_u8(b, (uint8_t)table);
	put_u8(b, FORMAT_VERSION);
	put_u16(b, (uint16_t)count);
	put_u32(b, 0);
}

static uint32_t
value_crc(struct slice key, struct slice value)
{
	static const uint8_t zero[4];
	uLong crc = crc32(0, key.p, (uInt)key.n);

	crc = crc32(crc, value.p, CRC_AT);
	crc = crc32(crc, zero, sizeof zero);
	return (uint32_t)crc32(crc, value.p + FORMAT_HEADER_BYTES, (uInt)(value.n - FORMAT_HEADER_BYTES));
}

bool
format_end(struct buf *b, struct slice key)
{
	if (b->failed)
		return false;
	uint32_t crc = value_crc(key, buf_slice(b));

	for (unsigned i = 0; i < 4; i++)
		b->p[CRC_AT + i] = (uint8_t)(crc >> (24 - 8 * i));
	return true;
}

bool
format_check(struct slice key, struct slice value, unsigned *count_r, struct cursor *payload_r)
{
	struct cursor c = cursor_of(value);
	uint8_t table = cursor_u8(&c);
	uint8_t version = cursor_u8(&c);

	*count_r = cursor_u16(&c);
	uint32_t crc = cursor_u32(&c);

	*payload_r = c;
	return !c.bad && key.n > 0 && table == key.p[0] && version == FORMAT_VERSION &&
	    (MUTANT(FORMAT_SUM) || crc == value_crc(key, value));
}

/* The same for the value of one table only. */
static bool
open_value(enum format_table table, struct slice key, struct slice value, unsigned *count_r, struct cursor *payload_r)
{
	return key.n > 0 && key.p[0] == (uint8_t)table && format_check(key, value, count_r, payload_r);
}

/* ---- A ---- */

bool
format_account_put(struct buf *b, const struct format_account *a)
{
	struct format_key key = format_key(FORMAT_ACCOUNT);

	format_begin(b, FORMAT_ACCOUNT, 0);
	put_u64(b, a->serial);
	put_u64(b, a->modseq);
	put_u64(b, a->next_object);
	put_u64(b, a->bytes);
	put_u64(b, a->messages);
	put_u64(b, a->created);
	put_u32(b, a->next_mailbox);
	put_u32(b, a->next_uidvalidity);
	put_u32(b, a->retired_uidvalidity);
	put_u32(b, 0);
	for (unsigned i = 0; i < FORMAT_RINGS; i++)
		put_u64(b, a->ring_next[i]);
	put_u64(b, a->retained_bytes);
	put_u64(b, a->retained_messages);
	return format_end(b, format_key_slice(&key));
}

bool
format_account_get(struct slice value, struct format_account *account_r)
{
	struct format_account *a = account_r;
	struct format_key key = format_key(FORMAT_ACCOUNT);
	struct cursor c;
	unsigned count;

	if (!open_value(FORMAT_ACCOUNT, format_key_slice(&key), value, &count, &c))
		return false;
	a->serial = cursor_u64(&c);
	a->modseq = cursor_u64(&c);
	a->next_object = cursor_u64(&c);
	a->bytes = cursor_u64(&c);
	a->messages = cursor_u64(&c);
	a->created = cursor_u64(&c);
	a->next_mailbox = cursor_u32(&c);
	a->next_uidvalidity = cursor_u32(&c);
	a->retired_uidvalidity = cursor_u32(&c);
	uint32_t zero = cursor_u32(&c);

	for (unsigned i = 0; i < FORMAT_RINGS; i++)
		a->ring_next[i] = cursor_u64(&c);
	a->retained_bytes = cursor_u64(&c);
	a->retained_messages = cursor_u64(&c);
	return cursor_done(&c) && count == 0 && zero == 0 && a->next_mailbox > 0 && a->next_uidvalidity > 0;
}

/* ---- M ---- */

enum { MAILBOX_SUBSCRIBED = 1, MAILBOX_SELECTABLE = 2 };

bool
format_mailbox_put(struct buf *b, const struct format_mailbox *m)
{
	struct format_key key = format_key_u32(FORMAT_MAILBOX, m->number);

	format_begin(b, FORMAT_MAILBOX, 0);
	put_u32(b, m->uidvalidity);
	put_u32(b, m->uidnext);
	put_u32(b, m->messages);
	put_u32(b, m->unseen);
	put_u32(b, m->deleted);
	put_u32(b, m->recent_uid);
	put_u32(b, m->special_use);
	put_u32(b, (m->subscribed ? (uint32_t)MAILBOX_SUBSCRIBED : 0) |
		       (m->selectable ? (uint32_t)MAILBOX_SELECTABLE : 0));
	put_u32(b, m->retained);
	put_u64(b, m->highestmodseq);
	put_u64(b, m->bytes);
	put_u64(b, m->tombstone_floor);
	put_u64(b, m->gone_at);
	put_slice(b, m->name);
	return format_end(b, format_key_slice(&key));
}

bool
format_mailbox_get(struct slice key, struct slice value, struct format_mailbox *mailbox_r)
{
	struct format_mailbox *m = mailbox_r;
	struct cursor k = cursor_of(key), c;
	unsigned count;

	(void)cursor_u8(&k);
	m->number = cursor_u32(&k);
	if (!cursor_done(&k) || m->number == 0 || !open_value(FORMAT_MAILBOX, key, value, &count, &c))
		return false;
	m->uidvalidity = cursor_u32(&c);
	m->uidnext = cursor_u32(&c);
	m->messages = cursor_u32(&c);
	m->unseen = cursor_u32(&c);
	m->deleted = cursor_u32(&c);
	m->recent_uid = cursor_u32(&c);
	m->special_use = cursor_u32(&c);
	uint32_t bits = cursor_u32(&c);

	m->subscribed = (bits & MAILBOX_SUBSCRIBED) != 0;
	m->selectable = (bits & MAILBOX_SELECTABLE) != 0;
	m->retained = cursor_u32(&c);
	m->highestmodseq = cursor_u64(&c);
	m->bytes = cursor_u64(&c);
	m->tombstone_floor = cursor_u64(&c);
	m->gone_at = cursor_u64(&c);
	m->name = cursor_slice(&c, STORE_NAME_BYTES_MAX);
	return cursor_done(&c) && count == 0 && bits <= (MAILBOX_SUBSCRIBED | MAILBOX_SELECTABLE) &&
	    m->uidvalidity > 0 && m->uidnext > 0 && m->recent_uid <= m->uidnext;
}

/* ---- E and D ---- */

static void
put_entry(struct buf *b, const struct store_entry *e)
{
	put_u32(b, e->uid);
	put_u32(b, e->flags);
	put_u64(b, e->keywords);
	put_u64(b, e->modseq);
}

static struct store_entry
get_entry(struct cursor *c)
{
	struct store_entry e;

	e.uid = cursor_u32(c);
	e.flags = cursor_u32(c);
	e.keywords = cursor_u64(c);
	e.modseq = cursor_u64(c);
	return e;
}

/* Bits of a detail. */
#define DETAIL_ASCII_HEADERS 1

static void
put_detail(struct buf *b, const struct format_detail *d)
{
	put_u32(b, d->uid);
	put_u16(b, (uint16_t)d->zone_minutes);
	put_u16(b, d->ascii_headers ? DETAIL_ASCII_HEADERS : 0);
	put_u64(b, (uint64_t)d->internal_date);
	put_u64(b, (uint64_t)d->save_date);
	put_u64(b, d->size);
	put_u64(b, d->thread);
	buf_put(b, d->object_id, sizeof d->object_id);
}

static struct format_detail
get_detail(struct cursor *c)
{
	struct format_detail d = {0};

	d.uid = cursor_u32(c);
	d.zone_minutes = (int16_t)cursor_u16(c);
	uint16_t bits = cursor_u16(c);

	c->bad |= bits > DETAIL_ASCII_HEADERS;
	d.ascii_headers = bits & DETAIL_ASCII_HEADERS;
	d.internal_date = (int64_t)cursor_u64(c);
	d.save_date = (int64_t)cursor_u64(c);
	d.size = cursor_u64(c);
	d.thread = cursor_u64(c);
	struct slice id = cursor_take(c, sizeof d.object_id);

	if (!c->bad)
		memcpy(d.object_id, id.p, sizeof d.object_id);
	return d;
}

/* The first UID that a chunk with this key may hold; 0 when it is no such key. */
static uint32_t
chunk_least(struct slice key)
{
	struct cursor c = cursor_of(key);

	(void)cursor_u8(&c);
	(void)cursor_u32(&c);
	uint32_t uid = cursor_u32(&c);

	return cursor_done(&c) ? uid : 0;
}

/*
 * A column of a chunk: one number of each entry, as width, least and what each is above the least, in as few octets as the
 * greatest of these needs. Numbers of neighbours are alike, mostly equal: what is read, checked, logged and synced is a
 * tenth of the plain numbers.
 */
static unsigned
column_width(uint64_t above)
{
	if (above == 0)
		return 0;
	return above <= UINT8_MAX ? 1 : above <= UINT16_MAX ? 2 : above <= UINT32_MAX ? 4 : 8;
}

/* base: octets of the least, 4 or 8. */
static void
put_column(struct buf *b, unsigned base, const uint64_t *v, unsigned n)
{
	uint64_t least = v[0], greatest = v[0];
	unsigned width;
	uint8_t *to;

	for (unsigned i = 1; i < n; i++) {
		least = v[i] < least ? v[i] : least;
		greatest = v[i] > greatest ? v[i] : greatest;
	}
	width = column_width(greatest - least);
	put_u8(b, (uint8_t)width);
	if (base == 4)
		put_u32(b, (uint32_t)least);
	else
		put_u64(b, least);
	to = width > 0 ? buf_room(b, (size_t)n * width) : NULL;
	if (to == NULL)
		return;
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < width; k++)
			*to++ = (uint8_t)((v[i] - least) >> (8 * (width - 1 - k)));
	buf_added(b, (size_t)n * width);
}

static inline uint64_t
get_difference(const uint8_t *p, unsigned width, unsigned i)
{
	uint16_t two;
	uint32_t four;
	uint64_t eight;

	switch (width) {
	case 1:
		return p[i];
	case 2:
		memcpy(&two, p + 2 * i, sizeof two);
		return be16toh(two);
	case 4:
		memcpy(&four, p + 4 * i, sizeof four);
		return be32toh(four);
	default:
		memcpy(&eight, p + 8 * i, sizeof eight);
		return be64toh(eight);
	}
}

/* width is a constant where this is called. One column has one form: a difference of 0, one that needs the width, none too great. */
static inline __attribute__((always_inline)) bool
get_differences(const uint8_t *p, unsigned width, uint64_t least, uint64_t above_max, uint64_t *v, unsigned n)
{
	uint64_t bits = 0;
	bool zero = false, over = false;

	for (unsigned i = 0; i < n; i++) {
		uint64_t above = get_difference(p, width, i);

		bits |= above;
		zero |= above == 0;
		over |= above > above_max;
		v[i] = least + above;
	}
	return zero && !over && column_width(bits) == width;
}

/* False for anything that put_column() does not make. */
static bool
get_column(struct cursor *c, unsigned base, uint64_t *v, unsigned n)
{
	unsigned width = cursor_u8(c);
	uint64_t least = base == 4 ? cursor_u32(c) : cursor_u64(c);
	uint64_t above_max = (base == 4 ? UINT32_MAX : UINT64_MAX) - least;
	struct slice octets = cursor_take(c, (size_t)n * width);

	if (c->bad || width > base)
		return false;
	switch (width) {
	case 0:
		for (unsigned i = 0; i < n; i++)
			v[i] = least;
		return true;
	case 1:
		return get_differences(octets.p, 1, least, above_max, v, n);
	case 2:
		return get_differences(octets.p, 2, least, above_max, v, n);
	case 4:
		return get_differences(octets.p, 4, least, above_max, v, n);
	case 8:
		return get_differences(octets.p, 8, least, above_max, v, n);
	default:
		return false;
	}
}

/* UIDs as what they are above consecutive ones. */
struct columns {
	uint64_t uid[FORMAT_ENTRIES_MAX];
	uint64_t flags[FORMAT_ENTRIES_MAX];
	uint64_t keywords[FORMAT_ENTRIES_MAX];
	uint64_t modseq[FORMAT_ENTRIES_MAX];
};

bool
format_entries_put(struct buf *b, struct slice key, const struct format_entries *chunk)
{
	struct columns v;

	assert(chunk->n > 0 && chunk->n <= FORMAT_ENTRIES_MAX);
	for (unsigned i = 0; i < chunk->n; i++) {
		assert(i == 0 || chunk->e[i].uid > chunk->e[i - 1].uid);
		v.uid[i] = chunk->e[i].uid - i;
		v.flags[i] = chunk->e[i].flags;
		v.keywords[i] = chunk->e[i].keywords;
		v.modseq[i] = chunk->e[i].modseq;
	}
	format_begin(b, FORMAT_ENTRIES, chunk->n);
	put_column(b, 4, v.uid, chunk->n);
	put_column(b, 4, v.flags, chunk->n);
	put_column(b, 8, v.keywords, chunk->n);
	put_column(b, 8, v.modseq, chunk->n);
	return format_end(b, key);
}

bool
format_entries_get(struct slice key, struct slice value, struct format_entries *chunk_r)
{
	uint64_t before = chunk_least(key);
	struct columns v;
	struct cursor c;
	unsigned n;

	if (!open_value(FORMAT_ENTRIES, key, value, &n, &c) || before == 0 || n == 0 || n > FORMAT_ENTRIES_MAX)
		return false;
	if (!get_column(&c, 4, v.uid, n) || !get_column(&c, 4, v.flags, n) || !get_column(&c, 8, v.keywords, n) ||
	    !get_column(&c, 8, v.modseq, n) || !cursor_done(&c))
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (v.uid[i] < before || v.uid[i] + i > UINT32_MAX)
			return false;
		before = v.uid[i];
		chunk_r->e[i] = (struct store_entry){.uid = (uint32_t)v.uid[i] + i, .flags = (uint32_t)v.flags[i],
		    .keywords = v.keywords[i], .modseq = v.modseq[i]};
	}
	chunk_r->n = n;
	return true;
}

bool
format_details_put(struct buf *b, struct slice key, const struct format_details *chunk)
{
	assert(chunk->n <= FORMAT_DETAILS_MAX);
	format_begin(b, FORMAT_DETAILS, chunk->n);
	for (unsigned i = 0; i < chunk->n; i++)
		put_detail(b, &chunk->d[i]);
	return format_end(b, key);
}

bool
format_details_get(struct slice key, struct slice value, struct format_details *chunk_r)
{
	uint64_t least = chunk_least(key);
	struct cursor c;

	if (!open_value(FORMAT_DETAILS, key, value, &chunk_r->n, &c) || least == 0 || chunk_r->n > FORMAT_DETAILS_MAX)
		return false;
	for (unsigned i = 0; i < chunk_r->n; i++) {
		chunk_r->d[i] = get_detail(&c);
		if (chunk_r->d[i].uid < least)
			return false;
		least = (uint64_t)chunk_r->d[i].uid + 1;
	}
	return cursor_done(&c);
}

/* ---- O ---- */

bool
format_refs_put(struct buf *b, struct slice key, const struct format_refs *r)
{
	format_begin(b, FORMAT_REFS, FORMAT_REFS_MAX);
	for (unsigned i = 0; i < FORMAT_REFS_MAX; i++)
		put_u32(b, r->count[i]);
	return format_end(b, key);
}

bool
format_refs_get(struct slice key, struct slice value, struct format_refs *refs_r)
{
	struct cursor c;
	unsigned count;

	if (!open_value(FORMAT_REFS, key, value, &count, &c) || count != FORMAT_REFS_MAX)
		return false;
	for (unsigned i = 0; i < FORMAT_REFS_MAX; i++)
		refs_r->count[i] = cursor_u32(&c);
	return cursor_done(&c);
}

/* ---- X ---- */

bool
format_expunged_put(struct buf *b, struct slice key, const struct format_expunged *x)
{
	assert(x->n > 0 && x->n <= FORMAT_EXPUNGED_MAX);
	format_begin(b, FORMAT_EXPUNGED, x->n);
	put_u32(b, x->mailbox);
	for (unsigned i = 0; i < x->n; i++) {
		put_entry(b, &x->m[i].entry);
		put_detail(b, &x->m[i].detail);
	}
	return format_end(b, key);
}

bool
format_expunged_get(struct slice key, struct slice value, struct format_expunged *expunged_r)
{
	struct format_expunged *x = expunged_r;
	struct cursor c;

	if (!open_value(FORMAT_EXPUNGED, key, value, &x->n, &c) || x->n == 0 || x->n > FORMAT_EXPUNGED_MAX)
		return false;
	x->mailbox = cursor_u32(&c);
	for (unsigned i = 0; i < x->n; i++) {
		x->m[i].entry = get_entry(&c);
		x->m[i].detail = get_detail(&c);
		if (x->m[i].entry.uid != x->m[i].detail.uid)
			return false;
	}
	return cursor_done(&c);
}

/* ---- R ---- */

bool
format_request_put(struct buf *b, struct slice key, const struct format_request *r)
{
	format_begin(b, FORMAT_REQUEST, 0);
	buf_put(b, r->origin, sizeof r->origin);
	put_u64(b, r->sequence);
	put_slice(b, r->reply);
	return format_end(b, key);
}

bool
format_request_get(struct slice key, struct slice value, struct format_request *request_r)
{
	struct cursor c;
	unsigned count;

	if (!open_value(FORMAT_REQUEST, key, value, &count, &c))
		return false;
	struct slice origin = cursor_take(&c, sizeof request_r->origin);

	request_r->sequence = cursor_u64(&c);
	request_r->reply = cursor_slice(&c, FORMAT_REPLY_BYTES_MAX);
	if (!cursor_done(&c) || count != 0)
		return false;
	memcpy(request_r->origin, origin.p, sizeof request_r->origin);
	return true;
}
