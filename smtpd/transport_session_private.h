/*
 * The inside of a session: transport_session.c opens the dialogue and ends it, transport_send.c says a message.
 */
#ifndef SMTPD_TRANSPORT_SESSION_PRIVATE_H
#define SMTPD_TRANSPORT_SESSION_PRIVATE_H

#include "smtpd/sevenbit.h"
#include "smtpd/transport_body.h"
#include "smtpd/transport_session.h"

/* What is waited for. */
enum session_state {
	SESSION_NEW,
	SESSION_GREETING,
	SESSION_EHLO,
	SESSION_HELO,
	SESSION_STARTTLS,
	SESSION_HANDSHAKE,
	SESSION_AUTH,	  /* the last reply to AUTH */
	SESSION_AUTH_USER, /* of LOGIN: the question for the name */
	SESSION_AUTH_PASSWORD,
	SESSION_IDLE,
	SESSION_ENVELOPE, /* replies to MAIL, RCPT and DATA */
	SESSION_BODY,	  /* room for more of the message */
	SESSION_CHUNK,	  /* the reply to a chunk that is not the last */
	SESSION_DOT,
	SESSION_EMPTY, /* the reply to a message without recipients */
	SESSION_RSET,
	SESSION_OVER,
};

enum recipient_phase {
	RECIPIENT_TODO,
	RECIPIENT_ASKED, /* in this transaction, no reply yet */
	RECIPIENT_TAKEN,
	RECIPIENT_OVER, /* decided, here or before */
	RECIPIENT_SKIPPED, /* this server lacks what its address needs */
};

struct transport_session {
	const struct transport_wire *wire;
	void *ctx;
	const struct transport_session_events *ev;
	void *arg;
	struct transport_session_config config;
	char helo[TRANSPORT_HELO_MAX];
	char mta[TRANSPORT_MTA_MAX];
	struct smtp_reply_parser parser;
	struct smtp_offer offer;
	enum session_state state;
	bool esmtp, secured, proven;
	bool auth_plain, auth_login; /* offered */
	bool over_told;
	bool gone; /* the connection is no more: nothing is written */

	struct transport_message message;
	bool busy; /* has one */
	bool smtputf8;
	uint8_t *phases; /* enum recipient_phase of each recipient */
	struct transport_failure lacking; /* why recipients were skipped */
	unsigned skipped;
	uint16_t batch[TRANSPORT_RCPTS_MAX];
	unsigned batch_n, taken;
	uint64_t mails; /* transactions begun */
	unsigned sent, got; /* commands of the transaction, and replies: MAIL, RCPTs, DATA */
	bool forwarded; /* those of the transaction have forward_from as reverse-path */
	bool mail_refused;
	struct sevenbit_plan *recoding; /* NULL: it is sent as it is */
	struct sevenbit_writer writer;
	struct buf recoded;  /* of it, not sent yet */
	uint64_t bytes;	     /* octets of the message as it is sent */
	uint64_t at;	     /* the next of them */
	uint64_t chunk_left;
	enum transport_stuff_state stuff;
};

/* ---- transport_session.c ---- */

/* Unless the connection is gone. */
void session_write(struct transport_session *t, struct slice octets);
/* The session is over; the message, if any, too. quit: the server is still talking to us. */
void session_fail(struct transport_session *t, const struct transport_failure *why, bool quit);
/* The same because of what the server said. */
void session_refused(struct transport_session *t, enum transport_stage stage, const struct smtp_reply *r);
/* The server says what makes no sense here. */
void session_lost(struct transport_session *t, enum transport_stage stage, const char *why);
void session_command(struct transport_session *t, enum session_state then, const char *line, uint64_t ms);
/* The status that goes with a reply: its own, or the class alone (RFC 3463). */
void session_status(const struct smtp_reply *r, char status_r[TRANSPORT_STATUS_MAX]);
/* The reply on one line. */
void session_reply_text(const struct smtp_reply *r, char text_r[TRANSPORT_TEXT_MAX]);

/* ---- transport_send.c ---- */

/* A reply, or none (r == NULL): there is room for more of the message. */
void send_step(struct transport_session *t, const struct smtp_reply *r);
/* The stage that the message is in. */
enum transport_stage send_stage(const struct transport_session *t);
/* The connection ended with the message under way: what that decides. */
void send_lost(struct transport_session *t, const struct transport_failure *why);

#endif
