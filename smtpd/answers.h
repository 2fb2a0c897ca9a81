/*
 * answers: the DNS answers that one check was given, written down as it asks, so that the same check can be run on them again. Both
 * stand between a check and a struct dns_asker: one writes, the other one plays.
 *
 * As text (the event "dns" of the time line) an answer is its records with "|" between them: an address, "preference name" of an
 * MX, a name of a PTR, the text of a TXT. Octets that are not printable ASCII, and % | " and \, are %HH.
 */
#ifndef SMTPD_ANSWERS_H
#define SMTPD_ANSWERS_H

#include "common/buf.h"
#include "common/dns.h"

/* Of one check. More of either is given to the check and not written down: cut. */
#define ANSWERS_MAX 160 /* SPF asks 123 questions at most, DMARC 97 */
#define ANSWERS_BYTES_MAX (24 * 1024)

/* enum dns_status, and what is none. Stable words, see answers_status_name(). */
enum answers_status {
	ANSWERS_NONE = DNS_BOGUS + 1, /* none came in time */
	ANSWERS_UNASKED,	      /* the resolver was away */
	ANSWERS_STATUS_COUNT
};

struct answers_item {
	struct slice name; /* as asked (common/dns.h) */
	uint16_t type;
	unsigned status; /* enum dns_status or enum answers_status */
	struct slice text;
};

struct answers;

/* dns is asked, and must outlive it; NULL: plays what answers_add() has put there. Never NULL. */
struct answers *answers_new(const struct dns_asker *dns) __attribute__((warn_unused_result));
/* The check that asks through it is over by then. NULL is fine. */
void answers_free(struct answers **a);
/* For the check. */
const struct dns_asker *answers_asker(struct answers *a);

unsigned answers_count(const struct answers *a);
/* Valid until the next question. */
struct answers_item answers_item(const struct answers *a, unsigned i);
/* Something was not written down. */
bool answers_cut(const struct answers *a);

/* False past the limits, or when it is no answer. */
bool answers_add(struct answers *a, const struct answers_item *item) __attribute__((warn_unused_result));
/* Gives the answers that are waited for, until none is due: the check has ended, or waits for one that never came. */
void answers_play(struct answers *a);

const char *answers_status_name(unsigned status);
/* ANSWERS_STATUS_COUNT for a word that is none. */
unsigned answers_status_named(struct slice name);
/* The form that octets have in the text. unescape is false, out as far as it came, for what is no such form. */
void answers_escape(struct slice octets, struct buf *out);
bool answers_unescape(struct slice text, struct buf *out);

#endif
