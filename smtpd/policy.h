/*
 * policy: from what is known of a client, its dialogue and its message to what is done. One table of rules for each moment at which
 * something is decided, read from the top; the first whose condition holds decides. Pure. What a decision was made
 * from is one flat struct, which is recorded with it, so that it can be judged again.
 */
#ifndef SMTPD_POLICY_H
#define SMTPD_POLICY_H

#include "common/log.h"
#include "smtpd/client_facts.h"
#include "smtpd/smtp_grammar.h"
#include "smtpd/verdict.h"

/* RFC 5321 6.3: at least 100 hops are to be let through. */
#define POLICY_RECEIVED_FIELDS_MAX 100
#define POLICY_INPUT_BYTES_MAX 1536 /* printed */
#define POLICY_REPLY_BYTES_MAX 400  /* of a reply's text, in DELIVER_REPLY */

enum policy_action {
	POLICY_ACCEPT,
	POLICY_JUNK, /* accepted, into the Junk mailbox */
	POLICY_DEFER, /* 4yz */
	POLICY_REFUSE, /* 5yz */
	POLICY_HOLD,   /* accepted, and held in the queue */
};

/* When it is decided, and by whom. */
enum policy_table {
	POLICY_CONNECT,	   /* a client has come (front) */
	POLICY_COMMAND,	   /* how its commands come (front) */
	POLICY_MAIL,	   /* its sender; again with each answer that is waited for (front, deliver) */
	POLICY_RCPT,	   /* a recipient, in the same way; and a mailbox that turns out to be full (front, deliver) */
	POLICY_DATA,	   /* the octets of a message, before anybody reads them (front) */
	POLICY_INCOMING,   /* mail from other servers (deliver) */
	POLICY_SUBMISSION, /* mail from our own users (RFC 6409 4.2, 6): its form only (deliver) */
	/*
	 * Mail over LMTP (RFC 2033), from a mail server of this machine. It saw who sent the message and what that looked like then,
	 * and has taken it: whatever is refused here it has to bounce, to a sender who may be forged. So only what cannot be kept,
	 * and loops, are.
	 */
	POLICY_LMTP,
	POLICY_FORWARD, /* mail that was taken, and is to be sent on to another server (deliver); REFUSE: it is not */
	POLICY_TABLE_COUNT
};

const char *policy_table_name(enum policy_table t);
/* False when no table has that name. */
bool policy_table_named(struct slice name, enum policy_table *table_r);

struct policy_decision {
	enum policy_action action;
	const char *rule;		/* for the time line: which row it was */
	struct smtp_reply_words reply;	/* of DEFER and REFUSE; 421 ends the connection */
	bool tells_lists; /* the names of the block lists belong behind the text */
};

/* What a client calls itself (RFC 5321 4.1.1.1). Stable numbers: they are recorded. */
enum policy_helo {
	POLICY_HELO_NAME,	   /* a name with a dot in it */
	POLICY_HELO_LITERAL,	   /* its own address */
	POLICY_HELO_OTHER_LITERAL, /* another address */
	POLICY_HELO_UNQUALIFIED,   /* a name without a dot */
	POLICY_HELO_OURS,	   /* this server's own name */
	POLICY_HELO_COUNT
};

const char *policy_helo_name(enum policy_helo h);
enum policy_helo policy_helo_of(struct slice helo, const uint8_t ip[16], struct slice hostname);

/* Whose the address of MAIL is (RFC 6409 6.1). Stable numbers. */
enum policy_sender {
	POLICY_SENDER_NOT_ASKED,
	POLICY_SENDER_OWN,
	POLICY_SENDER_FOREIGN,
	POLICY_SENDER_UNKNOWN, /* the directory does not say */
};

struct policy_settings {
	bool dns_defer;		  /* policy.dns_defer */
	bool spf_reject;	  /* policy.spf_reject */
	struct slice arc_trusted; /* policy.arc_trusted: domains, separated by spaces */
	struct slice dmarc_except; /* policy.dmarc_except: networks and domains, separated by spaces */
	bool helo_refuse;	  /* policy.helo_refuse */
	bool iprev_junk;	  /* policy.iprev_junk */
	bool header_junk;	  /* policy.header_junk */
	uint32_t dnsbl_refuse;	  /* policy.dnsbl_refuse; 0: never */
	uint32_t dnsbl_junk;	  /* policy.dnsbl_junk */
};

/* Who brings it. */
struct policy_client {
	const struct client_facts *facts;
	enum policy_helo helo;
	uint8_t ip[16];
	bool postmaster_only;
};

struct policy_input {
#define INPUT(name, what) uint32_t name;
#include "smtpd/policy_inputs.def"
#undef INPUT
};

/* Of mail from other servers: v->full is true. */
struct policy_input policy_input_incoming(
    const struct verdict *v, const struct policy_client *c, const struct policy_settings *s);
/* Of mail from our own users: its form only. */
struct policy_input policy_input_submission(const struct verdict *v);
/* Of mail over LMTP: its form, and the settings for that. */
struct policy_input policy_input_lmtp(const struct verdict *v, const struct policy_settings *s);
/* Of a message that is to be sent on. author_ours: the author's domain is related to one that sends it on. */
struct policy_input policy_input_forward(const struct verdict *v, bool is_junk, bool author_ours);
/* Is one of the two the other, or below it? Names as they are written. */
bool policy_domains_related(struct slice a, struct slice b);
/* Adds what matters of a recipient who is elsewhere; the settings are relaying and literals. */
void policy_input_outside(struct policy_input *in, struct slice address, bool relaying, bool literals);
/* Appends "name=number" of all that are not 0, separated by spaces. */
void policy_input_print(const struct policy_input *in, struct buf *b);
/* Reads that again; false for anything else. */
bool policy_input_parse(struct slice text, struct policy_input *in_r);

/*
 * The local override of a DMARC failure (RFC 9989 5.4, RFC 8617 7.2.1): the ARC chain holds, and of its sealers from the newest
 * on, as long as they are trusted ones, one says that DMARC passed when the message reached it.
 */
bool policy_arc_overrides(const struct verdict *v, const struct policy_settings *s);

/* A word of policy.dmarc_except is a network, or a domain's name, with A-labels or U-labels; any other excepts nobody. */
bool policy_except_valid(struct slice word);

/* The decision is static. */
const struct policy_decision *policy_decide(enum policy_table t, const struct policy_input *in);

const char *policy_action_name(enum policy_action a);

/* What was decided and from what, as the event "decision" has it: enough to decide it again. printed must outlive fields. */
#define POLICY_FIELDS 6
void policy_fields(enum policy_table t, const struct policy_decision *d, const struct policy_input *in, struct buf *printed,
    struct log_field fields[POLICY_FIELDS]);

#endif
