/*
 * In this order: the mailboxes; every record in the order of keys, which leaves the counts of references; the messages
 * of each mailbox, each object once; the sums; and, when deep, the files of mail/ that nobody knows.
 *
 * Objects are not in the snapshot: the files of what was expunged long ago may be removed meanwhile. So one that is
 * missing counts only when the index of this moment still refers to it.
 */
#include "store/check.h"

#include "common/mem.h"
#include "common/loop.h"
#include "common/summary.h"
#include "store/image.h"
#include "store/index_private.h"
#include "store/object.h"
#include "store/snapshot.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define HASH_BYTES (256u * 1024)
#define TEXT_BYTES 400u
#define NO_OBJECT UINT64_MAX

enum phase {
	PHASE_MAILBOXES,
	PHASE_RECORDS,
	PHASE_MESSAGES,
	PHASE_SUMS,
	PHASE_FILES,
	PHASE_DONE,
};

/* The references to 128 objects: what the index says, and what was found. */
struct refs {
	uint64_t first;
	struct format_refs said;
	struct format_refs found;
	uint8_t hashes[FORMAT_REFS_MAX][STORE_OBJECT_ID_BYTES - 8]; /* of those found */
};

/* What follows from the messages of a mailbox. */
struct sums {
	uint32_t messages;
	uint32_t unseen;
	uint32_t deleted;
	uint64_t bytes;
};

struct check {
	struct index *ix;
	struct snapshot *snapshot;
	bool deep;
	check_found_fn *found;
	void *arg;
	uint64_t count;
	enum phase phase;
	struct format_account account;
	struct image table; /* mailboxes with their keywords */
	struct refs *refs;  /* ascending */
	size_t refs_count;
	size_t refs_cap;
	uint64_t *garbage; /* ascending */
	size_t garbage_count;
	size_t garbage_cap;
	struct snapshot_cursor cursor;
	bool cursor_begun;
	struct snapshot_messages walk;
	bool walking;
	size_t at; /* the mailbox at hand; the shard in PHASE_FILES */
	uint32_t last_uid;
	struct sums sums; /* of the mailbox at hand */
	struct quota usage;
	struct quota retained;
	uint32_t *expunged; /* of each mailbox of the table: how many of its messages are expunged ones */
	uint64_t done;
	/* The object being hashed. */
	int fd;
	uint64_t hashed;
	EVP_MD_CTX *hash;
	struct format_detail object;
	uint8_t *room;
	struct buf summary;
};

struct check *
check_begin(struct index *ix, bool deep, check_found_fn *found, void *arg)
{
	struct check *c = MEM_NEW(struct check);

	c->ix = ix;
	c->snapshot = snapshot_begin(ix->env);
	c->deep = deep;
	c->found = found;
	c->arg = arg;
	c->account = ix->account;
	c->fd = -1;
	c->room = mem_resize(NULL, HASH_BYTES, 1);
	buf_init(&c->summary, STORE_SUMMARY_BYTES_MAX + FORMAT_HEADER_BYTES);
	return c;
}

void
check_free(struct check **check)
{
	struct check *c = *check;

	if (c == NULL)
		return;
	snapshot_close(&c->cursor);
	snapshot_messages_close(&c->walk);
	snapshot_end(&c->snapshot);
	image_fini(&c->table);
	free(c->refs);
	free(c->garbage);
	free(c->expunged);
	if (c->fd >= 0)
		(void)file_close(c->fd, NULL);
	EVP_MD_CTX_free(c->hash);
	free(c->room);
	buf_fini(&c->summary);
	MEM_FREE(check);
}

uint64_t
check_done(const struct check *c, uint64_t *total_r)
{
	uint64_t all = c->account.messages + c->account.retained_messages;

	*total_r = all > c->done ? all : c->done;
	return c->done;
}

uint64_t
check_messages(const struct check *c)
{
	return c->usage.messages;
}

uint64_t
check_found(const struct check *c)
{
	return c->count;
}

/* ---- telling ---- */

static void found(struct check *c, const char *code, uint32_t mailbox, uint32_t uid, uint64_t object, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

static void
found(struct check *c, const char *code, uint32_t mailbox, uint32_t uid, uint64_t object, const char *fmt, ...)
{
	const struct image_mailbox *mb = mailbox != 0 ? image_mailbox(&c->table, mailbox) : NULL;
	char text[TEXT_BYTES];
	struct check_finding f = {.code = slice_str(code), .uid = uid, .object = object};
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	f.text = slice_str(text);
	if (mb != NULL)
		f.mailbox = mb->m.name;
	c->count++;
	c->found(c->arg, &f);
}

bool
check_finding_put(struct buf *b, const struct check_finding *f)
{
	put_slice(b, f->code);
	put_slice(b, f->text);
	put_slice(b, f->mailbox);
	put_u32(b, f->uid);
	put_u64(b, f->object);
	return !b->failed;
}

bool
check_finding_next(struct cursor *c, struct check_finding *finding_r)
{
	if (c->bad || cursor_left(c) == 0)
		return false;
	finding_r->code = cursor_slice(c, TEXT_BYTES);
	finding_r->text = cursor_slice(c, TEXT_BYTES);
	finding_r->mailbox = cursor_slice(c, STORE_NAME_BYTES_MAX);
	finding_r->uid = cursor_u32(c);
	finding_r->object = cursor_u64(c);
	return !c->bad;
}

/* ---- references ---- */

static struct refs *
refs_of(const struct check *c, uint64_t object)
{
	uint64_t first = object - object % FORMAT_REFS_MAX;
	size_t low = 0, high = c->refs_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (c->refs[mid].first < first)
			low = mid + 1;
		else
			high = mid;
	}
	return low < c->refs_count && c->refs[low].first == first ? &c->refs[low] : NULL;
}

/* Does the index of this moment still refer to it? */
static bool
referred_now(struct check *c, uint64_t object)
{
	struct format_key key = format_key_u64(FORMAT_REFS, object - object % FORMAT_REFS_MAX);
	struct format_refs refs;

	buf_reset(&c->summary);
	return env_get(c->ix->env, format_key_slice(&key), &c->summary, NULL) == 1 &&
	    format_refs_get(format_key_slice(&key), buf_slice(&c->summary), &refs) && refs.count[object % FORMAT_REFS_MAX] > 0;
}

/* ---- objects ---- */

static void
hash_end(struct check *c, bool sound)
{
	uint64_t number = object_number(c->object.object_id);

	(void)file_close(c->fd, NULL);
	c->fd = -1;
	if (!sound)
		found(c, "object-damaged", 0, 0, number, "the message's octets are not those that were stored: object %llu",
		    (unsigned long long)number);
}

/* A piece of the object at hand. */
static int
hash_more(struct check *c, struct err *e)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	int64_t got = file_read(c->fd, c->hashed, c->room, HASH_BYTES, e);

	if (got < 0) {
		hash_end(c, false);
		return 0;
	}
	if (got > 0) {
		c->hashed += (uint64_t)got;
		return EVP_DigestUpdate(c->hash, c->room, (size_t)got) == 1 ? 0 : -1;
	}
	if (EVP_DigestFinal_ex(c->hash, sum, NULL) != 1)
		return err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "no SHA-256");
	hash_end(c, c->hashed == c->object.size && object_id_fits(c->object.object_id, sum));
	return 0;
}

static void
check_summary(struct check *c, const struct format_detail *d, uint32_t mailbox)
{
	uint64_t number = object_number(d->object_id);
	struct summary s;

	if (env_summary_get(c->ix->env, number, &c->summary, NULL) <= 0)
		return;
	if (!summary_decode(buf_slice(&c->summary), &s))
		found(c, "summary-unreadable", mailbox, d->uid, number, "the stored summary of a message cannot be read");
	else if (s.octets != d->size)
		found(c, "summary-wrong", mailbox, d->uid, number, "the stored summary is of a message of %llu octets, not %llu",
		    (unsigned long long)s.octets, (unsigned long long)d->size);
}

static int
check_object(struct check *c, const struct format_detail *d, uint32_t mailbox, struct err *e)
{
	uint64_t number = object_number(d->object_id);
	int fd = object_open(c->ix->root, d->object_id, d->size, e);

	if (fd < 0) {
		if (referred_now(c, number))
			found(c, "object-missing", mailbox, d->uid, number, "the message's file is missing or has another length: %s",
			    e->detail);
		return 0;
	}
	if (!c->deep)
		return file_close(fd, e);
	check_summary(c, d, mailbox);
	if (c->hash == NULL)
		c->hash = EVP_MD_CTX_new();
	c->fd = fd;
	c->hashed = 0;
	c->object = *d;
	if (c->hash == NULL || EVP_DigestInit_ex(c->hash, EVP_sha256(), NULL) != 1)
		return err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "no SHA-256");
	return 0;
}

/* A message refers to its object: the count, and the first time the file. */
static int
refer(struct check *c, const struct format_message *m, uint32_t mailbox, struct err *e)
{
	uint64_t number = object_number(m->detail.object_id);
	struct refs *r = refs_of(c, number);

	if (number >= c->account.next_object)
		found(c, "object-number", mailbox, m->entry.uid, number, "object %llu was never given out",
		    (unsigned long long)number);
	if (r == NULL) {
		found(c, "references", mailbox, m->entry.uid, number, "there is no count of references to object %llu",
		    (unsigned long long)number);
		return check_object(c, &m->detail, mailbox, e);
	}
	unsigned slot = (unsigned)(number % FORMAT_REFS_MAX);
	const uint8_t *hash = m->detail.object_id + 8;

	if (r->found.count[slot]++ > 0 && memcmp(r->hashes[slot], hash, sizeof r->hashes[slot]) == 0)
		return 0;
	if (r->found.count[slot] > 1)
		found(c, "object-number", mailbox, m->entry.uid, number, "two objects have the number %llu", (unsigned long long)number);
	memcpy(r->hashes[slot], hash, sizeof r->hashes[slot]);
	return check_object(c, &m->detail, mailbox, e);
}

/* ---- every record ---- */

static uint32_t
key_mailbox(struct slice key)
{
	struct cursor k = cursor_of(slice_sub(key, 1, key.n));

	return cursor_u32(&k);
}

static void
unreadable(struct check *c, const char *what)
{
	bool of_mailbox = strchr("MKEDT", c->cursor.key.p[0]) != NULL && c->cursor.key.n >= 5;
	char hex[2 * FORMAT_KEY_BYTES_MAX + 1] = "";

	slice_hex(slice_sub(c->cursor.key, 0, FORMAT_KEY_BYTES_MAX), hex);
	found(c, "record-unreadable", of_mailbox ? key_mailbox(c->cursor.key) : 0, 0, NO_OBJECT, "%s cannot be read (key %s)", what,
	    hex);
}

static void
on_refs(struct check *c)
{
	struct cursor k = cursor_of(slice_sub(c->cursor.key, 1, c->cursor.key.n));
	struct refs *r;

	if (c->refs_count == c->refs_cap) {
		c->refs_cap = c->refs_cap ? c->refs_cap * 2 : 16;
		c->refs = mem_resize(c->refs, c->refs_cap, sizeof *c->refs);
	}
	r = &c->refs[c->refs_count];
	memset(r, 0, sizeof *r);
	r->first = cursor_u64(&k);
	if (!cursor_done(&k) || r->first % FORMAT_REFS_MAX != 0 || !format_refs_get(c->cursor.key, c->cursor.value, &r->said)) {
		unreadable(c, "a record of references");
		/* What belongs to it cannot be compared; the message walk says so once more. */
		return;
	}
	c->refs_count++;
}

static void
on_garbage(struct check *c, struct slice payload)
{
	struct cursor k = cursor_of(slice_sub(c->cursor.key, 1, c->cursor.key.n));
	uint64_t number = cursor_u64(&k);

	if (!cursor_done(&k) || payload.n != STORE_OBJECT_ID_BYTES || object_number(payload.p) != number) {
		unreadable(c, "a record of garbage");
		return;
	}
	if (c->garbage_count == c->garbage_cap) {
		c->garbage_cap = c->garbage_cap ? c->garbage_cap * 2 : 64;
		c->garbage = mem_resize(c->garbage, c->garbage_cap, sizeof *c->garbage);
	}
	c->garbage[c->garbage_count++] = number;
}

static void
on_tombstones(struct check *c, struct slice payload)
{
	const struct image_mailbox *mb = image_mailbox(&c->table, key_mailbox(c->cursor.key));
	struct cursor k = cursor_of(slice_sub(c->cursor.key, 5, c->cursor.key.n));
	uint64_t modseq = cursor_u64(&k);
	struct uidset set = {.n = 0};

	(void)cursor_u32(&k);
	if (!cursor_done(&k) || !uidset_get(payload, &set) || set.n == 0 || set.n > FORMAT_TOMBSTONE_RANGES_MAX)
		unreadable(c, "a record of tombstones");
	else if (mb == NULL)
		found(c, "mailbox-unknown", 0, 0, NO_OBJECT, "tombstones of mailbox %u, which does not exist", key_mailbox(c->cursor.key));
	else if (modseq > mb->m.highestmodseq || set.ranges[set.n - 1].last >= mb->m.uidnext)
		found(c, "marks", mb->m.number, 0, NO_OBJECT, "tombstones above the marks of their mailbox");
	uidset_fini(&set);
}

static void
on_request(struct check *c)
{
	struct cursor k = cursor_of(slice_sub(c->cursor.key, 1, c->cursor.key.n));
	struct format_request r;
	unsigned ring = cursor_u8(&k);
	uint32_t slot = cursor_u32(&k);

	if (!cursor_done(&k) || ring >= FORMAT_RINGS || !format_request_get(c->cursor.key, c->cursor.value, &r) ||
	    slot >= (ring == INDEX_RING_DELIVERY ? INDEX_RING_DELIVERY_SLOTS : INDEX_RING_WORKER_SLOTS))
		unreadable(c, "a remembered request");
}

static void
on_chunk(struct check *c)
{
	uint32_t mailbox = key_mailbox(c->cursor.key);

	/* What is in it is looked at with its mailbox. */
	if (image_mailbox(&c->table, mailbox) == NULL)
		found(c, "mailbox-unknown", 0, 0, NO_OBJECT, "messages of mailbox %u, which does not exist", mailbox);
}

/* One record of any table but those that wait for the messages. 1: there are more; 0; -1. */
static int
record_more(struct check *c, struct err *e)
{
	struct format_key first = format_key((enum format_table)0);
	int r = c->cursor_begun ? snapshot_next(c->snapshot, &c->cursor, e)
				: snapshot_seek(c->snapshot, &c->cursor, format_key_slice(&first), e);
	struct cursor payload;
	unsigned count;

	if (r <= 0)
		return r;
	c->cursor_begun = true;
	if (!format_check(c->cursor.key, c->cursor.value, &count, &payload)) {
		unreadable(c, "a record");
		return 1;
	}
	struct slice rest = slice_of(payload.p, cursor_left(&payload));

	switch (c->cursor.key.p[0]) {
	case FORMAT_ACCOUNT:
	case FORMAT_MAILBOX:
	case FORMAT_KEYWORDS:
	case FORMAT_EXPUNGED:
		break;
	case FORMAT_ENTRIES:
	case FORMAT_DETAILS:
		on_chunk(c);
		break;
	case FORMAT_REFS:
		on_refs(c);
		break;
	case FORMAT_GARBAGE:
		on_garbage(c, rest);
		break;
	case FORMAT_TOMBSTONES:
		on_tombstones(c, rest);
		break;
	case FORMAT_REQUEST:
		on_request(c);
		break;
	default:
		unreadable(c, "a record of an unknown table");
	}
	return 1;
}

/* ---- mailboxes ---- */

static void
check_marks(struct check *c, const struct format_mailbox *m)
{
	if (m->highestmodseq > c->account.modseq || m->uidvalidity >= c->account.next_uidvalidity ||
	    m->number >= c->account.next_mailbox || m->tombstone_floor > m->highestmodseq)
		found(c, "marks", m->number, 0, NO_OBJECT, "the mailbox's marks are above the account's");
}

static int
name_cmp(const void *a, const void *b)
{
	const struct image_mailbox *const *x = a, *const *y = b;

	return slice_cmp((*x)->m.name, (*y)->m.name);
}

static void
check_names(struct check *c)
{
	const struct image_mailbox **list = mem_new_array(c->table.mailbox_count + 1, sizeof *list);
	size_t n = 0;

	for (size_t i = 0; i < c->table.mailbox_count; i++)
		if (c->table.mailboxes[i].m.gone_at == 0)
			list[n++] = &c->table.mailboxes[i];
	qsort(list, n, sizeof *list, name_cmp);
	for (size_t i = 1; i < n; i++)
		if (slice_eq(list[i]->m.name, list[i - 1]->m.name))
			found(c, "names", list[i]->m.number, 0, NO_OBJECT, "two mailboxes have one name");
	free(list);
}

/* The table is small and read at once. */
static int
read_mailboxes(struct check *c, struct err *e)
{
	struct format_key first = format_key(FORMAT_MAILBOX), account = format_key(FORMAT_ACCOUNT);
	struct format_mailbox m;
	int r = snapshot_seek(c->snapshot, &c->cursor, format_key_slice(&first), e);

	for (; r == 1 && c->cursor.key.p[0] == FORMAT_MAILBOX; r = snapshot_next(c->snapshot, &c->cursor, e)) {
		if (format_mailbox_get(c->cursor.key, c->cursor.value, &m))
			(void)image_add_mailbox(&c->table, &m);
		else
			unreadable(c, "a mailbox");
	}
	first = format_key(FORMAT_KEYWORDS);
	if (r >= 0)
		r = snapshot_seek(c->snapshot, &c->cursor, format_key_slice(&first), e);
	for (; r == 1 && c->cursor.key.p[0] == FORMAT_KEYWORDS; r = snapshot_next(c->snapshot, &c->cursor, e)) {
		struct image_mailbox *mb = image_mailbox(&c->table, key_mailbox(c->cursor.key));
		struct cursor payload;
		unsigned count;

		if (mb != NULL && format_check(c->cursor.key, c->cursor.value, &count, &payload))
			buf_put(&mb->keywords, payload.p, cursor_left(&payload));
		else
			unreadable(c, "the keywords of a mailbox");
	}
	if (r >= 0)
		r = snapshot_seek(c->snapshot, &c->cursor, format_key_slice(&account), e);
	if (r == 1 && !format_account_get(c->cursor.value, &c->account))
		unreadable(c, "the account");
	snapshot_pause(&c->cursor);
	c->expunged = mem_new_array(c->table.mailbox_count + 1, sizeof *c->expunged);
	for (size_t i = 0; i < c->table.mailbox_count; i++)
		check_marks(c, &c->table.mailboxes[i].m);
	check_names(c);
	return r < 0 ? -1 : 0;
}

/* ---- messages ---- */

static void
end_mailbox(struct check *c, const struct format_mailbox *m)
{
	const struct sums *s = &c->sums;

	if (s->messages != m->messages || s->unseen != m->unseen || s->deleted != m->deleted || s->bytes != m->bytes)
		found(c, "counts", m->number, 0, NO_OBJECT,
		    "the mailbox says %u messages, %u unseen, %u with \\Deleted, %llu octets, and has %u, %u, %u, %llu", m->messages,
		    m->unseen, m->deleted, (unsigned long long)m->bytes, s->messages, s->unseen, s->deleted,
		    (unsigned long long)s->bytes);
	struct quota *sum = m->gone_at != 0 ? &c->retained : &c->usage;

	*sum = quota_add(*sum, (struct quota){s->bytes, s->messages});
	snapshot_messages_close(&c->walk);
	c->walking = false;
	c->at++;
}

static int
on_message(struct check *c, const struct image_mailbox *mb, const struct format_message *m, struct err *e)
{
	uint64_t bits = m->entry.keywords;
	uint32_t uid = m->entry.uid;

	if (uid <= c->last_uid)
		found(c, "order", mb->m.number, uid, NO_OBJECT, "a message out of order");
	if (uid >= mb->m.uidnext || m->entry.modseq > mb->m.highestmodseq)
		found(c, "marks", mb->m.number, uid, NO_OBJECT, "a message above its mailbox's marks");
	if (!mb->m.selectable)
		found(c, "marks", mb->m.number, uid, NO_OBJECT, "a message in what is no mailbox");
	for (; bits != 0; bits &= bits - 1)
		if (slice_empty(store_keyword_name(buf_slice(&mb->keywords), (unsigned)__builtin_ctzll(bits))))
			found(c, "keywords", mb->m.number, uid, NO_OBJECT, "a message with a keyword that has no name");
	c->last_uid = uid;
	c->sums.messages++;
	c->sums.unseen += (m->entry.flags & STORE_FLAG_SEEN) == 0;
	c->sums.deleted += (m->entry.flags & STORE_FLAG_DELETED) != 0;
	c->sums.bytes += m->detail.size;
	c->done++;
	return refer(c, m, mb->m.number, e);
}

/* What is kept for undelete, a record at a time, behind the mailboxes. */
static int
expunged_more(struct check *c, struct err *e)
{
	struct format_key first = format_key(FORMAT_EXPUNGED);
	struct format_expunged x;
	int r = c->cursor_begun ? snapshot_next(c->snapshot, &c->cursor, e)
				: snapshot_seek(c->snapshot, &c->cursor, format_key_slice(&first), e);

	if (r <= 0 || c->cursor.key.p[0] != FORMAT_EXPUNGED)
		return r < 0 ? -1 : 0;
	c->cursor_begun = true;
	if (!format_expunged_get(c->cursor.key, c->cursor.value, &x)) {
		unreadable(c, "a record of expunged messages");
		return 1;
	}
	const struct image_mailbox *mb = image_mailbox(&c->table, x.mailbox);

	if (mb == NULL)
		found(c, "mailbox-unknown", 0, 0, NO_OBJECT, "expunged messages of mailbox %u, which does not exist", x.mailbox);
	else
		c->expunged[mb - c->table.mailboxes] += x.n;
	c->done += x.n;
	for (unsigned i = 0; r == 1 && i < x.n; i++) {
		c->retained = quota_add(c->retained, (struct quota){x.m[i].detail.size, 1});
		/* An object of them is hashed at once: at most ten, and the next step begins behind them. */
		while (r == 1 && c->fd >= 0)
			r = hash_more(c, e) < 0 ? -1 : 1;
		if (r == 1 && refer(c, &x.m[i], x.mailbox, e) < 0)
			r = -1;
	}
	return r;
}

/* One message: 1, 0 when all mailboxes are through, -1. */
static int
message_more(struct check *c, struct err *e)
{
	const struct image_mailbox *mb;
	struct format_message m;
	int r;

	if (c->at == c->table.mailbox_count)
		return expunged_more(c, e);
	mb = &c->table.mailboxes[c->at];
	if (!c->walking) {
		snapshot_messages_begin(&c->walk, mb->m.number);
		c->walking = true;
		c->last_uid = 0;
		c->sums = (struct sums){0};
	}
	r = snapshot_messages_next(c->snapshot, &c->walk, &m, e);
	switch (r) {
	case SNAPSHOT_END:
		end_mailbox(c, &mb->m);
		return 1;
	case SNAPSHOT_MESSAGE:
		return on_message(c, mb, &m, e) < 0 ? -1 : 1;
	case SNAPSHOT_DAMAGED:
		found(c, "record-unreadable", mb->m.number, 0, NO_OBJECT, "a chunk of messages cannot be read");
		return 1;
	case SNAPSHOT_ENTRY_ONLY:
	case SNAPSHOT_DETAIL_ONLY:
		found(c, "halves", mb->m.number, r == SNAPSHOT_ENTRY_ONLY ? m.entry.uid : m.detail.uid, NO_OBJECT,
		    "of a message there is only %s", r == SNAPSHOT_ENTRY_ONLY ? "the entry" : "the detail");
		return 1;
	default:
		return -1;
	}
}

static void
check_sum(struct check *c, const char *what, struct quota counted, struct quota said)
{
	if (counted.messages != said.messages || counted.bytes != said.bytes)
		found(c, "usage", 0, 0, NO_OBJECT, "the account says that it %s %llu messages, %llu octets, and it is %llu, %llu", what,
		    (unsigned long long)said.messages, (unsigned long long)said.bytes, (unsigned long long)counted.messages,
		    (unsigned long long)counted.bytes);
}

static void
check_sums(struct check *c)
{
	check_sum(c, "has", c->usage, (struct quota){c->account.bytes, c->account.messages});
	check_sum(c, "retains", c->retained, (struct quota){c->account.retained_bytes, c->account.retained_messages});
	for (size_t i = 0; i < c->table.mailbox_count; i++)
		if (c->expunged[i] != c->table.mailboxes[i].m.retained)
			found(c, "counts", c->table.mailboxes[i].m.number, 0, NO_OBJECT,
			    "the mailbox says that %u messages of it are retained, and it is %u", c->table.mailboxes[i].m.retained,
			    c->expunged[i]);
	for (size_t i = 0; i < c->refs_count; i++)
		for (unsigned k = 0; k < FORMAT_REFS_MAX; k++) {
			const struct refs *r = &c->refs[i];

			if (r->said.count[k] != r->found.count[k])
				found(c, "references", 0, 0, r->first + k, "object %llu has %u references, and %u are counted",
				    (unsigned long long)(r->first + k), r->found.count[k], r->said.count[k]);
		}
}

/* ---- files ---- */

static bool
is_garbage(const struct check *c, uint64_t number)
{
	size_t low = 0, high = c->garbage_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (c->garbage[mid] < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low < c->garbage_count && c->garbage[low] == number;
}

static int
on_file(void *arg, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e)
{
	struct check *c = arg;
	uint64_t number = object_number(id);
	const struct refs *r = refs_of(c, number);

	(void)e;
	unsigned slot = (unsigned)(number % FORMAT_REFS_MAX);
	bool known = r != NULL && r->found.count[slot] > 0 && memcmp(r->hashes[slot], id + 8, sizeof r->hashes[slot]) == 0;

	/* What was stored since the beginning has a higher number. */
	if (number < c->account.next_object && !known && !is_garbage(c, number))
		found(c, "file-unknown", 0, 0, number, "no message refers to the file of object %llu", (unsigned long long)number);
	return 0;
}

/* ---- steps ---- */

/* One piece of the phase at hand: 1 when it goes on, 0 when it is over, -1. */
static int
piece(struct check *c, struct err *e)
{
	if (c->fd >= 0)
		return hash_more(c, e) < 0 ? -1 : 1;
	switch (c->phase) {
	case PHASE_MAILBOXES:
		return read_mailboxes(c, e);
	case PHASE_RECORDS:
		return record_more(c, e);
	case PHASE_MESSAGES:
		return message_more(c, e);
	case PHASE_SUMS:
		check_sums(c);
		return 0;
	case PHASE_FILES:
		if (!c->deep || c->at == OBJECT_SHARDS)
			return 0;
		return object_each_of(c->ix->root, (unsigned)c->at++, on_file, c, e) < 0 ? -1 : 1;
	case PHASE_DONE:
		break;
	}
	return 0;
}

int
check_step(struct check *c, unsigned ms, struct err *e)
{
	uint64_t until = clock_ms() + ms;
	int r = 1;

	while (r >= 0 && c->phase != PHASE_DONE) {
		r = piece(c, e);
		if (r == 0) {
			c->phase++;
			c->cursor_begun = false;
			c->at = 0;
		}
		if (clock_ms() >= until)
			break;
	}
	snapshot_pause(&c->cursor);
	snapshot_messages_pause(&c->walk);
	return r < 0 ? -1 : c->phase != PHASE_DONE;
}

/* ---- all at once ---- */

struct first {
	bool any;
	struct err *e;
};

static void
on_first(void *arg, const struct check_finding *f)
{
	struct first *first = arg;

	if (!first->any)
		err_set(first->e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "check: %.*s: %.*s", SLICE_ARG(f->code),
		    SLICE_ARG(f->text));
	first->any = true;
}

int
index_check(struct index *ix, struct err *e)
{
	struct err failure;
	struct first first = {.e = e};
	struct check *c = check_begin(ix, false, on_first, &first);
	int r;

	while ((r = check_step(c, UINT32_MAX, &failure)) > 0)
		;
	check_free(&c);
	if (r < 0 && !first.any && e != NULL)
		*e = failure;
	return r < 0 || first.any ? -1 : 0;
}
