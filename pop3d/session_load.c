/*
 * The maildrop is read once, in batches: the number of INBOX, then the records of all its messages.
 * INBOX is not watched: what comes later is for the next session. The login is answered when all is
 * there.
 */
#include "pop3d/session.h"

#include "common/log.h"
#include "common/memfd.h"
#include "pop3d/keeper.h"
#include "store/mailbox_list.h"

#include <assert.h>

void
session_load_failed(struct session *s, const struct err *e)
{
	log_event(LOG_WARN, slice_str(s->name), "maildrop-not-loaded", LOG_ERR(e), LOG_END);
	session_close(s, e->class == ERR_TEMP
			     ? "-ERR [SYS/TEMP] The maildrop cannot be opened, try again later"
			     : "-ERR [SYS/PERM] The maildrop cannot be opened");
}

bool
session_send_fetch(struct session *s, struct edge *e, uint64_t id, uint8_t want)
{
	struct buf b;
	bool sent;

	buf_init(&b, UIDSET_FIELD_BYTES_MAX);
	sent = uidset_put(&b, &s->uids) &&
	       IPC_SEND(e, MSG_FETCH, .id = id, .mailbox = s->inbox, .want = want, .uids = buf_slice(&b), .uids_fd = -1);
	buf_fini(&b);
	return sent;
}

static bool
send_fetch(struct edge *e, uint64_t id, void *arg)
{
	struct session *s = arg;

	uidset_reset(&s->uids);
	return uidset_add(&s->uids, s->from_uid, UINT32_MAX) && session_send_fetch(s, e, id, STORE_WANT_DETAIL);
}

/* Adds the records of one answer; -1 when they are not what they should be. */
static int
take_records(struct session *s, const struct msg_MSG_FETCH_REPLY *m, struct err *e)
{
	struct memfd_map map;
	struct store_record r;
	bool ok = true;

	if (m->count == 0)
		return 0;
	if (memfd_map(m->records, m->bytes, STORE_RECORDS_BYTES_MAX, &map, e) < 0)
		return -1;
	struct cursor c = cursor_of(map.octets);

	while (ok && store_record_next(&c, &r))
		ok = maildrop_add(&s->drop, &r, s->utf8 || r.ascii_headers);
	ok = ok && !c.bad;
	memfd_unmap(&map);
	return ok ? 0
		  : err_set(e, ERR_TEMP, ERR_CODE_MALFORMED, "Temporary failure",
			"records that make no sense");
}

void
session_loaded(struct session *s)
{
	session_say(s, "+OK %u messages (%llu octets)\r\n", s->drop.count,
	    (unsigned long long)s->drop.bytes);
	session_set_state(s, SESSION_READY);
	stream_read_enable(s->stream, true);
	session_step(s);
}

static void
on_records(void *arg, void *reply, const struct err *e)
{
	struct session *s = arg;
	const struct msg_MSG_FETCH_REPLY *m = reply;
	struct err why;

	if (m == NULL) {
		session_load_failed(s, e);
	} else if (take_records(s, m, &why) < 0) {
		session_load_failed(s, &why);
	} else if (m->next_uid <= s->from_uid) {
		maildrop_complete(&s->drop);
		session_measure(s);
	} else {
		s->from_uid = m->next_uid;
		keeper_ask(send_fetch, on_records, s);
	}
}

static bool
send_list(struct edge *e, uint64_t id, void *arg)
{
	(void)arg;
	return IPC_SEND(e, MBOX_LIST, .id = id);
}

/* The number of INBOX in the table; 0 when it is not there. */
static uint32_t
find_inbox(struct slice table)
{
	struct cursor c = cursor_of(table);
	struct store_mailbox m;

	while (store_mailbox_next(&c, &m)) {
		if (m.selectable && slice_eq_nocase(m.name, SLICE("INBOX")))
			return m.number;
	}
	return 0;
}

static void
on_list(void *arg, void *reply, const struct err *e)
{
	struct session *s = arg;
	const struct msg_MBOX_LIST_REPLY *m = reply;
	struct memfd_map map;
	struct err why;

	if (m == NULL) {
		session_load_failed(s, e);
		return;
	}
	if (memfd_map(m->table, m->bytes, STORE_LIST_BYTES_MAX, &map, &why) < 0) {
		session_load_failed(s, &why);
		return;
	}
	s->inbox = find_inbox(map.octets);
	memfd_unmap(&map);
	if (s->inbox == 0) {
		err_set(&why, ERR_TEMP, ERR_CODE_NOT_FOUND, "Temporary failure",
		    "the account has no INBOX");
		session_load_failed(s, &why);
		return;
	}
	s->from_uid = 1;
	keeper_ask(send_fetch, on_records, s);
}

void
session_load(struct session *s)
{
	assert(s->state == SESSION_LOADING);
	stream_read_enable(s->stream, false);
	keeper_ask(send_list, on_list, s);
}
