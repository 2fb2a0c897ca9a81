/*
 * verdict: what verify found in one message, as it crosses to deliver in
 * VERIFY_REPLY. deliver decides by policy; nothing here is a decision.
 *
 * The encoded form, version 6, is written and read by smtpd/verdict.c alone:
 * u8 version, then the fields of the structs below in their order (bools and
 * enums as u8, numbers as u32 or u64, texts as u32 length and octets, lists
 * as u16 count and items). Nothing follows.
 */
#ifndef SMTPD_VERDICT_H
#define SMTPD_VERDICT_H

#include "common/buf.h"
#include "smtpd/arc_check.h"
#include "smtpd/dkim_check.h"
#include "smtpd/dmarc.h"
#include "smtpd/sevenbit.h"
#include "smtpd/spf.h"

#define VERDICT_VERSION 6
#define VERDICT_BYTES_MAX 65536 /* VERIFY_REPLY.verdict; one with every field at its maximum fits (smtpd/verdict.c) */
#define VERDICT_RANGES_MAX 256	/* octet ranges to leave out; adjacent ones are joined */
#define VERDICT_TEXT_BYTES_MAX 1024
#define VERDICT_AUTHRES_BYTES_MAX 16384

struct verdict_range {
	uint64_t offset; /* from the first octet of the message as it came */
	uint64_t octets;
};

/* What the message looks like. */
struct verdict_form {
	uint32_t header_fields;
	uint32_t from_fields;
	uint32_t from_mailboxes;
	bool from_domains_differ;
	struct slice from_domain; /* of the first mailbox, as written; empty: none */
	struct slice from_address; /* addr-spec of the first mailbox of From; empty: none. deliver asks on
				      submission whether the account may use it (RFC 6409 6.1) */
	uint32_t date_fields;
	uint32_t message_id_fields;
	uint32_t recipient_fields; /* To, Cc, Bcc */
	uint32_t received_fields;
	bool header_sane; /* every line before the empty line is a field or a continuation, within the limits */
	bool header_8bit; /* octets over 127 in the header */
	bool header_utf8; /* and they are valid UTF-8 (RFC 6532) */
	bool unqualified; /* an address in From, Sender, To, Cc, Reply-To has no domain */
	bool ranges_overflow; /* more ranges than fit: nothing of the list may be relied on, refuse */
	bool has_nul;
	bool has_bare_cr;
	bool has_bare_lf;
	bool stray_octets; /* one of the three where neither BODY=BINARYMIME nor a part's encoding lets it be */
	bool line_too_long; /* over 998 octets without its CRLF (RFC 5322 2.1.1) */
	bool body_8bit;
	bool tls_optional; /* TLS-Required: No, once (RFC 8689 3) */
	bool looped; /* a Delivered-To names an address that is to send it on (facts.marks) */
};

struct verdict_spf {
	enum spf_result result;
	struct slice domain;
	struct slice explanation;
	struct slice mechanism;
};

struct verdict_dmarc {
	enum dmarc_result result;
	enum dmarc_policy policy;
	enum dmarc_policy published;
	bool testing;
	bool spf_aligned;
	uint32_t dkim_aligned;
	struct slice author;
	struct slice org;
	struct slice policy_domain;
	struct slice record;
	struct slice reason;
};

struct verdict {
	bool full; /* the checks ran; else only form and ranges are filled */
	struct verdict_form form;
	struct verdict_spf helo;
	struct verdict_spf mail_from; /* with a null reverse-path: postmaster@HELO (RFC 7208 2.4) */
	struct dkim_signature dkim[DKIM_SIGNATURES_MAX];
	uint16_t dkim_count;
	uint32_t dkim_skipped;
	struct arc_outcome arc;
	struct verdict_dmarc dmarc;
	/* The whole field "Authentication-Results: ...", folded, ending in CRLF; empty unless full. */
	struct slice authres;
	/* What to leave out when the message is written, ascending, not overlapping. */
	struct verdict_range ranges[VERDICT_RANGES_MAX];
	uint16_t range_count;
	/* On submission: how the message would be made fit for 7 bits; without changes: it is, or cannot be. Of the message as it came,
	 * none of them in a range above. */
	struct sevenbit_plan recoding;
};

/* Appends the encoded form. False when a text or list passes its maximum or b is full. */
bool verdict_encode(const struct verdict *v, struct buf *b) __attribute__((warn_unused_result));
/* False when in is not the encoded form: every enum, length, order of ranges is checked. The slices point into in. */
bool verdict_decode(struct slice in, struct verdict *verdict_r) __attribute__((warn_unused_result));
/* Checks that can be run again on what they were told by the DNS. Stable words: see verdict_check_name(). */
enum verdict_check {
	VERDICT_CHECK_HELO,
	VERDICT_CHECK_MAIL_FROM,
	VERDICT_CHECK_DMARC,
	VERDICT_CHECK_DKIM,
	VERDICT_CHECK_ARC,
	VERDICT_CHECKS
};

const char *verdict_check_name(enum verdict_check c);

/* What DMARC is evaluated with: the identities that SPF and DKIM authenticated, or could not for the moment. Gives how many. */
unsigned verdict_identifiers(const struct verdict *v, struct dmarc_identifier ids[DMARC_IDENTIFIERS_MAX]);

#endif
