/*
 * deliver: from a transaction that a front hands over to the word "250", and from an item of the queue to its result. One job
 * per message; a job is a sequence of stages, each of which asks other processes and goes on when all of its answers (or their
 * absence) have come. Many jobs are on their way at once; nothing here waits synchronously and nothing parses mail.
 *
 * A job is freed only when none of its questions is open: an answer always finds its job, or no question (common/ipc.h).
 *
 * deliver_lease.c    who submits: the store's word on the lease of that connection
 * deliver_job.c      jobs: beginning, stages, reply, end
 * deliver_resolve.c, deliver_forward.c  the directory's word on recipients and senders; what is sent on
 * deliver_verify.c   the pool of verify processes
 * deliver_sign.c     signatures for what leaves
 * deliver_compose.c  writing the message that is stored
 * deliver_keeper.c   edges to keepers, a bounded number of them
 * deliver_append.c   storing at all accounts, and what comes of it
 * deliver_lmtp.c     the answers of each recipient (LMTP)
 * deliver_queue.c, deliver_report.c  handing to the queue, and trying again what is due; reports to senders
 */
#ifndef SMTPD_DELIVER_H
#define SMTPD_DELIVER_H

#include "common/arena.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/role.h"
#include "smtpd/client_facts.h"
#include "smtpd/envelope.h"
#include "smtpd/policy.h"
#include "smtpd/queue_item.h"
#include "smtpd/smtp_grammar.h"
#include "smtpd/smtp_id.h"
#include "smtpd/verdict.h"

/* Limits. At each of them the client is told 451 4.3.2, or the queue waits. */
#define DELIVER_JOBS_MAX 2000
#define DELIVER_JOB_BYTES_MAX (16u << 20)   /* memory of one job, the message not counted */
#define DELIVER_ACCOUNTS_MAX 1000	    /* of one message, aliases expanded */
#define DELIVER_MEMFD_BYTES_MAX (2u << 20)  /* a composed message above this is written to a spool file */
#define DELIVER_QUEUE_JOBS_MAX 16	    /* items of the queue on their way at once */
#define DELIVER_KEEPERS_MAX 256		    /* edges to keepers at once; more accounts wait their turn */
#define DELIVER_VERIFY_TRIES_MAX 2	    /* a message that ends two verify processes is deferred */
#define DELIVER_APPEND_TRIES_MAX 3	    /* the same question, to a keeper and its successors */

/* Times. A front waits 110 s in all. */
#define DELIVER_STALE_MS 100000
#define DELIVER_ASK_MS 15000
#define DELIVER_VERIFY_SLACK_MS 5000 /* over verify.timeout */
#define DELIVER_CONNECT_MS 15000
#define DELIVER_APPEND_MS 30000
#define DELIVER_ADD_AGAIN_MS 200 /* between two tries to hand a message to the queue */
#define DELIVER_TELL_MS 20000 /* for so long they are made when it is only for a report */
#define DELIVER_KEEPER_IDLE_MS 5000 /* then the edge is closed, so that the keeper may leave */

/* ---- jobs ---- */
/* One account that the message goes to. */
struct target {
	uint64_t account;
	uint32_t sequence; /* with the queue id: this delivery, for ever */
	uint8_t mailbox;   /* enum store_target */
	enum queue_state state;
	bool unavailable; /* no mailbox answered for it, or it could not say why not */
	bool uncertain; /* a keeper was asked and died: it may have stored the message */
	bool returned;	/* the client keeps it in its own queue, so ours does not get it (LMTP) */
	bool forwarded; /* of another server, for one of ours */
	uint32_t joined; /* with whom it is answered (deliver_lmtp.c) */
	bool ours;	 /* of those who are answered together: taken */
	unsigned tries;
	struct slice address; /* the envelope's */
	struct envelope_dsn dsn;
	char text[QUEUE_TEXT_BYTES_MAX + 1];
	unsigned code; /* of the reply, when this alone decided it */
	const char *enhanced;
};

/* One RCPT of an LMTP transaction. */
struct recipient {
	uint32_t *targets; /* its accounts, as indexes into the job's */
	uint32_t count;
	unsigned code; /* why it has none; 0: it has */
	const char *enhanced;
	const char *text;
};

struct source { /* the octets of a message, with what is to be left out */
	int fd;
	uint64_t bytes;
	uint8_t sha256[32]; /* of all of them */
};

struct job {
	struct job *next, *previous;
	struct arena *arena;
	bool from_queue;
	struct report *report; /* smtpd/deliver_report.h; NULL: a message of somebody */
	bool submission;
	bool lmtp;
	unsigned open; /* questions without an answer yet */
	bool failed;   /* a stage's answer has decided: reply_* hold, the rest of its answers is ignored */
	char session[QUEUE_SESSION_BYTES_MAX + 1];
	char queue_id[SMTP_QUEUE_ID_CHARS + 1];
	uint64_t began_ms;
	/* whom to answer */
	struct edge *front; /* NULL when it has gone */
	uint64_t front_id;
	uint64_t account; /* of the lease */
	struct slice login;
	struct envelope envelope;
	struct client_facts client; /* of the envelope */
	/* the message as it came, then completed (submission) */
	struct source message;
	bool completed;
	/* what verify said */
	unsigned verify_tries;
	struct verdict verdict;
	const struct policy_decision *decision;
	uint8_t *summary;
	size_t summary_bytes;
	int summary_fd;
	struct job *line_next; /* in the line for a verify or a sign process */
	struct job *add_next;	 /* waits to be taken to the queue again */
	/* what is stored */
	struct source final;
	uint64_t spool_ids[2]; /* files of the queue's spool that were written here */
	unsigned spool_count;
	struct composer *composer;
	struct target *targets;
	uint32_t target_count;
	unsigned sign_tries;
	struct slice signatures;    /* DKIM-Signature fields; empty: none */
	uint32_t return_path_bytes; /* at the beginning of final: what does not leave with it */
	bool outside;		    /* a target is: the queue takes all of it first, as it does when it is to be sent later */
	struct forward *forward;    /* NULL: it is sent on to nobody */
	uint8_t counted;	    /* 1 + what deliver_account_count() said; 0: not yet */
	struct recipient *recipients; /* one for each of the envelope; NULL: the message has one answer */
	uint32_t told;		      /* of them, from the first on */
	unsigned reply_code; /* the answer */
	const char *reply_enhanced;
	const char *reply_text;
};

/* Takes a transaction over. */
void deliver_on_message(struct edge *e, struct msg_DELIVER_MESSAGE *m);
/* A new job, in the list; NULL at DELIVER_JOBS_MAX. */
struct job *deliver_job_new(void);
/* Frees it as soon as no question is open. */
void deliver_job_end(struct job *j);
/* The front is gone: its jobs go on without anyone to answer. */
void deliver_job_front_down(const struct edge *front);
/* The stage failed as a whole: remembers the reply; the first one counts. */
void deliver_job_fail(struct job *j, unsigned code, const char *enhanced, const char *text);
/* Sends reply_* to the front, or the words given; then ends the job. */
void deliver_job_reply(struct job *j, unsigned code, const char *enhanced, const char *text);
void deliver_job_reply_failure(struct job *j);
/* The message is ours now: 250, with the queue id. */
void deliver_job_delivered(struct job *j);
/* Every recipient has been told (LMTP): ends the job. */
void deliver_job_told(struct job *j);
/* Nobody waits for the answer any more: the front has gone, or the client. Until something is stored the job is to be dropped. */
bool deliver_job_stale(const struct job *j);
/* Takes nothing new and ends the process when nothing is left. */
void deliver_drain(void);
bool deliver_draining(void);

void deliver_trace_fields(struct job *j, const char *event, const struct log_field *fields);
#define deliver_trace(j, event, ...)                                                               \
	deliver_trace_fields((j), (event), (const struct log_field[]){__VA_ARGS__})

/* What a table of smtpd/policy.h made of what: its row is told by `explain`. */
void deliver_trace_decision(struct job *j, enum policy_table t, const struct policy_decision *d, const struct policy_input *in);

/* ---- stages; each calls the next one when it is done ---- */

/* Who submits: asks for the lease of that connection of the submission front; then deliver_begin(), or the reply that there is
 * none. */
void deliver_lease(struct job *j, const struct edge_peer *front, uint64_t conn);
void deliver_on_lease(struct edge *e, struct msg_LEASE_TOLD *m);
/* It is known who sends: nobody we know on port 25, the lease's account on submission. */
void deliver_begin(struct job *j);
/* Who may send: the envelope's sender (submission), then the recipients. */
void deliver_resolve(struct job *j);
void deliver_on_sender(struct edge *e, struct msg_DIR_SENDER_REPLY *m);
void deliver_on_resolve(struct edge *e, struct msg_DIR_RESOLVE_REPLY *m);
/* The author in From, once verify has read it (submission). */
void deliver_check_author(struct job *j);
/* In line for a verify process. */
void deliver_verify(struct job *j);
void deliver_on_verified(struct edge *e, struct msg_VERIFY_REPLY *m);
void deliver_verify_edges_changed(void);
/* The verdict is there: policy, completion, then writing. */
void deliver_judge(struct job *j);
/* Writes the final message, or (submission without Date or Message-ID, or that leaves and is not 7 bits) the completed one. */
void deliver_compose(struct job *j);
void deliver_complete(struct job *j);
void deliver_on_spool(struct edge *e, struct msg_SPOOL_REPLY *m);
void deliver_compose_free(struct job *j);
/* Stores at all accounts that are pending. */
void deliver_append(struct job *j);
void deliver_on_appended(struct edge *e, struct msg_MSG_APPEND_REPLY *m);
/* Of what the queue has brought and no mailbox could take for now: whether the addresses still exist; then the result goes back. */
void deliver_ask_again(struct job *j);
/* All accounts have answered; the sender wants to be told that somebody has it, to which the queue sees. */
void deliver_decide(struct job *j);
bool deliver_success_is_due(const struct job *j);
/* Hands what is left to the queue, then answers. While the queue is away or cannot, it is asked again: from the first account that
 * has the message on, or may have it, the client must not come again with it. */
void deliver_queue_add(struct job *j);
void deliver_on_queue_added(struct edge *e, struct msg_QUEUE_ADDED *m);

/* ---- deliver_lmtp.c ---- */

/* Nobody has an account yet. False at the job's cap. */
bool deliver_lmtp_begin(struct job *j);
/* The recipient leads to this target too; at most as many as room was made for. False at the job's cap. */
bool deliver_lmtp_room(struct job *j, uint32_t recipient, uint32_t count);
void deliver_lmtp_lead(struct job *j, uint32_t recipient, uint32_t target);
/* The recipient gets nothing, and this answer. */
void deliver_lmtp_refuse(struct job *j, uint32_t recipient, unsigned code, const char *enhanced, const char *text);
/* Another account has answered: tells the next recipients, as long as they have the message. */
void deliver_lmtp_tell(struct job *j);
/* All accounts have answered: what we have taken and could not store goes to the queue. */
void deliver_lmtp_decide(struct job *j);
/* Tells those who are left, and ends the job. queued: what we have taken is stored or in the queue. */
void deliver_lmtp_answer(struct job *j, bool queued);

/* ---- the queue's items ---- */

void deliver_on_queue_due(struct edge *e, struct msg_QUEUE_DUE *m);
void deliver_on_queue_item(struct edge *e, struct msg_QUEUE_ITEM *m);
void deliver_on_queue_result(struct edge *e, struct msg_QUEUE_RESULT_REPLY *m);
/* All accounts of an item have answered: its result goes back. */
void deliver_queue_report(struct job *j);
/* The queue came up: ask whether something is due, and bring what waits for it. */
void deliver_queue_up(void);
void deliver_queue_init(struct loop *l);
void deliver_append_init(struct loop *l);

#endif
