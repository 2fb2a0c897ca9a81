/*
 * received: the fields that a delivery puts before a message: Return-Path
 * (RFC 5321 4.4), Authentication-Results (RFC 8601, made by verify), Received
 * (RFC 5321 4.4, with the protocol names of RFC 3848 and the tls clause of RFC 8314 4.3),
 * and what a submission lacked (RFC 6409 8). Pure.
 */
#ifndef SMTPD_RECEIVED_H
#define SMTPD_RECEIVED_H

#include "common/buf.h"
#include "smtpd/envelope.h"

#define RECEIVED_BYTES_MAX (32 * 1024)

struct received_facts {
	const struct envelope *envelope;
	bool authenticated;    /* under a lease: ESMTPSA */
	struct slice hostname; /* our own */
	struct slice queue_id;
	struct slice authres; /* the whole field with its CRLF, or empty */
	int64_t now;	      /* seconds since 1970 */
};

/* Appends the Return-Path, which is for mailboxes alone (RFC 5321 4.4), with its CRLF. False when b is full. */
bool received_return_path(const struct received_facts *f, struct buf *b);
/* Appends the other trace fields, each ending in CRLF; octets of the envelope that may not stand there are
 * left out. False when b is full. */
bool received_print(const struct received_facts *f, struct buf *b);

/* Appends "Date:" and "Message-ID:" as far as they are wanted. */
bool received_complete(const struct received_facts *f, bool date, bool message_id, struct buf *b);

/* False of a client without an address (a Unix socket). */
bool received_ip_known(const uint8_t ip[16]);
/* "192.0.2.1" or "2001:db8::1" of an address whose IPv4 form is ::ffff:a.b.c.d; out has 46 octets. */
void received_ip_text(const uint8_t ip[16], char out[46]);

#endif
