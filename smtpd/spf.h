/*
 * spf: check_host() of RFC 7208 as an asynchronous evaluation over struct
 * dns_asker. One look-up at a time; all limits of section 4.6.4 hold. The
 * caller owns the clock: it ends a check that takes too long with spf_check_expire().
 */
#ifndef SMTPD_SPF_H
#define SMTPD_SPF_H

#include "common/dns.h"

#define SPF_LOOKUPS_MAX 10	      /* terms that query (RFC 7208 4.6.4): permerror past it */
#define SPF_VOID_LOOKUPS_MAX 2	      /* of them, those without any answer */
#define SPF_NAMES_MAX 10	      /* MX names (permerror past it), PTR names (the rest is ignored) */
#define SPF_NAME_BYTES_MAX 253	      /* of an expanded name: left labels are dropped (7.3) */
#define SPF_EXPLANATION_BYTES_MAX 400 /* the rest is cut off */
#define SPF_MECHANISM_BYTES_MAX 256   /* of the directive reported */

/* Stable numbers: they cross edges (smtpd/verdict.h). */
enum spf_result {
	SPF_RESULT_NONE,
	SPF_RESULT_NEUTRAL,
	SPF_RESULT_PASS,
	SPF_RESULT_FAIL,
	SPF_RESULT_SOFTFAIL,
	SPF_RESULT_TEMPERROR,
	SPF_RESULT_PERMERROR,
	SPF_RESULT_COUNT
};

/* The word of RFC 8601 2.7.2. */
const char *spf_result_name(enum spf_result r);

struct spf_query {
	uint8_t ip[16];		/* IPv4 as ::ffff:a.b.c.d */
	struct slice domain;	/* of the identity checked; U-labels are converted */
	struct slice local;	/* its local part; empty: "postmaster" (4.3) */
	struct slice helo;	/* %{h} */
	struct slice receiver;	/* %{r}; empty: "unknown" */
};

struct spf_outcome {
	enum spf_result result;
	struct slice domain;	  /* the domain asked, A-labels, lower case; as given when it is malformed */
	struct slice explanation; /* of a fail: printable US-ASCII from the sender's DNS, or empty */
	struct slice mechanism;	  /* the directive that matched, or the term at fault; printable US-ASCII */
	unsigned lookups;
	unsigned void_lookups;
};

struct spf_check;
/* Called once. The outcome is valid until spf_check_free(). It must not free the check. */
typedef void spf_done_fn(void *arg, const struct spf_outcome *o);

/*
 * A check that has not begun; q is copied. dns must outlive it. Never NULL: what does not fit in its memory
 * (256 KiB) ends as permerror.
 */
struct spf_check *spf_check_new(const struct dns_asker *dns, const struct spf_query *q,
    spf_done_fn *done, void *arg) __attribute__((warn_unused_result));
/* Begins; done may be called before this returns. */
void spf_check_start(struct spf_check *c);
/* Ends a running check with temperror (calls done); nothing when it has ended. */
void spf_check_expire(struct spf_check *c);
/* Cancels what is running, without calling done; sets *c to NULL; NULL is fine. */
void spf_check_free(struct spf_check **c);

#endif
