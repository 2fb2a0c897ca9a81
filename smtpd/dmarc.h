/*
 * dmarc: DMARC after RFC 9989: policy discovery and organisational domains by
 * DNS tree walk, alignment, the policy that results. Asynchronous over struct
 * dns_asker; one look-up at a time, each name asked once.
 */
#ifndef SMTPD_DMARC_H
#define SMTPD_DMARC_H

#include "common/dns.h"

#define DMARC_WALK_QUERIES_MAX 8 /* per name (RFC 9989 4.10) */
#define DMARC_LABELS_MAX 8
#define DMARC_IDENTIFIERS_MAX 11 /* SPF and DKIM_SIGNATURES_MAX */
#define DMARC_RECORD_BYTES_MAX 4096 /* of a record's text that are told; all of it counts */

/* Stable numbers: they cross edges. Words of RFC 9989 9.2. */
enum dmarc_result {
	DMARC_RESULT_NONE,
	DMARC_RESULT_PASS,
	DMARC_RESULT_FAIL,
	DMARC_RESULT_TEMPERROR,
	DMARC_RESULT_PERMERROR,
	DMARC_RESULT_COUNT
};
enum dmarc_policy {
	DMARC_POLICY_NONE,
	DMARC_POLICY_QUARANTINE,
	DMARC_POLICY_REJECT,
	DMARC_POLICY_COUNT
};

const char *dmarc_result_name(enum dmarc_result r);
const char *dmarc_policy_name(enum dmarc_policy p);

enum dmarc_psd { DMARC_PSD_U, DMARC_PSD_Y, DMARC_PSD_N };

struct dmarc_record {
	enum dmarc_policy p, sp, np;
	bool has_p, has_sp, has_np;
	bool bad_policy; /* p is missing or not valid, or sp or np is not valid (4.10.1) */
	bool p_missing;	 /* there is no p at all: as p=none (4.7) */
	bool strict_dkim, strict_spf;
	bool testing;
	enum dmarc_psd psd;
	struct slice rua, ruf; /* into the text; empty when absent, and in what a check keeps */
	bool rua_usable;       /* at least one syntactically valid URI */
};

/*
 * Parses a record (4.7, 4.8). False when it does not begin with v=DMARC1, so is no DMARC record at all. Unknown
 * tags, and values that are not valid, count as absent. Slices point into text.
 */
bool dmarc_record_parse(struct slice text, struct dmarc_record *record_r);

/* A name that SPF (the MAIL FROM identity) or DKIM (d=) has authenticated. */
struct dmarc_identifier {
	struct slice domain;
	bool is_dkim;
	/* Its check ended in a temporary error: were it aligned, the result is not known. */
	bool uncertain;
};

struct dmarc_query {
	struct slice author; /* domain of the one From mailbox; U-labels are converted */
	const struct dmarc_identifier *identifiers;
	unsigned count; /* at most DMARC_IDENTIFIERS_MAX; the rest is ignored */
};

struct dmarc_outcome {
	enum dmarc_result result;
	enum dmarc_policy policy;     /* to be applied to a fail: p, sp or np, after t=y */
	enum dmarc_policy published;  /* before t=y */
	bool testing;
	bool spf_aligned;
	unsigned dkim_aligned;	      /* how many signatures */
	struct slice author;	      /* A-labels, lower case */
	struct slice org;	      /* organisational domain of the author; empty when not looked for */
	struct slice policy_domain;   /* where the record was found; empty: none */
	struct slice record;	      /* its text, printable US-ASCII only */
	struct slice reason;	      /* fixed text of ours; empty when there is nothing to say */
	unsigned queries;
};

struct dmarc_check;
/* Called once; the outcome is valid until dmarc_check_free(). It must not free the check. */
typedef void dmarc_done_fn(void *arg, const struct dmarc_outcome *o);

/* q is copied; dns must outlive the check. Never NULL. */
struct dmarc_check *dmarc_check_new(const struct dns_asker *dns, const struct dmarc_query *q,
    dmarc_done_fn *done, void *arg) __attribute__((warn_unused_result));
/* Begins; done may be called before this returns. */
void dmarc_check_start(struct dmarc_check *c);
/* Ends a running check with temperror (calls done). */
void dmarc_check_expire(struct dmarc_check *c);
void dmarc_check_free(struct dmarc_check **c);

#endif
