/*
 * crash_keeper: an account's keeper in this process, as it runs in production,
 * but without sockets, timers and clocks: requests are handed to its handlers,
 * what it sends is caught, and the time is what the test says. So a workload is the
 * same each time. (The linker puts the functions below in place of the real ones, see tests.mk.)
 */
#ifndef TESTS_CRASH_CRASH_KEEPER_H
#define TESTS_CRASH_CRASH_KEEPER_H

#include "common/msg.h"
#include "store/index_private.h"

/* What was expunged stays so long, and so much of it (octets and what messages cost besides). */
#define CRASH_RETENTION_S 30
#define CRASH_RETENTION_BYTES (30 * INDEX_RETAINED_MESSAGE_BYTES)

/* So small that a history has many log files, and many transactions have several redo records. */
#define CRASH_LOG_BYTES (128u << 10)
#define CRASH_REDO_BYTES 1024u

struct crash_keeper_events {
	/* A transaction was committed (not flushed). */
	void (*committed)(struct index *ix);
	/* Something is leaving for a peer: all that was committed must be durable by now. */
	void (*told)(void);
};

/* Opens the account in root and starts the keeper on it. 0, or -1 and e. */
int crash_keeper_open(const char *root, uint64_t now, const struct crash_keeper_events *events, struct err *e);
/* NULL when there is none. */
struct index *crash_keeper_index(void);
/* It wants to end: a sync failed, or a page was refused. */
bool crash_keeper_broken(void);
/* In order: with a checkpoint; else as the kernel does when the process is killed. */
void crash_keeper_close(bool in_order);
void crash_keeper_time(uint64_t seconds);

/* Hands a request over; its id is its sequence. role: DELIVER, IMAP_WORKER, POP3_WORKER or ADMIN. Descriptors stay the caller's. */
void crash_keeper_ask(enum role role, struct msg *m);
/* Its peer goes, with what it asked for that waits; another one comes. */
void crash_keeper_leave(enum role role);
/* Appends that wait are done. */
void crash_keeper_settle(void);
void crash_keeper_flush(void);
/* The purge of what was expunged or deleted before the retention time, whole. */
void crash_keeper_purge(void);

/* What became of each mutating request, by its sequence, for the whole run of the test. */
struct crash_request {
	uint64_t serial; /* of its transaction; 0: it had none */
	char *answer;	 /* the last one, encoded; NULL: none */
	size_t answer_bytes;
	unsigned answers; /* how often it was answered */
	bool contradicts; /* two answers differ */
};
struct crash_request *crash_request(uint64_t sequence);
/* Those from that sequence on. */
void crash_requests_forget(uint64_t from);

#endif
