/*
 * account_rate: how much an account has sent to other servers today, and whether that looks like its owner. Whoever has stolen a password
 * sends as much as he can to people whom the account never wrote to: so addresses that it writes to for the first time are counted, besides
 * messages and recipients. A day begins with an account's first message and is 24 hours. Addresses that it wrote to on an earlier day are
 * known for ACCOUNT_RATE_KNOWN_MS after the last time at least, unless that day ended with ACCOUNT_SPENT_ADDRESSES. Pure: the caller has
 * the clock, milliseconds since 1970, and keeps what is known (smtpd/account_rate_file.h).
 */
#ifndef SMTPD_ACCOUNT_RATE_H
#define SMTPD_ACCOUNT_RATE_H

#include "common/buf.h"
#include "common/slice.h"

#define ACCOUNT_RATE_DAY_MS (24u * 60 * 60 * 1000)
#define ACCOUNT_RATE_ACCOUNTS_MAX 10000	 /* remembered at once; past it the one whose day is oldest begins a new one */
#define ACCOUNT_RATE_KNOWN_MS (UINT64_C(30) * ACCOUNT_RATE_DAY_MS)
/* New ones of an account in a day, also the most that the setting can say; and known ones of a generation, of which there are two. */
#define ACCOUNT_RATE_ADDRESSES_MAX 10000
#define ACCOUNT_RATE_ADDRESSES_ALL_MAX (1u << 20) /* of all accounts together, in places for them; past it as above */
#define ACCOUNT_RATE_IMAGE_BYTES_MAX (16u << 20)

/* Most in a day; 0: no limit. */
struct account_limits {
	uint32_t messages;
	uint32_t recipients;
	uint32_t addresses; /* written to for the first time */
};

/* A message that leaves. */
struct account_message {
	uint64_t account;
	const struct slice *to; /* its recipients on other servers */
	uint32_t count;
};

enum account_spent {
	ACCOUNT_SPENT_NOTHING,
	ACCOUNT_SPENT_MESSAGES,	  /* not counted: it does not leave */
	ACCOUNT_SPENT_RECIPIENTS, /* nor is this one */
	ACCOUNT_SPENT_ADDRESSES,  /* counted, and so is every message from here on to the end of the day */
};

struct account_rates;

struct account_rates *account_rates_new(void);
void account_rates_free(struct account_rates **r);

/* Counts m. *first_r: for the first time today it came to ACCOUNT_SPENT_ADDRESSES. */
enum account_spent account_rate_count(struct account_rates *r, const struct account_limits *limits, const struct account_message *m,
    uint64_t now_ms, bool *first_r);

/*
 * All that r knows, appended to b (of ACCOUNT_RATE_IMAGE_BYTES_MAX), and back. An address is in it as a hash, by a key that is there, too.
 *   16 octets key, u32 accounts, and for each: u64 account, u64 began_ms, u64 known_ms, u32 messages, u32 recipients, u8 spent,
 *   3 times (today, known, known before): u32 count, count u64 hashes
 */
void account_rates_encode(const struct account_rates *r, struct buf *b);
/* NULL: that is no image of ours. */
struct account_rates *account_rates_decode(struct slice image);

#endif
