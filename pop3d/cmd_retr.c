/*
 * RETR and TOP (RFC 1939 5 and 7). Descriptors of the messages are fetched some at a time, the one
 * wanted and those behind it, as clients go through a maildrop in order. A message is read in
 * pieces as the client takes them; dots are added on the way, so the size told before is that of
 * the message itself (RFC 1939 11).
 */
#include "pop3d/session.h"

#include "common/log.h"
#include "common/memfd.h"
#include "common/surrogate.h"
#include "pop3d/keeper.h"

#include <assert.h>
#include <unistd.h>

void
session_objects_drop(struct session *s)
{
	for (unsigned i = 0; i < s->objects.n; i++)
		(void)close(s->objects.fd[i]);
	s->objects.n = 0;
}

/*
 * Takes the descriptor of a message out of those that were fetched; -1 when it is not among them.
 */
static int
take_object(struct session *s, uint32_t number)
{
	struct session_objects *o = &s->objects;

	for (unsigned i = 0; i < o->n; i++) {
		if (o->number[i] != number)
			continue;
		int fd = o->fd[i];

		o->n--;
		o->fd[i] = o->fd[o->n];
		o->number[i] = o->number[o->n];
		return fd;
	}
	return -1;
}

/* The surrogate's file in the place of the message's (RFC 6856 2.1); -1 when it cannot be made. */
static int
surrogate_of(struct session *s, int fd)
{
	struct buf encoded;
	struct summary summary;
	struct surrogate made;
	struct err e = {0};
	int got = -1;

	buf_init(&encoded, SUMMARY_BYTES_MAX);
	if (summary_of_file(fd, &encoded) && summary_decode(buf_slice(&encoded), &summary))
		got = surrogate_make(fd, &summary, &made, &e);
	buf_fini(&encoded);
	if (got == 0)
		return fd;
	(void)close(fd);
	if (got < 0) {
		log_event(LOG_ERROR, slice_str(s->name), "surrogate-failed", LOG_ERR(&e), LOG_END);
		return -1;
	}
	s->object_bytes = made.octets;
	fd = made.fd;
	made.fd = -1;
	surrogate_fini(&made);
	return fd;
}

static void
begin(struct session *s, int fd)
{
	const struct maildrop_message *m = maildrop_get(&s->drop, s->command.number[0]);

	assert(m != NULL && s->object < 0);
	s->object_bytes = m->size;
	if (!m->as_is)
		fd = surrogate_of(s, fd);
	if (fd < 0) {
		session_answer(s, "-ERR [SYS/TEMP] The message cannot be read, try again later");
		return;
	}
	s->object = fd;
	s->object_at = 0;
	if (s->command.verb == POP3_TOP)
		pop3_text_init_top(&s->text, s->command.number[1]);
	else
		pop3_text_init(&s->text);
	session_say(s, "+OK %llu octets\r\n", (unsigned long long)s->object_bytes);
	session_set_state(s, SESSION_SENDING);
	s->sent += s->command.verb == POP3_RETR;
}

/* The UIDs of the message wanted and of those behind it. */
static bool
send_fetch(struct edge *e, uint64_t id, void *arg)
{
	struct session *s = arg;
	bool sent = true;
	unsigned n = 0;

	uidset_reset(&s->uids);
	for (uint32_t i = s->command.number[0];
	     i <= s->drop.count && n < SESSION_OBJECTS_MAX && sent; i++) {
		const struct maildrop_message *m = maildrop_get(&s->drop, i);

		if (m == NULL)
			continue;
		sent = uidset_add(&s->uids, m->uid, m->uid);
		n++;
	}
	uidset_sort(&s->uids);
	return sent && session_send_fetch(s, e, id, STORE_WANT_OBJECT);
}

/* The number of the message with that UID, from number `from` on; 0 when there is none. */
static uint32_t
number_of(const struct session *s, uint32_t uid, uint32_t from)
{
	for (uint32_t i = from; i <= s->drop.count && i - from < s->drop.count; i++) {
		if (s->drop.messages[i - 1].uid == uid)
			return i;
		if (s->drop.messages[i - 1].uid > uid)
			return 0;
	}
	return 0;
}

/* Takes over the descriptors of an answer: they are in the order of its records. */
static int
take_objects(struct session *s, struct msg_MSG_FETCH_REPLY *m, struct err *e)
{
	struct memfd_map map;
	struct store_record r;
	uint32_t number = s->command.number[0];
	unsigned i = 0;

	if (m->count == 0)
		return 0;
	if (memfd_map(m->records, m->bytes, STORE_RECORDS_BYTES_MAX, &map, e) < 0)
		return -1;
	struct cursor c = cursor_of(map.octets);

	for (; i < m->objects.n && s->objects.n < SESSION_OBJECTS_MAX && store_record_next(&c, &r);
	     i++) {
		number = number_of(s, r.uid, number);
		if (number == 0)
			break;
		s->objects.number[s->objects.n] = number;
		s->objects.fd[s->objects.n++] = m->objects.fd[i];
		m->objects.fd[i] = -1;
	}
	memfd_unmap(&map);
	return 0;
}

static void
on_objects(void *arg, void *reply, const struct err *e)
{
	struct session *s = arg;
	struct err why;
	int fd;

	assert(s->state == SESSION_FETCHING);
	if (reply == NULL || take_objects(s, reply, &why) < 0) {
		log_event(LOG_WARN, slice_str(s->name), "message-not-read",
		    LOG_ERR(reply == NULL ? e : &why), LOG_END);
		session_answer(s, "-ERR [SYS/TEMP] The message cannot be read, try again later");
	} else if ((fd = take_object(s, s->command.number[0])) < 0) {
		/* An IMAP session has removed it meanwhile. */
		session_answer(s, "-ERR The message is no longer there");
	} else {
		begin(s, fd);
	}
	session_step(s);
}

void
cmd_retr(struct session *s)
{
	if (maildrop_get(&s->drop, s->command.number[0]) == NULL) {
		session_bad(s, "-ERR No such message");
		return;
	}
	int fd = take_object(s, s->command.number[0]);

	if (fd >= 0) {
		begin(s, fd);
		return;
	}
	session_objects_drop(s);
	session_set_state(s, SESSION_FETCHING);
	keeper_ask(send_fetch, on_objects, s);
}

static void
end_object(struct session *s)
{
	(void)close(s->object);
	s->object = -1;
}

/* Nothing can be said in the middle of a message: the client must see that it is not whole. */
static void
cut(struct session *s, const char *detail)
{
	log_event(LOG_ERROR, slice_str(s->name), "message-cut", LOG_CSTR("error", detail), LOG_END);
	end_object(s);
	session_close(s, NULL);
}

/* Sends a piece; false when that was the last, or the session was closed over it. */
static bool
send_piece(struct session *s, uint64_t size)
{
	static uint8_t piece[SESSION_PIECE_BYTES];
	struct buf out;
	struct err e;
	int64_t n = memfd_read(s->object, s->object_at, piece, sizeof piece, &e);

	if (n < 0) {
		cut(s, e.detail);
		return false;
	}
	s->object_at += (uint64_t)n;
	bool last = n == 0 || s->object_at >= size;

	if (last && s->object_at != size) {
		cut(s, "the object has another size than its record");
		return false;
	}
	buf_init(&out, 2 * SESSION_PIECE_BYTES + 8);
	(void)pop3_text_put(&s->text, slice_of(piece, (size_t)n), &out);
	last = last || s->text.done;
	if (last)
		(void)pop3_text_end(&s->text, &out);
	assert(!out.failed);
	stream_write(s->stream, buf_slice(&out));
	buf_fini(&out);
	return !last;
}

bool
cmd_retr_more(struct session *s)
{
	while (!stream_full(s->stream)) {
		if (send_piece(s, s->object_bytes))
			continue;
		if (s->state == SESSION_CLOSING)
			return false;
		end_object(s);
		return true;
	}
	return false;
}
