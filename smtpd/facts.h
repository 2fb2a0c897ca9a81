/*
 * facts: the part of an envelope that the checks of a message need, as deliver
 * hands it to verify in a memory file beside VERIFY_MESSAGE.
 *
 * The encoded form, version 3. Integers are big-endian, a slice is a u32
 * length and that many octets:
 *
 *   u8 version, u8 flags (1 smtputf8, 2 submission, 4 binary), 16 octets client address,
 *   u8 iprev, slice helo, slice mail_from, slice hostname, slice authserv_id, slice client_name, slice marks; nothing follows.
 */
#ifndef SMTPD_FACTS_H
#define SMTPD_FACTS_H

#include "common/buf.h"
#include "common/slice.h"
#include "smtpd/client_facts.h"
#include "smtpd/forward_mark.h"

#define FACTS_VERSION 3
#define FACTS_TEXT_BYTES_MAX 1024
#define FACTS_BYTES_MAX (19 + 5 * (4 + FACTS_TEXT_BYTES_MAX) + 4 + FORWARD_MARKS_BYTES_MAX)

struct facts {
	uint8_t client_ip[16];	   /* IPv4 as ::ffff:a.b.c.d */
	enum client_iprev iprev;   /* what the DNS says of that address */
	struct slice client_name;  /* of a pass */
	struct slice helo;	   /* as the client gave it */
	struct slice mail_from;	   /* without "<>"; empty is the null reverse-path */
	struct slice hostname;	   /* our own name: %{r} of SPF */
	struct slice authserv_id;  /* whose Authentication-Results are ours; empty: the client may say what it wants */
	struct slice marks;	   /* of addresses that are to send it on (smtpd/forward_mark.h); may be empty */
	bool smtputf8;		   /* SMTPUTF8 was a parameter of MAIL */
	bool binary;		   /* BODY=BINARYMIME was */
	bool submission;	   /* from an account of ours: Bcc and Return-Path are taken out, nothing is checked */
};

/* Appends the encoded form. False when a text passes FACTS_TEXT_BYTES_MAX or b is full. */
bool facts_encode(const struct facts *f, struct buf *b) __attribute__((warn_unused_result));
/* False when in is not the encoded form. The slices point into in. */
bool facts_decode(struct slice in, struct facts *facts_r) __attribute__((warn_unused_result));

#endif
