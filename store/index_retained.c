/*
 * The list of what may come back: first the records of expunged messages in the
 * order of time, then the deleted mailboxes in the order of their numbers. A
 * batch ends when it is full, or when so much was looked through that others
 * should have their turn; its end is a place that stays good whatever is taken out meanwhile.
 */
#include "store/index_private.h"

#include "store/object.h"

#include <unistd.h>

/* Records of expunged messages, or chunks of deleted mailboxes, looked through for one batch. */
#define LOOKED_AT_MAX 4096u

enum phase { PHASE_EXPUNGED = 0, PHASE_DELETED = 1, PHASE_END = 2 };

struct place {
	uint32_t phase;
	uint64_t time; /* of a record of expunged messages: its key, and its first UID that was not yet listed */
	uint64_t serial;
	uint32_t piece;
	uint32_t uid; /* of a mailbox: the same; 0: the mailbox itself comes first */
	uint32_t mailbox;
};
_Static_assert(4 + 8 + 8 + 4 + 4 + 4 == STORE_RETAINED_PLACE_BYTES, "place");

struct lister {
	struct index *ix;
	struct index_retained_list *list;
	struct place place;
	struct buf summary;
	unsigned looked_at;
};

static int
place_get(const uint8_t *octets, struct place *p, struct err *e)
{
	struct cursor c = cursor_of(slice_of(octets, STORE_RETAINED_PLACE_BYTES));

	p->phase = cursor_u32(&c);
	p->time = cursor_u64(&c);
	p->serial = cursor_u64(&c);
	p->piece = cursor_u32(&c);
	p->uid = cursor_u32(&c);
	p->mailbox = cursor_u32(&c);
	if (cursor_done(&c) && p->phase <= PHASE_END)
		return 0;
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "no place in a list of what is retained");
}

static void
place_put(const struct place *p, uint8_t *octets)
{
	struct buf b;

	buf_init(&b, STORE_RETAINED_PLACE_BYTES);
	put_u32(&b, p->phase);
	put_u64(&b, p->time);
	put_u64(&b, p->serial);
	put_u32(&b, p->piece);
	put_u32(&b, p->uid);
	put_u32(&b, p->mailbox);
	memcpy(octets, b.p, STORE_RETAINED_PLACE_BYTES);
	buf_fini(&b);
}

static bool
is_meant(const struct lister *l, const struct index_mailbox *mb, uint64_t time)
{
	const struct index_retained_list *list = l->list;

	return time >= list->since && time < list->before &&
	    (slice_empty(list->mailbox) || slice_eq(list->mailbox, mb->m.name));
}

/* 1: it is in the batch; 0: the batch is full; -1. */
static int
add_record(struct lister *l, const struct store_retained *r, struct err *e)
{
	struct buf *b = l->list->records;
	size_t before = b->n;

	if (store_retained_put(b, r)) {
		l->list->count++;
		return 1;
	}
	b->failed = false;
	b->n = before;
	return l->list->count > 0 ? 0 : err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big", "a record of one message");
}

/* The names of a message's keywords, appended to b. */
static void
put_keywords(const struct index_mailbox *mb, uint64_t bits, struct buf *b)
{
	for (; bits != 0; bits &= bits - 1) {
		buf_put_slice(b, store_keyword_name(buf_slice(&mb->keywords), (unsigned)__builtin_ctzll(bits)));
		buf_put_u8(b, '\n');
	}
}

/* As add_record(). A damaged object is left out of the answer, not the message. */
static int
add_message(struct lister *l, const struct index_mailbox *mb, const struct format_message *m, uint64_t time, struct err *e)
{
	struct index_retained_list *list = l->list;
	struct store_retained r = {.mailbox = mb->m.number, .uid = m->entry.uid, .gone = mb->m.gone_at != 0, .time = time,
	    .bytes = m->detail.size, .name = mb->m.name, .flags = m->entry.flags, .internal_date = m->detail.internal_date,
	    .zone_minutes = m->detail.zone_minutes};
	struct buf keywords;
	int fd = -1, got;
	bool object;

	buf_reset(&l->summary);
	if ((list->want & STORE_WANT_SUMMARY) &&
	    env_summary_get(l->ix->env, object_number(m->detail.object_id), &l->summary, e) < 0)
		return index_failed(l->ix);
	object = (list->want & STORE_WANT_OBJECT) || ((list->want & STORE_WANT_SUMMARY) && l->summary.n == 0);
	if (object && list->object_count == STORE_OBJECTS_MAX)
		return 0;
	if (object)
		fd = object_open(l->ix->root, m->detail.object_id, m->detail.size, NULL);
	buf_init(&keywords, INDEX_KEYWORDS_BYTES_MAX);
	put_keywords(mb, m->entry.keywords, &keywords);
	r.keywords = buf_slice(&keywords);
	r.summary = buf_slice(&l->summary);
	r.object = fd >= 0;
	got = add_record(l, &r, e);
	buf_fini(&keywords);
	if (got == 1 && fd >= 0)
		list->objects[list->object_count++] = fd;
	else if (fd >= 0)
		(void)close(fd);
	return got;
}

/* ---- expunged ---- */

/* One record of expunged messages from UID place.uid on. */
static int
list_expunged(struct lister *l, const struct format_expunged *x, struct err *e)
{
	const struct index_mailbox *mb = index_mailbox_get(l->ix, x->mailbox);

	if (mb == NULL)
		return env_refuse(l->ix->env, "an expunged message of no mailbox", e);
	for (unsigned i = 0; i < x->n && is_meant(l, mb, l->place.time); i++) {
		int r = x->m[i].entry.uid >= l->place.uid ? add_message(l, mb, &x->m[i], l->place.time, e) : 1;

		if (r != 1) {
			l->place.uid = x->m[i].entry.uid;
			return r;
		}
	}
	l->place.uid = 0;
	return 1;
}

/* Takes the cursor's key as the place; the UID stays when that is where it was. */
static bool
arrive(struct lister *l, struct slice key)
{
	struct cursor c = cursor_of(key);
	struct place p = {.phase = PHASE_EXPUNGED};

	if (cursor_u8(&c) != FORMAT_EXPUNGED)
		return false;
	p.time = cursor_u64(&c);
	p.serial = cursor_u64(&c);
	p.piece = cursor_u32(&c);
	if (p.time == l->place.time && p.serial == l->place.serial && p.piece == l->place.piece)
		p.uid = l->place.uid;
	l->place = p;
	return p.time < l->list->before;
}

/* 1: all were listed; 0: the batch ends; -1. */
static int
list_all_expunged(struct lister *l, struct err *e)
{
	struct format_key key = format_key_expunged(l->place.time > l->list->since ? l->place.time : l->list->since,
	    l->place.serial, l->place.piece);
	struct format_expunged x;
	struct env_cursor c;
	int r = env_cursor_open(l->ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, format_key_slice(&key), e);

	while (r == 1 && arrive(l, c.key)) {
		if (++l->looked_at > LOOKED_AT_MAX) {
			env_cursor_close(&c);
			return 0;
		}
		r = format_expunged_get(c.key, c.value, &x) ? list_expunged(l, &x, e)
							    : env_refuse(l->ix->env, "a record of expunged messages", e);
		if (r != 1) {
			env_cursor_close(&c);
			return r;
		}
		r = env_cursor_next(&c, e);
	}
	env_cursor_close(&c);
	if (r < 0)
		return -1;
	l->place = (struct place){.phase = PHASE_DELETED};
	return 1;
}

/* ---- deleted mailboxes ---- */

static int
list_mailbox(struct lister *l, const struct index_mailbox *mb, struct err *e)
{
	struct store_retained r = {.mailbox = mb->m.number, .gone = true, .time = mb->m.gone_at, .bytes = mb->m.bytes,
	    .name = mb->m.name, .messages = mb->m.messages, .special_use = mb->m.special_use,
	    .uidvalidity = mb->m.uidvalidity, .subscribed = mb->m.subscribed};

	return add_record(l, &r, e);
}

/* The messages of one chunk of details from place.uid on. */
static int
list_chunk(struct lister *l, const struct index_mailbox *mb, const struct walk *w, struct err *e)
{
	struct uid_range range = {w->details.d[0].uid, w->last};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct message_list messages = {0};
	int r = messages_collect(l->ix, mb->m.number, &set, &messages, e) < 0 ? -1 : 1;

	for (size_t i = 0; r == 1 && i < messages.n; i++) {
		if (messages.m[i].entry.uid < l->place.uid)
			continue;
		l->place.uid = messages.m[i].entry.uid;
		r = add_message(l, mb, &messages.m[i], mb->m.gone_at, e);
	}
	message_list_fini(&messages);
	return r;
}

static int
list_inside(struct lister *l, const struct index_mailbox *mb, struct err *e)
{
	struct uid_range range = {l->place.uid, UINT32_MAX};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct walk w;
	int r = walk_open(&w, l->ix, FORMAT_DETAILS, mb->m.number, &set, e) < 0 ? -1 : walk_first(&w, e);

	while (r == 1) {
		r = ++l->looked_at > LOOKED_AT_MAX ? 0 : list_chunk(l, mb, &w, e);
		if (r != 1) {
			walk_close(&w);
			return r;
		}
		l->place.uid = w.last + 1;
		r = w.last == UINT32_MAX ? 0 : walk_next(&w, e);
	}
	walk_close(&w);
	return r < 0 ? -1 : 1;
}

static int
list_all_deleted(struct lister *l, struct err *e)
{
	int r = 1;

	for (size_t i = 0; r == 1 && i < l->ix->mailbox_count; i++) {
		const struct index_mailbox *mb = l->ix->mailboxes[i];

		if (mb->m.gone_at == 0 || mb->m.number < l->place.mailbox || !is_meant(l, mb, mb->m.gone_at))
			continue;
		if (mb->m.number != l->place.mailbox)
			l->place = (struct place){.phase = PHASE_DELETED, .mailbox = mb->m.number};
		if (l->place.uid == 0) {
			r = list_mailbox(l, mb, e);
			if (r != 1)
				return r;
			l->place.uid = 1;
		}
		r = list_inside(l, mb, e);
	}
	if (r == 1)
		l->place = (struct place){.phase = PHASE_END};
	return r;
}

int
index_retained_list(struct index *ix, struct index_retained_list *list, struct err *e)
{
	struct lister l = {.ix = ix, .list = list};
	int r = 1;

	list->count = list->object_count = 0;
	list->more = false;
	if (place_get(list->place, &l.place, e) < 0)
		return -1;
	buf_init(&l.summary, STORE_SUMMARY_BYTES_MAX + FORMAT_HEADER_BYTES);
	if (l.place.phase == PHASE_EXPUNGED)
		r = list_all_expunged(&l, e);
	if (r == 1 && l.place.phase == PHASE_DELETED)
		r = list_all_deleted(&l, e);
	buf_fini(&l.summary);
	if (r < 0) {
		for (uint32_t i = 0; i < list->object_count; i++)
			(void)close(list->objects[i]);
		list->object_count = 0;
		return index_failed(ix);
	}
	list->more = l.place.phase != PHASE_END;
	place_put(&l.place, list->place);
	return 0;
}
