/* STAT, LIST, UIDL, DELE, RSET (RFC 1939 5 and 7). A listing is written as the client takes it. */
#include "pop3d/session.h"

#include <assert.h>

static const char no_such[] = "-ERR No such message";

void
cmd_stat(struct session *s)
{
	session_say(s, "+OK %u %llu\r\n", s->drop.left, (unsigned long long)s->drop.left_bytes);
	session_set_state(s, SESSION_READY);
}

/* One message's line, with what comes before it. */
static void
say_message(struct session *s, const char *before, uint32_t number)
{
	const struct maildrop_message *m = maildrop_get(&s->drop, number);
	char uidl[MAILDROP_UIDL_SIZE];

	assert(m != NULL);
	if (s->command.verb == POP3_LIST) {
		session_say(s, "%s%u %llu\r\n", before, number, (unsigned long long)m->size);
		return;
	}
	maildrop_uidl(m, uidl);
	session_say(s, "%s%u %s\r\n", before, number, uidl);
}

static void
list(struct session *s, const char *title)
{
	if (s->command.args == 0) {
		session_say(s, "%s\r\n", title);
		s->list_at = 1;
		session_set_state(s, SESSION_LISTING);
	} else if (maildrop_get(&s->drop, s->command.number[0]) == NULL) {
		session_bad(s, no_such);
	} else {
		say_message(s, "+OK ", s->command.number[0]);
		session_set_state(s, SESSION_READY);
	}
}

void
cmd_list(struct session *s)
{
	list(s, "+OK Message numbers and octets");
}

void
cmd_uidl(struct session *s)
{
	list(s, "+OK Message numbers and unique-ids");
}

bool
cmd_list_more(struct session *s)
{
	for (; s->list_at <= s->drop.count && !stream_full(s->stream); s->list_at++) {
		if (maildrop_get(&s->drop, s->list_at) != NULL)
			say_message(s, "", s->list_at);
	}
	if (s->list_at <= s->drop.count)
		return false;
	session_say(s, ".\r\n");
	return true;
}

void
cmd_dele(struct session *s)
{
	struct maildrop_message *m = maildrop_get(&s->drop, s->command.number[0]);

	if (m == NULL) {
		session_bad(s, no_such);
		return;
	}
	maildrop_delete(&s->drop, m);
	session_say(s, "+OK Message %u marked\r\n", s->command.number[0]);
	session_set_state(s, SESSION_READY);
}

void
cmd_rset(struct session *s)
{
	maildrop_reset(&s->drop);
	session_say(s, "+OK %u messages (%llu octets)\r\n", s->drop.left,
	    (unsigned long long)s->drop.left_bytes);
	session_set_state(s, SESSION_READY);
}
