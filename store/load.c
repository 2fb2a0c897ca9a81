#include "store/load.h"

#include "common/mem.h"
#include "store/object.h"
#include "store/rebuild.h"

#include <assert.h>

#define RECORDS_PER_TRANSACTION 500u

struct loader {
	const struct image *im;
	struct env *env;
	struct buf value;
	uint32_t *retained; /* of each mailbox of the image: how many of its messages are expunged ones */
	unsigned pending; /* records in the running transaction */
	struct err *e;
};

/* ---- objects ---- */

static int
object_cmp(const void *a, const void *b)
{
	const struct load_object *x = a, *y = b;

	return memcmp(x->id, y->id, sizeof x->id);
}

static void
add_object(struct load_object *list, size_t *n, const struct format_detail *d)
{
	list[*n] = (struct load_object){.size = d->size, .count = 1};
	memcpy(list[(*n)++].id, d->object_id, sizeof d->object_id);
}

struct load_object *
load_objects(const struct image *im, size_t *count_r)
{
	size_t all = im->expunged_count, n = 0, kept = 0;
	struct load_object *list;

	for (size_t i = 0; i < im->mailbox_count; i++)
		all += im->mailboxes[i].message_count;
	list = mem_new_array(all + 1, sizeof *list);
	for (size_t i = 0; i < im->mailbox_count; i++)
		for (size_t k = 0; k < im->mailboxes[i].message_count; k++)
			add_object(list, &n, &im->mailboxes[i].messages[k].detail);
	for (size_t i = 0; i < im->expunged_count; i++)
		add_object(list, &n, &im->expunged[i].m.detail);
	qsort(list, n, sizeof *list, object_cmp);
	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && object_cmp(&list[kept - 1], &list[i]) == 0)
			list[kept - 1].count++;
		else
			list[kept++] = list[i];
	}
	*count_r = kept;
	return list;
}

/* ---- records ---- */

static int
put(struct loader *l, const struct format_key *key)
{
	if (l->value.failed)
		return err_set(l->e, ERR_PERM, ERR_CODE_TOO_BIG, "too big", "a record passes its maximum");
	if (l->pending == 0 && env_begin(l->env, l->im->account.serial, l->e) < 0)
		return -1;
	l->pending++;
	if (env_put(l->env, format_key_slice(key), buf_slice(&l->value), slice_of(NULL, 0), l->e) < 0)
		return -1;
	if (l->pending < RECORDS_PER_TRANSACTION)
		return 0;
	l->pending = 0;
	return env_commit(l->env, l->e);
}

static int
put_account(struct loader *l)
{
	struct format_key key = format_key(FORMAT_ACCOUNT);
	struct format_account a = l->im->account;

	a.messages = a.bytes = 0;
	a.retained_messages = l->im->expunged_count;
	a.retained_bytes = 0;
	for (size_t i = 0; i < l->im->expunged_count; i++)
		a.retained_bytes += l->im->expunged[i].m.detail.size;
	for (size_t i = 0; i < l->im->mailbox_count; i++) {
		const struct image_mailbox *mb = &l->im->mailboxes[i];
		bool gone = mb->m.gone_at != 0;

		*(gone ? &a.retained_messages : &a.messages) += mb->message_count;
		for (size_t k = 0; k < mb->message_count; k++)
			*(gone ? &a.retained_bytes : &a.bytes) += mb->messages[k].detail.size;
	}
	format_account_put(&l->value, &a);
	return put(l, &key);
}

static int
put_mailbox(struct loader *l, const struct image_mailbox *mb)
{
	struct format_key key = format_key_u32(FORMAT_MAILBOX, mb->m.number);
	struct format_key keywords = format_key_u32(FORMAT_KEYWORDS, mb->m.number);
	struct format_mailbox m = mb->m;

	m.messages = (uint32_t)mb->message_count;
	m.retained = l->retained[mb - l->im->mailboxes];
	m.unseen = m.deleted = 0;
	m.bytes = 0;
	for (size_t i = 0; i < mb->message_count; i++) {
		m.unseen += (mb->messages[i].entry.flags & STORE_FLAG_SEEN) == 0;
		m.deleted += (mb->messages[i].entry.flags & STORE_FLAG_DELETED) != 0;
		m.bytes += mb->messages[i].detail.size;
	}
	format_mailbox_put(&l->value, &m);
	if (put(l, &key) < 0)
		return -1;
	if (mb->keywords.n == 0)
		return 0;
	format_begin(&l->value, FORMAT_KEYWORDS, 0);
	buf_put_slice(&l->value, buf_slice(&mb->keywords));
	format_end(&l->value, format_key_slice(&keywords));
	return put(l, &keywords);
}

static int
put_entries(struct loader *l, const struct image_mailbox *mb)
{
	struct format_entries chunk;
	int failed = 0;

	for (size_t at = 0; failed == 0 && at < mb->message_count; at += chunk.n) {
		struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, mb->m.number, mb->messages[at].entry.uid);

		for (chunk.n = 0; chunk.n < FORMAT_ENTRIES_MAX && at + chunk.n < mb->message_count; chunk.n++)
			chunk.e[chunk.n] = mb->messages[at + chunk.n].entry;
		format_entries_put(&l->value, format_key_slice(&key), &chunk);
		failed = put(l, &key);
	}
	return failed;
}

static int
put_details(struct loader *l, const struct image_mailbox *mb)
{
	struct format_details chunk;
	int failed = 0;

	for (size_t at = 0; failed == 0 && at < mb->message_count; at += chunk.n) {
		struct format_key key = format_key_u32_u32(FORMAT_DETAILS, mb->m.number, mb->messages[at].entry.uid);

		for (chunk.n = 0; chunk.n < FORMAT_DETAILS_MAX && at + chunk.n < mb->message_count; chunk.n++)
			chunk.d[chunk.n] = mb->messages[at + chunk.n].detail;
		format_details_put(&l->value, format_key_slice(&key), &chunk);
		failed = put(l, &key);
	}
	return failed;
}

static int
put_tombstones(struct loader *l, const struct image_mailbox *mb)
{
	struct uid_range ranges[FORMAT_TOMBSTONE_RANGES_MAX];
	struct uidset part = {.ranges = ranges};
	uint64_t modseq = 0;
	uint32_t piece = 0;
	int failed = 0;

	for (size_t at = 0; failed == 0 && at < mb->tombstone_count; at += part.n, piece++) {
		if (at == 0 || mb->tombstones[at].modseq != modseq)
			piece = 0;
		modseq = mb->tombstones[at].modseq;
		for (part.n = 0; part.n < FORMAT_TOMBSTONE_RANGES_MAX && at + part.n < mb->tombstone_count; part.n++) {
			if (mb->tombstones[at + part.n].modseq != modseq)
				break;
			ranges[part.n] = mb->tombstones[at + part.n].uids;
		}
		struct format_key key = format_key_tombstones(mb->m.number, modseq, piece);

		format_begin(&l->value, FORMAT_TOMBSTONES, (unsigned)part.n);
		uidset_put(&l->value, &part);
		format_end(&l->value, format_key_slice(&key));
		failed = put(l, &key);
	}
	return failed;
}

/* Their order is kept by the number of the piece: the serials of the transactions that expunged them are not known. */
static int
put_expunged(struct loader *l)
{
	const struct image *im = l->im;
	struct format_expunged x;
	uint64_t time = 0;
	uint32_t piece = 0;
	int failed = 0;

	for (size_t at = 0; failed == 0 && at < im->expunged_count; at += x.n, piece++) {
		const struct image_expunged *first = &im->expunged[at];

		if (at == 0 || first->time != time)
			piece = 0;
		time = first->time;
		x = (struct format_expunged){.mailbox = first->mailbox};
		while (x.n < FORMAT_EXPUNGED_MAX && at + x.n < im->expunged_count && im->expunged[at + x.n].time == time &&
		    im->expunged[at + x.n].mailbox == x.mailbox) {
			x.m[x.n] = im->expunged[at + x.n].m;
			x.n++;
		}
		struct format_key key = format_key_expunged(time, 0, piece);

		format_expunged_put(&l->value, format_key_slice(&key), &x);
		failed = put(l, &key);
	}
	return failed;
}

static int
put_refs(struct loader *l)
{
	size_t n, at = 0;
	struct load_object *list = load_objects(l->im, &n);
	int failed = 0;

	while (failed == 0 && at < n) {
		uint64_t number = object_number(list[at].id), first = number - number % FORMAT_REFS_MAX;
		struct format_key key = format_key_u64(FORMAT_REFS, first);
		struct format_refs refs = {{0}};

		for (; at < n && object_number(list[at].id) - first < FORMAT_REFS_MAX; at++)
			refs.count[object_number(list[at].id) - first] += list[at].count;
		format_refs_put(&l->value, format_key_slice(&key), &refs);
		failed = put(l, &key);
	}
	free(list);
	return failed;
}

static int
fill(void *arg, struct env *env, struct err *e)
{
	struct loader *l = arg;
	const struct image *im = l->im;
	int failed;

	l->env = env;
	l->e = e;
	failed = put_account(l);
	for (size_t i = 0; failed == 0 && i < im->mailbox_count; i++)
		failed = put_mailbox(l, &im->mailboxes[i]);
	for (size_t i = 0; failed == 0 && i < im->mailbox_count; i++)
		failed = put_entries(l, &im->mailboxes[i]);
	for (size_t i = 0; failed == 0 && i < im->mailbox_count; i++)
		failed = put_details(l, &im->mailboxes[i]);
	for (size_t i = 0; failed == 0 && i < im->mailbox_count; i++)
		failed = put_tombstones(l, &im->mailboxes[i]);
	if (failed == 0)
		failed = put_refs(l) < 0 || put_expunged(l) < 0;
	if (failed == 0 && l->pending > 0)
		failed = env_commit(env, e);
	env_abort(env);
	return failed ? -1 : 0;
}

int
load_image(const char *root, const struct image *im, uint64_t time, struct err *e)
{
	struct loader l = {.im = im, .retained = mem_new_array(im->mailbox_count + 1, sizeof(uint32_t))};
	int failed;

	for (size_t i = 0; i < im->expunged_count; i++)
		l.retained[image_mailbox(im, im->expunged[i].mailbox) - im->mailboxes]++;
	buf_init(&l.value, FORMAT_VALUE_BYTES_MAX);
	failed = rebuild_create(root, fill, &l, im->account.serial, time, e);
	buf_fini(&l.value);
	free(l.retained);
	return failed;
}
