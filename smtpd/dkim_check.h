/*
 * dkim_check: verification of DKIM signatures (RFC 6376, 8301, 8463, 8616) by
 * libopendkim behind guards of our own. The message streams through: header
 * fields, then the body in chunks of any size; keys are asked for by dns_asker
 * when the header has ended, and the result is there when both the body and
 * all keys have come. One result per signature.
 */
#ifndef SMTPD_DKIM_CHECK_H
#define SMTPD_DKIM_CHECK_H

#include "common/dns.h"

#define DKIM_SIGNATURES_MAX 10		     /* of a message, from the top; the rest is only counted */
#define DKIM_HEADER_FIELDS_MAX 1000	     /* a message with more cannot be verified: permerror */
#define DKIM_HEADER_BYTES_MAX (512 * 1024)   /* the same */
#define DKIM_SIGNATURE_BYTES_MAX (16 * 1024) /* of one DKIM-Signature field: permerror past it */
#define DKIM_SIGNED_NAMES_MAX 200	     /* in one h=: permerror past it */
#define DKIM_TAG_BYTES_MAX 255		     /* of d, s, i as reported */
#define DKIM_KEY_BYTES_MAX 1024		     /* of a key record */
#define DKIM_RSA_BITS_MIN 1024		     /* RFC 8301 3.2 */
#define DKIM_RSA_BITS_MAX 4096	     /* what RFC 8301 asks for; more would not fit the library's buffer */

/* Stable numbers: they cross edges (smtpd/verdict.h). Words of RFC 8601 2.7.1. */
enum dkim_result {
	DKIM_RESULT_NONE,
	DKIM_RESULT_PASS,
	DKIM_RESULT_FAIL,
	DKIM_RESULT_POLICY, /* verifies, but leaves a part of the body unsigned (l=) */
	DKIM_RESULT_NEUTRAL,
	DKIM_RESULT_TEMPERROR,
	DKIM_RESULT_PERMERROR,
	DKIM_RESULT_COUNT
};

const char *dkim_result_name(enum dkim_result r);

struct dkim_signature {
	enum dkim_result result;
	struct slice domain;	/* d=, as written (RFC 8616: may hold U-labels) */
	struct slice selector;	/* s= */
	struct slice algorithm; /* a= */
	struct slice identity;	/* i=, or "@" d= when absent */
	struct slice b_prefix;	/* first octets of b= (RFC 6008), at least 8 when there are so many */
	struct slice reason;	/* of anything but pass: a fixed text of ours */
	bool testing;		/* the key says t=y */
	bool partial;		/* l= leaves out some of the body */
	bool secure;		/* the key came with DNSSEC */
	uint32_t key_bits;	/* 0 when there was no key; ed25519: 256 */
};

/* What keeps every signature of a message from being verified. Stable words: dkim_broken_text(), the signatures' reason then. */
enum dkim_broken {
	DKIM_BROKEN_NOT,
	DKIM_BROKEN_LARGE,
	DKIM_BROKEN_HEADER,
	DKIM_BROKEN_OTHERS,
	/* From here on the keys have been asked for. */
	DKIM_BROKEN_BODY,
	DKIM_BROKEN_LINE_ENDS,
	DKIM_BROKEN_LIBRARY,
	DKIM_BROKEN_COUNT
};

const char *dkim_broken_text(enum dkim_broken b);

/* What the verdict on a signature comes from, the key and the time aside: it can be reached again without the message. */
struct dkim_evidence {
	struct slice field;   /* the value of DKIM-Signature */
	bool too_long;	      /* there is no value: it was over DKIM_SIGNATURE_BYTES_MAX */
	bool hashed;	      /* the rest is there: the message was read to its end for this signature */
	uint8_t header[32];   /* SHA-256 of the canonical header: what b= signs */
	uint8_t body[32];     /* SHA-256 of the canonical body, as far as l= goes: what bh= says */
	uint64_t body_octets; /* of the whole canonical body, when there is an l= */
};

struct dkim_outcome {
	const struct dkim_signature *signatures;
	const struct dkim_evidence *evidence; /* for each of them */
	unsigned count;
	unsigned skipped; /* signatures past DKIM_SIGNATURES_MAX */
	enum dkim_broken broken;
};

struct dkim_check;
/* Called once; the outcome is valid until dkim_check_free(). It must not free the check. */
typedef void dkim_done_fn(void *arg, const struct dkim_outcome *o);

/* Must be called once before the sandbox closes: opens the library with everything it loads lazily. */
void dkim_check_global_init(void);

/* dns must outlive it. now: seconds since 1970, for t= and x= (0: the library's own clock). Never NULL. */
struct dkim_check *dkim_check_new(const struct dns_asker *dns, uint64_t now, dkim_done_fn *done,
    void *arg) __attribute__((warn_unused_result));
/*
 * The same from what was kept: the keys are asked for, and nothing is fed but dkim_check_end(). The library has no part in it.
 * evidence (count of them, at most DKIM_SIGNATURES_MAX) is copied.
 */
struct dkim_check *dkim_check_again(const struct dns_asker *dns, uint64_t now, const struct dkim_evidence *evidence, unsigned count,
    enum dkim_broken broken, dkim_done_fn *done, void *arg) __attribute__((warn_unused_result));
/* One header field, as it stands: name, colon, folded value; with or without the last CRLF. */
void dkim_check_header(struct dkim_check *c, struct slice field);
/* The header is complete: the keys are asked for. */
void dkim_check_header_end(struct dkim_check *c);
void dkim_check_body(struct dkim_check *c, struct slice chunk);
/* The message is complete. done may be called before this returns, or later when the last key comes. */
void dkim_check_end(struct dkim_check *c);
/* Keys that have not come by now never will (temperror); calls done when the message is complete. */
void dkim_check_expire(struct dkim_check *c);
void dkim_check_free(struct dkim_check **c);

#endif
