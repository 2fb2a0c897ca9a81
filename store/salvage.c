/*
 * All is read and decided first; then, in this order, each durable before the next: the directory for what is moved away;
 * a mark in the old index that it is to be kept there; the new index in its place (store/rebuild.h); damaged files
 * moved away. Done again after a cut at any point it comes to the same end.
 */
#include "store/salvage_private.h"

#include "common/mem.h"
#include "common/mutant.h"
#include "store/file.h"
#include "store/load.h"
#include "store/name.h"
#include "store/object.h"
#include "store/rebuild.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#define ASIDE_MAX 10000u
#define TEXT_BYTES 400u

void
salvage_note(const struct salvage *s, const char *code, const struct image_mailbox *mb, uint32_t uid, uint64_t object,
    const char *fmt, ...)
{
	char text[TEXT_BYTES];
	struct check_finding f = {.code = slice_str(code), .uid = uid, .object = object};
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	f.text = slice_str(text);
	if (mb != NULL)
		f.mailbox = mb->m.name;
	s->events->note(s->arg, &f);
}

/* ---- messages and their files ---- */

/* Is the message's file there? Then it is used; else the loss is told. */
static bool
use_object(struct salvage *s, const struct image_mailbox *mb, struct format_message *m, const char *kept)
{
	struct salvage_object *o = salvage_object(s, m->detail.object_id);
	uint64_t number = object_number(m->detail.object_id);

	if (o != NULL && o->intact) {
		o->used = true;
		m->detail.size = o->size;
		m->entry.flags &= STORE_FLAGS_ALL;
		return true;
	}
	s->result->lost++;
	salvage_note(s, o != NULL ? "object-damaged" : "object-missing", mb, m->entry.uid, number, "lost: a message%s of %llu octets: %s",
	    kept, (unsigned long long)m->detail.size, o != NULL ? "its file is damaged, and moved away" : "its file is missing");
	return false;
}

/* Messages without their file go, as if they were expunged now. */
static void
match_mailbox(struct salvage *s, struct image_mailbox *mb)
{
	struct uidset gone = {.n = 0};
	size_t kept = 0;
	bool told = true;

	for (size_t i = 0; i < mb->message_count; i++) {
		struct format_message *m = &mb->messages[i];

		/* The last UID of all leaves none for the next message. */
		if (m->entry.uid < UINT32_MAX && use_object(s, mb, m, ""))
			mb->messages[kept++] = *m;
		else
			told = told && uidset_add(&gone, m->entry.uid, m->entry.uid);
	}
	mb->message_count = kept;
	if (gone.n > 0 && s->result->sound) {
		mb->m.highestmodseq = ++s->im.account.modseq;
		for (size_t i = 0; told && i < gone.n; i++)
			image_add_tombstone(mb, mb->m.highestmodseq, gone.ranges[i]);
		if (!told)
			mb->m.tombstone_floor = mb->m.highestmodseq;
	}
	uidset_fini(&gone);
}

static void
match_expunged(struct salvage *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->im.expunged_count; i++) {
		struct image_expunged *x = &s->im.expunged[i];
		const struct image_mailbox *mb = image_mailbox(&s->im, x->mailbox);

		/* Of a mailbox that nobody knows: its file is found again below. */
		if (mb != NULL && use_object(s, mb, &x->m, " kept for undelete"))
			s->im.expunged[kept++] = *x;
	}
	s->im.expunged_count = kept;
}

/* ---- what only account.dump knows ---- */

static uint64_t
map_keywords(const struct image_mailbox *from, struct image_mailbox *to, uint64_t bits)
{
	uint64_t mapped = 0;

	for (; bits != 0; bits &= bits - 1) {
		int bit = image_keyword(to, store_keyword_name(buf_slice(&from->keywords), (unsigned)__builtin_ctzll(bits)));

		mapped |= bit >= 0 ? UINT64_C(1) << bit : 0;
	}
	return mapped;
}

static bool
is_free(const struct salvage *s, const struct format_message *m)
{
	const struct salvage_object *o = salvage_object(s, m->detail.object_id);

	return o != NULL && o->intact && !o->known && !o->garbage;
}

static int
number_cmp(const void *a, const void *b)
{
	const struct image_mailbox *x = a, *y = b;

	return x->m.number < y->m.number ? -1 : x->m.number > y->m.number;
}

static void
fill_mailbox(struct salvage *s, const struct image_mailbox *old)
{
	struct image_mailbox *mb = image_mailbox(&s->im, old->m.number);
	size_t before;

	if (mb == NULL) {
		(void)image_add_mailbox(&s->im, &old->m);
		qsort(s->im.mailboxes, s->im.mailbox_count, sizeof *s->im.mailboxes, number_cmp);
		mb = image_mailbox(&s->im, old->m.number);
		buf_put_slice(&mb->keywords, buf_slice(&old->keywords));
	}
	before = mb->message_count;
	for (size_t i = 0; i < old->message_count; i++) {
		struct format_message m = old->messages[i];

		if (!is_free(s, &m) || m.entry.uid == UINT32_MAX || !mb->m.selectable)
			continue;
		m.entry.keywords = map_keywords(old, mb, m.entry.keywords);
		(void)use_object(s, mb, &m, "");
		image_add_message(mb, &m);
	}
	if (mb->message_count == before)
		return;
	s->result->filled += mb->message_count - before;
	salvage_note(s, "from-dump", mb, 0, UINT64_MAX, "%zu messages are known from account.dump only: flags may be old",
	    mb->message_count - before);
	/* Of two with one UID the second one's file is free again: it comes to Recovered. */
	salvage_sort(mb);
}

static void
fill_from_dump(struct salvage *s)
{
	const struct format_account *a = &s->dump.account;

	/* A dump of another life of the account counts its mailboxes otherwise. */
	if (s->account_known && a->created != s->im.account.created)
		return;
	if (!s->account_known && a->next_mailbox > 0)
		s->im.account = *a;
	/* What the index knows is where it says; copies that only the dump knows share their file. */
	for (size_t i = 0; i < s->object_count; i++)
		s->objects[i].known = s->objects[i].used;
	for (size_t i = 0; i < s->dump.mailbox_count; i++)
		fill_mailbox(s, &s->dump.mailboxes[i]);
	for (size_t i = 0; i < s->dump.expunged_count; i++) {
		struct image_expunged x = s->dump.expunged[i];
		const struct image_mailbox *old = image_mailbox(&s->dump, x.mailbox);
		struct image_mailbox *mb = image_mailbox(&s->im, x.mailbox);

		if (old == NULL || mb == NULL || !is_free(s, &x.m))
			continue;
		x.m.entry.keywords = map_keywords(old, mb, x.m.entry.keywords);
		(void)use_object(s, mb, &x.m, "");
		image_add_expunged(&s->im, &x);
	}
}

/* Marks again which files are used: sorting may have dropped a message. */
static void
mark_used(struct salvage *s)
{
	size_t n;
	struct load_object *list = load_objects(&s->im, &n);

	for (size_t i = 0; i < s->object_count; i++)
		s->objects[i].used = false;
	for (size_t i = 0; i < n; i++) {
		struct salvage_object *o = salvage_object(s, list[i].id);

		if (o != NULL)
			o->used = true;
	}
	free(list);
}

/* ---- numbers ---- */

#define RAISE(what, least) ((what) = (what) > (least) ? (what) : (least))

static struct image_mailbox *
new_mailbox(struct salvage *s, struct slice name, uint32_t use)
{
	struct format_mailbox m = {.number = s->im.account.next_mailbox++, .uidnext = 1, .recent_uid = 1, .special_use = use,
	    .selectable = true, .subscribed = true, .name = name};

	m.uidvalidity = image_new_uidvalidity(&s->im, s->now);
	m.highestmodseq = m.tombstone_floor = ++s->im.account.modseq;
	return image_add_mailbox(&s->im, &m);
}

static void
raise_account(struct salvage *s)
{
	struct format_account *a = &s->im.account;

	if (a->created == 0)
		a->created = s->now;
	RAISE(a->serial, s->serial);
	RAISE(a->next_mailbox, 1);
	RAISE(a->next_uidvalidity, 1);
	for (size_t i = 0; i < s->object_count; i++)
		RAISE(a->next_object, object_number(s->objects[i].id) + 1);
	for (size_t i = 0; i < s->im.mailbox_count; i++) {
		const struct image_mailbox *mb = &s->im.mailboxes[i];

		RAISE(a->next_mailbox, mb->m.number + 1);
		RAISE(a->next_uidvalidity, mb->m.uidvalidity + 1);
		RAISE(a->modseq, mb->m.highestmodseq);
		for (size_t k = 0; k < mb->message_count; k++)
			if (mb->messages[k].entry.modseq != UINT64_MAX)
				RAISE(a->modseq, mb->messages[k].entry.modseq);
	}
}

/* The bits of keywords that have a name. */
static uint64_t
named_keywords(const struct image_mailbox *mb)
{
	unsigned n = 0;

	for (size_t i = 0; i < mb->keywords.n; i++)
		n += mb->keywords.p[i] == '\n';
	return n >= STORE_KEYWORDS_MAX ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

/* What was not known for sure begins anew for clients. */
static void
settle_mailbox(struct salvage *s, struct image_mailbox *mb, uint64_t modseq)
{
	struct format_mailbox *m = &mb->m;
	uint64_t named = named_keywords(mb), nameless = 0;

	for (size_t i = 0; i < mb->message_count; i++) {
		struct store_entry *entry = &mb->messages[i].entry;

		nameless |= entry->keywords & ~named;
		entry->keywords &= named;
		if (entry->modseq == UINT64_MAX)
			entry->modseq = modseq;
		RAISE(m->highestmodseq, entry->modseq);
		RAISE(m->uidnext, entry->uid + 1);
	}
	if (nameless != 0)
		salvage_note(s, "keywords", mb, 0, UINT64_MAX, "the names of keywords were lost, and the keywords with them");
	RAISE(m->uidnext, 1);
	RAISE(m->recent_uid, 1);
	if (m->recent_uid > m->uidnext)
		m->recent_uid = m->uidnext;
	m->special_use &= STORE_USES_ALL;
	if (s->result->sound)
		return;
	mb->tombstone_count = 0;
	m->tombstone_floor = m->highestmodseq;
	m->uidvalidity = image_new_uidvalidity(&s->im, s->now);
}

static void
settle_name(struct salvage *s, size_t at)
{
	struct image_mailbox *mb = &s->im.mailboxes[at];
	const struct image_mailbox *first = image_mailbox_named(&s->im, mb->m.name);
	char name[STORE_NAME_BYTES_MAX];
	struct slice checked;
	int n;

	if (mb->m.gone_at != 0 || (first == mb && name_check(mb->m.name, &checked, NULL) == 0))
		return;
	n = snprintf(name, sizeof name, SALVAGE_MAILBOX "/%.*s (%u)", (int)(mb->m.name.n < 200 ? mb->m.name.n : 0),
	    (const char *)mb->m.name.p, mb->m.number);
	if (n < 0 || name_check(slice_of(name, (size_t)n), &checked, NULL) < 0)
		n = snprintf(name, sizeof name, SALVAGE_MAILBOX "/mailbox %u", mb->m.number);
	salvage_note(s, "name", mb, 0, UINT64_MAX, "two mailboxes had this name: one is called %.*s now", n, name);
	image_rename(mb, slice_of(name, (size_t)n));
}

/* A mailbox of that name that messages can be put into. */
static struct image_mailbox *
need_mailbox(struct salvage *s, struct slice name)
{
	struct image_mailbox *mb = image_mailbox_named(&s->im, name);

	if (mb == NULL)
		return new_mailbox(s, name, 0);
	if (!mb->m.selectable)
		mb->m.uidvalidity = image_new_uidvalidity(&s->im, s->now);
	mb->m.selectable = true;
	return mb;
}

static int
time_cmp(const void *a, const void *b)
{
	const struct image_expunged *x = a, *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	if (x->mailbox != y->mailbox)
		return x->mailbox < y->mailbox ? -1 : 1;
	return x->m.entry.uid < y->m.entry.uid ? -1 : x->m.entry.uid > y->m.entry.uid;
}

static void
settle_numbers(struct salvage *s)
{
	bool anew = s->im.mailbox_count == 0;
	struct slice name;
	uint32_t use;

	raise_account(s);
	uint64_t modseq = ++s->im.account.modseq;

	for (size_t i = 0; i < s->im.mailbox_count; i++)
		settle_mailbox(s, &s->im.mailboxes[i], modseq);
	for (size_t i = 0; i < s->im.mailbox_count; i++)
		settle_name(s, i);
	for (unsigned i = 0; anew && index_default_mailbox(i, &name, &use); i++)
		(void)new_mailbox(s, name, use);
	for (size_t i = 0; i < s->im.expunged_count; i++)
		s->im.expunged[i].m.entry.keywords &= named_keywords(image_mailbox(&s->im, s->im.expunged[i].mailbox));
	(void)need_mailbox(s, SLICE("INBOX"));
	if (!s->result->sound && s->im.expunged_count > 1)
		qsort(s->im.expunged, s->im.expunged_count, sizeof *s->im.expunged, time_cmp);
}

/* ---- what nobody knows ---- */

static void
recover(struct salvage *s)
{
	struct image_mailbox *mb = NULL;

	for (size_t i = 0; i < s->object_count; i++) {
		const struct salvage_object *o = &s->objects[i];
		struct format_message m = {.entry = {.uid = 0}};

		if (!o->intact || o->used || o->garbage)
			continue;
		if (mb == NULL) {
			mb = need_mailbox(s, SLICE(SALVAGE_MAILBOX));
			mb->m.highestmodseq = ++s->im.account.modseq;
		}
		m.entry.uid = m.detail.uid = mb->m.uidnext++;
		m.entry.modseq = mb->m.highestmodseq;
		m.detail.save_date = (int64_t)s->now;
		m.detail.size = o->size;
		memcpy(m.detail.object_id, o->id, sizeof o->id);
		salvage_date(s, o, &m.detail);
		image_add_message(mb, &m);
		s->result->recovered++;
	}
	if (mb != NULL)
		salvage_note(s, "recovered", mb, 0, UINT64_MAX, "%llu messages that nobody knew are in this mailbox now",
		    (unsigned long long)s->result->recovered);
}

/* From files alone: nothing that the index or the dump said. */
static void
forget_all(struct salvage *s)
{
	image_fini(&s->im);
	s->garbage_count = 0;
	s->serial = 0;
	s->result->sound = false;
	s->result->recovered = s->result->filled = 0;
	for (size_t i = 0; i < s->object_count; i++)
		s->objects[i].used = s->objects[i].garbage = false;
}

static int
decide(struct salvage *s, struct err *e)
{
	struct err why;

	for (size_t i = 0; i < s->im.mailbox_count; i++)
		match_mailbox(s, &s->im.mailboxes[i]);
	match_expunged(s);
	if (!s->result->sound)
		fill_from_dump(s);
	mark_used(s);
	settle_numbers(s);
	recover(s);
	if (image_check(&s->im, &why) == 0)
		return 0;
	salvage_note(s, "contradiction", NULL, 0, UINT64_MAX, "what was found contradicts itself (%s): messages come to " SALVAGE_MAILBOX,
	    why.detail);
	forget_all(s);
	settle_numbers(s);
	recover(s);
	return image_check(&s->im, e);
}

/* ---- doing it ---- */

/* A new directory for what is moved away. */
static int
make_aside(struct salvage *s, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	bool made = false;

	for (unsigned i = 1; !made && i < ASIDE_MAX; i++) {
		(void)snprintf(s->result->aside, sizeof s->result->aside, "damaged.%u", i);
		file_path(path, s->root, s->result->aside);
		if (file_mkdir(path, &made, e) < 0)
			return -1;
	}
	if (made)
		return MUTANT(SALVAGE_ASIDE_SYNC) ? 0 : file_sync_dir(s->root, e);
	return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many salvages", "damaged.1 to damaged.%u exist", ASIDE_MAX - 1);
}

static int
move_aside(const struct salvage *s, const char *path, const char *name, struct err *e)
{
	char dir[FILE_PATH_BYTES_MAX], to[FILE_PATH_BYTES_MAX];

	file_path(dir, s->root, s->result->aside);
	file_path(to, dir, name);
	return file_rename(path, to, e) < 0 || (!MUTANT(SALVAGE_MOVE_SYNC) && file_sync_dir(dir, e) < 0) ? -1 : 0;
}

/* What an interrupted rebuild left, and was read. */
static int
move_strays(const struct salvage *s, struct err *e)
{
	static const char *const names[] = {"index.new", "index.old"};
	char path[FILE_PATH_BYTES_MAX];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		file_path(path, s->root, names[i]);
		int exists = file_exists(path, e);

		if (exists < 0 || (exists && (move_aside(s, path, names[i], e) < 0 || file_sync_dir(s->root, e) < 0)))
			return -1;
	}
	return 0;
}

/* What is whole is "index" from here on, and what a build that was cut off left beside it goes. */
static int
settle_sound(const struct salvage *s, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	bool exists;

	file_path(path, s->root, "index");
	if (strcmp(path, s->source) != 0 &&
	    (file_rename(s->source, path, e) < 0 || (!MUTANT(SALVAGE_SOUND_SYNC) && file_sync_dir(s->root, e) < 0)))
		return -1;
	return rebuild_settle(s->root, &exists, e);
}

static int
move_objects(const struct salvage *s, struct err *e)
{
	for (size_t i = 0; i < s->object_count; i++) {
		const struct salvage_object *o = &s->objects[i];

		if (!o->intact) {
			char path[FILE_PATH_BYTES_MAX];

			object_path(path, s->root, o->id);
			if (move_aside(s, path, strrchr(path, '/') + 1, e) < 0)
				return -1;
		} else if (o->garbage && !o->used && object_remove(s->root, o->id, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static bool
any_damaged(const struct salvage *s)
{
	for (size_t i = 0; i < s->object_count; i++)
		if (!s->objects[i].intact)
			return true;
	return false;
}

static int
put_in_place(struct salvage *s, struct err *e)
{
	bool aside = !s->result->sound || any_damaged(s), exists;

	if (aside && make_aside(s, e) < 0)
		return -1;
	if (s->result->sound ? settle_sound(s, e) < 0 : move_strays(s, e) < 0 || rebuild_keep(s->root, s->result->aside, e) < 0)
		return -1;
	if (load_image(s->root, &s->im, s->now, e) < 0 || rebuild_settle(s->root, &exists, e) < 0)
		return -1;
	return move_objects(s, e);
}

/* Nothing is damaged because this process could not look at it. */
static int
all_was_read(struct err *e)
{
	return file_shortage() == 0 ? 0 : err_sys(e, file_shortage(), "reading what is left");
}

static void
salvage_fini(struct salvage *s)
{
	image_fini(&s->im);
	image_fini(&s->dump);
	free(s->objects);
	free(s->garbage);
}

int
salvage_account(const char *root, uint64_t now, const struct salvage_events *events, void *arg,
    struct salvage_result *result_r, struct err *e)
{
	struct salvage s = {.root = root, .now = now, .events = events, .arg = arg, .result = result_r};
	int failed;

	*result_r = (struct salvage_result){.sound = false};
	file_shortage_reset();
	failed = object_init(root, e) < 0 || salvage_index(&s, e) < 0 || salvage_objects(&s, e) < 0 || decide(&s, e) < 0 ||
	    all_was_read(e) < 0 || put_in_place(&s, e) < 0;
	for (size_t i = 0; i < s.im.mailbox_count; i++)
		if (s.im.mailboxes[i].m.gone_at == 0)
			result_r->messages += s.im.mailboxes[i].message_count;
	salvage_fini(&s);
	return failed ? -1 : 0;
}
