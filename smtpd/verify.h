/*
 * verify: one message judged: read once, its form and summary made, and (full)
 * SPF, DKIM and DMARC run concurrently under one time limit. Knows no edges.
 */
#ifndef SMTPD_VERIFY_H
#define SMTPD_VERIFY_H

#include "common/dns.h"
#include "common/err.h"
#include "common/slice.h"
#include "smtpd/verdict.h"

struct answers;
struct facts;
struct loop;

struct verify_request {
	struct slice facts;  /* encoded (smtpd/facts.h) */
	int message;	     /* descriptor, read by pread(2); the caller's */
	uint64_t bytes;	     /* of the message, exactly */
	bool full;
	uint64_t timeout_ms; /* for the checks; SPF and DKIM get two thirds of it */
	uint64_t now;	     /* seconds since 1970, for DKIM's t= and x=; 0: the clock */
};

struct verify_result {
	/* ERR_NONE; ERR_TEMP: the message could not be read as announced; ERR_PERM: facts are not the encoded form. */
	struct err err;
	uint8_t sha256[32];
	const struct verdict *verdict;
	struct slice encoded; /* the verdict */
	struct slice summary; /* common/summary.h, of the message without the ranges of the verdict */
	/* For the time line: what the checks began with, and what the DNS told them. NULL: that one did not run. */
	const struct facts *facts;
	struct slice local; /* local part of MAIL FROM, as SPF got it */
	struct answers *answers[VERDICT_CHECKS];
	/* What signatures were judged from (NULL: none were), and when. */
	const struct dkim_outcome *dkim;
	const struct arc_evidence *arc;
	uint64_t now;
};

struct verify;
/* Called once; r is valid until verify_free(). It must not free the job. */
typedef void verify_done_fn(void *arg, const struct verify_result *r);

/* What must be opened before the sandbox closes: libopendkim, OpenSSL, charset converters. */
void verify_global_init(void);

/* loop is for the time limit; dns must outlive the job. Never NULL. */
struct verify *verify_new(struct loop *loop, const struct dns_asker *dns, verify_done_fn *done, void *arg)
    __attribute__((warn_unused_result));
/* Reads the message (blocks on its file) and begins the checks; done may be called before this returns. */
void verify_start(struct verify *v, const struct verify_request *q);
/* Cancels what runs, without calling done; sets *v to NULL; NULL is fine. */
void verify_free(struct verify **v);

#endif
