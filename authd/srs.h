/*
 * srs: the Sender Rewriting Scheme. Mail that is sent on to another server leaves with a reverse-path of a domain of ours, so
 * that SPF holds for it there (RFC 7208 D.3, D.4), and a bounce to that comes back here and is sent on to the sender:
 *
 *   a@first.example               SRS0=HASH=TT=first.example=a@ours.example
 *   SRS0=H=T=h=a@second.example   SRS0=HASH=TT=second.example=SRS0=H=T=h=a@ours.example
 *
 * That is one form for all: the shorter SRS1 of other servers, which leads back past those in between, loses what we say of a message
 * when it comes by another forwarder again. HASH is 40 bits of HMAC-SHA256 over the rest and our domain, in base 32, and TT the day:
 * nobody else can make such an address, and an old one is of no use. Both compare without case, since servers on the way may change it.
 * What is sent on again has one more sign behind HASH: how often that was, by which a loop is found whatever becomes of the header on its
 * way. Pure.
 */
#ifndef AUTHD_SRS_H
#define AUTHD_SRS_H

#include "common/buf.h"
#include "common/slice.h"

#define SRS_SECRET_BYTES 32
/* A whole address (RFC 5321 4.5.3.1.3, without the angle brackets). Its local part may pass 64 octets: all that it has is needed. */
#define SRS_ADDRESS_BYTES_MAX 254
#define SRS_HASH_CHARS 8
/* A bounce comes later than a queue gives up; most do after 5 days. */
#define SRS_DAYS_MAX 21
/* So often a message is sent on from here: a way may lead through us twice without being a loop. */
#define SRS_TIMES_MAX 4

/* The newest makes addresses, both are good for what comes back. */
struct srs_secrets {
	uint8_t newest[SRS_SECRET_BYTES];
	uint8_t older[SRS_SECRET_BYTES];
	bool has_older;
	uint64_t since; /* when the newest was made, in seconds since 1970; 0: that is not known */
};

/* What leaves. */
struct srs_message {
	struct slice sender; /* not empty, as an envelope has it */
	struct slice domain; /* one of ours, which sends it on */
	unsigned times;	     /* for which time: 1 to SRS_TIMES_MAX */
	uint64_t now;	     /* seconds since 1970 */
};

/* Appends its reverse-path. False, with out unchanged, for what does not fit into one. */
bool srs_forward(const uint8_t secret[SRS_SECRET_BYTES], const struct srs_message *m, struct buf *out);

enum srs_result {
	SRS_OTHER,   /* no such address */
	SRS_FORGED,  /* it looks like one, but we have not made it */
	SRS_EXPIRED,
	SRS_GOOD,
};

/*
 * Whom a bounce to address (in a domain of ours, hostile) is for: SRS_GOOD, that is appended, and *times_r says how often the message was
 * sent on.
 */
enum srs_result srs_reverse(
    const uint8_t secret[SRS_SECRET_BYTES], struct slice address, uint64_t now, struct buf *out, unsigned *times_r);

/* The address before another server rewrote it to address, as far as this says so; true and it is appended. Hostile input. */
bool srs_within(struct slice address, struct buf *out);

#endif
