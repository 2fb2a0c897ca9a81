/*
 * Lines are taken strictly: each has one form only, so that what is read and
 * written again is the same text. A line says by itself which mailbox it
 * belongs to, so that a lenient reader loses no more than the line that is damaged.
 */
#include "store/dump_private.h"

#include "common/mem.h"
#include "common/mutant.h"
#include "store/file.h"
#include "store/index_private.h"
#include "store/name.h"
#include "store/object.h"

#include <assert.h>
#include <openssl/evp.h>

#define READ_BYTES (256u * 1024)

struct dump_reader {
	struct image *im;
	bool lenient;
	struct buf line;
	EVP_MD_CTX *hash;
	uint64_t lines;
	uint64_t bad;
	bool too_long; /* the line at hand passed the maximum: dropped up to its end */
	bool account;  /* its line was there */
	bool ended;
	bool whole;
};

struct dump_reader *
dump_reader_new(struct image *im_r, bool lenient)
{
	struct dump_reader *r = MEM_NEW(struct dump_reader);

	*im_r = (struct image){.mailbox_count = 0};
	r->im = im_r;
	r->lenient = lenient;
	buf_init(&r->line, DUMP_LINE_BYTES_MAX);
	r->hash = EVP_MD_CTX_new();
	if (r->hash != NULL && EVP_DigestInit_ex(r->hash, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(r->hash);
		r->hash = NULL;
	}
	return r;
}

void
dump_reader_free(struct dump_reader **reader)
{
	if (*reader == NULL)
		return;
	buf_fini(&(*reader)->line);
	EVP_MD_CTX_free((*reader)->hash);
	MEM_FREE(reader);
}

/* ---- fields: each is taken from *rest; false when it is not there or not in its one form ---- */

static bool
take(struct slice *rest, struct slice *field_r)
{
	return slice_cut(rest, ' ', field_r) && field_r->n > 0;
}

static bool
number_of(struct slice field, uint64_t max, uint64_t *v_r)
{
	return (field.n == 1 || (field.n > 1 && field.p[0] != '0')) && slice_u64(field, max, v_r);
}

static bool
take_u64(struct slice *rest, uint64_t *v_r)
{
	struct slice field;

	return take(rest, &field) && number_of(field, UINT64_MAX, v_r);
}

static bool
take_u32(struct slice *rest, uint32_t *v_r)
{
	struct slice field;
	uint64_t v;

	if (!take(rest, &field) || !number_of(field, UINT32_MAX, &v))
		return false;
	*v_r = (uint32_t)v;
	return true;
}

static bool
take_signed(struct slice *rest, int64_t least, int64_t most, int64_t *v_r)
{
	struct slice field;
	uint64_t v;

	if (!take(rest, &field))
		return false;
	bool minus = field.p[0] == '-';

	if (!number_of(slice_sub(field, minus, field.n), (uint64_t)INT64_MAX, &v) || (minus && v == 0))
		return false;
	*v_r = minus ? -(int64_t)v : (int64_t)v;
	return *v_r >= least && *v_r <= most;
}

static bool
take_hex(struct slice *rest, uint8_t *p, size_t n)
{
	struct slice field;

	return take(rest, &field) && slice_unhex(field, p, n);
}

/* ---- lines ---- */

typedef bool line_fn(struct dump_reader *r, struct slice rest);

static bool
on_account(struct dump_reader *r, struct slice rest)
{
	struct format_account a = {0};

	if (r->account || !take_u64(&rest, &a.created) || !take_u64(&rest, &a.serial) || !take_u64(&rest, &a.modseq) ||
	    !take_u64(&rest, &a.next_object) || !take_u32(&rest, &a.next_mailbox) || !take_u32(&rest, &a.next_uidvalidity) ||
	    !take_u32(&rest, &a.retired_uidvalidity) || rest.p != NULL)
		return false;
	r->im->account = a;
	r->account = true;
	return true;
}

/* Attributes stand in one order and once each: what they say must come out as they were. */
static bool
attributes(struct slice field, struct format_mailbox *m)
{
	struct slice list = field, word;
	unsigned rank = 0, next;

	if (slice_eq(field, SLICE("-")))
		return true;
	while (slice_cut(&list, ',', &word)) {
		uint32_t use = dump_use(word);

		if (slice_eq(word, SLICE("selectable"))) {
			m->selectable = true;
			next = 1;
		} else if (slice_eq(word, SLICE("subscribed"))) {
			m->subscribed = true;
			next = 2;
		} else if (use != 0) {
			m->special_use |= use;
			next = 3 + (unsigned)__builtin_ctz(use);
		} else {
			return false;
		}
		if (next <= rank)
			return false;
		rank = next;
	}
	return true;
}

static bool
on_mailbox(struct dump_reader *r, struct slice rest)
{
	const struct image *im = r->im;
	struct format_mailbox m = {0};
	struct slice field;

	if (!take_u32(&rest, &m.number) || !take_u32(&rest, &m.uidvalidity) || !take_u32(&rest, &m.uidnext) ||
	    !take_u32(&rest, &m.recent_uid) || !take_u64(&rest, &m.highestmodseq) || !take_u64(&rest, &m.tombstone_floor) ||
	    !take_u64(&rest, &m.gone_at) || !take(&rest, &field) || !attributes(field, &m) ||
	    name_check(rest, &m.name, NULL) < 0 || !slice_eq(m.name, rest))
		return false;
	if (im->mailbox_count > 0 && m.number <= im->mailboxes[im->mailbox_count - 1].m.number)
		return false;
	if (im->mailbox_count >= INDEX_MAILBOXES_READ_MAX)
		return false;
	(void)image_add_mailbox(r->im, &m);
	return true;
}

/* The mailbox that the lines are about: the last one, but for a lenient reader that lost its line. */
static struct image_mailbox *
mailbox_of(struct dump_reader *r, uint32_t number)
{
	const struct image *im = r->im;
	struct image_mailbox *last = im->mailbox_count > 0 ? &im->mailboxes[im->mailbox_count - 1] : NULL;

	return last != NULL && last->m.number == number ? last : NULL;
}

static bool
on_keyword(struct dump_reader *r, struct slice rest)
{
	struct image_mailbox *mb;
	uint32_t number;

	if (!take_u32(&rest, &number) || (mb = mailbox_of(r, number)) == NULL)
		return false;
	return store_keyword_find(buf_slice(&mb->keywords), rest) < 0 && image_keyword(mb, rest) >= 0;
}

static bool
on_tombstones(struct dump_reader *r, struct slice rest)
{
	struct image_mailbox *mb;
	struct slice range, first;
	uint32_t number, last_uid = 0;
	unsigned ranges = 0;
	uint64_t modseq, a, b;

	if (!take_u32(&rest, &number) || !take_u64(&rest, &modseq) || (mb = mailbox_of(r, number)) == NULL || rest.n == 0)
		return false;
	while (slice_cut(&rest, ',', &range)) {
		bool one = slice_index(range, ':') == range.n;

		if (!slice_cut(&range, ':', &first) || !number_of(first, UINT32_MAX, &a))
			return false;
		b = a;
		if (!one && (!number_of(range, UINT32_MAX, &b) || b <= a))
			return false;
		if (a <= last_uid || ++ranges > FORMAT_TOMBSTONE_RANGES_MAX)
			return false;
		last_uid = (uint32_t)b;
		image_add_tombstone(mb, modseq, (struct uid_range){(uint32_t)a, (uint32_t)b});
	}
	return true;
}

/* Is the word written as it is in the list, and behind those that come before it? */
static bool
in_order(const struct store_entry *entry, const struct image_mailbox *mb, struct slice word, uint32_t flag, int bit)
{
	if (flag != 0)
		return entry->flags < flag && entry->keywords == 0;
	return (entry->keywords >> bit) == 0 && slice_eq(store_keyword_name(buf_slice(&mb->keywords), (unsigned)bit), word);
}

/* Flags and keywords, to the end of the line. */
static bool
take_flags(struct dump_reader *r, struct slice rest, struct image_mailbox *mb, struct store_entry *entry)
{
	struct slice word;

	while (rest.p != NULL) {
		if (!take(&rest, &word))
			return false;
		uint32_t flag = dump_flag(word);
		int bit = -1;

		if (flag == 0 && mb != NULL)
			bit = r->lenient ? image_keyword(mb, word) : store_keyword_find(buf_slice(&mb->keywords), word);
		bool known = flag != 0 || bit >= 0;

		if (!r->lenient && (!known || !in_order(entry, mb, word, flag, bit)))
			return false;
		entry->flags |= flag;
		if (bit >= 0)
			entry->keywords |= UINT64_C(1) << bit;
	}
	return true;
}

static bool
take_message(struct dump_reader *r, struct slice rest, struct image_mailbox *mb, struct format_message *m)
{
	int64_t zone;

	if (!take_u32(&rest, &m->entry.uid) || !take_u64(&rest, &m->entry.modseq) ||
	    !take_signed(&rest, INT64_MIN + 1, INT64_MAX, &m->detail.internal_date) ||
	    !take_signed(&rest, INT16_MIN, INT16_MAX, &zone) ||
	    !take_signed(&rest, INT64_MIN + 1, INT64_MAX, &m->detail.save_date) || !take_u64(&rest, &m->detail.size) ||
	    !take_hex(&rest, m->detail.object_id, sizeof m->detail.object_id) || !take_u64(&rest, &m->detail.thread))
		return false;
	m->detail.uid = m->entry.uid;
	m->detail.zone_minutes = (int16_t)zone;
	return take_flags(r, rest, mb, &m->entry);
}

static bool
on_message(struct dump_reader *r, struct slice rest)
{
	struct format_message m = {.entry = {.uid = 0}};
	struct image_mailbox *mb;
	uint32_t number;

	if (!take_u32(&rest, &number) || (mb = mailbox_of(r, number)) == NULL || !take_message(r, rest, mb, &m))
		return false;
	if (m.entry.uid == 0 || (mb->message_count > 0 && m.entry.uid <= mb->messages[mb->message_count - 1].entry.uid))
		return false;
	image_add_message(mb, &m);
	return true;
}

static bool
on_expunged(struct dump_reader *r, struct slice rest)
{
	struct image_expunged x = {.time = 0};

	if (!take_u64(&rest, &x.time) || !take_u32(&rest, &x.mailbox) ||
	    !take_message(r, rest, image_mailbox(r->im, x.mailbox), &x.m))
		return false;
	if (r->im->expunged_count > 0 && x.time < r->im->expunged[r->im->expunged_count - 1].time)
		return false;
	image_add_expunged(r->im, &x);
	return true;
}

static bool
on_end(struct dump_reader *r, struct slice rest)
{
	uint8_t said[STORE_SHA256_BYTES], found[EVP_MAX_MD_SIZE];
	uint64_t lines;

	if (!take_u64(&rest, &lines) || !take_hex(&rest, said, sizeof said) || rest.p != NULL)
		return false;
	r->ended = true;
	r->whole = r->account && r->hash != NULL && lines == r->lines && EVP_DigestFinal_ex(r->hash, found, NULL) == 1 &&
	    (MUTANT(DUMP_SUM) || memcmp(said, found, sizeof said) == 0);
	return r->whole;
}

static bool
read_line(struct dump_reader *r, struct slice line)
{
	static const struct {
		struct slice word;
		line_fn *fn;
	} rows[] = {{SLICE("account"), on_account}, {SLICE("mailbox"), on_mailbox}, {SLICE("keyword"), on_keyword},
	    {SLICE("tombstones"), on_tombstones}, {SLICE("message"), on_message}, {SLICE("expunged"), on_expunged},
	    {SLICE("end"), on_end}};
	struct slice rest = line, word;

	if (r->ended || (!r->lenient && r->lines == 0 && !slice_eq(line, SLICE("mailstead-dump 1"))))
		return false;
	if (line.n > 0 && line.p[0] == '#')
		return true;
	if (r->lines == 0 || !slice_cut(&rest, ' ', &word))
		return r->lines == 0;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (slice_eq(word, rows[i].word) && (r->account || r->lenient || i == 0))
			return rows[i].fn(r, rest);
	return false;
}

/* The line in r->line, without its LF. */
static int
end_line(struct dump_reader *r, struct err *e)
{
	struct slice line = buf_slice(&r->line);
	bool ok = !r->too_long && read_line(r, line);

	/* The end says what was before it, so it is not part of that. */
	if (r->hash != NULL && !r->ended) {
		if (EVP_DigestUpdate(r->hash, line.p, line.n) != 1 || EVP_DigestUpdate(r->hash, "\n", 1) != 1)
			ok = false;
	}
	r->lines++;
	r->bad += !ok;
	r->too_long = false;
	buf_reset(&r->line);
	if (ok || r->lenient)
		return 0;
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "not a dump", "line %llu of the dump cannot be read",
	    (unsigned long long)r->lines);
}

int
dump_reader_feed(struct dump_reader *r, struct slice octets, struct err *e)
{
	while (octets.n > 0) {
		size_t n = slice_index(octets, '\n');

		if (!buf_put(&r->line, octets.p, n)) {
			r->too_long = true;
			r->line.failed = false;
		}
		if (n < octets.n && end_line(r, e) < 0)
			return -1;
		octets = slice_sub(octets, n < octets.n ? n + 1 : n, octets.n);
	}
	return 0;
}

int
dump_reader_end(struct dump_reader *r, struct err *e)
{
	if (r->lenient)
		return 0;
	if (!r->whole || r->line.n > 0)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "not a whole dump", "the dump was cut or changed: its end is missing");
	return image_check(r->im, e);
}

uint64_t
dump_reader_bad(const struct dump_reader *r)
{
	return r->bad;
}

bool
dump_reader_whole(const struct dump_reader *r)
{
	return r->whole;
}

static int
feed_file(struct dump_reader *r, int fd, struct err *e)
{
	uint8_t *room = mem_resize(NULL, READ_BYTES, 1);
	uint64_t at = 0;
	int64_t got;

	do {
		got = file_read(fd, at, room, READ_BYTES, e);
		if (got > 0 && dump_reader_feed(r, slice_of(room, (size_t)got), e) < 0)
			got = -1;
		at += got > 0 ? (uint64_t)got : 0;
	} while (got > 0);
	free(room);
	return got < 0 ? -1 : dump_reader_end(r, e);
}

int
dump_read(int fd, struct image *im_r, struct err *e)
{
	struct dump_reader *r = dump_reader_new(im_r, false);
	int failed = feed_file(r, fd, e);

	dump_reader_free(&r);
	return failed;
}
