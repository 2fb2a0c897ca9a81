/*
 * box: a mailbox that sessions of this worker have selected: one view of the store (store/view.h), kept true by
 * the keeper's events, shared by all of them. What each session was told is the session's own (session.h).
 * When the last one has left, the view is kept for a while: who comes back to the mailbox finds it true.
 */
#ifndef IMAPD_BOX_H
#define IMAPD_BOX_H

#include "imapd/keeper_link.h"
#include "store/store.h"
#include "store/view.h"

struct session;
struct worker;

/* Views that nobody has selected: so many, of so many messages together; the ones left longest ago go first. */
#define BOX_IDLE_MAX 8
#define BOX_IDLE_MESSAGES_MAX 2000000u

enum box_state {
	BOX_OPENING,   /* the first answer is awaited */
	BOX_OPEN,
	BOX_REOPENING, /* the keeper was lost, or events were: `view` is old */
};

struct box {
	struct box *next;
	struct box **link;
	struct worker *worker;
	uint32_t mailbox;
	enum box_state state;
	struct store_view view;
	uint32_t recent_uid; /* UIDs from here on are nobody's \Recent yet */
	struct keeper_request *request; /* for the view, or for the fence behind which it is true */
	bool deleted;
	struct session *sessions; /* by session->box_next */
};

/*
 * Joins s to the mailbox. s->box is set; session_box_opened() is called, now or later, when the view is there or
 * cannot be had. uidvalidity is what the table of mailboxes says: RENAME gives a new one, and a view that was open before
 * still has the old one.
 */
void box_attach(struct worker *w, struct session *s, uint32_t mailbox, uint32_t uidvalidity);
/* Parts s from its mailbox. NULL box is fine. */
void box_detach(struct session *s);
/* s takes what is new in its box as \Recent: [first, uidnext) if it may claim it (read-write), else it just shows it. */
void box_claim_recent(struct box *b, struct session *s);
/* Gives the keeper the summary of a message that was lost and made anew from its octets, so that nobody has to make it again.
 * uid, sha256 and encoded are as in MSG_SUMMARY; it is not waited for. */
void box_give_summary(struct box *b, uint32_t uid, const uint8_t sha256[STORE_SHA256_BYTES], struct slice encoded);

void box_event_new(struct worker *w, const struct msg_EVENT_NEW *m);
void box_event_flags(struct worker *w, const struct msg_EVENT_FLAGS *m);
void box_event_expunge(struct worker *w, const struct msg_EVENT_EXPUNGE *m);
/* The view of that mailbox may be wrong: open it anew and compare. */
void box_resync(struct worker *w, uint32_t mailbox);
/* The mailbox was deleted. */
void box_deleted(struct worker *w, uint32_t mailbox);
/* A new keeper is there. */
void box_reopen_all(struct worker *w);
/* Closes the views that nobody has selected. */
void box_drop_idle(struct worker *w);

#endif
