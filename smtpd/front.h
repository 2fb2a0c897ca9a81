/*
 * front: the SMTP dialogue, shared by the roles smtp-front (port 25, and LMTP) and
 * submission (587, 465). A session is one struct front; its work is done by one
 * step function, which reads what has arrived, runs commands from one table, and
 * stops when the answer of another process is due, so that replies come in order.
 *
 * A front opens no path, connects to nobody, and says nothing about who sends: it hands
 * the transaction to deliver, which believes the directory and the lease.
 *
 * front_session.c   a session's life: accept, step, states, time, end (when all places are taken: front_room.c)
 * front_reply.c     replies and the time line
 * front_command.c   the table of commands; greeting, STARTTLS and the small ones
 * front_transaction.c MAIL and RCPT with the directory's answers
 * front_data.c      DATA: framing, limits, spooling, handing over
 * front_chunk.c     BDAT: the same by counted octets
 * front_policy.c    what the tables of smtpd/policy.h make of it
 * front_client.c    what the DNS says of the client, and how much came from it lately (port 25)
 * front_auth.c, front_local.c  who submits (front_login.h)
 * front_proxy.c     connections through a proxy that tells the client's address
 * front_xclient.c   XCLIENT of configured relays
 * front_service.c   the role: listeners, settings, edges, drain
 */
#ifndef SMTPD_FRONT_H
#define SMTPD_FRONT_H

#include "common/arena.h"
#include "common/ipc.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/role.h"
#include "common/stream.h"
#include "smtpd/client_check.h"
#include "smtpd/envelope.h"
#include "smtpd/front_limits.h"
#include "smtpd/front_message.h"
#include "smtpd/front_rate.h"
#include "smtpd/smtp_framer.h"
#include "smtpd/smtp_id.h"
#include "smtpd/xclient.h"

enum front_state {
	FRONT_STATE_GREETING, /* the greeting is not out yet */
	FRONT_STATE_HELO,     /* EHLO or HELO is due */
	FRONT_STATE_READY,    /* no transaction */
	FRONT_STATE_AUTH,     /* a line of the SASL exchange is due */
	FRONT_STATE_MAIL,     /* MAIL was taken */
	FRONT_STATE_RCPT,     /* and a recipient too */
	FRONT_STATE_DATA,     /* message data is due */
	FRONT_STATE_CHUNK,    /* the octets of a BDAT are due */
	FRONT_STATE_CHUNKED,  /* between two BDATs of a message */
	FRONT_STATE_HANDED,   /* deliver has the message */
	FRONT_STATE_CLOSING,  /* nothing more is read */
	FRONT_STATE_COUNT
};
#define FRONT_STATE_BIT(s) (1u << (s))

/* Whose answer is due before the next command runs. */
enum front_wait {
	FRONT_WAIT_NONE,
	FRONT_WAIT_RESOLVE, /* RCPT: directory */
	FRONT_WAIT_USAGE,   /* RCPT: store */
	FRONT_WAIT_SENDER,  /* MAIL: directory */
	FRONT_WAIT_SPOOL,   /* data: queue */
	FRONT_WAIT_CLIENT,  /* end of data: what the DNS says of the client */
	FRONT_WAIT_DELIVER, /* end of data: deliver */
	FRONT_WAIT_AUTH,    /* AUTH: verifier */
	FRONT_WAIT_LOCAL,   /* a user of this machine has connected: directory */
};

/* The chunk that is being read (RFC 3030 2). */
struct front_chunk {
	uint64_t bytes;
	uint64_t left;
	bool last;
	const struct smtp_reply_words *refusal; /* its octets are thrown away, then this is said; NULL: they are kept */
	enum front_state back;			/* where a refused one leads */
	uint64_t began_ms;
};

/* What a listening socket is for. */
struct front_port {
	const char *name; /* of the listener */
	bool tls_first;	  /* 465: TLS from the first octet */
	bool lmtp;	  /* RFC 2033 instead of SMTP */
	bool local;	  /* users of this machine (front_local.c) */
	struct listener_group *group;
};

struct front {
	struct front *next, *previous; /* all sessions of the process */
	struct stream *stream;
	struct loop_timer *timer; /* greeting, then silence and the limits of time */
	struct loop_timer *again; /* the step used up its share */
	struct client_address client;
	struct client_check *check; /* of its address; NULL when it is not from outside */
	char id[SMTP_SESSION_ID_CHARS + 1];
	uint64_t conn;
	enum front_state state;
	enum front_wait wait;
	struct edge *asked; /* with asked_id: the question that `wait` stands for */
	uint64_t asked_id;
	const struct front_port *port;
	bool may_xclient;
	bool telling;	      /* what XCLIENT says now is of the same client as before */
	struct xclient *told; /* NULL: nothing */
	struct client_address relay; /* who told */
	bool uncounted; /* among the connections of its network */
	bool stepping;
	/* the client */
	struct smtp_line_framer line;
	bool esmtp;
	char helo[SMTP_DOMAIN_BYTES_MAX + 1];
	unsigned commands;
	unsigned bad_commands;
	unsigned refused_recipients;
	unsigned failed_logins;
	unsigned transactions;
	uint64_t thrown;
	uint64_t swallowed; /* of refused chunks */
	struct front_chunk chunk;
	uint64_t began_ms, asked_at_ms, waited_since_ms; /* asked: when `wait` began; waited: front_room.h */
	/* who logged in (submission) */
	struct edge *verifier; /* one exchange stays at one verifier */
	uint64_t account;
	char login[ENVELOPE_ADDRESS_BYTES_MAX + 1];
	struct front_transaction t;
};

/* ---- front_service.c ---- */

/* A role's main() fills these in once. */
struct front_service {
	bool submission;
	const char *name;	  /* "smtp" in the log */
	struct listener_group *group, *lmtp_group, *local_group;
	struct front_rate *rates;
	struct front *sessions;
	unsigned session_count;
	uint64_t memory_bytes; /* sum of front_data.memory_bytes */
	uint64_t next_conn;
	bool draining;
};
extern struct front_service smtpd_service;

/* Too many connections from there: says so, unless TLS comes first, and closes. */
void smtpd_refuse_connection(int fd, const struct client_address *a, const struct front_port *port);

/* ---- front_proxy.c ---- */

/* Takes a connection of a proxy (fd owned from now on), which is to begin with a header; then smtpd_accept(). */
void smtpd_proxied(int fd, const struct client_address *a, const struct front_port *port);
/* Ends those that have not said whose they are. */
void smtpd_proxied_drain(void);

/* ---- front_session.c ---- */

/* Takes a connection (fd owned from now on). */
void smtpd_accept(int fd, const struct client_address *a, const struct front_port *port);
/* The client is a server of somewhere else (port 25), of which nothing is known: neither a user of ours nor one that speaks LMTP. */
bool smtpd_outside(const struct front *f);
/* The only writer of state; an edge that the table does not have is our own fault. */
void smtpd_set_state(struct front *f, enum front_state to);
/* Runs the session as far as it goes. */
void smtpd_step(struct front *f);
/* Begins to wait; id comes from ipc_expect(). Nothing is read from the client's input until smtpd_answered(). */
void smtpd_wait_for(struct front *f, enum front_wait what, struct edge *e, uint64_t id);
/* The edge ends: an exchange over it is over, and so is a login whose lease was at the other end. */
void smtpd_peer_lost(struct front *f, const struct edge *e);
/* The process is to end: 421 now, or after the answer that is due. */
void smtpd_drain(struct front *f);
/* The answer for m->id came: the session, or NULL when nobody waits for it any more. */
struct front *smtpd_answered(struct edge *e, uint64_t id, enum front_wait what);
/* The wait is over without an answer: first thing in every function given to ipc_expect(). */
void smtpd_gone(struct front *f);
/* Sends "421 enhanced text" when it has words, then closes. */
void smtpd_close(struct front *f, const char *enhanced, const char *text);
/* Back to READY with an empty transaction (RSET, EHLO, the end of a message). */
void smtpd_transaction_reset(struct front *f);
/* DSN is offered (RFC 3461): where senders are our own users, or reports can reach those of other servers. */
bool smtpd_offers_dsn(void);
uint64_t smtpd_release_max(void); /* how many seconds ahead a message may be sent (RFC 4865); 0: not offered */

/* ---- front_reply.c ---- */

/* "code enhanced text" CRLF; enhanced is NULL where RFC 2034 wants none. text may have no line ends. */
void smtpd_reply(struct front *f, unsigned code, const char *enhanced, const char *text);
void smtpd_reply_words(struct front *f, const struct smtp_reply_words *w);
/* The reply to a message: once, or on LMTP once for each recipient that has none yet (RFC 2033 4.2, 4.3). */
void smtpd_reply_message(struct front *f, const struct smtp_reply_words *w);
/* An event of the time line, to the log and the recorder. */
void smtpd_trace_fields(struct front *f, const char *event, const struct log_field *fields);
#define smtpd_trace(f, event, ...) smtpd_trace_fields((f), (event), (const struct log_field[]){__VA_ARGS__})

/* ---- front_command.c ---- */

/* Runs one line. */
void smtpd_command(struct front *f, struct slice line);
/* The greeting, or its refusal. */
void smtpd_greet(struct front *f);
/* Its words alone. */
void smtpd_greeting(struct front *f);

/* ---- front_xclient.c ---- */

const struct smtp_reply_words *smtpd_xclient_check(const struct front *f);
void smtpd_xclient(struct front *f, struct slice args);
/* The relay speaks for itself again. False: it may not, and the session is closed. */
bool smtpd_xclient_forget(struct front *f);
/* What the relay said of the client: its name; how it greeted, instead of the relay's own EHLO; whether it spoke ESMTP. */
void smtpd_xclient_names(const struct front *f, struct client_query *q);
void smtpd_xclient_helo(struct front *f);
bool smtpd_xclient_esmtp(const struct front *f);

/* ---- front_transaction.c ---- */

void smtpd_mail(struct front *f, struct slice args);
void smtpd_rcpt(struct front *f, struct slice args);
void smtpd_on_resolve(struct edge *e, struct msg_DIR_RESOLVE_REPLY *m);
void smtpd_on_sender(struct edge *e, struct msg_DIR_SENDER_REPLY *m);
void smtpd_on_usage(struct edge *e, struct msg_STORE_USAGE_REPLY *m);

/* ---- front_data.c ---- */

void smtpd_data(struct front *f, struct slice args);
/* Says why not, and closes when the message's text has come all the same. */
void smtpd_refuse_data(struct front *f, const struct smtp_reply_words *w);
/* Takes what has arrived of a message; false when there is nothing to take now. */
bool smtpd_data_step(struct front *f);
/* Releases what it holds. */
void smtpd_data_drop(struct front *f);
/* For chunks: a file for a message that begins, or the words why there is none; keeps octets; the words for a message that
 * cannot be kept, if `more` octets follow; the end, with the reply to come. */
const struct smtp_reply_words *smtpd_data_begin(struct front *f);
void smtpd_data_keep(struct front *f, struct slice octets, bool at_end);
const struct smtp_reply_words *smtpd_data_refusal(struct front *f, uint64_t more);
void smtpd_data_end(struct front *f);
/* Hands the complete message to deliver: what the DNS says of the client is known. */
void smtpd_data_give(struct front *f);
void smtpd_on_spool(struct edge *e, struct msg_SPOOL_REPLY *m);
void smtpd_on_recipient(struct edge *e, struct msg_DELIVER_RECIPIENT *m);
void smtpd_on_deliver(struct edge *e, struct msg_DELIVER_REPLY *m);

/* ---- front_chunk.c ---- */

/* BDAT. Its octets follow whatever is wrong with it: with a refusal they are thrown away before it is said. */
void smtpd_bdat(struct front *f, struct slice args, const struct smtp_reply_words *refusal);
/* Takes what has arrived of a chunk; false when there is nothing to take now. */
bool smtpd_chunk_step(struct front *f);

#endif
