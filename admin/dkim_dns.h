/*
 * dkim_dns: is the key record that a selector needs published? Asked of the running resolver; the answer is read by a confined
 * process, since others wrote it, with the code that judges the signatures of others.
 */
#ifndef ADMIN_DKIM_DNS_H
#define ADMIN_DKIM_DNS_H

#include "admin/command.h"
#include "common/dkim_selector.h"

enum dkim_published {
	DKIM_PUBLISHED_RIGHT,
	DKIM_PUBLISHED_MISSING,
	DKIM_PUBLISHED_WRONG,	/* there is another record, or one that a receiver does not take */
	DKIM_PUBLISHED_UNKNOWN, /* the DNS does not tell for the moment */
};

const char *dkim_published_name(enum dkim_published p);

#define DKIM_DNS_REASON_SIZE 80

struct dkim_question {
	struct slice name; /* SELECTOR._domainkey.DOMAIN */
	enum dkim_algorithm algorithm;
	struct slice record; /* what should be there */
};

/* resolver: a link to ROLE_RESOLVER. reason_r: a fixed text, why it is not DKIM_PUBLISHED_RIGHT. Blocks up to timeout_ms and a little. */
enum command_status dkim_dns_ask(struct command_link *resolver, const struct dkim_question *q, uint32_t timeout_ms,
    enum dkim_published *published_r, char reason_r[DKIM_DNS_REASON_SIZE]);

#endif
