/*
 * fetch_batch: the records and objects of some messages, as MSG_FETCH answers them. Used by FETCH and SEARCH.
 */
#ifndef IMAPD_FETCH_BATCH_H
#define IMAPD_FETCH_BATCH_H

#include "common/memfd.h"
#include "common/msg.h"
#include "common/summary.h"
#include "store/record.h"
#include "store/uidset.h"
#include "store/view.h"

enum fetch_batch_state {
	FETCH_BATCH_IDLE,
	FETCH_BATCH_ASKED,
	FETCH_BATCH_READY,
	FETCH_BATCH_FAILED, /* err says why */
};

struct fetch_batch {
	enum fetch_batch_state state;
	struct err err;
	uint8_t want;
	struct memfd_map map;
	struct cursor at;
	struct msg_fds objects;
	unsigned object_at;
	uint32_t next_uid; /* 0: all that was asked for is here */
	bool seen_asked;
	bool looked_through; /* for messages whose summaries are needed */
	struct buf made; /* a summary that was lost, made anew */
	struct buf field;
	int uids_fd;
};

struct fetch_message {
	struct store_record record;
	bool has_summary;
	struct summary summary; /* valid until the next message of the batch */
	struct slice made;	/* the encoded summary when it was made anew, to be given back; valid as long */
	int fd;			/* the batch's; -1 when objects were not asked for */
};

enum fetch_batch_next {
	FETCH_BATCH_END,
	FETCH_BATCH_MESSAGE,
	FETCH_BATCH_NO_SUMMARY, /* it was lost, and there is no object to make it from */
};

void fetch_batch_init(struct fetch_batch *b);
/* How many messages are worth asking for at once with that want. */
unsigned fetch_batch_messages(uint8_t want);
/* Fills m; its slices and descriptor live until fetch_batch_sent(). -1: b is FAILED. */
int fetch_batch_request(struct fetch_batch *b, uint32_t mailbox, uint8_t want, const struct uidset *uids,
    struct msg *m);
void fetch_batch_sent(struct fetch_batch *b);
/* The reply (its descriptors are taken), or NULL and e. */
void fetch_batch_got(struct fetch_batch *b, struct msg_MSG_FETCH_REPLY *reply, const struct err *e);
enum fetch_batch_next fetch_batch_next(struct fetch_batch *b, struct fetch_message *message_r);
/* The first message that is left, when the record of any does not say that its headers are ASCII; else 0. */
uint32_t fetch_batch_unsure(const struct fetch_batch *b);
/* Adds those messages of the batch that lack \Seen. */
void fetch_batch_unseen(const struct fetch_batch *b, const struct store_view *v, struct uidset *set);
/* Gives all back; IDLE again. */
void fetch_batch_close(struct fetch_batch *b);
/* close(2), and -1. */
void fetch_fd_close(int *fd);

#endif
