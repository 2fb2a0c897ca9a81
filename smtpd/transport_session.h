/*
 * transport_session: the client's side of one SMTP connection (RFC 5321) as a state machine. It sees octets and knows neither
 * sockets nor processes: what it stands on and whom it tells are two tables, so that tests can play both.
 *
 * One message at a time, in as many transactions as its recipients need. Each recipient gets its outcome from the reply that decides
 * it; those that this server has not decided are left for another one.
 */
#ifndef SMTPD_TRANSPORT_SESSION_H
#define SMTPD_TRANSPORT_SESSION_H

#include "smtpd/queue_item.h"
#include "smtpd/smtp_reply.h"

#define TRANSPORT_STATUS_MAX SMTP_REPLY_STATUS_MAX
#define TRANSPORT_TEXT_MAX 400 /* octets of a reply, or of our own words, with NUL */
#define TRANSPORT_MTA_MAX 300  /* "mx.example[2001:db8::1]", with NUL */
#define TRANSPORT_HELO_MAX 256
/* Recipients of one transaction: what every server has to take (RFC 5321 4.5.3.1.8). */
#define TRANSPORT_RCPTS_MAX 100
/* Octets of one BDAT chunk; each but the last is answered before the next is sent. */
#define TRANSPORT_CHUNK_BYTES (4u << 20)
/* Octets of the message in memory at a time. */
#define TRANSPORT_PIECE_BYTES (16u * 1024)

enum transport_stage {
	TRANSPORT_AT_CONNECT,
	TRANSPORT_AT_GREETING,
	TRANSPORT_AT_HELLO,
	TRANSPORT_AT_TLS,
	TRANSPORT_AT_MAIL,
	TRANSPORT_AT_RCPT,
	TRANSPORT_AT_DATA,
	TRANSPORT_AT_BODY,
	TRANSPORT_AT_DOT,
	TRANSPORT_AT_IDLE,
};

/* "greeting", "rcpt" ...: for the time line. */
const char *transport_stage_name(enum transport_stage s);

/* What came of one recipient here. */
struct transport_outcome {
	bool decided;
	enum queue_state state; /* QUEUE_PENDING: the server says later, or it is not known whether the message has arrived */
	bool unsure;		/* the reply to the end of the message was lost */
	bool refused;		/* not decided: a server of the domain has refused this host, and the relay is asked */
	bool dsn_passed;	/* the server offers DSN and was told what the sender wants (RFC 3461 5.2.1) */
	char status[TRANSPORT_STATUS_MAX];
	char text[TRANSPORT_TEXT_MAX];
	char mta[TRANSPORT_MTA_MAX];
};

/* Why a server did not take a message, or part of it. */
struct transport_failure {
	enum transport_stage stage;
	bool permanent;
	bool tls;  /* the handshake itself failed: the same server may be tried without */
	bool idle; /* the connection ended before it said anything of the message: another one may be better */
	bool said; /* text is what the server said */
	bool ours; /* this machine lacks a socket, a port or memory: no word of the server */
	char status[TRANSPORT_STATUS_MAX];
	char text[TRANSPORT_TEXT_MAX];
};

/* Fills *f; texts that are too long are cut. */
void transport_failure_set(struct transport_failure *f, enum transport_stage stage, bool permanent, const char *status, const char *text);

enum transport_tls {
	TRANSPORT_TLS_NONE, /* not even when offered */
	TRANSPORT_TLS_MAY,
	TRANSPORT_TLS_MUST,
};

struct transport_session_config {
	struct slice helo; /* our name, at most TRANSPORT_HELO_MAX - 1 octets; copied */
	struct slice mta;  /* the server's, for outcomes, at most TRANSPORT_MTA_MAX - 1 octets; copied */
	enum transport_tls tls;
	/* To log in with (RFC 4954), at a server that has proved who it is; empty: not at all. They outlive the session. */
	struct slice user, password;
	bool mx_proven; /* DNSSEC or a policy says that this is the domain's server (RFC 8689 4.2.1) */
	uint64_t command_ms; /* RFC 5321 4.5.3.2.1 to .4: for each reply but two */
	uint64_t data_ms;    /* .5: for each piece of the message */
	uint64_t data_rate;  /* octets a second that all of it must come to besides, at least 1 */
	uint64_t dot_ms;     /* .6: for the reply to its end */
};

/* What the session stands on. */
struct transport_wire {
	void (*write)(void *ctx, struct slice octets);
	/* Enough is on its way: transport_session_writable() is called when there is room. */
	bool (*full)(void *ctx);
	/* transport_session_secured() follows, or transport_session_ended(). */
	void (*starttls)(void *ctx);
	/* From now on transport_session_ended() comes after ms, unless this is called again. */
	void (*deadline)(void *ctx, uint64_t ms);
	/* The same while a message is written; it comes after total_ms at the latest, counted from the first of such calls in a row. */
	void (*deadline_of_piece)(void *ctx, uint64_t ms, uint64_t total_ms);
	/* What was written leaves, then the connection ends; the session takes nothing more. */
	void (*close)(void *ctx);
};

struct transport_session;

/* Whom it tells. None of these may free the session. */
struct transport_session_events {
	/* Ready for a message: transport_session_take() may be called, from here too. */
	void (*on_open)(void *arg);
	/* From here until the message is over it may have arrived. */
	void (*on_dot)(void *arg);
	/* The message is over. rest: why recipients are left undecided; NULL when none is. The session is ready for the next,
	 * unless it is over. */
	void (*on_message)(void *arg, const struct transport_failure *rest);
	/* The session is over: told last, once. */
	void (*on_over)(void *arg, const struct transport_failure *why);
	/* The message is sent otherwise than it is: so many of its bodies are encoded for a server that takes 7 bits. */
	void (*on_recoded)(void *arg, unsigned bodies);
	/* A reply that decided something. recipient: of RCPT, else empty. */
	void (*on_reply)(void *arg, enum transport_stage stage, const struct smtp_reply *reply, struct slice recipient);
};

struct transport_session *transport_session_new(const struct transport_session_config *config, const struct transport_wire *wire,
    void *ctx, const struct transport_session_events *ev, void *arg);
void transport_session_free(struct transport_session **t);

/* The connection stands: waits for the greeting. */
void transport_session_begin(struct transport_session *t);
/* The same over TLS that was there first (RFC 8314 3.3). proven as in transport_session_secured(). */
void transport_session_begin_secured(struct transport_session *t, bool proven);
/* What has been received and not been used yet; gives how many octets are used now. */
size_t transport_session_input(struct transport_session *t, struct slice in);
void transport_session_writable(struct transport_session *t);
/* The handshake is done; proven: the server is who it should be. */
void transport_session_secured(struct transport_session *t, bool proven);
/*
 * The connection is no more, or took too long; why is for people. pending: input that was not used; whole replies in it count as any
 * others. Nothing is written any more.
 */
void transport_session_ended(struct transport_session *t, const char *why, struct slice pending);
/* QUIT, when nothing is under way, and the end. on_over is not called. */
void transport_session_quit(struct transport_session *t);

struct transport_message {
	const struct queue_item *item;
	int fd;
	uint64_t from, to; /* the octets of fd that are the message */
	struct transport_outcome *outcomes; /* one for each recipient of item; those decided already are left out */
};

/*
 * Begins to send m, which stays valid until on_message. False, with *why_r, when this server cannot take it as it is: then nothing
 * was said to it, and it is ready as before. Only between on_open or on_message and on_over. Blocks on the file, when the server lacks
 * an extension that the message may need. What the server takes only in 7 bits is sent so (smtpd/sevenbit.h).
 */
bool transport_session_take(struct transport_session *t, const struct transport_message *m, struct transport_failure *why_r)
    __attribute__((warn_unused_result));
/* The server takes no further message of this session (RFC 9422 4). */
bool transport_session_spent(const struct transport_session *t);
/* Ready for a message. */
bool transport_session_idle(const struct transport_session *t);

#endif
