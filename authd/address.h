/*
 * address: the names that the directory keeps: domains as A-labels in lower
 * case, local parts in NFC with ASCII letters in lower case. Two addresses are
 * the same when their normal forms are. Pure; what cannot be normalised is refused.
 */
#ifndef AUTHD_ADDRESS_H
#define AUTHD_ADDRESS_H

#include "common/err.h"
#include "common/slice.h"

#define ADDRESS_LOCAL_BYTES_MAX 64   /* RFC 5321 4.5.3.1.1 */
#define ADDRESS_DOMAIN_BYTES_MAX 253 /* RFC 1035 2.3.4, without the last dot */
#define ADDRESS_BYTES_MAX (ADDRESS_LOCAL_BYTES_MAX + 1 + ADDRESS_DOMAIN_BYTES_MAX)
#define ADDRESS_SEPARATORS_MAX 8

/* A normal form; NUL-terminated strings, so that they can be keys and log values as they are. */
struct address_name {
	char local[ADDRESS_LOCAL_BYTES_MAX + 1]; /* empty for a catch-all "@domain" */
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];
};

/*
 * What a domain's administrator decides of its local parts. Normal forms are the same in every domain; rules only say
 * which of them lead to the same name.
 */
struct address_rules {
	char separators[ADDRESS_SEPARATORS_MAX + 1]; /* what may stand between a name and its detail; empty: no details */
	bool fold_letters; /* letters beyond ASCII compare without case, too (Unicode case folding) */
	bool dots_ignored; /* "a.b" is "ab" */
};
#define ADDRESS_RULES_DEFAULT ((struct address_rules){.separators = "+"})

/* Normalises a domain name (U-labels or A-labels, a last dot is dropped). False for what is no host
 * name. */
bool address_domain(struct slice in, char out[ADDRESS_DOMAIN_BYTES_MAX + 1]);

/*
 * Normalises a local part as it comes in an envelope: Dot-string or Quoted-string (RFC 5321 4.1.2,
 * with UTF-8 by RFC 6531 3.3); the quoted form of a name is the same name. False for control
 * characters, bad UTF-8, too long.
 */
bool address_local(struct slice in, char out[ADDRESS_LOCAL_BYTES_MAX + 1]);

/*
 * Normalises "local@domain". "@domain" and a name without "@" are false here. The domain may not be
 * an address literal.
 */
bool address_parse(struct slice in, struct address_name *name_r);

/*
 * As address_parse(), for names that an administrator gives: the local part must be a Dot-string,
 * and with catch_all "@domain" is allowed. -1 and e with words for the administrator.
 */
int address_admin_parse(struct slice in, bool catch_all, struct address_name *name_r, struct err *e)
    __attribute__((warn_unused_result));

/*
 * The next shorter name that may be meant: cuts base, which begins as whole does, at its last separator; *detail_r, within
 * whole, is what stands behind that place. False, and nothing is changed, when there is none or nothing is before it.
 */
bool address_split_detail(
    struct address_name *base, const struct address_name *whole, const char *separators, const char **detail_r);

/* Separators are ASCII signs that a Dot-string may have without quotes, no letters, digits or dots, each once. */
bool address_separators_good(struct slice separators);

/* The form in which local compares by the rules; false when it has none (empty, or longer than a local part). */
bool address_fold(const char *local, const struct address_rules *rules, char out[ADDRESS_LOCAL_BYTES_MAX + 1]);

/* Needs this local part no quotes (RFC 5321 4.1.2, with UTF-8)? */
bool address_is_dot_string(struct slice local);

/* Prints "local@domain"; out has ADDRESS_BYTES_MAX + 1 octets. */
void address_print(const struct address_name *name, char *out);

/* "postmaster" or "abuse": roles that every domain has (RFC 5321 4.5.1, RFC 2142 4). */
bool address_is_role(const char *local);

#endif
