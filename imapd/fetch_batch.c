#include "imapd/fetch_batch.h"

#include <assert.h>
#include <unistd.h>

#define OBJECT_MESSAGES STORE_OBJECTS_MAX
#define SUMMARY_MESSAGES 256
#define DETAIL_MESSAGES 8192

void
fetch_fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void
fetch_batch_init(struct fetch_batch *b)
{
	*b = (struct fetch_batch){.uids_fd = -1};
	buf_init(&b->made, SUMMARY_BYTES_MAX);
	buf_init(&b->field, UIDSET_FIELD_BYTES_MAX);
}

unsigned
fetch_batch_messages(uint8_t want)
{
	if (want & STORE_WANT_OBJECT)
		return OBJECT_MESSAGES;
	return want & STORE_WANT_SUMMARY ? SUMMARY_MESSAGES : DETAIL_MESSAGES;
}

int
fetch_batch_request(struct fetch_batch *b, uint32_t mailbox, uint8_t want, const struct uidset *uids, struct msg *m)
{
	assert(b->state == FETCH_BATCH_IDLE);
	*m = (struct msg){.type = MSG_MSG_FETCH};
	m->u.MSG_FETCH.mailbox = mailbox;
	m->u.MSG_FETCH.want = want;
	b->want = want;
	if (uidset_send(uids, &b->field, &m->u.MSG_FETCH.uids, &b->uids_fd, &b->err) != 0) {
		b->uids_fd = -1;
		b->state = FETCH_BATCH_FAILED;
		return -1;
	}
	m->u.MSG_FETCH.uids_fd = b->uids_fd;
	b->state = FETCH_BATCH_ASKED;
	return 0;
}

void
fetch_batch_sent(struct fetch_batch *b)
{
	fetch_fd_close(&b->uids_fd);
	buf_fini(&b->field);
}

void
fetch_batch_got(struct fetch_batch *b, struct msg_MSG_FETCH_REPLY *reply, const struct err *e)
{
	assert(b->state == FETCH_BATCH_ASKED);
	b->state = FETCH_BATCH_FAILED;
	if (reply == NULL) {
		b->err = *e;
		return;
	}
	b->objects = reply->objects;
	reply->objects.n = 0;
	if ((b->want & STORE_WANT_OBJECT) && b->objects.n < reply->count) {
		err_set(&b->err, ERR_TEMP, ERR_CODE_MALFORMED, "Temporary failure", "objects are missing");
		return;
	}
	if (reply->count == 0) {
		b->at = cursor_of(slice_of(NULL, 0));
	} else if (memfd_map(reply->records, reply->bytes, (uint64_t)STORE_RECORDS_BYTES_MAX * 2, &b->map, &b->err) != 0) {
		return;
	} else {
		b->at = cursor_of(b->map.octets);
	}
	b->next_uid = reply->next_uid;
	b->state = FETCH_BATCH_READY;
}

/* The summary of a message that has lost it, from its octets. */
static bool
make_summary(struct fetch_batch *b, struct fetch_message *m)
{
	buf_reset(&b->made);
	m->has_summary = summary_of_file(m->fd, &b->made) && summary_decode(buf_slice(&b->made), &m->summary);
	if (m->has_summary)
		m->made = buf_slice(&b->made);
	return m->has_summary;
}

enum fetch_batch_next
fetch_batch_next(struct fetch_batch *b, struct fetch_message *message_r)
{
	*message_r = (struct fetch_message){.fd = -1};
	if (!store_record_next(&b->at, &message_r->record))
		return FETCH_BATCH_END;
	if (b->want & STORE_WANT_OBJECT) {
		if (b->object_at >= b->objects.n)
			return FETCH_BATCH_END;
		message_r->fd = b->objects.fd[b->object_at++];
	}
	if (!(b->want & STORE_WANT_SUMMARY))
		return FETCH_BATCH_MESSAGE;
	message_r->has_summary = message_r->record.summary.n > 0 &&
	    summary_decode(message_r->record.summary, &message_r->summary);
	if (message_r->has_summary || (message_r->fd >= 0 && make_summary(b, message_r)))
		return FETCH_BATCH_MESSAGE;
	return message_r->fd >= 0 ? FETCH_BATCH_END : FETCH_BATCH_NO_SUMMARY;
}

uint32_t
fetch_batch_unsure(const struct fetch_batch *b)
{
	struct cursor c = b->at;
	struct store_record r;
	uint32_t first = 0;

	while (store_record_next(&c, &r)) {
		if (first == 0)
			first = r.uid;
		if (!r.ascii_headers)
			return first;
	}
	return 0;
}

void
fetch_batch_unseen(const struct fetch_batch *b, const struct store_view *v, struct uidset *set)
{
	struct cursor c = b->at;
	struct store_record r;

	while (store_record_next(&c, &r)) {
		const struct store_entry *e = store_view_find(v, r.uid);

		if (e && !(e->flags & STORE_FLAG_SEEN) && !uidset_add(set, r.uid, r.uid))
			return;
	}
}

void
fetch_batch_close(struct fetch_batch *b)
{
	for (unsigned i = 0; i < b->objects.n; i++)
		close(b->objects.fd[i]);
	memfd_unmap(&b->map);
	fetch_fd_close(&b->uids_fd);
	buf_fini(&b->made);
	buf_fini(&b->field);
	fetch_batch_init(b);
}
