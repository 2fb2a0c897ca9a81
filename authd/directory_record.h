/*
 * directory_record: what the directory keeps, and its octets on disk. A record is
 *   u8 version (1), u8 kind, body, u32 CRC-32 of all before it
 * in the encoding of common/cursor.h. Keys are a letter and the name:
 *   "V"                    the format's version (u32), next account id (u64), next domain order (u64)
 *   "D" domain             struct dir_domain
 *   "A" u64 id             struct dir_account
 *   "L" domain NUL local   u64 id of the account with that login address
 *   "O" domain NUL u64 id  nothing: a domain's accounts, oldest first
 *   "X" domain NUL local   struct dir_alias; local is empty for a catch-all
 *   "G" domain NUL local   struct dir_alias: who may send as the account or alias of that name
 *   "F" domain NUL folded  the local part of the account or alias that has this folded form (authd/directory_fold.c)
 *   "S"                    struct srs_secrets: slice newest, slice older (empty: none), u64 since; of an older format the first alone;
 *                          made when it is first needed
 *   "E" u8 effect u64 id   nothing: something that other processes must still be told (enum dir_effect)
 * What is read from disk is treated as hostile: a record that does not decode is damage, not a crash.
 */
#ifndef AUTHD_DIRECTORY_RECORD_H
#define AUTHD_DIRECTORY_RECORD_H

#include "authd/address.h"
#include "authd/srs.h"
#include "common/buf.h"
#include "store/quota.h"

#define DIR_FORMAT_VERSION 1
#define DIR_ALIAS_TARGETS_MAX 100
#define DIR_DISPLAY_BYTES_MAX 128
#define DIR_HASH_BYTES_MAX 383
/* An alias with all its targets at their longest is the largest. */
#define DIR_RECORD_BYTES_MAX (DIR_ALIAS_TARGETS_MAX * (ADDRESS_BYTES_MAX + 4) + 64)

/* Stable numbers: they are stored. */
enum dir_kind {
	DIR_KIND_META = 1,
	DIR_KIND_DOMAIN = 2,
	DIR_KIND_ACCOUNT = 3,
	DIR_KIND_ALIAS = 4,
	DIR_KIND_SECRET = 5,
};

enum dir_account_state {
	DIR_ACCOUNT_ACTIVE = 1,
	DIR_ACCOUNT_SUSPENDED = 2,
};

enum dir_effect {
	DIR_EFFECT_REVOKE = 1, /* live sessions of the account must end */
	DIR_EFFECT_DELETE = 2, /* the store must delete the account's directory */
};

struct dir_meta {
	uint32_t version;
	uint64_t next_account;
	uint64_t next_order;
};

struct dir_domain {
	uint64_t order;	  /* the first domain has the lowest */
	uint64_t created; /* seconds since 1970 */
	struct quota limit; /* of all of its accounts together */
	struct address_rules rules; /* a record that ends before them has the default ones */
};

/* The slices of a decoded record point into its octets. */
struct dir_account {
	uint64_t id;
	enum dir_account_state state;
	uint64_t created;
	struct quota limit; /* QUOTA_DEFAULT: the server's setting */
	struct slice login; /* normal form, local@domain */
	struct slice display;
	struct slice hash;
};

struct dir_alias {
	uint64_t created;
	uint32_t n;
	struct slice target[DIR_ALIAS_TARGETS_MAX]; /* local@domain: normal form; of other servers with the local part as it is */
};

/* Append the record to b (reset first); false when a field passes its limit. */
bool dir_meta_encode(const struct dir_meta *m, struct buf *b);
bool dir_domain_encode(const struct dir_domain *d, struct buf *b);
bool dir_account_encode(const struct dir_account *a, struct buf *b);
bool dir_alias_encode(const struct dir_alias *a, struct buf *b);
bool dir_secrets_encode(const struct srs_secrets *s, struct buf *b);

/* False for anything but exactly one whole record of that kind with the right checksum and values
 * in range. */
bool dir_meta_decode(struct slice in, struct dir_meta *m_r);
bool dir_domain_decode(struct slice in, struct dir_domain *d_r);
bool dir_account_decode(struct slice in, struct dir_account *a_r);
bool dir_alias_decode(struct slice in, struct dir_alias *a_r);
bool dir_secrets_decode(struct slice in, struct srs_secrets *s_r);

/* Splits the normal form "local@domain" of a stored address; false when it is none. */
bool dir_name_of(struct slice normal, struct address_name *name_r);

#endif
