#include "admin/export.h"

#include "common/memfd.h"

#include <stdio.h>
#include <unistd.h>

#define PIECE_BYTES (64u * 1024)

void
export_failed(struct export *x, struct slice what, const char *why)
{
	char printable[EXPORT_NAME_SIZE];
	size_t n = 0;

	for (; n < what.n && n < sizeof printable - 1; n++)
		printable[n] = what.p[n] >= ' ' && what.p[n] < 0x7f ? (char)what.p[n] : '?';
	printable[n] = '\0';
	progress_end(x->progress);
	command_error("%s: %s", printable, why);
	x->counts.failed++;
}

int
export_octets(int fd, export_put_fn *put, void *arg, struct err *e)
{
	static uint8_t piece[PIECE_BYTES];
	uint64_t at = 0;
	int64_t n;

	while ((n = memfd_read(fd, at, piece, sizeof piece, e)) > 0) {
		put(arg, slice_of(piece, (size_t)n));
		at += (uint64_t)n;
	}
	return n < 0 ? -1 : 0;
}

/* ---- messages ---- */

/* The message's name for those who read what is said of it. */
static void
label(const struct export *x, uint32_t uid, char name_r[EXPORT_NAME_SIZE])
{
	struct slice mailbox = slice_sub(x->mailbox.name, 0, EXPORT_NAME_SIZE / 2);

	(void)snprintf(name_r, EXPORT_NAME_SIZE, "%.*s, UID %u", SLICE_ARG(mailbox), uid);
}

static void
write_records(struct export *x, const struct export_writer *w, struct slice records, const struct msg_fds *fds, uint64_t total,
    uint64_t *done)
{
	struct cursor c = cursor_of(records);
	struct store_record r;
	char name[EXPORT_NAME_SIZE];
	struct err e;

	for (unsigned i = 0; i < fds->n; i++) {
		bool there = store_record_next(&c, &r);

		if (there && r.uid >= x->mailbox.uidnext)
			x->mailbox.uidnext = r.uid < UINT32_MAX ? r.uid + 1 : r.uid;
		if (there && w->message(x, &r, fds->fd[i], &e) < 0) {
			label(x, r.uid, name);
			export_failed(x, slice_str(name), e.detail);
		} else if (there) {
			x->counts.messages++;
			x->counts.bytes += r.size;
		}
		(void)close(fds->fd[i]);
		progress_step(x->progress, "messages", ++*done, total);
	}
}

/* The messages from *uid on cannot be had, so the first of them is damaged: passes over it. */
static enum command_status
pass_damaged(struct export *x, uint32_t mailbox, uint32_t *uid, struct buf *records)
{
	struct msg_fds fds;
	struct store_record r;
	uint32_t next;
	char name[EXPORT_NAME_SIZE];
	enum command_status status = account_fetch(x->keeper, mailbox, *uid, STORE_WANT_DETAIL, records, &next, &fds);
	struct cursor c = cursor_of(buf_slice(records));

	if (status != COMMAND_OK)
		return status;
	if (!store_record_next(&c, &r) || r.uid == UINT32_MAX) {
		*uid = 0;
		return COMMAND_OK;
	}
	label(x, r.uid, name);
	export_failed(x, slice_str(name), "the message is missing or damaged");
	*uid = r.uid + 1;
	return COMMAND_OK;
}

static enum command_status
write_messages(struct export *x, const struct export_writer *w, const struct store_mailbox *m)
{
	enum command_status status = COMMAND_OK;
	struct buf records;
	struct msg_fds fds;
	uint32_t uid = 1, next;
	uint64_t done = 0;

	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	while (status == COMMAND_OK && uid != 0) {
		status = account_fetch(x->keeper, m->number, uid, STORE_WANT_DETAIL | STORE_WANT_OBJECT, &records, &next, &fds);
		if (status == COMMAND_OK) {
			write_records(x, w, buf_slice(&records), &fds, m->messages, &done);
			uid = next;
		} else if (status != COMMAND_UNREACHABLE) {
			status = pass_damaged(x, m->number, &uid, &records);
		}
	}
	buf_fini(&records);
	return status;
}

/* ---- mailboxes ---- */

static enum command_status
open_mailbox(struct export *x, const struct store_mailbox *m)
{
	static struct msg reply;
	const struct msg_MBOX_OPEN_REPLY *r = &reply.u.MBOX_OPEN_REPLY;
	enum command_status status = COMMAND_SEND(x->keeper, MBOX_OPEN, .id = command_id(), .mailbox = m->number);

	if (status == COMMAND_OK)
		status = command_receive(x->keeper, MSG_MBOX_OPEN_REPLY, &reply);
	if (status == COMMAND_OK)
		status = command_outcome(r->class, SLICE("the mailbox cannot be opened; the log says why"));
	if (status != COMMAND_OK)
		return status;
	buf_reset(&x->keywords);
	buf_put_slice(&x->keywords, r->keywords);
	x->mailbox = (struct export_mailbox){
	    .name = m->name, .uidvalidity = r->uidvalidity, .uidnext = r->uidnext, .keywords = buf_slice(&x->keywords)};
	return COMMAND_OK;
}

static enum command_status
write_mailbox(struct export *x, const struct export_writer *w, const struct store_mailbox *m)
{
	enum command_status status = open_mailbox(x, m);
	const struct export_counts before = x->counts;
	struct err e;

	if (status != COMMAND_OK)
		return status;
	if (w->begin(x, &e) < 0) {
		export_failed(x, m->name, e.detail);
		return COMMAND_OK;
	}
	status = write_messages(x, w, m);
	if (w->end(x, &e) < 0) {
		/* What was written of it is gone, or not safe. */
		x->counts.messages = before.messages;
		x->counts.bytes = before.bytes;
		export_failed(x, m->name, e.detail);
	} else {
		x->counts.mailboxes++;
	}
	return status;
}

enum command_status
export_run(struct export *x, const struct export_writer *w, const char *mailbox)
{
	struct store_mailbox m;
	struct buf table;
	enum command_status status;

	buf_init(&table, STORE_LIST_BYTES_MAX);
	buf_init(&x->keywords, (STORE_KEYWORD_BYTES_MAX + 1) * STORE_KEYWORDS_MAX);
	status = account_mailboxes(x->keeper, &table);
	struct cursor c = cursor_of(buf_slice(&table));

	if (status == COMMAND_OK && mailbox != NULL) {
		if (account_mailbox_find(buf_slice(&table), slice_str(mailbox), &m))
			status = write_mailbox(x, w, &m);
		else
			status = command_outcome(ERR_PERM, SLICE("no such mailbox"));
	}
	while (status == COMMAND_OK && mailbox == NULL && store_mailbox_next(&c, &m))
		if (m.selectable)
			status = write_mailbox(x, w, &m);
	buf_fini(&table);
	buf_fini(&x->keywords);
	return status;
}

enum command_status
export_subscriptions(struct export *x, struct buf *out)
{
	struct store_mailbox m;
	struct buf table;

	buf_init(&table, STORE_LIST_BYTES_MAX);
	enum command_status status = account_mailboxes(x->keeper, &table);
	struct cursor c = cursor_of(buf_slice(&table));

	while (status == COMMAND_OK && store_mailbox_next(&c, &m)) {
		if (!m.subscribed)
			continue;
		buf_put_slice(out, m.name);
		buf_put_u8(out, '\n');
	}
	buf_fini(&table);
	return status;
}
