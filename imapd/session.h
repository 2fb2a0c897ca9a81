/*
 * session: one logged-in IMAP connection in the account's worker. Commands run strictly one after the other; what comes
 * meanwhile waits in the stream. A session's numbering of messages is its own: `uids` holds what the client
 * was told, and changes only in session_flush (RFC 3501 7.4.1).
 *
 * The phases: READ (a command is being read), RUN (the command's run is to be called), WAIT (for the keeper or
 * for a list), FLUSH (changes are being told, then the tagged answer).
 */
#ifndef IMAPD_SESSION_H
#define IMAPD_SESSION_H

#include "common/arena.h"
#include "common/stream.h"
#include "imapd/append.h"
#include "imapd/imap_args.h"
#include "imapd/imap_framer.h"
#include "imapd/worker.h"
#include "store/uidset.h"

/* One line; one command with its literals but for APPEND's message. */
#define SESSION_LINE_BYTES_MAX 65536
#define SESSION_COMMAND_BYTES_MAX 131072
/* A refused non-synchronising literal that is read to its end; a longer one ends the session. */
#define SESSION_DROP_BYTES_MAX (UINT64_C(256) << 20)
/* Memory of one command's arguments and state. */
#define SESSION_ARENA_BYTES_MAX (16u << 20)
/* Commands in a row that were BAD, until BYE. */
#define SESSION_BAD_MAX 50
/* Output built at a time. */
#define SESSION_OUT_BYTES_MAX (8u << 20)

enum session_phase {
	SESSION_READ,
	SESSION_RUN,
	SESSION_WAIT,
	SESSION_FLUSH,
	SESSION_ENDED, /* BYE was said, or the stream is over */
};

/* The states in which a command is valid, bits. */
enum {
	SESSION_AUTHENTICATED = 1,
	SESSION_SELECTED = 2,
};

struct command_row;
struct fetch_surrogate;
struct session;

/* What a command may ask of the keeper at once: FETCH has two batches and the \Seen of one. */
#define SESSION_REQUESTS_MAX 3

typedef void session_reply_fn(struct session *s, void *reply, const struct err *e);

struct session_request {
	struct session *session;
	struct keeper_request *request;
	session_reply_fn *got;
};

struct session {
	struct session *next;
	struct session **link;
	struct worker *worker;
	uint64_t number;
	char name[65];
	struct stream *stream;
	struct imap_framer framer;
	struct arena *arena; /* of the command */
	struct buf out;	     /* built, not yet given to the stream */
	enum session_phase phase;
	bool stepping;
	struct loop_timer *again; /* the next step, when one has used its budget */
	struct loop_timer *autologout;
	uint64_t heard_ms; /* when the client last said something */
	unsigned bad;
	bool utf8; /* UTF8=ACCEPT is enabled (RFC 6855) */

	/* The command under way. */
	const struct command_row *row;
	char tag[IMAP_TAG_BYTES_MAX + 1];
	bool uid;
	void *work; /* the command's own, in the arena */
	struct session_request requests[SESSION_REQUESTS_MAX];
	struct mailbox_wait *table_wait;
	struct buf answer; /* the tagged answer, said after the flush */
	bool expunge_issued;
	bool idling;
	struct append *append; /* a message is being read; see append.h */

	/* The selected mailbox. */
	struct box *box;
	struct session *box_next;
	bool selected; /* the client was told */
	bool readonly;
	uint32_t *uids;
	size_t exists;
	size_t uids_cap;
	uint32_t uid_next;	/* UIDs below it are in uids or were there */
	struct uidset recent;	/* what is \Recent here */
	struct uidset pending;	/* flags to be told */
	struct uidset last;	/* the same, of the last change: */
	uint64_t last_modseq;
	bool new_due;		/* the view has more messages */
	bool expunge_due;	/* or fewer */
	size_t keywords_told;	/* octets of the keyword lines that the client knows */
	struct fetch_surrogate *surrogate; /* of a message of it */
	/* What session_flush is telling. */
	struct uidset telling;
	uint32_t telling_uid;
	size_t telling_at;
	uint32_t *expunged; /* sequence numbers, descending from the end */
	size_t expunged_n;
};

/* fd: the relay's end, owned. */
struct session *session_new(struct worker *w, uint64_t number, struct slice name, int fd);
/* Cuts the connection. */
void session_free(struct session *s);
/* `* BYE text`, and the session ends. */
void session_bye(struct session *s, const char *text);
struct session *session_find(struct worker *w, uint64_t number);
static inline bool
session_is_selected(const struct session *s)
{
	return s->selected;
}

/* ---- for the commands ---- */

/* Zeroed memory for the command's state, as s->work; NULL after a LIMIT was answered. */
void *session_work(struct session *s, size_t n);
/*
 * The command's end: changes are told, then `tag STATUS text`. code: "[...] " or "".
 */
void session_ok(struct session *s, const char *text);
void session_answer(struct session *s, const char *status, const char *code, const char *text);
/* BAD with the parser's words, or NO [LIMIT]. */
void session_scan_failed(struct session *s, const struct imap_scan *scan);
void session_bad(struct session *s, const char *text);
/* For append.c: answers a command whose literal was announced, and refuses that. */
void session_refuse(struct session *s, const char *status_and_text);
/* NO with what the keeper said. */
void session_failed(struct session *s, const struct err *e);
/* Asks the keeper: got is called with the answer (see keeper_done_fn), then the session goes on. slot: below
 * SESSION_REQUESTS_MAX, and free. */
void session_ask(struct session *s, unsigned slot, struct msg *m, session_reply_fn *got);
/* Goes on with whatever can be done now; nothing when it is at it already. */
void session_step(struct session *s);
/* IDLE has begun: changes are told until the next line. */
void session_idle(struct session *s);
/* Closes the connection after what was said. */
void session_end(struct session *s);
/* What comes next: nothing until an answer calls, or the command's run. */
void session_wait(struct session *s);
void session_run(struct session *s);
/* Gives the built output to the stream; false when that is full: return and be run again. */
bool session_push(struct session *s);
/*
 * The table of mailboxes, or NULL while it is being asked for (the command waits): then its run is called, and asks here again.
 * NULL too when it cannot be had; then the command was answered.
 */
struct mailbox_list *session_mailboxes(struct session *s);
/*
 * Appends the UTF-8 that a client's mailbox name or pattern stands for: modified UTF-7 (RFC 3501 5.1.3), or UTF-8 itself once UTF8=ACCEPT
 * is enabled, and before that when it has octets over 127 (RFC 6855 3). False, name unchanged, when it is neither or does not fit.
 */
bool session_name_read(const struct session *s, struct slice wire, struct buf *name);
/*
 * The store's name (UTF-8) of a mailbox named by a client, in the arena. False after the command was answered.
 */
bool session_mailbox_name(struct session *s, struct slice wire, struct slice *name_r);
/*
 * The same for a mailbox that is to be made: it must be Net-Unicode (RFC 6855 3, RFC 9051 5.1), so in NFC, else one name could be
 * two mailboxes that look the same.
 */
bool session_new_name(struct session *s, struct slice wire, struct slice *name_r);
/* Parts from the mailbox without a word. */
void session_deselect(struct session *s);

/* ---- messages of the selected mailbox ---- */

/* Index of the first UID >= uid. */
size_t session_seek(const struct session *s, uint32_t uid);
/* The entry in the view, or NULL when it is expunged already; valid until the next event. */
const struct store_entry *session_entry(const struct session *s, uint32_t uid);
bool session_recent(const struct session *s, uint32_t uid);
/* ---- between session.c, session_flush.c and box.c ---- */

/* e: NULL when the view is open. */
void session_box_opened(struct session *s, const struct err *e);
/* The flags of that message changed. */
void session_box_flags(struct session *s, const struct store_entry *e);
/* UIDs first..last are \Recent here. */
void session_box_recent(struct session *s, uint32_t first, uint32_t last);
/* The view has changed: it has more (came) or fewer (went) messages, or flags; an idling session tells it now. */
void session_box_changed(struct session *s, bool came, bool went);
/* Takes the view as what the client is told at SELECT. */
void session_flush_start(struct session *s);
/* Forgets all of the mailbox. */
void session_flush_end(struct session *s);
/* How many messages are \Recent. */
size_t session_recent_count(const struct session *s);
/* Tells some of the changes; true when all are told. expunge: EXPUNGE is allowed. */
bool session_flush(struct session *s, bool expunge);
/* The last change of flags was this session's own and is not told (.SILENT), or was told in another way. */
void session_forget_own(struct session *s, uint64_t modseq);
/* Tells these messages' flags at the next flush. */
void session_tell_flags(struct session *s, const struct uidset *uids);
/* "FLAGS (...)" of an entry into out. */
void session_put_flags(struct session *s, const struct store_entry *e);
/* `* FLAGS` and `* OK [PERMANENTFLAGS`. */
void session_put_flag_names(struct session *s);
/* Something is to be told. */
bool session_dirty(const struct session *s);

/* ---- the table of commands, commands.c ---- */

enum {
	COMMAND_NO_EXPUNGE = 1, /* FETCH, STORE, SEARCH without UID (RFC 3501 7.4.1) */
	COMMAND_UID = 2,	/* also as UID ... */
};

struct command_row {
	const char *name;
	unsigned states;
	unsigned flags;
	/* Parses the arguments, starts. The command ends by session_answer(). */
	void (*start)(struct session *s, struct imap_scan *args);
	/* Goes on, in SESSION_RUN. NULL when it never runs again. */
	void (*run)(struct session *s);
	/* It is over, or the session ends in the middle of it: give back what the arena does not have. May be NULL. */
	void (*end)(struct session *s);
};

const struct command_row *command_find(struct slice name);

#endif
