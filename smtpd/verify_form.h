/*
 * verify_form: what a message looks like, without asking anyone: struct
 * verdict_form, the octet ranges to leave out, the Delivered-To addresses. Pure.
 */
#ifndef SMTPD_VERIFY_FORM_H
#define SMTPD_VERIFY_FORM_H

#include "common/arena.h"
#include "smtpd/facts.h"
#include "smtpd/octets.h"
#include "smtpd/verdict.h"

#define VERIFY_HEADER_BYTES_MAX (1024 * 1024) /* a longer header block is not sane */

/*
 * Reads the header block (with its empty line, from octet 0 of the message): fills v->form's part of it,
 * v->ranges. Texts are slices of block or in a (a MiB is enough). Ranges: fields that claim to be our
 * Authentication-Results (if f->authserv_id says what we are called), and on submission Bcc, Resent-Bcc (RFC 6409 8) and
 * Return-Path (RFC 5321 4.4). At a's cap form.header_sane is false.
 */
void verify_form_header(struct slice block, const struct facts *f, struct arena *a, struct verdict *v);

/* Looks at all octets of the message as they stream by, in chunks of any size. */
struct verify_scan {
	bool in_header; /* set by the caller: 8-bit octets are not the body's */
	struct octets octets;
};

void verify_scan_feed(struct verify_scan *s, struct slice chunk, struct verdict_form *f);
/* At the end of the message. */
void verify_scan_end(struct verify_scan *s, struct verdict_form *f);

#endif
