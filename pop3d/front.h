/*
 * front: the connections of role POP3_FRONT in the AUTHORIZATION state (RFC 1939 4); then they are
 * relayed to the account's worker. It knows no account, no password once it was sent on, and no
 * message.
 */
#ifndef POP3D_FRONT_H
#define POP3D_FRONT_H

#include "common/ipc.h"
#include "common/listener.h"
#include "common/stream.h"
#include "pop3d/pop3_command.h"

/* A line of an AUTH exchange: base64 of FRONT_RESPONSE_BYTES_MAX octets, CRLF. */
#define FRONT_AUTH_LINE_BYTES_MAX 16386
/* As the message table has it. */
#define FRONT_RESPONSE_BYTES_MAX 12288
#define FRONT_MECHANISM_BYTES_MAX 32
/* Before login: commands in all, those that were wrong, refused logins. */
#define FRONT_COMMANDS_MAX 100
#define FRONT_BAD_MAX 10
#define FRONT_TRIES_MAX 3
/* A refused login is answered so much later for each one before it. */
#define FRONT_REFUSED_DELAY_MS 1000
/* How long the verifiers and the store may take. */
#define FRONT_VERIFIER_MS 30000
#define FRONT_ATTACH_MS 30000

enum front_state {
	FRONT_HANDSHAKE, /* TLS is being set up */
	FRONT_READY,	 /* waits for a command */
	FRONT_AUTH_LINE, /* waits for the client's part of AUTH */
	FRONT_VERIFYING, /* waits for the verifier */
	FRONT_DELAYING,	 /* a refusal waits to be told */
	FRONT_ATTACHING, /* waits for the store */
	FRONT_RELAYING,
	FRONT_CLOSING,
	FRONT_STATE_COUNT
};

struct front_conn {
	struct front_conn *next;
	struct front_conn **link;
	enum front_state state;
	struct stream *stream;
	struct client_address client;
	struct pop3_framer framer;
	struct loop_timer *login_timer;
	struct loop_timer *delay_timer;
	uint64_t conn;			    /* its number: AUTH_STEP, STORE_ATTACH */
	char session[40];		    /* its name in logs and traces */
	char user[POP3_LINE_BYTES_MAX + 1]; /* of the USER command just before; else empty */
	bool greeted;
	bool leased; /* authd opened a lease for it */
	unsigned commands;
	unsigned bad;
	unsigned tries;
	uint64_t request;	   /* at the verifier or the store; 0: none */
	struct edge *request_edge; /* where it is, or where an exchange rests between two steps */
};

/* A listening socket of that service, "pop3" or "pop3s". */
void front_listen(const char *name, int fd);
/* That edge is about to be freed: exchanges that rested at its peer are lost. */
void front_edge_down(struct edge *e);
/* Settings changed. */
void front_reload(void);
/*
 * Stops listening and ends what has not logged in; role_exit() when the last one has gone, or soon.
 */
void front_drain(void);
extern const struct ipc_dispatch front_from_verifier;
extern const struct ipc_dispatch front_from_store;

/* ---- between front.c and front_login.c ---- */

void front_set_state(struct front_conn *c, enum front_state state);
/* A status line, text without CRLF, and back to FRONT_READY. */
void front_answer(struct front_conn *c, const char *text);
/* The same for a command that was wrong; closes after too many. */
void front_bad(struct front_conn *c, const char *text);
/* A last status line, then the connection closes. */
void front_bye(struct front_conn *c, const char *text);
/* Runs what input has come. */
void front_step(struct front_conn *c);
/* An event of the connection for the recorder; fields ends with LOG_END. */
struct log_field;
void front_trace(struct front_conn *c, const char *event, const struct log_field *fields);

void front_user(struct front_conn *c, const struct pop3_command *cmd);
void front_pass(struct front_conn *c, const struct pop3_command *cmd);
void front_auth(struct front_conn *c, const struct pop3_command *cmd);
/* A line of the client in FRONT_AUTH_LINE; p == NULL: one that was none. */
void front_auth_line(struct front_conn *c, struct slice line);
/* Forgets what was asked of others for this connection. */
void front_forget(struct front_conn *c);
/* Gives its lease back, if it has one. */
void front_lease_close(struct front_conn *c);

#endif
