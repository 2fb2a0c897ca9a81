/* Commands that ask nobody: CAPABILITY, NOOP, CHECK, LOGOUT, ID, ENABLE, NAMESPACE, IDLE, UNSELECT. */
#include "imapd/capability.h"
#include "imapd/cmd.h"

/* Commands without arguments begin with this. */
static bool
no_args(struct session *s, struct imap_scan *args)
{
	if (imap_no_args(args))
		return true;
	session_scan_failed(s, args);
	return false;
}

void
cmd_capability_start(struct session *s, struct imap_scan *args)
{
	if (!no_args(s, args))
		return;
	buf_put_str(&s->out, "* CAPABILITY " CAPABILITY_LOGGED_IN "\r\n");
	session_ok(s, "CAPABILITY completed");
}

/* What is new is told at the end of every command. */
void
cmd_noop_start(struct session *s, struct imap_scan *args)
{
	if (no_args(s, args))
		session_ok(s, "NOOP completed");
}

/* RFC 3501 6.4.1: nothing to do, all is on disk before it is answered. */
void
cmd_check_start(struct session *s, struct imap_scan *args)
{
	if (no_args(s, args))
		session_ok(s, "CHECK completed");
}

void
cmd_logout_start(struct session *s, struct imap_scan *args)
{
	if (!no_args(s, args))
		return;
	session_deselect(s);
	buf_putf(&s->out, "* BYE Logging out\r\n%s OK LOGOUT completed\r\n", s->tag);
	session_end(s);
}

/* RFC 2971: what the client is called changes nothing. */
void
cmd_id_start(struct session *s, struct imap_scan *args)
{
	struct imap_id *id = session_work(s, sizeof *id);

	if (id == NULL)
		return;
	if (!imap_id_args(args, id)) {
		session_scan_failed(s, args);
		return;
	}
	buf_put_str(&s->out, "* ID (\"name\" \"Mailstead\" \"version\" \"" MAILSTEAD_VERSION "\")\r\n");
	session_ok(s, "ID completed");
}

/* RFC 5161 3.1: unknown names are ignored. What was enabled stays so until the session ends (3.2). */
void
cmd_enable_start(struct session *s, struct imap_scan *args)
{
	struct imap_enable enable;

	if (!imap_enable_args(args, &enable)) {
		session_scan_failed(s, args);
		return;
	}
	s->utf8 |= enable.utf8_accept;
	buf_put_str(&s->out, enable.utf8_accept ? "* ENABLED UTF8=ACCEPT\r\n" : "* ENABLED\r\n");
	session_ok(s, "ENABLE completed");
}

/* RFC 2342: one personal namespace. */
void
cmd_namespace_start(struct session *s, struct imap_scan *args)
{
	if (!no_args(s, args))
		return;
	buf_put_str(&s->out, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
	session_ok(s, "NAMESPACE completed");
}

/* RFC 2177: the line that ends it is read by the session. */
void
cmd_idle_start(struct session *s, struct imap_scan *args)
{
	if (!no_args(s, args))
		return;
	buf_put_str(&s->out, "+ idling\r\n");
	session_idle(s);
}

/* RFC 3691 */
void
cmd_unselect_start(struct session *s, struct imap_scan *args)
{
	if (!no_args(s, args))
		return;
	session_deselect(s);
	session_ok(s, "UNSELECT completed");
}
