/*
 * spf_macro: expansion of the macros of RFC 7208 7 in strings that
 * smtpd/spf_record.h found valid. Pure.
 */
#ifndef SMTPD_SPF_MACRO_H
#define SMTPD_SPF_MACRO_H

#include "common/buf.h"
#include "common/slice.h"

struct spf_macro_values {
	const uint8_t *ip;	 /* 16 octets, IPv4 as ::ffff:a.b.c.d */
	struct slice local;	 /* %{l} */
	struct slice sender_domain; /* %{o} */
	struct slice domain;	 /* %{d} */
	struct slice validated;	 /* %{p} */
	struct slice helo;	 /* %{h} */
	struct slice receiver;	 /* %{r} */
	uint64_t now;		 /* %{t} */
};

/* True when a macro of s has one of these letters (lower case; either case in s). */
bool spf_macro_uses(struct slice s, const char *letters);
/* Appends the expansion. False when out is full. */
bool spf_macro_expand(struct slice s, const struct spf_macro_values *v, struct buf *out);

/* True when ip is an IPv4 address in its mapped form. */
bool spf_ip_is_v4(const uint8_t ip[16]);
/* The name under which ip has its PTR records, appended to out. */
bool spf_ip_arpa(const uint8_t ip[16], struct buf *out);

#endif
