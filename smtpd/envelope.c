#include "smtpd/envelope.h"

#include "common/cursor.h"

enum {
	FLAG_ESMTP = 1,
	FLAG_TLS = 2,
	FLAG_EIGHTBIT = 4,
	FLAG_SMTPUTF8 = 8,
	FLAG_BINARY = 16,
	FLAG_LMTP = 32,
	FLAG_REQUIRETLS = 64,
	FLAGS_ALL = 127
};

#define RECIPIENT_BYTES_MIN (4 + 1 + 4)

bool
envelope_encode(const struct envelope *e, struct buf *b)
{
	bool fits = e->priority >= SMTP_PRIORITY_MIN && e->priority <= SMTP_PRIORITY_MAX &&
	    e->envid.n <= SMTP_ENVID_CHARS_MAX && e->helo.n <= ENVELOPE_TEXT_BYTES_MAX && e->rdns.n <= ENVELOPE_TEXT_BYTES_MAX &&
	    e->tls_text.n <= ENVELOPE_TEXT_BYTES_MAX && e->client.n <= ENVELOPE_CLIENT_BYTES_MAX &&
	    e->mail_from.n <= ENVELOPE_ADDRESS_BYTES_MAX &&
	    e->recipient_count > 0 && e->recipient_count <= ENVELOPE_RECIPIENTS_MAX;

	put_u8(b, ENVELOPE_VERSION);
	put_u8(b, (uint8_t)((e->esmtp ? FLAG_ESMTP : 0) | (e->tls ? FLAG_TLS : 0) |
		      (e->eightbit ? FLAG_EIGHTBIT : 0) | (e->smtputf8 ? FLAG_SMTPUTF8 : 0) |
		      (e->binary ? FLAG_BINARY : 0) | (e->lmtp ? FLAG_LMTP : 0) |
		      (e->requiretls ? FLAG_REQUIRETLS : 0)));
	put_u64(b, e->received_us);
	buf_put(b, e->client_ip, sizeof(e->client_ip));
	put_u16(b, e->client_port);
	put_slice(b, e->helo);
	put_slice(b, e->rdns);
	put_slice(b, e->tls_text);
	put_slice(b, e->client);
	put_slice(b, e->mail_from);
	put_u8(b, (uint8_t)e->ret);
	put_slice(b, e->envid);
	put_u64(b, e->release);
	put_u32(b, e->hold_for);
	put_u8(b, (uint8_t)(e->priority - SMTP_PRIORITY_MIN));
	put_u32(b, e->recipient_count);
	for (uint32_t i = 0; fits && i < e->recipient_count; i++) {
		struct envelope_dsn dsn = e->dsn ? e->dsn[i] : (struct envelope_dsn){0};
		fits = e->recipients[i].n <= ENVELOPE_ADDRESS_BYTES_MAX && dsn.orcpt.n <= SMTP_ORCPT_CHARS_MAX;
		put_slice(b, e->recipients[i]);
		put_u8(b, dsn.notify);
		put_slice(b, dsn.orcpt);
	}
	return fits && !b->failed;
}

/* A text that may stand in a header or a log: no control characters. */
static struct slice
take_text(struct cursor *c, size_t max)
{
	struct slice s = cursor_slice(c, max);

	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 32 || s.p[i] == 127)
			c->bad = true;
	return s;
}

static bool
take_recipients(struct cursor *c, struct arena *a, struct envelope *e)
{
	e->recipient_count = cursor_u32(c);
	/* Each takes some octets at least, so a lie about the count cannot make us allocate much. */
	if (c->bad || e->recipient_count == 0 || e->recipient_count > ENVELOPE_RECIPIENTS_MAX ||
	    e->recipient_count > cursor_left(c) / RECIPIENT_BYTES_MIN)
		return false;
	e->recipients = arena_array(a, e->recipient_count, sizeof(*e->recipients));
	e->dsn = arena_array(a, e->recipient_count, sizeof(*e->dsn));
	if (e->recipients == NULL || e->dsn == NULL)
		return false;
	for (uint32_t i = 0; i < e->recipient_count; i++) {
		e->recipients[i] = take_text(c, ENVELOPE_ADDRESS_BYTES_MAX);
		e->dsn[i].notify = cursor_u8(c);
		e->dsn[i].orcpt = take_text(c, SMTP_ORCPT_CHARS_MAX);
		if (e->recipients[i].n == 0 || e->dsn[i].notify > SMTP_NOTIFY_ALL)
			return false;
	}
	return true;
}

bool
envelope_decode(struct slice in, struct arena *a, struct envelope *envelope_r)
{
	struct cursor c = cursor_of(in);
	struct envelope *e = envelope_r;
	uint8_t version = cursor_u8(&c);
	uint8_t flags = cursor_u8(&c);

	*e = (struct envelope){
	    .esmtp = flags & FLAG_ESMTP,
	    .tls = flags & FLAG_TLS,
	    .eightbit = flags & FLAG_EIGHTBIT,
	    .smtputf8 = flags & FLAG_SMTPUTF8,
	    .binary = flags & FLAG_BINARY,
	    .lmtp = flags & FLAG_LMTP,
	    .requiretls = flags & FLAG_REQUIRETLS,
	};
	e->received_us = cursor_u64(&c);
	struct slice ip = cursor_take(&c, sizeof(e->client_ip));
	if (c.bad || version != ENVELOPE_VERSION || flags > FLAGS_ALL)
		return false;
	memcpy(e->client_ip, ip.p, ip.n);
	e->client_port = cursor_u16(&c);
	e->helo = take_text(&c, ENVELOPE_TEXT_BYTES_MAX);
	e->rdns = take_text(&c, ENVELOPE_TEXT_BYTES_MAX);
	e->tls_text = take_text(&c, ENVELOPE_TEXT_BYTES_MAX);
	e->client = cursor_slice(&c, ENVELOPE_CLIENT_BYTES_MAX);
	e->mail_from = take_text(&c, ENVELOPE_ADDRESS_BYTES_MAX);
	uint8_t ret = cursor_u8(&c);
	e->ret = ret <= SMTP_RET_LAST ? (enum smtp_ret)ret : SMTP_RET_NONE;
	e->envid = take_text(&c, SMTP_ENVID_CHARS_MAX);
	e->release = cursor_u64(&c);
	e->hold_for = cursor_u32(&c);
	uint8_t priority = cursor_u8(&c);
	c.bad |= e->release > INT64_MAX / 1000 || e->hold_for > SMTP_HOLD_FOR_MAX || priority > SMTP_PRIORITY_MAX - SMTP_PRIORITY_MIN;
	e->priority = c.bad ? 0 : (int8_t)(priority + SMTP_PRIORITY_MIN);
	return ret <= SMTP_RET_LAST && take_recipients(&c, a, e) && cursor_done(&c);
}
