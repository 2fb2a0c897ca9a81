/*
 * The inside of the role TRANSPORT: pieces from the queue become jobs; a job finds the way, tries server after server, each over a
 * connection, and ends with a result that is kept until the queue says that it is durable.
 *
 * transport_main.c   the role
 * transport_queue.c  the edge to the queue: pieces in, results out, what is said again after either has ended
 * transport_job.c    one piece: which server is next, and what came of it all
 * transport_conn.c   one connection: a stream under a session; those that wait for another message
 */
#ifndef SMTPD_TRANSPORT_H
#define SMTPD_TRANSPORT_H

#include "common/ipc.h"
#include "common/log.h"
#include "common/role.h"
#include "common/tls_client.h"
#include "smtpd/smtp_id.h"
#include "smtpd/transport_relay.h"
#include "smtpd/transport_route.h"
#include "smtpd/transport_session.h"
#include "smtpd/transport_sts.h"

/* Addresses that one try of a piece goes to. */
#define TRANSPORT_TRIES_MAX 20
/* Messages over one connection. */
#define TRANSPORT_MESSAGES_MAX 100
/* How long a connection waits for another message of its destination. */
#define TRANSPORT_IDLE_MS 3000
/* The longest wait for a connection when nobody knows whether the destination answers, time for three tries of TCP: others like it wait for
 * their turn. The next time it is transport.timeout_connect. */
#define TRANSPORT_FRESH_CONNECT_MS 5000
#define TRANSPORT_ITEM_ARENA_BYTES (4u << 20)
#define TRANSPORT_DESTINATION_MAX 256

struct transport_conn;

struct transport_job {
	struct transport_job *next;
	uint64_t id;
	char session[QUEUE_SESSION_BYTES_MAX + 1];
	char queue_id[SMTP_QUEUE_ID_CHARS + 1];
	char destination[TRANSPORT_DESTINATION_MAX];
	char relay[TRANSPORT_RELAY_BYTES_MAX + 1]; /* asked instead of the domain's servers; empty: none */
	struct arena *arena;
	struct queue_item item;
	struct transport_message message;
	struct transport_search *search;
	const struct transport_route *route;
	struct transport_sts *sts;
	bool sts_enforced;			   /* the domain has such a policy (RFC 8461 5) */
	bool sts_allows[TRANSPORT_HOSTS_MAX]; /* the policy names that host of the route */
	unsigned host, address; /* the next to be tried */
	unsigned tries;
	struct transport_conn *conn;
	bool fresh;    /* nobody knows whether the destination answers */
	bool reused;   /* conn had a message before this one */
	bool dot;      /* it may have arrived */
	bool begun;    /* a server was told of it */
	bool reached;  /* a server was ready for a message */
	bool failed;   /* failure is set: of what is undecided */
	struct transport_failure failure;
	char failure_mta[TRANSPORT_MTA_MAX];
	bool ended;
	bool told; /* the queue, of that */
	enum transport_reached outcome;
	struct buf results; /* encoded; once ended */
};

/* ---- transport_main.c ---- */

bool transport_draining(void);
/* Names and passwords for relays; empty: none. */
struct slice transport_credentials(void);
/* Ends the process when it is told to leave and nothing is left. */
void transport_leave_when_done(void);
struct tls_client *transport_tls_client(void);

/* ---- transport_queue.c ---- */

extern const struct ipc_dispatch transport_from_queue;
void transport_queue_up(struct edge *e);
/* The edge, once full, has room again. */
void transport_queue_drained(struct edge *e);
/* No more pieces, please. */
void transport_queue_drain(void);
unsigned transport_job_count(void);
/* job has ended: tells the queue, when it is there. */
void transport_queue_result(struct transport_job *job);
void transport_queue_dot(const struct transport_job *job);

/* ---- transport_job.c ---- */

void transport_job_start(struct transport_job *job);
void transport_job_free(struct transport_job **job);
/* Gives the piece back as it was, unless a server was told of it. */
void transport_job_return(struct transport_job *job);
void transport_trace(const struct transport_job *job, const char *event, const struct log_field *fields);

/* Told by a connection. Each may be followed by others; the connection is the job's until one of the last two. */
void transport_job_open(struct transport_job *job);
void transport_job_dot(struct transport_job *job);
void transport_job_message(struct transport_job *job, const struct transport_failure *rest);
void transport_job_over(struct transport_job *job, const struct transport_failure *why);

/* ---- transport_conn.c ---- */

struct transport_target {
	struct slice key; /* whose messages it takes: the destination, "@" and the relay, or "-" and the destination */
	const struct transport_host *host;
	const struct stream_address *address;
	struct slice destination; /* another name that the certificate may have (RFC 7672 3.2.2); empty: none */
	enum transport_tls tls;
	bool name_proven; /* a policy wants a certificate of the host's name by a known authority */
	bool mx_proven;
	bool tls_first; /* from the first octet (RFC 8314 3.3) */
	struct transport_credentials login; /* empty: none; stay where they are */
};

/* A new connection for job. NULL, with *why_r, when it cannot even be begun. */
/* Server and address of a target, as the time line has them: "mx.example[192.0.2.1]". */
void transport_target_name(const struct transport_target *t, char mta[TRANSPORT_MTA_MAX]);
struct transport_conn *transport_conn_new(struct transport_job *job, const struct transport_target *target,
    struct transport_failure *why_r);
/* One that waits for messages of key; it is the job's then. NULL: there is none. */
struct transport_conn *transport_conn_waiting(struct transport_job *job, struct slice key);
/* The same of one to that server, whatever destination it was made for, when neither relay, policy nor TLSA records make a difference. */
struct transport_conn *transport_conn_to_server(struct transport_job *job, const struct transport_target *target);
/* Begins to send the job's message. False, with *why_r: this server cannot take it; the connection waits for others then. */
bool transport_conn_take(struct transport_conn *c, struct transport_failure *why_r) __attribute__((warn_unused_result));
/* The job is not interested any more. */
void transport_conn_drop(struct transport_conn *c);
/* All that wait end. */
void transport_conns_quit(void);
/* "mx.example[192.0.2.1]" */
const char *transport_conn_mta(const struct transport_conn *c);
#define TRANSPORT_KEY_MAX (TRANSPORT_RELAY_BYTES_MAX + 2)
/* A key that begins so is that of a relay. */
#define TRANSPORT_KEY_RELAY '@'
/* TLS may be tried, and was not demanded. */
bool transport_conn_tls_was_choice(const struct transport_conn *c);

#endif
