/*
 * session: one client in a POP3 worker: the TRANSACTION and UPDATE states (RFC 1939 5 and 6). Its
 * socket is the relay to the front. Only one session of an account has the maildrop at a time; any
 * other is told [IN-USE] and closed.
 */
#ifndef POP3D_SESSION_H
#define POP3D_SESSION_H

#include "common/stream.h"
#include "pop3d/maildrop.h"
#include "pop3d/pop3_command.h"
#include "pop3d/pop3_text.h"

/* Objects fetched at once: the message wanted and those behind it. */
#define SESSION_OBJECTS_MAX 16
/* Wrong commands until the session is closed. */
#define SESSION_BAD_MAX 50
/* Octets of a message handled at a time. */
#define SESSION_PIECE_BYTES 16384
/*
 * Octets of headers that are read at login to learn the sizes of surrogates; of what is left then, and of messages without a
 * summary, STAT and LIST tell the size of the message itself (RFC 6856 2.1: SHOULD).
 */
#define SESSION_MEASURE_BYTES_MAX (UINT64_C(64) << 20)

struct edge;

enum session_state {
	SESSION_LOADING,  /* waits for the maildrop */
	SESSION_READY,	  /* waits for a command */
	SESSION_FETCHING, /* waits for an object */
	SESSION_LISTING,  /* sends a listing */
	SESSION_SENDING,  /* sends a message */
	SESSION_UPDATING, /* waits for the end of QUIT */
	SESSION_CLOSING,
	SESSION_STATE_COUNT
};

/* Descriptors of some messages, in order of their numbers, that were fetched together. */
struct session_objects {
	uint32_t number[SESSION_OBJECTS_MAX];
	int fd[SESSION_OBJECTS_MAX];
	unsigned n;
};

struct session {
	struct session *next;
	struct session **link;
	enum session_state state;
	struct stream *stream; /* NULL: the client is gone, the update goes on */
	uint64_t number;       /* the store's */
	char name[65];	       /* in logs and traces */
	struct pop3_framer framer;
	struct maildrop drop;
	uint32_t inbox;	   /* the mailbox's number */
	uint32_t from_uid; /* where loading goes on */
	bool utf8;	   /* messages are sent as they are; else some as their surrogates (common/surrogate.h) */
	uint32_t measure_at;   /* number of the next message that may need one and was not measured */
	uint64_t measure_left; /* octets that may still be read for it */
	struct session_objects objects;
	struct pop3_command command; /* the one in progress; numbers only */
	uint32_t list_at;
	struct pop3_text text;
	int object; /* being sent; -1 */
	uint64_t object_at;
	uint64_t object_bytes;
	struct uidset uids; /* of the request at the keeper */
	uint64_t sequence;
	bool over; /* told to the role */
	unsigned bad;
	unsigned sent;
	unsigned removed;
};

/* A client, already authenticated, at the other end of fd (owned). utf8: it takes UTF-8 (RFC 6856). */
void session_new(int fd, uint64_t number, struct slice name, bool utf8);
/* The lease is gone: the session ends, without UPDATE unless that has begun. */
void session_revoke(uint64_t number);
/* All of them end, in the same way. */
void session_end_all(void);
unsigned session_count(void);
/* For the role. */
struct session_events {
	/*
	 * That session is over (WORKER_SESSION_END): another may have the maildrop, though the last
	 * words may still be on their way.
	 */
	void (*over)(uint64_t number);
	/* The last one is gone. */
	void (*none_left)(void);
};
void session_set_events(const struct session_events *ev);

/* ---- between the files of the session ---- */

void session_set_state(struct session *s, enum session_state state);
/* A status line, text without CRLF, and back to SESSION_READY. */
void session_answer(struct session *s, const char *text);
void session_bad(struct session *s, const char *text);
void session_say(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A last status line (or NULL), then the connection closes. */
void session_close(struct session *s, const char *text);
/* Does what can be done now. */
void session_step(struct session *s);

/* Loads the maildrop, then answers the login. */
void session_load(struct session *s);
/* The maildrop is there: where the client will get surrogates, puts their sizes in place; then session_loaded(). */
void session_measure(struct session *s);
void session_loaded(struct session *s);
/* e says why not: the session ends. */
void session_load_failed(struct session *s, const struct err *e);
/* Asks the keeper for `want` of the messages in s->uids, sorted; false when it cannot be sent. A keeper_send_fn calls it. */
bool session_send_fetch(struct session *s, struct edge *e, uint64_t id, uint8_t want);

void cmd_stat(struct session *s);
void cmd_list(struct session *s);
void cmd_uidl(struct session *s);
/* Goes on with a listing; true when it is done. */
bool cmd_list_more(struct session *s);
/* RETR and TOP. */
void cmd_retr(struct session *s);
bool cmd_retr_more(struct session *s);
void session_objects_drop(struct session *s);
void cmd_dele(struct session *s);
void cmd_rset(struct session *s);
void cmd_quit(struct session *s);

#endif
