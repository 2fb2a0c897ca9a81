/*
 * policy: from what verify found to what is done with a message. One table of
 * rules, read from the top; the first whose condition holds decides. Pure.
 */
#ifndef SMTPD_POLICY_H
#define SMTPD_POLICY_H

#include "smtpd/verdict.h"

/* RFC 5321 6.3: at least 100 hops are to be let through. */
#define POLICY_RECEIVED_FIELDS_MAX 100

enum policy_action {
	POLICY_ACCEPT,
	POLICY_JUNK, /* accepted, into the Junk mailbox */
	POLICY_DEFER, /* 4yz */
	POLICY_REFUSE, /* 5yz */
};

struct policy_decision {
	enum policy_action action;
	const char *rule; /* for the time line: which row it was */
	unsigned code;	  /* of DEFER and REFUSE */
	const char *enhanced;
	const char *text;
};

struct policy_settings {
	bool dns_defer;	 /* policy.dns_defer */
	bool spf_reject; /* policy.spf_reject */
	struct slice arc_trusted; /* policy.arc_trusted: domains, separated by spaces */
};

/*
 * The local override of a DMARC failure (RFC 9989 5.4, RFC 8617 7.2.1): the ARC chain holds, and of its sealers from the newest
 * on, as long as they are trusted ones, one says that DMARC passed when the message reached it.
 */
bool policy_arc_overrides(const struct verdict *v, const struct policy_settings *s);

/* Mail from other servers: v->full is true. The decision is static. */
const struct policy_decision *policy_incoming(const struct verdict *v, const struct policy_settings *s);
/* Mail from our own users (RFC 6409 4.2, 6): its form only. Who may use which address is the directory's word. */
const struct policy_decision *policy_submission(const struct verdict *v);

const char *policy_action_name(enum policy_action a);

#endif
