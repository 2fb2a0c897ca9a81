/*
 * sts_policy: MTA-STS (RFC 8461) as octets: the TXT record that says there is a policy, and the policy itself. Pure.
 */
#ifndef SMTPD_STS_POLICY_H
#define SMTPD_STS_POLICY_H

#include "common/dns.h"
#include "common/slice.h"

#define STS_ID_CHARS_MAX 32
#define STS_POLICY_BYTES_MAX (64u * 1024) /* RFC 8461 3.3 suggests it */
#define STS_PATTERNS_MAX 64		  /* mx fields that count */
#define STS_AGE_SECONDS_MAX 31557600u	  /* RFC 8461 3.2 */

/* Stable numbers: they are on disk and between processes. */
enum sts_mode { STS_NONE = 0, STS_TESTING = 1, STS_ENFORCE = 2, STS_MODE_LAST = STS_ENFORCE };

const char *sts_mode_name(enum sts_mode m);

/*
 * The id of the policy that the TXT records of _mta-sts.DOMAIN tell of: of those that begin with "v=STSv1;" there must be one alone, and
 * it must be well formed (RFC 8461 3.1). False: there is no policy. The id points into the answer.
 */
bool sts_record_id(const struct dns_answer *txt, struct slice *id_r);

struct sts_policy {
	enum sts_mode mode;
	uint32_t max_age; /* seconds */
	unsigned mx_count;
	struct slice mx[STS_PATTERNS_MAX]; /* a name, or "*." and a name */
};

/*
 * Reads a policy (RFC 8461 3.2): hostile input. What is not known is ignored; of what may stand once alone the first counts. False when
 * it is none: a field that must be there is missing or malformed, a mode other than none has no mx, or there are octets that may not
 * be. The slices point into in.
 */
bool sts_policy_parse(struct slice in, struct sts_policy *policy_r);

/* Whether a host may take mail under the policy: an mx field is its name, or has "*" for its first label (RFC 8461 4.1). */
bool sts_policy_allows(const struct sts_policy *policy, struct slice host);

#endif
