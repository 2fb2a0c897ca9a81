#include "store/salvage_private.h"

#include "common/mem.h"
#include "store/base.h"
#include "store/dump.h"
#include "store/file.h"

#include <fcntl.h>
#include <stdio.h>

/* ---- gathering ---- */

static int
on_base_record(void *arg, struct slice key, struct slice value, struct err *e)
{
	(void)e;
	soup_put(arg, key, value);
	return 0;
}

static void
on_record(void *arg, struct slice key, struct slice value)
{
	soup_merge(arg, key, value);
}

static void
on_no_record(void *arg, struct slice key, struct slice value)
{
	(void)arg;
	(void)key;
	(void)value;
}

static bool
is_later(struct env_log_place a, struct env_log_place b)
{
	return a.file > b.file || (a.file == b.file && a.offset > b.offset);
}

/* Base copy and log, when nothing of them is missing: what the account was. NULL when it cannot be said so. */
static struct soup *
gather_exactly(struct salvage *s, const char *dir)
{
	struct soup *soup = soup_new();
	struct carve_log log = {.n = 0};
	struct env_log_place pages = {0};
	struct base_info info;
	bool ok = base_read(dir, on_base_record, soup, &info, NULL) == 0 &&
	    carve_log(dir, (struct redo_durable){info.serial, info.log.file, info.log.offset}, &log, NULL) == 0 && log.first > 0 &&
	    log.first <= info.log.file && !is_later(info.log, log.end);

	/* A page that names a later place tells that the log was longer. */
	ok = ok && carve_pages(dir, on_no_record, NULL, &pages, NULL) == 0 && !is_later(pages, log.end);
	ok = ok && soup_apply(soup, &log, true, info.serial, &s->serial) && s->serial >= log.durable.serial;
	carve_log_free(&log);
	if (!ok)
		soup_free(&soup);
	return soup;
}

/* What each of these directories still has is joined. What cannot be read is not there: a broken disk gives less. */
static struct soup *
gather_what_is_left(struct salvage *s, char dirs[][FILE_PATH_BYTES_MAX], size_t n)
{
	struct soup *soup = soup_new();
	struct env_log_place pages;
	struct carve_log log;
	uint64_t serial;

	s->serial = 0;
	for (size_t i = 0; i < n; i++) {
		(void)carve_base(dirs[i], on_record, soup, NULL);
		(void)carve_log(dirs[i], (struct redo_durable){0, 0, 0}, &log, NULL);
		(void)soup_apply(soup, &log, false, 0, &serial);
		(void)carve_pages(dirs[i], on_record, soup, &pages, NULL);
		/* Once more: changes of values that only the pages had. */
		(void)soup_apply(soup, &log, false, 0, &serial);
		if (serial > s->serial && serial <= IMAGE_NUMBER_MAX)
			s->serial = serial;
		carve_log_free(&log);
	}
	return soup;
}

/* ---- records into the image ---- */

static uint32_t
key_mailbox(struct slice key)
{
	struct cursor c = cursor_of(slice_sub(key, 1, key.n));

	return cursor_u32(&c);
}

static bool
on_account_and_mailboxes(void *arg, struct slice key, struct slice value)
{
	struct salvage *s = arg;
	struct format_mailbox m;

	if (key.p[0] == FORMAT_ACCOUNT && format_account_get(value, &s->im.account))
		s->account_known = true;
	if (key.p[0] == FORMAT_MAILBOX && format_mailbox_get(key, value, &m))
		(void)image_add_mailbox(&s->im, &m);
	return true;
}

static int
mailbox_cmp(const void *a, const void *b)
{
	const struct image_mailbox *x = a, *y = b;

	return x->m.number < y->m.number ? -1 : x->m.number > y->m.number;
}

/* A mailbox whose record is lost: account.dump may know it. */
static void
add_unknown(struct salvage *s, uint32_t number)
{
	const struct image_mailbox *old = image_mailbox(&s->dump, number);
	struct format_mailbox m = {.number = number, .uidvalidity = 1, .uidnext = 1, .recent_uid = 1, .selectable = true};
	char name[64];

	(void)snprintf(name, sizeof name, SALVAGE_MAILBOX "/mailbox %u", number);
	m.name = slice_str(name);
	if (old != NULL)
		m = old->m;
	m.selectable = true;
	struct image_mailbox *mb = image_add_mailbox(&s->im, &m);

	if (old != NULL)
		buf_put_slice(&mb->keywords, buf_slice(&old->keywords));
	salvage_note(s, "mailbox-record", mb, 0, UINT64_MAX, "the mailbox's record was lost%s",
	    old != NULL ? "; account.dump knows its name" : ", and its name with it");
	qsort(s->im.mailboxes, s->im.mailbox_count, sizeof *s->im.mailboxes, mailbox_cmp);
}

static bool
on_unknown(void *arg, struct slice key, struct slice value)
{
	struct salvage *s = arg;

	(void)value;
	if ((key.p[0] == FORMAT_ENTRIES || key.p[0] == FORMAT_DETAILS) && key.n >= 5 && key_mailbox(key) != 0 &&
	    image_mailbox(&s->im, key_mailbox(key)) == NULL && s->im.mailbox_count < 4 * (size_t)STORE_MAILBOXES_MAX)
		add_unknown(s, key_mailbox(key));
	return true;
}

static bool
on_keywords_and_details(void *arg, struct slice key, struct slice value)
{
	struct salvage *s = arg;
	struct image_mailbox *mb = key.n >= 5 ? image_mailbox(&s->im, key_mailbox(key)) : NULL;
	static struct format_details chunk;
	struct cursor payload;
	unsigned count;
	struct slice name, rest;

	if (mb != NULL && key.p[0] == FORMAT_KEYWORDS && format_check(key, value, &count, &payload) && mb->keywords.n == 0)
		for (rest = slice_of(payload.p, cursor_left(&payload)); slice_cut(&rest, '\n', &name);)
			if (name.n > 0)
				(void)image_keyword(mb, name);
	if (mb == NULL || key.p[0] != FORMAT_DETAILS || !format_details_get(key, value, &chunk))
		return true;
	for (unsigned i = 0; i < chunk.n; i++) {
		struct format_message m = {.detail = chunk.d[i]};

		/* Without an entry: unseen, and new to everybody. */
		m.entry.uid = m.detail.uid;
		m.entry.modseq = UINT64_MAX;
		image_add_message(mb, &m);
	}
	return true;
}

static struct format_message *
find_uid(const struct image_mailbox *mb, uint32_t uid)
{
	size_t low = 0, high = mb->message_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (mb->messages[mid].entry.uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low < mb->message_count && mb->messages[low].entry.uid == uid ? &mb->messages[low] : NULL;
}

static int
message_cmp(const void *a, const void *b)
{
	const struct format_message *x = a, *y = b;

	return x->entry.uid < y->entry.uid ? -1 : x->entry.uid > y->entry.uid;
}

void
salvage_sort(struct image_mailbox *mb)
{
	size_t kept = 0;

	if (mb->message_count > 1)
		qsort(mb->messages, mb->message_count, sizeof *mb->messages, message_cmp);
	for (size_t i = 0; i < mb->message_count; i++)
		if (mb->messages[i].entry.uid != 0 && (kept == 0 || mb->messages[kept - 1].entry.uid != mb->messages[i].entry.uid))
			mb->messages[kept++] = mb->messages[i];
	mb->message_count = kept;
}

/* An entry whose details are lost: account.dump may have them. */
static void
entry_only(struct salvage *s, struct image_mailbox *mb, const struct store_entry *entry)
{
	const struct image_mailbox *old = image_mailbox(&s->dump, mb->m.number);
	const struct format_message *known = old != NULL ? find_uid(old, entry->uid) : NULL;
	struct format_message m;

	if (known == NULL) {
		salvage_note(s, "details", mb, entry->uid, UINT64_MAX, "which message it was is lost; its file comes to " SALVAGE_MAILBOX);
		return;
	}
	m = *known;
	m.entry = *entry;
	image_add_message(mb, &m);
}

static bool
on_entries(void *arg, struct slice key, struct slice value)
{
	struct salvage *s = arg;
	struct image_mailbox *mb = key.n >= 5 ? image_mailbox(&s->im, key_mailbox(key)) : NULL;
	static struct format_entries chunk;

	if (mb == NULL || key.p[0] != FORMAT_ENTRIES || !format_entries_get(key, value, &chunk))
		return true;
	/* The messages are sorted as far as this pass has not added any: those are looked for no more. */
	size_t sorted = mb->message_count;

	for (unsigned i = 0; i < chunk.n; i++) {
		struct format_message *m = find_uid(mb, chunk.e[i].uid);

		if (m != NULL && (m->entry.modseq == UINT64_MAX || m->entry.modseq < chunk.e[i].modseq))
			m->entry = chunk.e[i];
		else if (m == NULL)
			entry_only(s, mb, &chunk.e[i]);
	}
	if (mb->message_count > sorted)
		salvage_sort(mb);
	return true;
}

static void
take_tombstones(struct image_mailbox *mb, struct slice key, struct slice payload)
{
	struct cursor k = cursor_of(slice_sub(key, 5, key.n));
	uint64_t modseq = cursor_u64(&k);
	struct uidset set = {.n = 0};

	if (!k.bad && uidset_get(payload, &set))
		for (size_t i = 0; i < set.n; i++)
			image_add_tombstone(mb, modseq, set.ranges[i]);
	uidset_fini(&set);
}

static void
take_garbage(struct salvage *s, struct slice payload)
{
	if (payload.n != STORE_OBJECT_ID_BYTES)
		return;
	s->garbage = mem_resize(s->garbage, s->garbage_count + 1, sizeof *s->garbage);
	memcpy(s->garbage[s->garbage_count++], payload.p, STORE_OBJECT_ID_BYTES);
}

static bool
on_rest(void *arg, struct slice key, struct slice value)
{
	struct salvage *s = arg;
	static struct format_expunged x;
	struct image_mailbox *mb;
	struct cursor payload, k = cursor_of(slice_sub(key, 1, key.n));
	unsigned count;

	if (!format_check(key, value, &count, &payload))
		return true;
	if (key.p[0] == FORMAT_TOMBSTONES && key.n >= 5 && (mb = image_mailbox(&s->im, key_mailbox(key))) != NULL)
		take_tombstones(mb, key, slice_of(payload.p, cursor_left(&payload)));
	if (key.p[0] == FORMAT_GARBAGE)
		take_garbage(s, slice_of(payload.p, cursor_left(&payload)));
	if (key.p[0] == FORMAT_EXPUNGED && format_expunged_get(key, value, &x)) {
		uint64_t time = cursor_u64(&k);

		for (unsigned i = 0; i < x.n; i++)
			image_add_expunged(&s->im, &(struct image_expunged){.time = time, .mailbox = x.mailbox, .m = x.m[i]});
	}
	return true;
}

/* ---- what was joined may hold what had gone ---- */

/* Tombstones and what is kept for undelete tell which UIDs went. */
static void
drop_gone(struct salvage *s, struct image_mailbox *mb)
{
	struct uidset gone = {.n = 0};
	size_t kept = 0;
	bool ok = true;

	for (size_t i = 0; ok && i < mb->tombstone_count; i++)
		ok = uidset_add(&gone, mb->tombstones[i].uids.first, mb->tombstones[i].uids.last);
	for (size_t i = 0; ok && i < s->im.expunged_count; i++)
		if (s->im.expunged[i].mailbox == mb->m.number)
			ok = uidset_add(&gone, s->im.expunged[i].m.entry.uid, s->im.expunged[i].m.entry.uid);
	uidset_sort(&gone);
	for (size_t i = 0; i < mb->message_count; i++)
		if (!uidset_contains(&gone, mb->messages[i].entry.uid))
			mb->messages[kept++] = mb->messages[i];
	mb->message_count = kept;
	uidset_fini(&gone);
}

static int
expunged_cmp(const void *a, const void *b)
{
	const struct image_expunged *x = a, *y = b;

	if (x->mailbox != y->mailbox)
		return x->mailbox < y->mailbox ? -1 : 1;
	if (x->m.entry.uid != y->m.entry.uid)
		return x->m.entry.uid < y->m.entry.uid ? -1 : 1;
	return x->time < y->time ? -1 : x->time > y->time;
}

/* A load gives what was expunged other keys than it had: of two indices both have it. */
static void
drop_twins(struct salvage *s)
{
	struct image_expunged *list = s->im.expunged;
	size_t kept = 0;

	if (s->im.expunged_count > 1)
		qsort(list, s->im.expunged_count, sizeof *list, expunged_cmp);
	for (size_t i = 0; i < s->im.expunged_count; i++)
		if (kept == 0 || list[kept - 1].mailbox != list[i].mailbox || list[kept - 1].m.entry.uid != list[i].m.entry.uid)
			list[kept++] = list[i];
	s->im.expunged_count = kept;
}

/* ---- all of it ---- */

static void
read_dump(struct salvage *s)
{
	char path[FILE_PATH_BYTES_MAX];
	struct dump_reader *r = dump_reader_new(&s->dump, true);
	uint8_t *room = mem_resize(NULL, DUMP_LINE_BYTES_MAX, 1);
	uint64_t at = 0;
	int64_t got = 0;

	file_path(path, s->root, "account.dump");
	int fd = file_exists(path, NULL) == 1 ? file_open(path, O_RDONLY | O_NOFOLLOW, NULL) : -1;

	while (fd >= 0 && (got = file_read(fd, at, room, DUMP_LINE_BYTES_MAX, NULL)) > 0) {
		if (dump_reader_feed(r, slice_of(room, (size_t)got), NULL) < 0)
			break;
		at += (uint64_t)got;
	}
	if (fd >= 0)
		(void)file_close(fd, NULL);
	if (at > 0 && !s->result->sound && !dump_reader_whole(r))
		salvage_note(s, "dump-damaged", NULL, 0, UINT64_MAX, "account.dump is damaged: %llu lines of it cannot be read",
		    (unsigned long long)dump_reader_bad(r));
	free(room);
	dump_reader_free(&r);
}

/* Keywords are only ever added: when the dump knows more of them than the index, the others begin alike. */
static void
more_keywords(struct salvage *s, struct image_mailbox *mb)
{
	const struct image_mailbox *old = image_mailbox(&s->dump, mb->m.number);

	if (old == NULL || old->keywords.n <= mb->keywords.n || s->dump.account.created != s->im.account.created ||
	    !slice_starts(buf_slice(&old->keywords), buf_slice(&mb->keywords)))
		return;
	buf_reset(&mb->keywords);
	buf_put_slice(&mb->keywords, buf_slice(&old->keywords));
}

static void
make_image(struct salvage *s, const struct soup *soup)
{
	soup_each(soup, on_account_and_mailboxes, s);
	soup_each(soup, on_unknown, s);
	soup_each(soup, on_keywords_and_details, s);
	for (size_t i = 0; i < s->im.mailbox_count; i++)
		salvage_sort(&s->im.mailboxes[i]);
	soup_each(soup, on_entries, s);
	soup_each(soup, on_rest, s);
	if (!s->result->sound)
		drop_twins(s);
	for (size_t i = 0; !s->result->sound && i < s->im.mailbox_count; i++) {
		drop_gone(s, &s->im.mailboxes[i]);
		more_keywords(s, &s->im.mailboxes[i]);
	}
}

int
salvage_index(struct salvage *s, struct err *e)
{
	static const char *const names[] = {"index", "index.new", "index.old"};
	static char dirs[sizeof names / sizeof names[0]][FILE_PATH_BYTES_MAX];
	struct soup *soup = NULL;
	size_t n = 0;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		file_path(dirs[n], s->root, names[i]);
		int exists = file_exists(dirs[n], e);

		if (exists < 0)
			return -1;
		n += exists == 1;
	}
	/* With "index" missing the one that would take its place is not known to be whole. */
	if (n > 0)
		soup = gather_exactly(s, dirs[0]);
	s->result->sound = soup != NULL;
	if (soup != NULL)
		memcpy(s->source, dirs[0], sizeof s->source);
	read_dump(s);
	if (soup == NULL)
		soup = gather_what_is_left(s, dirs, n);
	make_image(s, soup);
	soup_free(&soup);
	return 0;
}
