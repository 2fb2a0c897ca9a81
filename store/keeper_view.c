/*
 * The file of a view is kept after it was given away, with a list of what has
 * changed since: who opens the mailbox next gets both, and nothing is read. A list that has grown
 * long beside its file is given up with it; the next opening reads the mailbox anew.
 *
 * The memory of a kept file is the same that its receivers have mapped.
 */
#include "store/keeper_private.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "store/view.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define VIEW_WRITE_BYTES (64u * 1024)
/* Changes are kept up to this part of the file, and at least up to CHANGES_BYTES_MIN. */
#define CHANGES_PART 16u
#define CHANGES_BYTES_MIN (64u * 1024)
_Static_assert(KEEPER_VIEWS_BYTES_MAX / CHANGES_PART <= STORE_CHANGES_BYTES_MAX, "changes fit their file");

static void
forget(struct keeper_view *v)
{
	if (v->mailbox == 0)
		return;
	(void)close(v->fd);
	buf_fini(&v->changes);
	*v = (struct keeper_view){.mailbox = 0};
}

void
keeper_views_forget(void)
{
	for (unsigned i = 0; i < KEEPER_VIEWS_MAX; i++)
		forget(&the_keeper.views[i]);
}

static struct keeper_view *
find(uint32_t mailbox)
{
	for (unsigned i = 0; i < KEEPER_VIEWS_MAX; i++)
		if (the_keeper.views[i].mailbox == mailbox)
			return &the_keeper.views[i];
	return NULL;
}

static size_t
file_bytes(const struct keeper_view *v)
{
	return (size_t)v->base * STORE_ENTRY_BYTES;
}

/* ---- making a file ---- */

struct view_file {
	int fd;
	uint32_t count;
	struct buf room;
	struct err err;
	bool failed;
};

static void
view_write(struct view_file *v)
{
	if (!v->failed && memfd_write(v->fd, buf_slice(&v->room), &v->err) < 0)
		v->failed = true;
	buf_reset(&v->room);
}

static bool
on_entries(void *arg, const struct store_entry *entries, size_t n)
{
	struct view_file *v = arg;

	if (v->room.n + n * sizeof *entries > VIEW_WRITE_BYTES)
		view_write(v);
	store_entries_put(&v->room, entries, n);
	v->count += (uint32_t)n;
	return !v->failed;
}

/* A sealed memory file with all entries; -1 and err. */
static int
make_file(uint32_t mailbox, uint32_t *count_r, struct err *err)
{
	struct view_file v = {.fd = memfd_new(err)};
	int failed;

	if (v.fd < 0)
		return -1;
	buf_init(&v.room, VIEW_WRITE_BYTES);
	failed = index_view(the_keeper.ix, mailbox, on_entries, &v, err);
	if (failed == 0)
		view_write(&v);
	if (failed == 0 && v.failed) {
		*err = v.err;
		failed = -1;
	}
	if (failed == 0)
		failed = memfd_seal(v.fd, err);
	buf_fini(&v.room);
	*count_r = v.count;
	if (failed == 0)
		return v.fd;
	(void)close(v.fd);
	return -1;
}

/* ---- keeping ---- */

/* A free place; the views that were given longest ago make room, until bytes more fit. */
static struct keeper_view *
place_for(size_t bytes)
{
	for (;;) {
		struct keeper_view *oldest = NULL, *empty = NULL;
		size_t kept = 0;

		for (unsigned i = 0; i < KEEPER_VIEWS_MAX; i++) {
			struct keeper_view *v = &the_keeper.views[i];

			kept += file_bytes(v);
			if (v->mailbox == 0)
				empty = v;
			else if (oldest == NULL || v->given < oldest->given)
				oldest = v;
		}
		if (empty != NULL && bytes <= KEEPER_VIEWS_BYTES_MAX && kept <= KEEPER_VIEWS_BYTES_MAX - bytes)
			return empty;
		if (oldest == NULL)
			return NULL;
		forget(oldest);
	}
}

/* Keeps a duplicate of fd, when there is room for it. */
static void
keep(uint32_t mailbox, int fd, uint32_t count)
{
	struct keeper_view *v = place_for((size_t)count * STORE_ENTRY_BYTES);
	int own = v != NULL ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (own < 0)
		return;
	*v = (struct keeper_view){.mailbox = mailbox, .fd = own, .base = count, .count = count, .given = ++the_keeper.views_given};
	buf_init(&v->changes, file_bytes(v) / CHANGES_PART > CHANGES_BYTES_MIN ? file_bytes(v) / CHANGES_PART : CHANGES_BYTES_MIN);
}

/* Is what is kept the mailbox as it is? Anything else would be a fault of ours; it must not reach a client. */
static bool
is_true(const struct keeper_view *v)
{
	const struct format_mailbox *m = index_mailbox(the_keeper.ix, v->mailbox);

	if (!v->changes.failed && m != NULL && m->messages != v->count)
		log_event(LOG_BUG, NO_SESSION, "kept-view", LOG_NUM("mailbox", v->mailbox), LOG_NUM("kept", v->count),
		    LOG_NUM("messages", m->messages), LOG_END);
	return !v->changes.failed && m != NULL && m->messages == v->count;
}

int
keeper_view_give(uint32_t mailbox, struct msg_MBOX_OPEN_REPLY *r, struct err *err)
{
	struct keeper_view *v = find(mailbox);

	r->changes = -1;
	if (v != NULL && !is_true(v)) {
		forget(v);
		v = NULL;
	}
	if (v == NULL) {
		r->view = make_file(mailbox, &r->count, err);
		if (r->view >= 0)
			keep(mailbox, r->view, r->count);
		return r->view < 0 ? -1 : 0;
	}
	v->given = ++the_keeper.views_given;
	r->count = v->base;
	r->view = fcntl(v->fd, F_DUPFD_CLOEXEC, 0);
	if (r->view < 0)
		return err_sys(err, errno, "a kept view");
	if (v->changes.n > 0 && (r->changes = memfd_of(buf_slice(&v->changes), err)) < 0) {
		(void)close(r->view);
		r->view = -1;
		return -1;
	}
	return 0;
}

/* ---- what changes ---- */

static void
note(struct keeper_view *v, enum store_change_kind kind, struct slice octets)
{
	struct uidset gone = {0};

	put_u8(&v->changes, (uint8_t)kind);
	put_slice(&v->changes, octets);
	if (kind == STORE_CHANGE_NEW) {
		v->count += (uint32_t)(octets.n / STORE_ENTRY_BYTES);
	} else if (kind == STORE_CHANGE_EXPUNGE) {
		bool ok = uidset_get(octets, &gone);

		assert(ok);
		v->count -= (uint32_t)uidset_count(&gone);
	}
	uidset_fini(&gone);
}

void
keeper_view_changed(const struct index_change *change)
{
	static const enum store_change_kind kinds[] = {[INDEX_CHANGE_NEW] = STORE_CHANGE_NEW,
	    [INDEX_CHANGE_FLAGS] = STORE_CHANGE_FLAGS, [INDEX_CHANGE_EXPUNGE] = STORE_CHANGE_EXPUNGE};
	struct keeper_view *v = change->mailbox != 0 ? find(change->mailbox) : NULL;

	if (v == NULL)
		return;
	if (change->kind == INDEX_CHANGE_TABLE || change->octets.failed)
		forget(v);
	else
		note(v, kinds[change->kind], buf_slice(&change->octets));
	if (v->mailbox != 0 && v->changes.failed)
		forget(v);
}
