/*
 * arc_check: validation of ARC chains (RFC 8617 5.2) by own code on OpenSSL. Every
 * seal and every message signature is verified; what a sealer says of DMARC is read and reported, and counts
 * only when policy trusts that sealer (smtpd/policy.h). Nothing is sealed here.
 */
#ifndef SMTPD_ARC_CHECK_H
#define SMTPD_ARC_CHECK_H

#include "common/buf.h"
#include "common/dns.h"
#include "smtpd/dkim_tags.h"

#define ARC_BYTES_MAX (128 * 1024) /* of all ARC fields together: the chain fails past it */
#define ARC_SEALERS_MAX 10	   /* reported, from the newest */
#define ARC_EVIDENCE_BYTES_MAX (24 * 1024) /* of all ARC fields together, to be judged again */

/* Stable numbers: they cross edges (smtpd/verdict.h). */
enum arc_result {
	ARC_RESULT_NONE, /* no ARC field */
	ARC_RESULT_PASS,
	ARC_RESULT_FAIL,
	ARC_RESULT_TEMPERROR, /* a key could not be looked up */
	ARC_RESULT_COUNT
};

/* The reason of a chain that is judged again when a hash of it is missing: nothing is known of it then. */
#define ARC_NOT_KEPT "a hash of it was not kept"

const char *arc_result_name(enum arc_result r);

struct arc_sealer {
	struct slice domain; /* d= of the seal */
	bool dmarc_pass;     /* its results say dmarc=pass for the author of this message */
};

/* What the verdict on a chain comes from, keys and time aside: it can be reached again without the message. */
struct arc_evidence {
	struct slice fields; /* all ARC fields as they stood, in their order; empty: there is none */
	bool cut;	     /* there are more than ARC_EVIDENCE_BYTES_MAX octets of them: nothing can be judged again */
	bool large;	     /* the header passes its bounds */
	/*
	 * SHA-256 of the canonical body, simple and relaxed, and of what the message signature of each instance (from 1) signs: those that
	 * were needed.
	 */
	bool has_body[2], has_message[ARC_SETS_MAX];
	uint8_t body[2][32], message[ARC_SETS_MAX][32];
};

struct arc_outcome {
	enum arc_result result;
	struct slice reason; /* of anything but pass: a fixed text of ours */
	uint32_t sets;
	uint32_t oldest_pass; /* RFC 8617 5.2: the oldest message signature that still holds; 0: all of them */
	struct arc_sealer sealers[ARC_SEALERS_MAX]; /* of a chain that passes, newest first */
	uint16_t sealer_count;
	const struct arc_evidence *evidence;
};

struct arc_check;
/* Called once; the outcome is valid until arc_check_free(). It must not free the check. */
typedef void arc_done_fn(void *arg, const struct arc_outcome *o);

/* dns must outlive it. now: seconds since 1970. Never NULL. */
struct arc_check *arc_check_new(const struct dns_asker *dns, uint64_t now, arc_done_fn *done, void *arg)
    __attribute__((warn_unused_result));
/* The same from what was kept, which must stay until arc_check_free(): the keys are asked for, and nothing is fed but arc_check_end(). */
struct arc_check *arc_check_again(const struct dns_asker *dns, uint64_t now, const struct arc_evidence *evidence, struct slice author,
    arc_done_fn *done, void *arg) __attribute__((warn_unused_result));
/* The whole header block, which must stay until arc_check_free(); author: the domain in From, or empty. Begins to ask for keys. */
void arc_check_header(struct arc_check *c, struct slice block, struct slice author);
void arc_check_body(struct arc_check *c, struct slice chunk);
/* The message is complete. done may be called before this returns, or later when the last key comes. */
void arc_check_end(struct arc_check *c);
/* Keys that have not come by now never will. */
void arc_check_expire(struct arc_check *c);
void arc_check_free(struct arc_check **c);

/* The domains of the sealers from the newest, a space between them, with "+" behind one that says dmarc=pass. */
void arc_sealers_text(const struct arc_outcome *o, struct buf *out);

/*
 * Does the value of an ARC-Authentication-Results field (what follows "i=N;") say dmarc=pass with header.from=author? Comments and quoted
 * strings are read as such, so that no text that a sealer quotes is taken for a result of its own.
 */
bool arc_results_dmarc_pass(struct slice results, struct slice author);

#endif
