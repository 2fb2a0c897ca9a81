/*
 * bench_keeper: a real keeper process with the bench as its supervisor, its
 * store's parent, and its peers: deliver and an IMAP worker. Requests wait for
 * their answer; what fails ends the bench.
 */
#ifndef TESTS_BENCH_BENCH_KEEPER_H
#define TESTS_BENCH_BENCH_KEEPER_H

#include "common/ipc.h"
#include "common/loop.h"
#include "store/view.h"

#include <sys/types.h>

struct bench_keeper {
	uint64_t account;
	pid_t pid;
	struct edge *control;
	struct edge *store;
	struct edge *deliver;
	struct edge *worker;
	bool ready;
	unsigned waiting; /* answers still due */
	uint32_t class;	  /* of the last answer */
	uint32_t uidvalidity;
	uint64_t got; /* records of a fetch, or the UID of an append */
	uint32_t next_uid;
	struct store_view view; /* the mailbox opened last, kept true by events */
	bool view_open;
	uint32_t mailbox;
	/* While a stream of deliveries runs: */
	unsigned to_send;
	struct slice message;
	uint8_t sha256[32];
	int message_fd;
	int summary_fd;
};

/* Microseconds of the monotonic clock. */
double bench_now(void);
/* Says why, and ends. */
void bench_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
struct loop *bench_loop(void);

/* Starts the program for accounts/<account> below state, and waits until it is ready. */
void bench_keeper_start(struct bench_keeper *k, const char *state, uint64_t account);
/* Lets it finish and waits for its end. */
void bench_keeper_stop(struct bench_keeper *k);
/* The loop runs until all answers of k are there. */
void bench_keeper_wait(struct bench_keeper *k);

/* Opens the mailbox as a worker does: ends when UIDs, flags and modseqs are in k->view. */
void bench_keeper_open(struct bench_keeper *k, uint32_t mailbox);
void bench_keeper_close(struct bench_keeper *k);
/* The cheapest request that has an answer: a mailbox that is not there is to be opened. */
void bench_keeper_hop(struct bench_keeper *k);
void bench_keeper_flags(struct bench_keeper *k, unsigned mode, uint32_t flags, uint32_t first, uint32_t last);
void bench_keeper_copy(struct bench_keeper *k, uint32_t target, uint32_t first, uint32_t last);
void bench_keeper_expunge(struct bench_keeper *k, uint32_t mailbox, uint32_t first, uint32_t last);
/* Records and summaries of first..last, in as many requests as it takes; how many there were. */
uint64_t bench_keeper_fetch(struct bench_keeper *k, uint32_t first, uint32_t last);
/* Gives k count messages of that content, one after the other (each answered before the next is sent) or, batch, all at
 * once. Returns when they were sent as far as that goes: bench_keeper_wait(). */
void bench_keeper_deliver(struct bench_keeper *k, unsigned count, bool batch, int message, struct slice octets,
    int summary);

#endif
