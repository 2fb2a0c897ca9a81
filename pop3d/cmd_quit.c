/*
 * QUIT (RFC 1939 6): the only place where messages are removed, all marked ones in one transaction
 * of the keeper. It is asked again, with the same {origin, sequence}, if the keeper dies over it,
 * and seen to its end even when the client does not wait.
 */
#include "pop3d/session.h"

#include "common/log.h"
#include "pop3d/keeper.h"

#include <assert.h>
#include <unistd.h>

static bool
send_expunge(struct edge *e, uint64_t id, void *arg)
{
	struct session *s = arg;
	struct slice field;
	struct buf b;
	struct err why;
	int fd;

	buf_init(&b, UIDSET_FIELD_BYTES_MAX);
	bool sent = uidset_send(&s->uids, &b, &field, &fd, &why) == 0;

	if (sent) {
		sent = IPC_SEND(e, MSG_EXPUNGE, .id = id, .origin = keeper_origin(),
		    .sequence = s->sequence, .mailbox = s->inbox, .only_deleted = 0, .uids = field,
		    .uids_fd = fd);
		if (fd >= 0)
			(void)close(fd);
	}
	buf_fini(&b);
	return sent;
}

static void
on_expunged(void *arg, void *reply, const struct err *e)
{
	struct session *s = arg;

	assert(s->state == SESSION_UPDATING);
	if (reply == NULL) {
		log_event(
		    LOG_WARN, slice_str(s->name), "messages-not-removed", LOG_ERR(e), LOG_END);
		session_close(s, e->code == ERR_CODE_UNCERTAIN
			? "-ERR [SYS/TEMP] It is not known whether the deleted messages were removed"
			: "-ERR [SYS/TEMP] Some deleted messages were not removed");
		return;
	}
	s->removed = s->drop.count - s->drop.left;
	session_close(s, "+OK Bye");
}

void
cmd_quit(struct session *s)
{
	if (s->drop.left == s->drop.count) {
		session_close(s, "+OK Bye");
	} else if (!maildrop_deleted(&s->drop, &s->uids)) {
		session_close(s, "-ERR [SYS/PERM] Too many messages to remove at once");
	} else {
		session_objects_drop(s);
		session_set_state(s, SESSION_UPDATING);
		/* A client that has closed its direction still gets the answer. */
		stream_read_enable(s->stream, false);
		s->sequence = keeper_next_sequence();
		keeper_ask(send_expunge, on_expunged, s);
	}
}
