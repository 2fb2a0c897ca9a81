#include "admin/account_mailbox.h"

#include "common/memfd.h"
#include "store/uidset.h"

#include <unistd.h>

json_t *
account_mailbox_uses(uint32_t uses)
{
	static const struct {
		uint32_t use;
		const char *name;
	} rows[] = {{STORE_USE_ALL, "\\All"}, {STORE_USE_ARCHIVE, "\\Archive"}, {STORE_USE_DRAFTS, "\\Drafts"},
	    {STORE_USE_FLAGGED, "\\Flagged"}, {STORE_USE_JUNK, "\\Junk"}, {STORE_USE_SENT, "\\Sent"},
	    {STORE_USE_TRASH, "\\Trash"}, {STORE_USE_IMPORTANT, "\\Important"}};
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (uses & rows[i].use)
			(void)json_array_append_new(list, json_string(rows[i].name));
	return list;
}

/* The octets of a sealed memory file that came with an answer, appended to b. */
static enum command_status
take_file(int fd, uint64_t bytes, uint64_t bytes_max, struct buf *b)
{
	struct memfd_map map;
	struct err e;

	if (memfd_map(fd, bytes, bytes_max, &map, &e) < 0)
		return command_outcome(e.class, slice_str(e.detail));
	bool fits = buf_put_slice(b, map.octets);

	memfd_unmap(&map);
	return fits ? COMMAND_OK : command_outcome(ERR_LIMIT, SLICE("an answer of the keeper is too long"));
}

enum command_status
account_mailboxes(struct command_link *keeper, struct buf *table)
{
	static struct msg reply;
	const struct msg_MBOX_LIST_REPLY *r = &reply.u.MBOX_LIST_REPLY;
	enum command_status status = COMMAND_SEND(keeper, MBOX_LIST, .id = command_id());

	buf_reset(table);
	if (status == COMMAND_OK)
		status = command_receive_fds(keeper, MSG_MBOX_LIST_REPLY, &reply);
	if (status != COMMAND_OK)
		return status;
	status = command_outcome(r->class, SLICE("the table of mailboxes cannot be read; the log says why"));
	if (status == COMMAND_OK)
		status = take_file(r->table, r->bytes, STORE_LIST_BYTES_MAX, table);
	if (r->table >= 0)
		(void)close(r->table);
	return status;
}

struct slice
account_mailbox_name(struct slice name)
{
	return slice_eq_nocase(name, SLICE("INBOX")) ? SLICE("INBOX") : name;
}

bool
account_mailbox_find(struct slice table, struct slice name, struct store_mailbox *mailbox_r)
{
	struct cursor c = cursor_of(table);

	while (store_mailbox_next(&c, mailbox_r))
		if (mailbox_r->selectable && slice_eq(mailbox_r->name, account_mailbox_name(name)))
			return true;
	return false;
}

enum command_status
account_fetch(struct command_link *keeper, uint32_t mailbox, uint32_t uid, uint8_t want, struct buf *records, uint32_t *next_r,
    struct msg_fds *fds_r)
{
	static struct msg reply;
	struct msg_MSG_FETCH_REPLY *r = &reply.u.MSG_FETCH_REPLY;
	uint8_t uids[UIDSET_RANGE_BYTES] = {(uint8_t)(uid >> 24), (uint8_t)(uid >> 16), (uint8_t)(uid >> 8), (uint8_t)uid, 0xff,
	    0xff, 0xff, 0xff};
	enum command_status status = COMMAND_SEND(keeper, MSG_FETCH, .id = command_id(), .mailbox = mailbox, .want = want,
	    .uids = slice_of(uids, sizeof uids), .uids_fd = -1);

	buf_reset(records);
	fds_r->n = 0;
	if (status == COMMAND_OK)
		status = command_receive_fds(keeper, MSG_MSG_FETCH_REPLY, &reply);
	if (status != COMMAND_OK)
		return status;
	status = command_outcome(r->class, SLICE("the mailbox cannot be read; the log says why"));
	if (status == COMMAND_OK && r->count > 0)
		status = take_file(r->records, r->bytes, STORE_RECORDS_BYTES_MAX, records);
	if (r->records >= 0)
		(void)close(r->records);
	if (status == COMMAND_OK && (want & STORE_WANT_OBJECT) && r->objects.n != r->count)
		status = command_outcome(ERR_TEMP, SLICE("the keeper's answer lacks messages"));
	if (status == COMMAND_OK) {
		*next_r = r->next_uid;
		*fds_r = r->objects;
		return status;
	}
	for (unsigned i = 0; i < r->objects.n; i++)
		(void)close(r->objects.fd[i]);
	return status;
}
