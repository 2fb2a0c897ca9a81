/*
 * login: a client's connection from accept to login, the same for every protocol that ends in a
 * relay to the account's worker: listeners and their limits, TLS, the SASL exchange, which is
 * carried to a verifier whose word alone counts, the pause after a refusal, the lease, and the
 * store's end of the relay. What differs is in struct login_protocol: grammar and words. A process
 * serves one protocol. Nothing blocks.
 *
 * A protocol's own connection begins with struct login_conn. It reads stream_input() in its step()
 * while login_takes_input(), runs a line as a command in LOGIN_READY and gives it to login_line()
 * in LOGIN_LINE. Input that comes in other states stays in the stream's buffer, so that pipelined
 * commands are taken in order, and after a login go through the relay unread.
 *
 * login_conn.c  connections and what the role is told about them
 * login.c       one connection's exchange with the verifier and the store
 */
#ifndef COMMON_LOGIN_H
#define COMMON_LOGIN_H

#include "common/ipc.h"
#include "common/listener.h"
#include "common/stream.h"

/* Of a client's response, decoded, and of a mechanism's name, as the message table has them. */
#define LOGIN_RESPONSE_BYTES_MAX 12288
#define LOGIN_MECHANISM_BYTES_MAX 32
/* Refused logins, and commands that were wrong, until the connection is closed. */
#define LOGIN_TRIES_MAX 3
#define LOGIN_BAD_MAX 10
/* A refused login is answered so much later for each one, this one included. */
#define LOGIN_REFUSED_DELAY_MS 1000
/* How long the verifiers and the store may take. */
#define LOGIN_VERIFIER_MS 30000
#define LOGIN_ATTACH_MS 30000

enum login_state {
	LOGIN_HANDSHAKE, /* TLS is being set up */
	LOGIN_READY,	 /* waits for a command */
	LOGIN_LINE,	 /* waits for the client's part of a SASL exchange */
	LOGIN_VERIFYING, /* waits for the verifier */
	LOGIN_DELAYING,	 /* a refusal waits to be told */
	LOGIN_ATTACHING, /* waits for the store */
	LOGIN_RELAYING,
	LOGIN_CLOSING,
	LOGIN_STATE_COUNT
};

enum login_failure {
	LOGIN_TEMPORARY,   /* a process that is needed is away, late, or out of means */
	LOGIN_REFUSED,	   /* wrong, whether user or password */
	LOGIN_MALFORMED,   /* the exchange is not what the mechanism has */
	LOGIN_UNSUPPORTED, /* mechanism not offered */
	LOGIN_TOO_LONG,	   /* user and password pass LOGIN_RESPONSE_BYTES_MAX */
	LOGIN_NOT_BASE64,
	LOGIN_CANCELLED, /* by the client's "*" */
	LOGIN_CLEAR,	 /* no password is taken without TLS (RFC 8314 4.1) */
	LOGIN_IN_USE,	 /* the mailbox is for one session at a time, and has one */
	LOGIN_FAILURE_COUNT
};

struct login_protocol;
struct log_field;

/* A protocol reads it; all but session and utf8 is written here alone. */
struct login_conn {
	struct login_conn *next;
	struct login_conn **link;
	const struct login_protocol *protocol;
	enum login_state state;
	struct stream *stream;
	struct client_address client;
	struct loop_timer *login_timer;
	struct loop_timer *delay_timer;
	uint64_t conn;	  /* its number in this process: AUTH_STEP, STORE_ATTACH */
	char session[40]; /* its name in logs and traces; set by opened() */
	bool utf8;	  /* the client takes UTF-8: told to the worker */
	uint64_t began_ms;
	bool greeted;
	bool leased; /* authd opened a lease for it */
	unsigned tries;
	unsigned bad;
	uint64_t request;	   /* at the verifier or the store; 0: none */
	struct edge *request_edge; /* where it is, or where an exchange rests between two steps */
};

/* All functions must be there, unless they may be NULL. Lines are without CRLF. */
struct login_protocol {
	const char *service;	  /* in AUTH_STEP */
	const char *tls_listener; /* name of the listener that has TLS from the first octet */
	const char *failed_event; /* log: a connection ended by an error */
	size_t conn_bytes; /* of the protocol's struct, which begins with a struct login_conn */
	size_t input_bytes_max; /* held unread */
	/* Last words before a connection is closed. */
	const char *too_many_connections;
	const char *no_room; /* ended before login, so that others find a place */
	const char *too_many_errors;
	const char *too_many_tries;
	const char *too_late;
	const char *draining;

	/* A connection has come (memory is zeroed): names it and sets up its own members. */
	void (*opened)(struct login_conn *c, bool tls_first);
	/* Once, when the client may talk: after the handshake where TLS is first. */
	void (*greet)(struct login_conn *c);
	/* Input came, or the state allows to take what had come. Not called from inside step(). */
	void (*step)(struct login_conn *c);
	/* Answers the command or line that began it; the state is LOGIN_READY again. */
	void (*failed)(struct login_conn *c, enum login_failure why);
	/* The verifier said yes; login is the account's canonical name. The store is asked next. */
	void (*accepted)(struct login_conn *c, struct slice login);
	/* Last moment to say something before the relay begins. May be NULL. */
	void (*attached)(struct login_conn *c);
	/* The connection is over: releases what opened() made. */
	void (*closed)(struct login_conn *c);
};

/* ---- hooks of struct role_spec ---- */

/* In the role's init: p lives as long as the process. Makes tls_server(); -1 with *e when not. */
int login_init(const struct login_protocol *p, struct err *e);
void login_on_listener(const char *name, int fd);
void login_on_edge_up(struct edge *e);
/* Exchanges that rested at its peer are lost. */
void login_on_edge_down(struct edge *e);
void login_on_reload(void);
/* Stops listening, ends what has not logged in; role_exit() when the last one has gone, or soon. */
void login_on_drain(void);
extern const struct ipc_dispatch login_from_verifier;
extern const struct ipc_dispatch login_from_store;

/* ---- for the protocol ---- */

/* The state is one of a client's turn, and output is not full. */
bool login_takes_input(const struct login_conn *c);
/* Counts a command that was wrong and has been answered; after too many the connection closes. */
void login_bad(struct login_conn *c);
/* Says line (NULL: nothing more to say) and closes; nothing when that has begun, or a relay. */
void login_bye(struct login_conn *c, const char *line);
/* In LOGIN_READY, after the answer was written: TLS begins, and input in clear is dropped. */
void login_starttls(struct login_conn *c);
/* An event of the connection for log and recorder; fields end with LOG_END. */
void login_trace(struct login_conn *c, const char *event, const struct log_field *fields);

/*
 * The beginnings of a login, in LOGIN_READY. Each may call failed() before it returns; else that
 * or accepted() and attached() come later. Secrets are wiped here once they are sent.
 */
/* True when passwords are taken, or else failed(LOGIN_CLEAR). The other two ask it themselves. */
bool login_allowed(struct login_conn *c);
/* A user and password of the protocol's own commands: the mechanism PLAIN in other clothes. */
void login_plain(struct login_conn *c, struct slice user, struct slice password);
/* SASL. initial is base64, "=" for one that is empty (RFC 4959 3, RFC 5034 4), or has p == NULL. */
void login_auth(struct login_conn *c, struct slice mechanism, struct slice initial);
/* The client's line in LOGIN_LINE, without CRLF; p == NULL: one that was none. */
void login_line(struct login_conn *c, struct slice line);

#endif
