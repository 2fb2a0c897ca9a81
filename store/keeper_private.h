/*
 * keeper_private: what the files of the keeper share.
 */
#ifndef STORE_KEEPER_PRIVATE_H
#define STORE_KEEPER_PRIVATE_H

#include "common/loop.h"
#include "store/keeper.h"

/* Appends that wait for one sync of their directory. */
#define KEEPER_PENDING_MAX 64u
/* Changes, and appends, that wait for their step: past it nothing more is read of the peer that has another. */
#define KEEPER_LATER_MAX 256u
/* Pause before another try when there are no descriptors for one. */
#define KEEPER_SHORTAGE_MS 20u
/* What is over for good is looked for so often: first soon, because many keepers do not live long. */
#define KEEPER_PURGE_FIRST_MS 5000u
#define KEEPER_PURGE_MS 600000u
/* Answers and events that wait for a sync: past it they are synced and sent at once. */
#define KEEPER_OUTBOX_MAX 4096u

struct keeper_peer {
	struct edge *edge;
	/* A request that was put back until the quota is known or raised; 0: none. They are numbered as they came. */
	uint64_t held_no;
	uint64_t held_since_ms;
	enum msg_type held_type;
	bool retry; /* it may be handed over again */
	struct quota more;	/* what it adds */
	enum err_class verdict; /* when it is handed over again and still does not fit */
	uint32_t *watched; /* numbers of mailboxes */
	size_t watched_count;
	size_t watched_cap;
	uint32_t *resync; /* of those, the ones whose events did not fit; told when there is room */
	size_t resync_count;
	size_t resync_cap;
	bool table_lost; /* EVENT_MAILBOXES did not fit */
	bool table_told; /* it knows that its table is old, and has not asked for a new one since */
	struct keeper_peer *next;
};

/* A message that waits, for the sync or for its step: encoded, with its own descriptors. */
struct keeper_out {
	struct edge *edge; /* NULL: the peer has gone */
	enum msg_type type;
	struct buf octets;
	int *fds;
	unsigned fd_count;
	uint32_t event_mailbox; /* of an event: a resync replaces it when it does not fit */
	bool is_event;
};

struct keeper_line {
	struct keeper_out v[KEEPER_LATER_MAX];
	size_t n;
};

/* A view that was given away, kept for whoever opens that mailbox next; so many, and octets of all their files. */
#define KEEPER_VIEWS_MAX 8u
#define KEEPER_VIEWS_BYTES_MAX (64u << 20)
struct keeper_view {
	uint32_t mailbox; /* 0: the place is free */
	int fd;		  /* sealed, base entries */
	uint32_t base;
	struct buf changes; /* since, as store/view.h has them */
	uint32_t count;	    /* messages after them */
	uint64_t given;	    /* counts openings */
};

/* An append whose object is written. */
struct keeper_append {
	struct edge *edge;
	uint64_t id;
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t sequence;
	struct index_append a;
	struct buf keywords;
	struct buf summary;
};

struct keeper_quota {
	bool known; /* the parent has told the limit */
	struct quota limit;
	bool shared; /* with the domain: then the ceiling counts too */
	struct quota ceiling;
	uint64_t asked_for; /* held_no of the request for which the parent was asked; 0: it was not */
	struct quota asked; /* how much, */
	uint64_t asked_id;  /* and in which question */
	uint64_t last_held_no;
	struct loop_timer *retry_timer;
	struct loop_timer *deadline_timer;
};

struct keeper {
	struct loop *loop;
	struct index *ix;
	const char *root;
	struct keeper_settings settings;
	const struct keeper_events *events;
	void *arg;
	struct keeper_peer *peers;
	struct keeper_line changes; /* requests that wait for their step */
	struct keeper_line appends;
	size_t group;	   /* of those appends so many are still to be written before their directory is synced */
	bool appends_turn; /* changes had the last step */
	bool put_back;	   /* the request that is being done cannot be done yet */
	struct keeper_append *pending;
	size_t pending_count;
	bool pending_synced, pending_dropped; /* their directory; an object that one of them had was removed */
	uint64_t prepared;   /* one more than the directory of objects that is known to be there ahead */
	struct keeper_out *outbox;
	size_t outbox_count;
	size_t outbox_cap;
	struct loop_timer *step_timer;
	struct keeper_view views[KEEPER_VIEWS_MAX];
	uint64_t views_given;
	struct loop_timer *job_timer; /* the next step of keeper_admin.c */
	bool unflushed; /* something was committed since the last flush */
	bool stopped;	/* broken: nothing leaves any more */
	struct keeper_quota quota;
	uint64_t last_request_ms;
	uint64_t purge_due_ms;
	uint64_t purged_ms; /* when it was looked for last */
	struct quota told;
};

extern struct keeper the_keeper;

/* ---- keeper_batch.c ---- */

/* A request came: sets the clock. False when nothing is answered any more. */
bool keeper_begin_request(struct edge *e);
/* The directory of the appends that are written is synced. False when the process is at its end. */
bool keeper_pending_sync(void);
/* Then they are done. */
void keeper_pending_do(void);
/* Puts m into the outbox, or sends it when all that it could tell is durable already. Takes its descriptors. */
void keeper_send(struct edge *e, const struct msg *m);
/* The same for an event about a mailbox. */
void keeper_send_event(struct edge *e, const struct msg *m, uint32_t mailbox);
/* Syncs the log when there is something to sync; then sends what waited for it. */
void keeper_sync(void);
void keeper_out_free(struct keeper_out *out);
/* Sets class, code and text of a reply that has them. */
void keeper_reply_error(struct msg *reply, const struct err *e);

/*
 * A mutating request: true when it is to be done now, inside a transaction; else it was answered (done before, malformed, or the
 * index refuses). reply has the type and the id.
 */
bool keeper_mutation_begin(struct edge *e, struct slice origin, uint64_t sequence, struct msg *reply);
/* The same for an append: it is done later, so no transaction is begun and those that wait still wait. */
bool keeper_append_begin(struct edge *e, struct slice origin, uint64_t sequence, struct msg *reply);
/* Its end: commits and remembers the answer, or undoes and answers *err; then tells the watchers, then the peer. */
void keeper_mutation_end(struct edge *e, struct slice origin, uint64_t sequence, int failed, const struct err *err,
    struct msg *reply);
/* Commits what has no answer to remember, or undoes it; tells the watchers. True when it is done. */
bool keeper_commit(int failed);
/* Sets the id of a reply. */
void keeper_reply_id(struct msg *reply, uint64_t id);

/* ---- keeper_quota.c ---- */

void keeper_quota_init(struct keeper *k);
void keeper_quota_fini(struct keeper *k);
/* The limit for a transaction of now; what passes it is to be asked by keeper_quota_admit(), which tells why. */
struct quota keeper_quota_limit(void);
/*
 * May a request of that peer add so much? 1: yes; -1 and err: no; 0: it was put back (keeper_later.c) and comes
 * again when that is known: undo what was begun and return without an answer.
 */
int keeper_quota_admit(struct edge *e, struct quota more, struct err *err) __attribute__((warn_unused_result));
/* The same for a request that was tried: true when it failed for want of room and was put back; what it did is undone. */
bool keeper_quota_put_back(struct edge *e, int failed, struct err *err) __attribute__((warn_unused_result));
/* A request that was held is done: the next one is asked for. */
void keeper_quota_next(void);
/* Tells what is used as the ceiling; everything is flushed. last: the keeper leaves. */
void keeper_quota_tell(bool last);

/* ---- keeper_later.c ---- */

void keeper_later_MBOX_CHANGE(struct edge *e, struct msg_MBOX_CHANGE *m);
void keeper_later_MBOX_ADOPT(struct edge *e, struct msg_MBOX_ADOPT *m);
void keeper_later_MBOX_RECENT(struct edge *e, struct msg_MBOX_RECENT *m);
void keeper_later_MSG_FLAGS(struct edge *e, struct msg_MSG_FLAGS *m);
void keeper_later_MSG_COPY(struct edge *e, struct msg_MSG_COPY *m);
void keeper_later_MSG_EXPUNGE(struct edge *e, struct msg_MSG_EXPUNGE *m);
void keeper_later_MSG_SUMMARY(struct edge *e, struct msg_MSG_SUMMARY *m);
void keeper_later_MSG_APPEND(struct edge *e, struct msg_MSG_APPEND *m);
void keeper_later_peer_down(const struct edge *e);
/* Claims \Recent below uid for that peer, which is a question's own doing: when there is no room it is left undone. */
void keeper_later_claim(struct edge *e, uint32_t mailbox, uint32_t uid);
/* Up to which UID \Recent of that mailbox is about to be claimed; 0: it is not. */
uint32_t keeper_later_recent(uint32_t mailbox);
/* The timer's function: one step. */
void keeper_step(void *arg);
/* All steps at once. */
void keeper_flush(void);

/* ---- keeper_watch.c ---- */

struct keeper_peer *keeper_peer_of(struct edge *e);
void keeper_watch(struct edge *e, uint32_t mailbox);
void keeper_unwatch(struct edge *e, uint32_t mailbox);
/* It is being given the table of mailboxes. */
void keeper_table_given(struct edge *e);
/* Events for all changes of the transaction that was just committed. */
void keeper_tell(void);
/* An event for that mailbox (0: the table) was not taken: a resync is owed. */
void keeper_owe_resync(struct edge *e, uint32_t mailbox);

/* ---- keeper_view.c ---- */

/* Sets view, changes and count of the answer: descriptors that are the caller's. -1 with err. */
int keeper_view_give(uint32_t mailbox, struct msg_MBOX_OPEN_REPLY *r, struct err *err) __attribute__((warn_unused_result));
/* A change was committed. */
void keeper_view_changed(const struct index_change *change);
/* Gives up all that are kept. */
void keeper_views_forget(void);

/* ---- handlers ---- */

/* May this peer touch that mailbox? */
bool keeper_allowed(const struct edge *e, uint32_t mailbox);

void keeper_on_list(struct edge *e, struct msg_MBOX_LIST *m);
void keeper_on_change(struct edge *e, struct msg_MBOX_CHANGE *m);
void keeper_on_adopt(struct edge *e, struct msg_MBOX_ADOPT *m);
void keeper_on_open(struct edge *e, struct msg_MBOX_OPEN *m);
void keeper_on_fence(struct edge *e, struct msg_MBOX_FENCE *m);
void keeper_on_close(struct edge *e, struct msg_MBOX_CLOSE *m);
void keeper_on_recent(struct edge *e, struct msg_MBOX_RECENT *m);
void keeper_on_flags(struct edge *e, struct msg_MSG_FLAGS *m);
void keeper_on_append(struct edge *e, struct msg_MSG_APPEND *m);
void keeper_on_copy(struct edge *e, struct msg_MSG_COPY *m);
void keeper_on_expunge(struct edge *e, struct msg_MSG_EXPUNGE *m);
void keeper_on_fetch(struct edge *e, struct msg_MSG_FETCH *m);
void keeper_on_summary(struct edge *e, struct msg_MSG_SUMMARY *m);
void keeper_on_check(struct edge *e, struct msg_STORE_CHECK *m);
void keeper_on_dump(struct edge *e, struct msg_STORE_DUMP *m);
void keeper_on_objects(struct edge *e, struct msg_STORE_OBJECTS *m);

/* ---- keeper_admin.c ---- */

/* The timer's function of the command's long work. */
void keeper_job_step(void *arg);
/* Gives up the work that this peer asked for; NULL: whoever did. */
void keeper_job_stop(struct edge *e);

#endif
