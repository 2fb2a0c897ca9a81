/*
 * directory: the domains, accounts and aliases, typed, over directory_db. An
 * address is an account or an alias, never both. Every change is one
 * transaction, durable when the function returns.
 *
 * Functions that look something up return 1 (found), 0 (there is none) or -1
 * and e. Records found point into memory of the directory and are valid until the next call on it.
 * Functions that change return 0, or -1 and e: ERR_PERM with words for the
 * administrator when the change cannot be made, ERR_TEMP when the database failed.
 */
#ifndef AUTHD_DIRECTORY_H
#define AUTHD_DIRECTORY_H

#include "authd/directory_record.h"
#include "common/err.h"

struct directory;

/* path: the environment's directory. Blocks. *rebuilt_r: see directory_db_open(). */
int directory_open(const char *path, struct directory **d_r, bool *rebuilt_r, struct err *e)
    __attribute__((warn_unused_result));
void directory_close(struct directory **d);
/* The database failed: nothing works any more, the process should end. */
bool directory_failed(const struct directory *d);

int directory_domain_find(struct directory *d, const char *domain, struct dir_domain *domain_r,
    struct err *e) __attribute__((warn_unused_result));
/* The domain that was added first. */
int directory_domain_first(struct directory *d, char domain_r[ADDRESS_DOMAIN_BYTES_MAX + 1],
    struct err *e) __attribute__((warn_unused_result));
int directory_account_get(struct directory *d, uint64_t id, struct dir_account *account_r,
    struct err *e) __attribute__((warn_unused_result));
int directory_account_find(struct directory *d, const struct address_name *name,
    struct dir_account *account_r, struct err *e) __attribute__((warn_unused_result));
int directory_alias_find(struct directory *d, const struct address_name *name,
    struct dir_alias *alias_r, struct err *e) __attribute__((warn_unused_result));
/* The oldest active account of the domain (NULL: of all); else the oldest one. */
int directory_account_first(struct directory *d, const char *domain, struct dir_account *account_r,
    struct err *e) __attribute__((warn_unused_result));

/* The name of ours that is meant by name where the domain's rules call it the same: 1 and it is in name, in the form under
 * which it is kept. For names that are not found as they are. */
int directory_name_meant(struct directory *d, struct address_name *name, struct err *e)
    __attribute__((warn_unused_result));

/* 0 when name's domain is ours and no account, nor (unless alias_may_be) an alias, has the name;
 * else -1 and e. */
int directory_name_free(struct directory *d, const struct address_name *name, bool alias_may_be,
    struct err *e) __attribute__((warn_unused_result));

/* now: seconds since 1970. */
int directory_domain_add(struct directory *d, const char *domain, uint64_t now, struct err *e)
    __attribute__((warn_unused_result));
/* With its accounts and aliases when all is set; else refused while it has any. */
int directory_domain_delete(struct directory *d, const char *domain, bool all, struct err *e)
    __attribute__((warn_unused_result));
/* The id is new: no account, deleted ones included, ever had it. */
int directory_account_add(struct directory *d, const struct address_name *login,
    struct slice display, struct slice hash, uint64_t now, uint64_t *id_r, struct err *e)
    __attribute__((warn_unused_result));
int directory_account_delete(struct directory *d, const struct address_name *login, struct err *e)
    __attribute__((warn_unused_result));
int directory_account_set_hash(struct directory *d, const struct address_name *login,
    struct slice hash, struct err *e) __attribute__((warn_unused_result));
int directory_account_set_state(struct directory *d, const struct address_name *login,
    enum dir_account_state state, struct err *e) __attribute__((warn_unused_result));
/* QUOTA_DEFAULT: the server's setting (a domain has none). */
int directory_account_set_limit(struct directory *d, uint64_t id, struct quota limit, struct err *e)
    __attribute__((warn_unused_result));
int directory_domain_set_limit(struct directory *d, const char *domain, struct quota limit, struct err *e)
    __attribute__((warn_unused_result));
/* What is to be the same name in that domain. Refused (ERR_CODE_EXISTS) when two of its names would be one. */
int directory_domain_set_rules(struct directory *d, const char *domain, const struct address_rules *rules, struct err *e)
    __attribute__((warn_unused_result));
/* Replaces an alias of that name. Whether the targets exist is the caller's to check. */
int directory_alias_set(struct directory *d, const struct address_name *name,
    const struct dir_alias *alias, struct err *e) __attribute__((warn_unused_result));
int directory_alias_delete(struct directory *d, const struct address_name *name, struct err *e)
    __attribute__((warn_unused_result));
/* The same for who may send as the account or alias of that name besides its own: the targets. Goes with that account or alias. */
int directory_sender_find(struct directory *d, const struct address_name *name, struct dir_alias *targets_r, struct err *e)
    __attribute__((warn_unused_result));
int directory_sender_set(struct directory *d, const struct address_name *name, const struct dir_alias *targets, struct err *e)
    __attribute__((warn_unused_result));
int directory_sender_delete(struct directory *d, const struct address_name *name, struct err *e)
    __attribute__((warn_unused_result));

/*
 * What changes oblige us to tell others is part of the change's transaction, and stays until
 * directory_effect_done(): a crash in between tells it twice, never not at all.
 */
typedef bool directory_effect_visit(enum dir_effect effect, uint64_t account, void *arg);
int directory_effect_each(struct directory *d, directory_effect_visit *visit, void *arg,
    struct err *e) __attribute__((warn_unused_result));
int directory_effect_done(struct directory *d, enum dir_effect effect, uint64_t account,
    struct err *e) __attribute__((warn_unused_result));

/*
 * Lists, in key order: those after the key `after` (from *_key of an earlier call; empty: from the
 * start), until visit returns false. domain NULL or empty: all. A record that does not decode is
 * logged and left out.
 */
typedef bool directory_domain_visit(
    struct slice key, const char *domain, const struct dir_domain *record, void *arg);
int directory_domain_each(struct directory *d, struct slice after, directory_domain_visit *visit,
    void *arg, struct err *e) __attribute__((warn_unused_result));
typedef bool directory_account_visit(struct slice key, const struct dir_account *record, void *arg);
int directory_account_each(struct directory *d, const char *domain, struct slice after,
    directory_account_visit *visit, void *arg, struct err *e) __attribute__((warn_unused_result));
typedef bool directory_alias_visit(
    struct slice key, const struct address_name *name, const struct dir_alias *record, void *arg);
int directory_alias_each(struct directory *d, const char *domain, struct slice after,
    directory_alias_visit *visit, void *arg, struct err *e) __attribute__((warn_unused_result));
int directory_sender_each(struct directory *d, const char *domain, struct slice after,
    directory_alias_visit *visit, void *arg, struct err *e) __attribute__((warn_unused_result));

#endif
