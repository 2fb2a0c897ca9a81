#include "smtpd/policy.h"

#include "common/auth_proto.h"
#include "smtpd/account_rate.h"

#include <assert.h>

struct rule {
	bool (*holds)(const struct policy_input *in);
	struct policy_decision decision;
};

/* ---- conditions ---- */

static bool
always(const struct policy_input *in)
{
	(void)in;
	return true;
}

static bool
unreadable(const struct policy_input *in)
{
	return in->unreadable;
}

static bool
stray_octets(const struct policy_input *in)
{
	return in->stray_octets;
}

static bool
too_many_hops(const struct policy_input *in)
{
	return in->received_fields >= POLICY_RECEIVED_FIELDS_MAX;
}

static bool
from_fields_not_one(const struct policy_input *in)
{
	return in->from_fields != 1;
}

static bool
no_author(const struct policy_input *in)
{
	return in->from_mailboxes == 0;
}

static bool
several_authors(const struct policy_input *in)
{
	return in->from_mailboxes > 1;
}

static bool
authors_differ(const struct policy_input *in)
{
	return in->from_domains_differ;
}

static bool
author_without_domain(const struct policy_input *in)
{
	return !in->from_domain;
}

static bool
unqualified(const struct policy_input *in)
{
	return in->unqualified;
}

static bool
dmarc_undecided(const struct policy_input *in)
{
	return in->dns_defer && in->dmarc == DMARC_RESULT_TEMPERROR && !in->dmarc_except;
}

/* It failed, no trusted forwarder says that it passed there, and the operator makes no exception. */
static bool
dmarc_fails(const struct policy_input *in)
{
	return in->dmarc == DMARC_RESULT_FAIL && !in->arc_override && !in->dmarc_except;
}

/* The domain's policy for a message that fails. */
static bool
dmarc_says(const struct policy_input *in, enum dmarc_policy policy)
{
	return dmarc_fails(in) && in->dmarc_policy == policy;
}

static bool
dmarc_says_reject(const struct policy_input *in)
{
	return dmarc_says(in, DMARC_POLICY_REJECT);
}

static bool
dmarc_says_quarantine(const struct policy_input *in)
{
	return dmarc_says(in, DMARC_POLICY_QUARANTINE);
}

/* It would be refused, and a key of its chain may be there later. */
static bool
arc_undecided(const struct policy_input *in)
{
	return in->dns_defer && in->arc_used && in->arc == ARC_RESULT_TEMPERROR &&
	    dmarc_says_reject(in);
}

static bool
spf_says_fail(const struct policy_input *in)
{
	return in->spf_reject && in->spf == SPF_RESULT_FAIL;
}

/* Nobody else has the name of this server, but the server itself. */
static bool
claims_to_be_us(const struct policy_input *in)
{
	return in->helo_refuse && in->helo == POLICY_HELO_OURS && !in->local && !in->postmaster_only;
}

/* Good lists weigh against block lists. Whoever is listed can still write to the postmaster. */
static bool
listed(const struct policy_input *in, uint32_t limit)
{
	uint32_t weight = in->black > in->white ? in->black - in->white : 0;

	return limit > 0 && weight >= limit && !in->postmaster_only;
}

static bool
listed_refuse(const struct policy_input *in)
{
	return listed(in, in->dnsbl_refuse);
}

static bool
listed_junk(const struct policy_input *in)
{
	return listed(in, in->dnsbl_junk);
}

static bool
nameless(const struct policy_input *in)
{
	return in->iprev_junk && !in->local && (in->iprev == CLIENT_IPREV_FAIL || in->iprev == CLIENT_IPREV_PERMERROR);
}

static bool
header_broken(const struct policy_input *in)
{
	return in->header_junk && in->header_broken;
}

/* ---- conditions of the dialogue ---- */

/* An input that says it all. */
#define CONDITION(name)                                                                            \
	static bool name(const struct policy_input *in)                                            \
	{                                                                                          \
		return in->name != 0;                                                              \
	}
CONDITION(connections_spent)
CONDITION(early_talker)
CONDITION(early_commands)
CONDITION(messages_spent)
CONDITION(recipients_spent)
CONDITION(unknown_spent)
CONDITION(size_over)
CONDITION(recipients_full)
CONDITION(mailbox_full)
CONDITION(bare_line_end)
CONDITION(nul)
CONDITION(data_over)
CONDITION(no_space)
CONDITION(looped)
CONDITION(junk)
CONDITION(author_ours)

static bool
sender_foreign(const struct policy_input *in)
{
	return in->sender == POLICY_SENDER_FOREIGN;
}

static bool
sender_unknown(const struct policy_input *in)
{
	return in->sender == POLICY_SENDER_UNKNOWN;
}

static bool
recipient_unknown(const struct policy_input *in)
{
	return in->recipient == DIR_UNKNOWN;
}

static bool
recipient_outside(const struct policy_input *in)
{
	return in->recipient == DIR_NOT_OURS;
}

/* Nobody but a user of ours has mail carried elsewhere: no open relay (RFC 5321 3.6.2, 7.8). */
static bool
outside_of_stranger(const struct policy_input *in)
{
	return !in->submission && recipient_outside(in);
}

static bool
outside_turned_off(const struct policy_input *in)
{
	return !in->relaying && recipient_outside(in);
}

static bool
outside_literal(const struct policy_input *in)
{
	return in->literal && !in->literals && recipient_outside(in);
}

static bool
outside_unroutable(const struct policy_input *in)
{
	return in->unroutable && recipient_outside(in);
}

static bool
recipient_disabled(const struct policy_input *in)
{
	return in->recipient == DIR_DISABLED;
}

/* Nobody can say, or says what is not known here. */
static bool
recipient_undecided(const struct policy_input *in)
{
	return in->recipient != 0 && in->recipient != DIR_LOCAL && !recipient_outside(in);
}

static bool
mailbox_full_for_good(const struct policy_input *in)
{
	return in->quota_refuse && mailbox_full(in);
}

static bool
account_messages(const struct policy_input *in)
{
	return in->account_spent == ACCOUNT_SPENT_MESSAGES;
}

static bool
account_recipients(const struct policy_input *in)
{
	return in->account_spent == ACCOUNT_SPENT_RECIPIENTS;
}

static bool
account_addresses(const struct policy_input *in)
{
	return in->account_spent == ACCOUNT_SPENT_ADDRESSES;
}

static bool
nul_of_user(const struct policy_input *in)
{
	return in->submission && nul(in);
}

static bool
bare_line_end_of_user(const struct policy_input *in)
{
	return in->submission && bare_line_end(in);
}

/* ---- the tables ---- */

#define REFUSE(rule, code, enhanced, text) {POLICY_REFUSE, rule, {code, enhanced, text}, false}
#define REFUSE_LISTED(rule, code, enhanced, text) {POLICY_REFUSE, rule, {code, enhanced, text}, true}
#define DEFER(rule, code, enhanced, text) {POLICY_DEFER, rule, {code, enhanced, text}, false}
#define JUNK(rule) {POLICY_JUNK, rule, {250, "2.0.0", ""}, false}
#define HOLD(rule) {POLICY_HOLD, rule, {250, "2.0.0", ""}, false}
#define ACCEPT(rule) {POLICY_ACCEPT, rule, {250, "2.0.0", ""}, false}

static const struct rule at_connect[] = {
    {connections_spent, DEFER("connections", 421, "4.7.0", "Too many connections from your network")},
    /* RFC 5321 4.3.1: a client waits for the greeting. */
    {early_talker, REFUSE("early-talker", 554, "5.5.1", "Commands before the greeting")},
    {always, ACCEPT("default")},
};

#define UNKNOWN_SPENT {unknown_spent, DEFER("rate-unknown", 421, "4.7.0", "Too many unknown recipients from your network, try again later")}

static const struct rule at_command[] = {
    /* RFC 7504 lets 521 say so on port 25; submission must not use it (RFC 6409 7). */
    {bare_line_end_of_user, REFUSE("bare-line-end", 500, "5.5.2", "Lines end in CRLF; CR or LF alone and NUL are not accepted")},
    {bare_line_end, REFUSE("bare-line-end", 521, "5.5.2", "Lines end in CRLF; CR or LF alone and NUL are not accepted")},
    /* Who does not wait for replies here reads none. */
    {early_commands, REFUSE("early-commands", 554, "5.5.1", "More came before the reply than RFC 2920 allows")},
    {always, ACCEPT("default")},
};

static const struct rule at_mail[] = {
    UNKNOWN_SPENT,
    {messages_spent, DEFER("rate-messages", 450, "4.7.0", "Too many messages from your network for the moment, try again later")},
    {size_over, REFUSE("size-declared", 552, "5.3.4", "Message too big")},
    {sender_foreign, REFUSE("sender-foreign", 550, "5.7.1", "This sender address is not yours")},
    {sender_unknown, DEFER("sender-undecided", 451, "4.3.0", "Not possible for the moment, try again later")},
    {always, ACCEPT("default")},
};

static const struct rule at_rcpt[] = {
    /* 452, never 552: the client sends the rest in another transaction (RFC 5321 4.5.3.1.10). */
    {recipients_full, DEFER("recipients", 452, "4.5.3", "Too many recipients")},
    UNKNOWN_SPENT,
    {recipients_spent, DEFER("rate-recipients", 450, "4.7.0", "Too many recipients from your network for the moment, try again later")},
    {recipient_unknown, REFUSE("recipient-unknown", 550, "5.1.1", "No such recipient here")},
    {outside_of_stranger, REFUSE("relay", 550, "5.7.1", "Relaying denied")},
    {outside_turned_off, REFUSE("recipient-outside", 550, "5.7.1",
	"Sending to other servers is turned off; only addresses of this server can be reached")},
    /* It would pass by all that protects a way: there is no name to find, to compare or to have a policy. */
    {outside_literal, REFUSE("recipient-literal", 550, "5.1.2", "Addresses of machines are not taken, only domains")},
    {outside_unroutable, REFUSE("recipient-unroutable", 550, "5.1.2", "That is no domain that mail can be sent to")},
    {recipient_disabled, REFUSE("recipient-disabled", 550, "5.2.1", "This mailbox is disabled")},
    {recipient_undecided, DEFER("recipient-undecided", 451, "4.3.0", "Not possible for the moment, try again later")},
    {mailbox_full_for_good, REFUSE("quota-refuse", 552, "5.2.2", "Mailbox full")},
    {mailbox_full, DEFER("quota", 452, "4.2.2", "Mailbox full")},
    {always, ACCEPT("default")},
};

static const struct rule at_data[] = {
    /* 521 closes: the two ends do not agree on what a line is. */
    {bare_line_end, REFUSE("bare-line-end", 521, "5.5.2", "Lines end in CRLF; CR or LF alone is not accepted (RFC 5321 2.3.8)")},
    {nul_of_user, REFUSE("nul", 550, "5.6.0", "NUL in the message (RFC 5321 4.5.2)")},
    {nul, REFUSE("nul", 521, "5.6.0", "NUL in the message (RFC 5321 4.5.2)")},
    {data_over, REFUSE("size", 552, "5.3.4", "Message too big")},
    {no_space, DEFER("spool", 452, "4.3.1", "No room for the message, try again later")},
    {always, ACCEPT("default")},
};

static const struct rule incoming[] = {
    {unreadable, REFUSE("unreadable", 550, "5.6.0", "The message's header cannot be read reliably")},
    {stray_octets, REFUSE("stray-octets", 550, "5.6.0", "CR or LF alone, or NUL, in what is not declared binary (RFC 5321 2.3.8)")},
    {too_many_hops, REFUSE("hops", 554, "5.4.6", "Too many Received fields: a mail loop")},
    /* RFC 9989 lets a receiver refuse what DMARC cannot be applied to; RFC 5322 3.6 wants one From. */
    {from_fields_not_one, REFUSE("from-fields", 550, "5.6.0", "Exactly one From field is needed (RFC 5322 3.6)")},
    {no_author, REFUSE("from-empty", 550, "5.6.0", "The From field has no address (RFC 5322 3.6.2)")},
    {authors_differ, REFUSE("from-domains", 550, "5.7.1", "Authors of different domains in From")},
    {claims_to_be_us, REFUSE("helo-ours", 550, "5.7.1", "That is the name of this server, not of yours (HELO)")},
    {listed_refuse, REFUSE_LISTED("dnsbl-refuse", 550, "5.7.1", "The address of your server is on a block list:")},
    {dmarc_undecided, DEFER("dmarc-temperror", 451, "4.7.0", "DMARC could not be evaluated for the moment")},
    {arc_undecided, DEFER("arc-temperror", 451, "4.7.0", "ARC could not be evaluated for the moment")},
    {dmarc_says_reject, REFUSE("dmarc-reject", 550, "5.7.1", "Refused: the author's domain asks for it (DMARC p=reject)")},
    {spf_says_fail, REFUSE("spf-fail", 550, "5.7.23", "Refused: the sender's domain does not allow this server (SPF)")},
    {dmarc_says_quarantine, JUNK("dmarc-quarantine")},
    {listed_junk, JUNK("dnsbl-junk")},
    {nameless, JUNK("iprev")},
    {header_broken, JUNK("header-broken")},
    {author_without_domain, JUNK("from-unqualified")},
    {always, ACCEPT("default")},
};

static const struct rule submission[] = {
    {unreadable, REFUSE("unreadable", 554, "5.6.0", "The message's header cannot be read reliably")},
    {stray_octets, REFUSE("stray-octets", 554, "5.6.0", "CR or LF alone, or NUL, in what is not declared binary (RFC 5321 2.3.8)")},
    {too_many_hops, REFUSE("hops", 554, "5.4.6", "Too many Received fields: a mail loop")},
    {from_fields_not_one, REFUSE("from-fields", 554, "5.6.0", "Exactly one From field is needed (RFC 5322 3.6)")},
    {no_author, REFUSE("from-empty", 554, "5.6.0", "The From field has no address (RFC 5322 3.6.2)")},
    /* Who says that he writes for others as well would have them all vouched for, by our signature too. */
    {several_authors, REFUSE("from-several", 550, "5.7.1", "From must name one address, which is yours")},
    {unqualified, REFUSE("unqualified", 554, "5.6.0", "An address in the header has no domain (RFC 6409 4.2)")},
    {account_messages, DEFER("account-messages", 450, "4.7.0", "Your account has sent as many messages as it may in a day")},
    {account_recipients, DEFER("account-recipients", 450, "4.7.0", "Your account has sent to as many recipients as it may in a day")},
    {account_addresses, HOLD("account-held")},
    {always, ACCEPT("default")},
};

static const struct rule lmtp[] = {
    {unreadable, REFUSE("unreadable", 550, "5.6.0", "The message's header cannot be read reliably")},
    {stray_octets, REFUSE("stray-octets", 550, "5.6.0", "CR or LF alone, or NUL, in what is not declared binary (RFC 5321 2.3.8)")},
    {too_many_hops, REFUSE("hops", 554, "5.4.6", "Too many Received fields: a mail loop")},
    {from_fields_not_one, JUNK("from-fields")},
    {no_author, JUNK("from-empty")},
    {authors_differ, JUNK("from-domains")},
    {header_broken, JUNK("header-broken")},
    {always, ACCEPT("default")},
};

/* Who gets it takes it for ours: what is forged, or unwanted, would be laid at our door, and pass for us when the domain is ours. */
static const struct rule forward[] = {
    {looped, REFUSE("forward-loop", 554, "5.4.6", "This message has been sent on from here before: a mail loop")},
    {dmarc_fails, REFUSE("forward-dmarc", 550, "5.7.1", "Not sent on: the author's domain does not confirm this message (DMARC)")},
    {author_ours, REFUSE("forward-ours", 550, "5.7.1", "Not sent on: nothing shows that the author is of that domain")},
    {junk, REFUSE("forward-junk", 550, "5.7.1", "Not sent on: this message is not wanted")},
    {always, ACCEPT("default")},
};

static const struct policy_decision *
first_of(const struct rule *rules, const struct policy_input *in)
{
	/* The last row of each table always holds. */
	while (!rules->holds(in))
		rules++;
	return &rules->decision;
}

const struct policy_decision *
policy_decide(enum policy_table t, const struct policy_input *in)
{
	static const struct rule *const tables[POLICY_TABLE_COUNT] = {[POLICY_CONNECT] = at_connect, [POLICY_COMMAND] = at_command,
	    [POLICY_MAIL] = at_mail, [POLICY_RCPT] = at_rcpt, [POLICY_DATA] = at_data, [POLICY_INCOMING] = incoming,
	    [POLICY_SUBMISSION] = submission, [POLICY_LMTP] = lmtp, [POLICY_FORWARD] = forward};

	assert(t < POLICY_TABLE_COUNT);
	return first_of(tables[t], in);
}

static const char *const table_names[POLICY_TABLE_COUNT] = {
    "connect", "command", "mail", "rcpt", "data", "incoming", "submission", "lmtp", "forward"};

const char *
policy_table_name(enum policy_table t)
{
	assert(t < POLICY_TABLE_COUNT);
	return table_names[t];
}

bool
policy_table_named(struct slice name, enum policy_table *table_r)
{
	for (unsigned t = 0; t < POLICY_TABLE_COUNT; t++)
		if (slice_eq(name, slice_str(table_names[t]))) {
			*table_r = (enum policy_table)t;
			return true;
		}
	return false;
}

const char *
policy_action_name(enum policy_action a)
{
	static const char *const names[] = {
	    [POLICY_ACCEPT] = "accept", [POLICY_JUNK] = "junk", [POLICY_DEFER] = "defer", [POLICY_REFUSE] = "refuse",
	    [POLICY_HOLD] = "hold"};

	return names[a];
}
