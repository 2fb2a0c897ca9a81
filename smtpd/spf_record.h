/*
 * spf_record: the grammar of SPF records (RFC 7208 4.5, 4.6, 5, 6, 7.1, 12). Pure: slices in, slices out,
 * nothing is copied; linear in the record.
 */
#ifndef SMTPD_SPF_RECORD_H
#define SMTPD_SPF_RECORD_H

#include "smtpd/spf.h"

enum spf_kind {
	SPF_KIND_ALL,
	SPF_KIND_INCLUDE,
	SPF_KIND_A,
	SPF_KIND_MX,
	SPF_KIND_PTR,
	SPF_KIND_IP4,
	SPF_KIND_IP6,
	SPF_KIND_EXISTS,
	SPF_KIND_REDIRECT,
	SPF_KIND_EXP,
	SPF_KIND_UNKNOWN_MODIFIER,
};

struct spf_term {
	enum spf_kind kind;
	enum spf_result result;	   /* of a directive's qualifier */
	struct slice text;	   /* the whole term */
	struct slice domain_spec;  /* p == NULL: none given */
	uint8_t ip[16];		   /* ip4 (first 4 octets), ip6 */
	uint8_t prefix4, prefix6;  /* 32 and 128 when not given */
};

/* True when text begins with the version section "v=spf1" (4.5). *terms_r is what follows. */
bool spf_record_is(struct slice text, struct slice *terms_r);

/* The next term of *rest, which advances. 1: a term; 0: the end; -1: a syntax error, term_r->text says where. */
int spf_term_next(struct slice *rest, struct spf_term *term_r) __attribute__((warn_unused_result));

struct spf_record {
	struct slice terms;
	bool has_all;
	struct slice redirect; /* its domain-spec; p == NULL: none */
	struct slice exp;
};

/* Checks the syntax of all terms (4.6) and looks for the modifiers. False on an error, at *fault_r. */
bool spf_record_parse(struct slice terms, struct spf_record *record_r, struct slice *fault_r);

/* macro-string (7.1). letters: allowed macro letters, lower case; spaces: SP is allowed as in explain-string. */
bool spf_macro_string_valid(struct slice s, const char *letters, bool spaces);

#define SPF_LETTERS_TERM "slodiphv"
#define SPF_LETTERS_EXP "slodiphvcrt"

#endif
