/*
 * What a client without UTF8 gets of a message with UTF-8 in its headers has another size than the message, and STAT and
 * LIST should tell that one (RFC 6856 2.1). So at login the headers of such messages are read, some messages at a time; most
 * maildrops have none.
 */
#include "pop3d/session.h"

#include "common/memfd.h"
#include "common/surrogate.h"
#include "pop3d/keeper.h"

#include <assert.h>

static bool
wants_measure(const struct maildrop_message *m)
{
	return !m->as_is;
}

static bool
send_fetch(struct edge *e, uint64_t id, void *arg)
{
	struct session *s = arg;
	bool sent = true;
	unsigned n = 0;

	uidset_reset(&s->uids);
	for (uint32_t i = s->measure_at; i <= s->drop.count && n < SESSION_OBJECTS_MAX && sent; i++) {
		const struct maildrop_message *m = &s->drop.messages[i - 1];

		if (!wants_measure(m))
			continue;
		sent = uidset_add(&s->uids, m->uid, m->uid);
		n++;
	}
	return sent && session_send_fetch(s, e, id, STORE_WANT_SUMMARY | STORE_WANT_OBJECT);
}

/* Counts n octets as read; false when they are too many. */
static bool
may_read(struct session *s, uint64_t n)
{
	bool may = n <= s->measure_left;

	s->measure_left = may ? s->measure_left - n : 0;
	return may;
}

/* What of the message's headers lies in its parts. */
static uint64_t
header_octets(const struct summary *sum)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < sum->parts_count; i++) {
		struct summary_part part;

		summary_part_get(sum, i, &part);
		n += part.body_start - part.header_start;
	}
	return n;
}

/*
 * A message that cannot be measured keeps its size: RETR will tell what is wrong with it. So does one without a summary, which
 * would have to be read whole at each login.
 */
static void
measure(struct session *s, struct maildrop_message *m, struct slice encoded, int fd)
{
	struct summary sum;
	uint64_t octets;
	struct err e;
	int got;

	if (!summary_decode(encoded, &sum) || !may_read(s, sum.ascii_headers ? 0 : header_octets(&sum)))
		return;
	got = surrogate_measure(fd, &sum, &octets, &e);
	m->as_is = got == 0;
	if (got == 1)
		maildrop_resize(&s->drop, m, octets);
}

/* The next message to measure from measure_at on; false when there is none. */
static bool
seek(struct session *s)
{
	while (s->measure_at <= s->drop.count && !wants_measure(&s->drop.messages[s->measure_at - 1]))
		s->measure_at++;
	return s->measure_at <= s->drop.count && s->measure_left > 0;
}

/* The records of an answer, in order of UID, with their objects. Goes past what is no longer there. */
static void
take(struct session *s, const struct msg_MSG_FETCH_REPLY *m, struct slice records)
{
	struct cursor c = cursor_of(records);
	struct store_record r;

	for (unsigned i = 0; i < m->objects.n && store_record_next(&c, &r); i++) {
		while (s->measure_at <= s->drop.count && s->drop.messages[s->measure_at - 1].uid < r.uid)
			s->measure_at++;
		if (s->measure_at > s->drop.count || s->drop.messages[s->measure_at - 1].uid != r.uid)
			continue;
		measure(s, &s->drop.messages[s->measure_at - 1], r.summary, m->objects.fd[i]);
		s->measure_at++;
	}
}

static void
on_objects(void *arg, void *reply, const struct err *e)
{
	struct session *s = arg;
	const struct msg_MSG_FETCH_REPLY *m = reply;
	uint32_t last = s->uids.n > 0 ? s->uids.ranges[s->uids.n - 1].last : 0;
	uint32_t before = s->measure_at;
	struct memfd_map map = {{NULL, 0}};
	struct err why;

	if (m == NULL) {
		session_load_failed(s, e);
		return;
	}
	if (m->count > 0 && memfd_map(m->records, m->bytes, STORE_RECORDS_BYTES_MAX, &map, &why) < 0) {
		session_load_failed(s, &why);
		return;
	}
	take(s, m, map.octets);
	memfd_unmap(&map);
	/* All that was asked for was answered, or nothing of it is there. */
	while (s->measure_at <= s->drop.count && (m->next_uid == 0 || s->measure_at == before) &&
	    s->drop.messages[s->measure_at - 1].uid <= last)
		s->measure_at++;
	session_measure(s);
}

void
session_measure(struct session *s)
{
	assert(s->state == SESSION_LOADING);
	if (s->measure_at == 0) {
		s->measure_at = 1;
		s->measure_left = SESSION_MEASURE_BYTES_MAX;
	}
	if (seek(s))
		keeper_ask(send_fetch, on_objects, s);
	else
		session_loaded(s);
}
