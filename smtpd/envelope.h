/*
 * envelope: one SMTP transaction as a front hands it to deliver, in a sealed
 * memory file beside DELIVER_MESSAGE. It says what the client said, and how
 * it was connected; who an authenticated client is stands in the lease, never here.
 *
 * The encoded form, version 4. Integers are big-endian, a slice is a u32
 * length and that many octets:
 *
 *   u8 version, u8 flags, u64 time received (microseconds since 1970),
 *   16 octets client address (IPv4 as ::ffff:a.b.c.d), u16 client port,
 *   slice helo, slice rdns, slice tls, slice client, slice mail_from, u8 ret, slice envid, u64 release (seconds since 1970), u32 hold_for,
 *   u8 priority (9 is 0),
 *   u32 count of recipients, that many of { slice address, u8 notify, slice orcpt }; nothing follows.
 */
#ifndef SMTPD_ENVELOPE_H
#define SMTPD_ENVELOPE_H

#include "common/arena.h"
#include "common/buf.h"
#include "common/slice.h"
#include "smtpd/smtp_grammar.h"

#define ENVELOPE_VERSION 4
#define ENVELOPE_ADDRESS_BYTES_MAX 320
#define ENVELOPE_TEXT_BYTES_MAX 512 /* helo, rdns, tls */
#define ENVELOPE_CLIENT_BYTES_MAX 8192
#define ENVELOPE_RECIPIENTS_MAX 10000
#define ENVELOPE_BYTES_MAX (4u << 20)

/* What a RCPT said of delivery status notifications (RFC 3461 4.1, 4.2). */
struct envelope_dsn {
	uint8_t notify;	    /* bits of enum smtp_notify */
	struct slice orcpt; /* as written */
};

struct envelope {
	bool esmtp; /* EHLO or LHLO, not HELO */
	bool lmtp;  /* each recipient is answered by itself (RFC 2033) */
	bool tls;
	bool eightbit; /* BODY=8BITMIME or BINARYMIME */
	bool binary;   /* BODY=BINARYMIME */
	bool smtputf8;
	bool requiretls; /* it may go on over TLS alone, and only to who promises the same (RFC 8689) */
	uint64_t received_us;
	uint8_t client_ip[16]; /* ::, and port 0, of a Unix socket */
	uint16_t client_port;
	struct slice helo;
	struct slice rdns;	/* the client's name by DNS, "unknown" when not known */
	struct slice client;	/* smtpd/client_facts.h; empty: nothing was asked */
	struct slice tls_text;	/* "TLS1.3 TLS_AES_256_GCM_SHA384", empty without TLS */
	struct slice mail_from; /* without "<>"; empty is the null reverse-path */
	enum smtp_ret ret;
	struct slice envid; /* as written */
	uint64_t release;   /* not to be delivered before (RFC 4865); 0: at once */
	uint32_t hold_for;  /* that was asked for as so many seconds; 0: as a time */
	int8_t priority;    /* SMTP_PRIORITY_MIN to SMTP_PRIORITY_MAX (RFC 6710) */
	struct slice *recipients;
	struct envelope_dsn *dsn; /* one for each of them; to be encoded it may be NULL: nothing was said */
	uint32_t recipient_count; /* 1 ... ENVELOPE_RECIPIENTS_MAX */
};

/* Appends the encoded form. False when a text passes its maximum or b is full. */
bool envelope_encode(const struct envelope *e, struct buf *b) __attribute__((warn_unused_result));
/*
 * Hostile input. False when in is not the encoded form, a text passes its maximum or has octets below 32 or 127 in it,
 * or a's cap is reached. The slices point into in, the list of recipients is in a.
 */
bool envelope_decode(struct slice in, struct arena *a, struct envelope *envelope_r)
    __attribute__((warn_unused_result));

#endif
