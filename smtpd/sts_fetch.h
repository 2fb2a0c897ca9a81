/*
 * sts_fetch: fetching a policy by HTTPS (RFC 8461 3.3), with libcurl on this process's event loop. Names are resolved by the caller,
 * so nothing here asks the DNS. No redirects, no cookies, no proxy, no cache; the certificate must be that of the host by a known
 * authority.
 */
#ifndef SMTPD_STS_FETCH_H
#define SMTPD_STS_FETCH_H

#include "common/err.h"
#include "common/loop.h"
#include "common/slice.h"

#include <stdint.h>

struct sts_fetcher;
struct sts_fetch;

/* text: the policy, when why is NULL; else why there is none, in words for the time line. Both are valid during the call. */
typedef void sts_fetched_fn(void *arg, struct slice text, const char *why);

/*
 * The process's only one; to be called before the sandbox closes. ca_file: certificates of the known authorities, PEM; port: of all
 * policy hosts; longest_ms: of a fetch. NULL and e when libcurl does not start or the file cannot be read. Blocks on that file.
 */
struct sts_fetcher *sts_fetcher_new(struct loop *l, const char *ca_file, uint16_t port, uint64_t longest_ms, struct err *e);
void sts_fetcher_free(struct sts_fetcher **f);

/*
 * Fetches https://HOST/.well-known/mta-sts.txt from one of the addresses ("192.0.2.1,[2001:db8::1]", tried as libcurl does). done is
 * called once, never from inside this call; the fetch has ended then. NULL: it could not be begun, and done is not called.
 */
struct sts_fetch *sts_fetch_new(struct sts_fetcher *f, const char *host, const char *addresses, sts_fetched_fn *done, void *arg);
/* done is not called any more. */
void sts_fetch_free(struct sts_fetch **fetch);

#endif
