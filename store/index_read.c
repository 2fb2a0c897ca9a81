/*
 * Views and fetches. What they show was committed, perhaps not yet flushed: the
 * caller sends answers only after index_flush().
 */
#include "store/index_private.h"

#include "common/mem.h"
#include "common/summary.h"
#include "store/object.h"
#include "store/record.h"

#include <unistd.h>

struct viewing {
	struct format_key prefix;
	index_view_fn *fn;
	void *arg;
	uint32_t last; /* UID given */
	bool refused;
	struct format_entries chunk;
};

static bool
view_chunk(void *arg, struct slice key, struct slice value)
{
	struct viewing *v = arg;

	if (!slice_starts(key, format_key_slice(&v->prefix)))
		return false;
	if (!format_entries_get(key, value, &v->chunk) || v->chunk.e[0].uid <= v->last) {
		v->refused = true;
		return false;
	}
	v->last = v->chunk.e[v->chunk.n - 1].uid;
	return v->fn(v->arg, v->chunk.e, v->chunk.n);
}

int
index_view(struct index *ix, uint32_t mailbox, index_view_fn *fn, void *arg, struct err *e)
{
	struct viewing v = {.prefix = format_key_u32(FORMAT_ENTRIES, mailbox), .fn = fn, .arg = arg};

	if (index_mailbox_open(ix, mailbox, e) == NULL)
		return -1;
	if (env_scan(ix->env, format_key_slice(&v.prefix), view_chunk, &v, e) < 0)
		return index_failed(ix);
	return v.refused ? env_refuse(ix->env, "a chunk of messages", e) : 0;
}

/* The detail of uid; w is at the chunk of the one before, or not yet anywhere (r = 1 first). */
static int
find_detail(struct walk *w, int *r, uint32_t uid, struct format_detail *detail_r, struct err *e)
{
	while (*r == 1 && w->last < uid)
		*r = walk_next(w, e);
	for (unsigned i = 0; *r == 1 && i < w->details.n; i++) {
		if (w->details.d[i].uid == uid) {
			*detail_r = w->details.d[i];
			return 0;
		}
	}
	return *r < 0 ? -1 : env_refuse(w->ix->env, "a message without details", e);
}

static void
fill_record(struct store_record *out, const struct store_entry *entry, const struct format_detail *d)
{
	*out = (struct store_record){
	    .uid = entry->uid,
	    .flags = entry->flags,
	    .keywords = entry->keywords,
	    .modseq = entry->modseq,
	    .internal_date = d->internal_date,
	    .zone_minutes = d->zone_minutes,
	    .save_date = d->save_date,
	    .size = d->size,
	    .thread = d->thread,
	    .ascii_headers = d->ascii_headers,
	};
	memcpy(out->object_id, d->object_id, sizeof out->object_id);
}

static int
take_object(struct index *ix, struct index_fetch *f, const struct format_detail *d, size_t before, struct err *e)
{
	int fd = object_open(ix->root, d->object_id, d->size, e);

	if (fd >= 0) {
		f->objects[f->count] = fd;
		return 1;
	}
	/* A damaged one ends the batch before it, so that the others can be had. */
	f->records->n = before;
	return f->count > 0 ? 0 : -1;
}

/* Appends one message to the answer. 1: done; 0: it does not fit any more; -1. */
static int
fetch_one(struct index *ix, struct index_fetch *f, const struct store_entry *entry, const struct format_detail *d,
    struct buf *summary, struct err *e)
{
	struct store_record out;
	size_t before = f->records->n;

	if ((f->want & STORE_WANT_OBJECT) && f->count == STORE_OBJECTS_MAX)
		return 0;
	fill_record(&out, entry, d);
	buf_reset(summary);
	if ((f->want & STORE_WANT_SUMMARY) && env_summary_get(ix->env, object_number(d->object_id), summary, e) < 0)
		return index_failed(ix);
	out.summary = buf_slice(summary);
	if (!store_record_put(f->records, &out)) {
		f->records->failed = false;
		f->records->n = before;
		return f->count > 0 ? 0 : err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big", "a record of one message");
	}
	int r = f->want & STORE_WANT_OBJECT ? take_object(ix, f, d, before, e) : 1;

	f->count += r == 1;
	return r;
}

static int
fetch_chunk(struct index *ix, struct index_fetch *f, struct walk *w, struct walk *details, int *at, struct buf *summary,
    struct err *e)
{
	for (unsigned i = 0; i < w->entries.n; i++) {
		const struct store_entry *entry = &w->entries.e[i];
		struct format_detail d = {0};
		int r;

		if (!walk_wants(w, entry->uid))
			continue;
		if (f->want != 0 && find_detail(details, at, entry->uid, &d, e) < 0)
			return -1;
		r = fetch_one(ix, f, entry, &d, summary, e);
		if (r <= 0) {
			f->next_uid = r == 0 ? entry->uid : 0;
			return r;
		}
	}
	return 1;
}

int
index_fetch(struct index *ix, struct index_fetch *f, struct err *e)
{
	struct walk w, details;
	struct buf summary;
	int r, at;

	f->count = f->next_uid = 0;
	if (index_mailbox_open(ix, f->mailbox, e) == NULL)
		return -1;
	buf_init(&summary, STORE_SUMMARY_BYTES_MAX + FORMAT_HEADER_BYTES);
	r = walk_open(&w, ix, FORMAT_ENTRIES, f->mailbox, f->uids, e) < 0 ? -1 : walk_first(&w, e);
	at = walk_open(&details, ix, FORMAT_DETAILS, f->mailbox, f->uids, e);
	if (at == 0 && f->want != 0)
		at = walk_first(&details, e);
	if (at < 0)
		r = -1;
	while (r == 1) {
		r = fetch_chunk(ix, f, &w, &details, &at, &summary, e);
		if (r == 1)
			r = walk_next(&w, e);
	}
	walk_close(&w);
	walk_close(&details);
	buf_fini(&summary);
	if (r == 0)
		return 0;
	for (uint32_t i = 0; (f->want & STORE_WANT_OBJECT) && i < f->count; i++)
		(void)close(f->objects[i]);
	f->count = 0;
	return index_failed(ix);
}

/* The message's detail says what its new summary does. */
static int
note_ascii_headers(struct index *ix, uint32_t mailbox, const struct uidset *uid, struct err *e)
{
	struct walk w;
	int r = walk_open(&w, ix, FORMAT_DETAILS, mailbox, uid, e) < 0 ? -1 : walk_first(&w, e);

	for (unsigned i = 0; r == 1 && i < w.details.n; i++) {
		if (w.details.d[i].uid != uid->ranges[0].first)
			continue;
		w.details.d[i].ascii_headers = true;
		r = walk_save(&w, e) < 0 ? -1 : 0;
	}
	walk_close(&w);
	return r < 0 ? index_failed(ix) : 0;
}

int
index_summary(struct index *ix, uint32_t mailbox, uint32_t uid, const uint8_t sha256[STORE_SHA256_BYTES],
    struct slice summary, struct err *e)
{
	struct uid_range range = {uid, uid};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	uint8_t id[STORE_OBJECT_ID_BYTES];
	struct message_list l = {0};
	uint64_t object;
	int failed;

	if (uid == 0 || index_mailbox_open(ix, mailbox, e) == NULL)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such message", NULL);
	failed = messages_collect(ix, mailbox, &set, &l, e);
	if (failed == 0 && l.n == 0)
		failed = err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such message", NULL);
	if (failed == 0) {
		object = object_number(l.m[0].detail.object_id);
		object_id(object, sha256, id);
		if (memcmp(id, l.m[0].detail.object_id, sizeof id) != 0)
			failed = err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "a summary of another message");
		else if (env_summary_put(ix->env, object, summary, e) < 0)
			failed = index_failed(ix);
	}
	if (failed == 0 && summary_headers_ascii(summary) && !l.m[0].detail.ascii_headers)
		failed = note_ascii_headers(ix, mailbox, &set, e);
	message_list_fini(&l);
	return failed;
}
