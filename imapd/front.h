/*
 * front: the connections of role IMAP_FRONT, from the greeting to the login; then they are relayed to the
 * account's worker. It knows no account, no password once it was sent on, and no mailbox.
 */
#ifndef IMAPD_FRONT_H
#define IMAPD_FRONT_H

#include "common/ipc.h"
#include "common/listener.h"
#include "common/stream.h"
#include "common/tls.h"
#include "imapd/imap_args.h"
#include "imapd/imap_framer.h"

/* Before login: one line, one command, all literals included. */
#define FRONT_LINE_BYTES_MAX 8192
#define FRONT_COMMAND_BYTES_MAX 16384
/* A line of an AUTHENTICATE exchange: base64 of FRONT_RESPONSE_BYTES_MAX. */
#define FRONT_AUTH_LINE_BYTES_MAX 16390
#define FRONT_RESPONSE_BYTES_MAX 12288
#define FRONT_ARENA_BYTES_MAX 65536
/* A refused literal that is read to its end. */
#define FRONT_DROP_BYTES_MAX 65536
/* Refused logins, and commands that were BAD, until BYE. */
#define FRONT_TRIES_MAX 3
#define FRONT_BAD_MAX 10
/* A refused login is answered so much later for each one before it. */
#define FRONT_REFUSED_DELAY_MS 1000
/* How long the verifiers and the store may take. */
#define FRONT_VERIFIER_MS 30000
#define FRONT_ATTACH_MS 30000

enum front_state {
	FRONT_HANDSHAKE, /* TLS is being set up */
	FRONT_READY,	 /* waits for a command */
	FRONT_AUTH_LINE, /* waits for the client's part of AUTHENTICATE */
	FRONT_VERIFYING, /* waits for the verifier */
	FRONT_DELAYING,	 /* a refusal waits to be told */
	FRONT_ATTACHING, /* waits for the store */
	FRONT_RELAYING,
	FRONT_CLOSING,
};

struct front_conn {
	struct front_conn *next;
	struct front_conn **link;
	enum front_state state;
	struct stream *stream;
	struct client_address client;
	struct imap_framer framer;
	struct loop_timer *login_timer;
	struct loop_timer *delay_timer;
	uint64_t conn;	   /* its number: AUTH_STEP, STORE_ATTACH */
	char session[40];  /* its name in logs and traces */
	char login[321];
	char tag[IMAP_TAG_BYTES_MAX + 1];
	bool greeted;
	bool leased; /* authd opened a lease for it */
	bool continuing; /* the exchange has begun at the verifier */
	unsigned tries;
	unsigned bad;
	uint64_t request; /* at the verifier or the store; 0: none */
	struct edge *request_edge; /* where it is, or where an exchange rests between two steps */
};

/* A listening socket of that service, "imap" or "imaps". */
void front_listen(const char *name, int fd);
/* That edge is about to be freed: exchanges that rested at its peer are lost. */
void front_edge_down(struct edge *e);
/* Settings changed. */
void front_reload(void);
/* Stops listening, ends what has not logged in; role_exit() when the last one has gone, or soon. */
void front_drain(void);
extern const struct ipc_dispatch front_from_verifier;
extern const struct ipc_dispatch front_from_store;

/* ---- between front.c and front_login.c ---- */

/* Text to the client, printf-like. */
void front_say(struct front_conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* `tag status text`, and back to FRONT_READY. */
void front_answer(struct front_conn *c, const char *status, const char *text);
/* `tag BAD text`, and BYE after too many. */
void front_bad(struct front_conn *c, const char *text);
/* `* BYE text`, then the connection closes. */
void front_bye(struct front_conn *c, const char *text);
void front_set_state(struct front_conn *c, enum front_state state);
/* Runs what input has come. */
void front_step(struct front_conn *c);

void front_login(struct front_conn *c, struct imap_scan *s);
void front_authenticate(struct front_conn *c, struct imap_scan *s);
/* A line of the client in FRONT_AUTH_LINE. */
void front_auth_line(struct front_conn *c, struct slice line);
/* Forgets what was asked of others for this connection. */
void front_forget(struct front_conn *c);
/* Gives the connection's lease back, if it has one. */
void front_lease_close(struct front_conn *c);

#endif
