#include "store/image.h"

#include "common/mem.h"
#include "store/index_private.h"
#include "store/name.h"
#include "store/object.h"

#include <assert.h>

void
image_fini(struct image *im)
{
	for (size_t i = 0; i < im->mailbox_count; i++) {
		free(im->mailboxes[i].name);
		buf_fini(&im->mailboxes[i].keywords);
		free(im->mailboxes[i].tombstones);
		free(im->mailboxes[i].messages);
	}
	free(im->mailboxes);
	free(im->expunged);
	*im = (struct image){.mailbox_count = 0};
}

/* Room for one more element; the new array. */
static void *
grown(void *list, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return list;
	*cap = *cap ? *cap * 2 : 8;
	return mem_resize(list, *cap, size);
}

void
image_rename(struct image_mailbox *mb, struct slice name)
{
	char *copy = mem_copy_str(name.p, name.n);

	free(mb->name);
	mb->name = copy;
	mb->m.name = slice_of(copy, name.n);
}

struct image_mailbox *
image_add_mailbox(struct image *im, const struct format_mailbox *m)
{
	struct image_mailbox *mb;

	im->mailboxes = grown(im->mailboxes, im->mailbox_count, &im->mailbox_cap, sizeof *im->mailboxes);
	mb = &im->mailboxes[im->mailbox_count++];
	*mb = (struct image_mailbox){.m = *m};
	buf_init(&mb->keywords, IMAGE_KEYWORDS_BYTES_MAX);
	image_rename(mb, m->name);
	return mb;
}

struct image_mailbox *
image_mailbox(const struct image *im, uint32_t number)
{
	size_t low = 0, high = im->mailbox_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (im->mailboxes[mid].m.number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low < im->mailbox_count && im->mailboxes[low].m.number == number ? &im->mailboxes[low] : NULL;
}

struct image_mailbox *
image_mailbox_named(const struct image *im, struct slice name)
{
	for (size_t i = 0; i < im->mailbox_count; i++)
		if (im->mailboxes[i].m.gone_at == 0 && slice_eq(im->mailboxes[i].m.name, name))
			return &im->mailboxes[i];
	return NULL;
}

void
image_add_message(struct image_mailbox *mb, const struct format_message *m)
{
	mb->messages = grown(mb->messages, mb->message_count, &mb->message_cap, sizeof *mb->messages);
	mb->messages[mb->message_count++] = *m;
}

void
image_add_tombstone(struct image_mailbox *mb, uint64_t modseq, struct uid_range uids)
{
	mb->tombstones = grown(mb->tombstones, mb->tombstone_count, &mb->tombstone_cap, sizeof *mb->tombstones);
	mb->tombstones[mb->tombstone_count++] = (struct image_tombstone){modseq, uids};
}

void
image_add_expunged(struct image *im, const struct image_expunged *x)
{
	im->expunged = grown(im->expunged, im->expunged_count, &im->expunged_cap, sizeof *im->expunged);
	im->expunged[im->expunged_count++] = *x;
}

int
image_keyword(struct image_mailbox *mb, struct slice name)
{
	int bit = store_keyword_find(buf_slice(&mb->keywords), name);
	unsigned count = 0;

	if (bit >= 0)
		return bit;
	for (size_t i = 0; i < mb->keywords.n; i++)
		count += mb->keywords.p[i] == '\n';
	if (!name_is_keyword(name) || count >= STORE_KEYWORDS_MAX || mb->keywords.n + name.n + 1 > IMAGE_KEYWORDS_BYTES_MAX)
		return -1;
	buf_put_slice(&mb->keywords, name);
	buf_put_u8(&mb->keywords, '\n');
	return (int)count;
}

/* ---- UIDVALIDITY ---- */

uint32_t
image_new_uidvalidity(struct image *im, uint64_t now)
{
	uint32_t *next = &im->account.next_uidvalidity;

	/* It began as the time the account was made, and counts one up with each mailbox. */
	if (now < UINT32_MAX && *next < (uint32_t)now)
		*next = (uint32_t)now;
	return (*next)++;
}

/* The mailbox of the index that has it; NULL: none has. */
static const struct format_mailbox *
old_of(const struct index *ix, uint32_t uidvalidity)
{
	for (size_t k = 0; k < ix->mailbox_count; k++)
		if (ix->mailboxes[k]->m.uidvalidity == uidvalidity)
			return &ix->mailboxes[k]->m;
	return NULL;
}

/* One that no mailbox has, and that some name lost, is not given again: to whom it was given may come back with it. */
static bool
is_outdated(const struct index *ix, const struct format_mailbox *m)
{
	const struct format_mailbox *old = old_of(ix, m->uidvalidity);

	if (old == NULL)
		return m->uidvalidity <= ix->account.retired_uidvalidity;
	return old->uidnext > m->uidnext || old->highestmodseq > m->highestmodseq;
}

static bool
has_uidvalidity(const struct image *im, uint32_t uidvalidity)
{
	for (size_t i = 0; i < im->mailbox_count; i++)
		if (im->mailboxes[i].m.uidvalidity == uidvalidity)
			return true;
	return false;
}

static void
retire(struct image *im, uint32_t uidvalidity)
{
	if (im->account.retired_uidvalidity < uidvalidity)
		im->account.retired_uidvalidity = uidvalidity;
}

void
image_outdate(struct image *im, const struct index *ix, uint64_t now)
{
	if (ix != NULL && im->account.next_uidvalidity < ix->account.next_uidvalidity)
		im->account.next_uidvalidity = ix->account.next_uidvalidity;
	if (ix != NULL)
		retire(im, ix->account.retired_uidvalidity);
	for (size_t i = 0; i < im->mailbox_count; i++) {
		struct format_mailbox *m = &im->mailboxes[i].m;

		if (ix != NULL && !is_outdated(ix, m))
			continue;
		retire(im, m->uidvalidity);
		m->uidvalidity = image_new_uidvalidity(im, now);
	}
	for (size_t k = 0; ix != NULL && k < ix->mailbox_count; k++)
		if (!has_uidvalidity(im, ix->mailboxes[k]->m.uidvalidity))
			retire(im, ix->mailboxes[k]->m.uidvalidity);
}

/* ---- do the numbers fit each other? ---- */

static int
wrong(struct err *e, const char *what, uint64_t where)
{
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "the image contradicts itself", "%s (%llu)", what,
	    (unsigned long long)where);
}

static int
check_message(const struct image *im, const struct format_message *m, struct err *e)
{
	if (m->entry.uid == 0 || m->entry.uid != m->detail.uid)
		return wrong(e, "a message without UID", m->entry.uid);
	if ((m->entry.flags & ~STORE_FLAGS_ALL) != 0 || m->detail.size > STORE_MESSAGE_BYTES_MAX)
		return wrong(e, "a message that cannot be", m->entry.uid);
	if (object_number(m->detail.object_id) >= im->account.next_object)
		return wrong(e, "an object that was never given out", object_number(m->detail.object_id));
	return 0;
}

static int
check_messages(const struct image *im, const struct image_mailbox *mb, struct err *e)
{
	uint32_t last = 0;

	if (mb->message_count > 0 && !mb->m.selectable)
		return wrong(e, "messages in what is no mailbox", mb->m.number);
	for (size_t i = 0; i < mb->message_count; i++) {
		const struct store_entry *entry = &mb->messages[i].entry;

		if (check_message(im, &mb->messages[i], e) < 0)
			return -1;
		if (entry->uid <= last || entry->uid >= mb->m.uidnext || entry->modseq > mb->m.highestmodseq)
			return wrong(e, "a message above its mailbox's marks, or out of order", entry->uid);
		last = entry->uid;
	}
	return 0;
}

static int
check_tombstones(const struct image_mailbox *mb, struct err *e)
{
	uint64_t modseq = 0;
	uint32_t last = 0;

	for (size_t i = 0; i < mb->tombstone_count; i++) {
		const struct image_tombstone *t = &mb->tombstones[i];
		bool same = t->modseq == modseq;

		if (t->modseq < modseq || t->uids.first == 0 || t->uids.last < t->uids.first || t->uids.last >= mb->m.uidnext ||
		    (same && (t->uids.first <= last || t->uids.first - last == 1)) || t->modseq > mb->m.highestmodseq)
			return wrong(e, "tombstones out of order or above their mailbox's marks", t->modseq);
		modseq = t->modseq;
		last = t->uids.last;
	}
	return 0;
}

static int
check_mailbox(const struct image *im, size_t at, struct err *e)
{
	const struct image_mailbox *mb = &im->mailboxes[at];
	const struct format_mailbox *m = &mb->m;
	struct slice name = m->name;

	if (m->number == 0 || (at > 0 && m->number <= im->mailboxes[at - 1].m.number) || m->number >= im->account.next_mailbox)
		return wrong(e, "a mailbox's number", m->number);
	if (name_check(name, &name, NULL) < 0 || !slice_eq(name, m->name))
		return wrong(e, "the name of a mailbox", m->number);
	if (m->uidvalidity == 0 || m->uidvalidity >= im->account.next_uidvalidity || m->uidnext == 0 || m->recent_uid == 0 ||
	    m->recent_uid > m->uidnext || m->highestmodseq > im->account.modseq || m->tombstone_floor > m->highestmodseq ||
	    (m->special_use & ~STORE_USES_ALL) != 0)
		return wrong(e, "the marks of a mailbox", m->number);
	return check_messages(im, mb, e) < 0 || check_tombstones(mb, e) < 0 ? -1 : 0;
}

static int
name_cmp(const void *a, const void *b)
{
	const struct image_mailbox *const *x = a, *const *y = b;

	return slice_cmp((*x)->m.name, (*y)->m.name);
}

/* No two mailboxes of one name, and an INBOX. */
static int
check_names(const struct image *im, struct err *e)
{
	const struct image_mailbox **list = mem_new_array(im->mailbox_count + 1, sizeof *list);
	const struct image_mailbox *inbox = image_mailbox_named(im, SLICE("INBOX"));
	size_t n = 0;
	int failed = 0;

	for (size_t i = 0; i < im->mailbox_count; i++)
		if (im->mailboxes[i].m.gone_at == 0)
			list[n++] = &im->mailboxes[i];
	qsort(list, n, sizeof *list, name_cmp);
	for (size_t i = 1; failed == 0 && i < n; i++)
		if (slice_eq(list[i]->m.name, list[i - 1]->m.name))
			failed = wrong(e, "two mailboxes of one name", list[i]->m.number);
	free(list);
	if (failed == 0 && (inbox == NULL || !inbox->m.selectable))
		failed = wrong(e, "there is no INBOX", 0);
	return failed == 0 && n > STORE_MAILBOXES_MAX ? wrong(e, "too many mailboxes", n) : failed;
}

int
image_check(const struct image *im, struct err *e)
{
	const struct format_account *a = &im->account;
	uint64_t time = 0;

	if (a->next_mailbox == 0 || a->next_uidvalidity == 0 || a->serial > IMAGE_NUMBER_MAX || a->modseq > IMAGE_NUMBER_MAX ||
	    a->next_object > IMAGE_NUMBER_MAX)
		return wrong(e, "the marks of the account", a->serial);
	if (im->mailbox_count > INDEX_MAILBOXES_READ_MAX)
		return wrong(e, "too many mailboxes", im->mailbox_count);
	for (size_t i = 0; i < im->mailbox_count; i++)
		if (check_mailbox(im, i, e) < 0)
			return -1;
	for (size_t i = 0; i < im->expunged_count; i++) {
		if (check_message(im, &im->expunged[i].m, e) < 0)
			return -1;
		if (im->expunged[i].time < time || image_mailbox(im, im->expunged[i].mailbox) == NULL)
			return wrong(e, "an expunged message out of order, or of no mailbox", i);
		time = im->expunged[i].time;
	}
	return check_names(im, e);
}
