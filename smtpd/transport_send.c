/*
 * Saying a message. A transaction is MAIL, up to TRANSPORT_RCPTS_MAX RCPTs, and DATA; with PIPELINING they leave together, without it
 * one after the other, and the replies are counted in the same order. With CHUNKING the message goes in BDAT chunks, which needs
 * neither dots nor the wait for 354.
 *
 * A server that answers 354 although it has taken no recipient gets the end at once (RFC 2920 3.1): the message would reach nobody.
 * If it refused MAIL and took a recipient none the less, the connection is dropped: an end would deliver nothing to somebody.
 *
 * What a server takes only in 7 bits is encoded on its way, and so before the first word is said its whole length is known.
 */
#include "smtpd/transport_session_private.h"

#include "common/dns_name.h"
#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* MAIL or RCPT with all that may stand behind it. */
#define COMMAND_BYTES_MAX 2048
/* RSET needs no patience. */
#define RSET_MS_MAX 20000

enum transport_stage
send_stage(const struct transport_session *t)
{
	switch (t->state) {
	case SESSION_BODY:
	case SESSION_CHUNK:
		return TRANSPORT_AT_BODY;
	case SESSION_DOT:
		return TRANSPORT_AT_DOT;
	case SESSION_ENVELOPE:
		return t->got == 0 ? TRANSPORT_AT_MAIL : t->got <= t->batch_n ? TRANSPORT_AT_RCPT : TRANSPORT_AT_DATA;
	default:
		return TRANSPORT_AT_DATA;
	}
}

/* ---- outcomes ---- */

static struct slice
recipient_address(const struct transport_session *t, uint16_t i)
{
	return t->message.item->recipients[i].address;
}

static void
decide(struct transport_session *t, uint16_t i, enum queue_state state, const char *status, const char *text)
{
	struct transport_outcome *o = &t->message.outcomes[i];

	*o = (struct transport_outcome){.decided = true, .state = state};
	o->dsn_passed = state == QUEUE_DONE && t->offer.dsn;
	snprintf(o->status, sizeof o->status, "%s", status);
	snprintf(o->text, sizeof o->text, "%s", text);
	snprintf(o->mta, sizeof o->mta, "%s", t->mta);
	t->phases[i] = RECIPIENT_OVER;
}

/* What a reply means for a recipient: done, for good, or later. */
static void
decide_by(struct transport_session *t, uint16_t i, const struct smtp_reply *r)
{
	unsigned class = r->code / 100;
	char status[TRANSPORT_STATUS_MAX], text[TRANSPORT_TEXT_MAX];

	session_status(r, status);
	session_reply_text(r, text);
	decide(t, i, class == 2 ? QUEUE_DONE : class == 5 ? QUEUE_FAILED : QUEUE_PENDING, status, text);
}

/* The same for all of the transaction that were asked and are in that phase or an earlier one. */
static void
decide_batch(struct transport_session *t, enum recipient_phase last, const struct smtp_reply *r)
{
	for (unsigned k = 0; k < t->batch_n; k++)
		if (t->phases[t->batch[k]] >= RECIPIENT_ASKED && t->phases[t->batch[k]] <= last)
			decide_by(t, t->batch[k], r);
}

void
send_lost(struct transport_session *t, const struct transport_failure *why)
{
	if (t->state != SESSION_DOT)
		return;
	for (unsigned k = 0; k < t->batch_n; k++) {
		uint16_t i = t->batch[k];

		if (t->phases[i] != RECIPIENT_TAKEN)
			continue;
		decide(t, i, QUEUE_PENDING, why->status, why->text);
		t->message.outcomes[i].unsure = true;
	}
}

/* ---- what a message needs ---- */

static bool
lacks(struct transport_failure *f, const char *status, const char *text)
{
	transport_failure_set(f, TRANSPORT_AT_MAIL, true, status, text);
	return true;
}

static size_t
local_octets(struct slice address)
{
	return slice_rindex(address, '@');
}

/* What only SMTPUTF8 can carry: a local part (RFC 6531 3.1); a domain has another form. */
static bool
local_is_utf8(struct slice address)
{
	return !slice_is_ascii(slice_sub(address, 0, local_octets(address)));
}

/* An address that could be read as more than an argument. */
static bool
address_is_safe(struct slice address)
{
	for (size_t i = 0; i < address.n; i++)
		if (address.p[i] < 0x20 || address.p[i] == 0x7f)
			return false;
	return true;
}

static bool
lacks_tls(const struct transport_session *t, struct transport_failure *f)
{
	/* What comes back to a sender has no choice of ways (RFC 8689 5). */
	if (!(t->message.item->flags & QUEUE_REQUIRETLS) || t->message.item->mail_from.n == 0)
		return false;
	if (!t->secured || !t->proven || !t->config.mx_proven)
		return lacks(f, "5.7.10", "the message requires TLS with a server that has proved who it is");
	return !t->offer.requiretls && lacks(f, "5.7.30", "the message requires REQUIRETLS, which the server does not offer");
}

static bool
cannot_look(struct transport_failure *f)
{
	transport_failure_set(f, TRANSPORT_AT_MAIL, false, "4.3.0", "the message cannot be read");
	return true;
}

/* Header fields and addresses in UTF-8 have no other form. */
static bool
lacks_utf8(const struct transport_session *t, struct transport_failure *f)
{
	const struct queue_item *item = t->message.item;
	struct transport_scan scan;

	if (!(item->flags & QUEUE_SMTPUTF8) || t->offer.smtputf8)
		return false;
	if (!transport_body_scan(t->message.fd, t->message.from, t->message.to, &scan))
		return cannot_look(f);
	return (scan.header || local_is_utf8(item->mail_from) || local_is_utf8(item->forward_from)) &&
	       lacks(f, "5.6.7", "the message needs SMTPUTF8, which the server does not offer");
}

/* What a message that is sent as it is would need. */
static bool
takes_octets(const struct transport_session *t)
{
	return t->offer.eightbit && (t->offer.binary || !(t->message.item->flags & QUEUE_BINARY));
}

/* Plans the 7-bit form, when the server takes no other (RFC 6152 3, RFC 3030 3). */
static bool
lacks_form(struct transport_session *t, struct transport_failure *f)
{
	char text[TRANSPORT_TEXT_MAX];

	t->bytes = t->message.to - t->message.from;
	MEM_FREE(&t->recoding);
	if (takes_octets(t))
		return false;
	struct sevenbit_plan *plan = t->recoding = MEM_NEW(struct sevenbit_plan);
	enum sevenbit_result r = sevenbit_plan(t->message.fd, t->message.from, t->message.to, plan);

	if (r == SEVENBIT_UNREAD)
		return cannot_look(f);
	if (r == SEVENBIT_CANNOT && (plan->needed || (t->message.item->flags & QUEUE_BINARY))) {
		snprintf(text, sizeof text, "the server does not offer %s, and the message cannot be converted: %s",
		    t->offer.eightbit ? "BINARYMIME" : "8BITMIME", plan->why);
		return lacks(f, "5.6.3", text);
	}
	if (r == SEVENBIT_CAN)
		t->bytes = (uint64_t)sevenbit_octets(plan->changes, plan->count, t->bytes);
	else
		MEM_FREE(&t->recoding);
	return false;
}

static bool
lacks_anything(struct transport_session *t, struct transport_failure *f)
{
	if (!address_is_safe(t->message.item->mail_from) || !address_is_safe(t->message.item->forward_from))
		return lacks(f, "5.1.7", "the sender's address cannot be sent");
	if (lacks_tls(t, f) || lacks_utf8(t, f) || lacks_form(t, f))
		return true;
	return t->offer.size_max > 0 && t->bytes > t->offer.size_max &&
	       lacks(f, "5.3.4", "the message is larger than the server takes");
}

/* ---- the commands ---- */

static void
put_address(struct slice address, struct buf *b)
{
	size_t at = local_octets(address);

	buf_put_u8(b, '<');
	if (slice_is_ascii(address) || local_is_utf8(address)) {
		buf_put_slice(b, address);
	} else {
		buf_put_slice(b, slice_sub(address, 0, at + 1));
		(void)dns_name_to_ascii(slice_sub(address, at + 1, address.n), b);
	}
	buf_put_u8(b, '>');
}

/* xtext as the sender wrote it; what is not printable ASCII is for SMTPUTF8 alone (RFC 6533 3). */
static void
put_xtext(const struct transport_session *t, const char *name, struct slice xtext, struct buf *b)
{
	for (size_t i = 0; i < xtext.n; i++)
		if (xtext.p[i] <= 0x20 || xtext.p[i] == 0x7f || (xtext.p[i] > 0x7f && !t->smtputf8))
			return;
	if (xtext.n > 0) {
		buf_putf(b, " %s=", name);
		buf_put_slice(b, xtext);
	}
}

static void
put_mail(const struct transport_session *t, struct buf *b)
{
	const struct queue_item *item = t->message.item;

	buf_put_str(b, "MAIL FROM:");
	put_address(t->forwarded ? item->forward_from : item->mail_from, b);
	if (t->offer.size)
		buf_putf(b, " SIZE=%llu", (unsigned long long)t->bytes);
	if (t->recoding == NULL && (item->flags & QUEUE_BINARY) && t->offer.binary)
		buf_put_str(b, " BODY=BINARYMIME");
	else if (t->recoding == NULL && (item->flags & (QUEUE_EIGHTBIT | QUEUE_SMTPUTF8)) && t->offer.eightbit)
		buf_put_str(b, " BODY=8BITMIME");
	if (t->smtputf8)
		buf_put_str(b, " SMTPUTF8");
	if (t->offer.dsn && item->ret != SMTP_RET_NONE)
		buf_putf(b, " RET=%s", item->ret == SMTP_RET_FULL ? "FULL" : "HDRS");
	if (t->offer.dsn)
		put_xtext(t, "ENVID", item->envid, b);
	if (t->offer.priority)
		buf_putf(b, " MT-PRIORITY=%d", item->priority);
	if ((item->flags & QUEUE_REQUIRETLS) && t->offer.requiretls && t->secured)
		buf_put_str(b, " REQUIRETLS");
	buf_put_str(b, "\r\n");
}

static void
put_notify(unsigned notify, struct buf *b)
{
	static const struct {
		unsigned bit;
		const char *word;
	} words[] = {{SMTP_NOTIFY_NEVER, "NEVER"}, {SMTP_NOTIFY_SUCCESS, "SUCCESS"}, {SMTP_NOTIFY_FAILURE, "FAILURE"},
	    {SMTP_NOTIFY_DELAY, "DELAY"}};
	const char *before = " NOTIFY=";

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (notify & words[i].bit) {
			buf_putf(b, "%s%s", before, words[i].word);
			before = ",";
		}
}

static void
put_rcpt(const struct transport_session *t, uint16_t i, struct buf *b)
{
	const struct queue_recipient *r = &t->message.item->recipients[i];

	buf_put_str(b, "RCPT TO:");
	put_address(r->address, b);
	if (t->offer.dsn) {
		put_notify(r->notify, b);
		put_xtext(t, "ORCPT", r->orcpt, b);
	}
	buf_put_str(b, "\r\n");
}

static void
send_command(struct transport_session *t)
{
	struct buf b;

	buf_init(&b, COMMAND_BYTES_MAX);
	if (t->sent == 0) {
		put_mail(t, &b);
		t->mails++;
	} else if (t->sent <= t->batch_n) {
		put_rcpt(t, t->batch[t->sent - 1], &b);
	} else {
		buf_put_str(&b, "DATA\r\n");
	}
	assert(!b.failed);
	session_write(t, buf_slice(&b));
	t->sent++;
	buf_fini(&b);
}

/* Replies that the transaction's commands get, before the message itself. */
static unsigned
envelope_replies(const struct transport_session *t)
{
	return 1 + t->batch_n + !t->offer.chunking;
}

static void
send_commands(struct transport_session *t)
{
	unsigned last = t->offer.pipelining ? envelope_replies(t) : t->got + 1;

	while (t->sent < last)
		send_command(t);
	t->wire->deadline(t->ctx, t->config.command_ms);
}

/* ---- transactions ---- */

static bool
address_fits(struct transport_session *t, uint16_t i)
{
	struct slice address = recipient_address(t, i);

	if (!address_is_safe(address)) {
		decide(t, i, QUEUE_FAILED, "5.1.3", "the address cannot be sent");
		return false;
	}
	if (t->smtputf8 || !local_is_utf8(address))
		return true;
	t->phases[i] = RECIPIENT_SKIPPED;
	t->skipped++;
	(void)lacks(&t->lacking, "5.6.7", "the address needs SMTPUTF8, which the server does not offer");
	return false;
}

/* Whose reverse-path is the one that forwarding has given it. */
static bool
is_forwarded(const struct transport_session *t, uint16_t i)
{
	return t->message.item->recipients[i].flags & QUEUE_FORWARDED;
}

/* Recipients of one transaction. */
static unsigned
batch_max(const struct transport_session *t)
{
	return t->offer.rcpt_max > 0 && t->offer.rcpt_max < TRANSPORT_RCPTS_MAX ? (unsigned)t->offer.rcpt_max : TRANSPORT_RCPTS_MAX;
}

/* The next recipients, all with one reverse-path; false when none is left. */
static bool
gather(struct transport_session *t)
{
	t->batch_n = t->taken = t->sent = t->got = 0;
	t->mail_refused = false;
	for (uint16_t i = 0; i < t->message.item->count && t->batch_n < batch_max(t); i++) {
		if (t->phases[i] != RECIPIENT_TODO || (t->batch_n > 0 && is_forwarded(t, i) != t->forwarded) || !address_fits(t, i))
			continue;
		t->forwarded = is_forwarded(t, i);
		t->phases[i] = RECIPIENT_ASKED;
		t->batch[t->batch_n++] = i;
	}
	return t->batch_n > 0;
}

/* Between two transactions: the next, or the message is over. */
static void
go_on(struct transport_session *t)
{
	if (gather(t)) {
		t->state = SESSION_ENVELOPE;
		send_commands(t);
		return;
	}
	t->state = SESSION_IDLE;
	t->busy = false;
	t->ev->on_message(t->arg, t->skipped > 0 ? &t->lacking : NULL);
}

static void
rset(struct transport_session *t)
{
	uint64_t ms = t->config.command_ms < RSET_MS_MAX ? t->config.command_ms : RSET_MS_MAX;

	session_command(t, SESSION_RSET, "RSET\r\n", ms);
}

bool
transport_session_take(struct transport_session *t, const struct transport_message *m, struct transport_failure *why_r)
{
	assert(t->state == SESSION_IDLE && !t->busy && m->from <= m->to);
	t->message = *m;
	if (lacks_anything(t, why_r))
		return false;
	free(t->phases);
	t->phases = calloc(m->item->count, 1);
	if (t->phases == NULL)
		abort();
	for (uint16_t i = 0; i < m->item->count; i++)
		t->phases[i] = m->outcomes[i].decided ? RECIPIENT_OVER : RECIPIENT_TODO;
	t->smtputf8 = t->offer.smtputf8 && (m->item->flags & QUEUE_SMTPUTF8);
	t->skipped = 0;
	if (!gather(t)) {
		*why_r = t->lacking;
		return false;
	}
	t->busy = true;
	t->state = SESSION_ENVELOPE;
	if (t->recoding != NULL)
		t->ev->on_recoded(t->arg, sevenbit_bodies(t->recoding));
	send_commands(t);
	return true;
}

/* ---- the message itself ---- */

static void
cannot_read(struct transport_session *t)
{
	struct transport_failure f;

	transport_failure_set(&f, TRANSPORT_AT_BODY, false, "4.3.0", "the message cannot be read");
	session_fail(t, &f, false);
}

/* Octets of the message as it is in the file, at most `most` from `at` on; 0 when they cannot be read. */
static size_t
read_file(struct transport_session *t, uint8_t *piece, uint64_t at, uint64_t most)
{
	size_t ask = most < TRANSPORT_PIECE_BYTES ? (size_t)most : TRANSPORT_PIECE_BYTES;
	ssize_t n;

	do
		n = pread(t->message.fd, piece, ask, (off_t)(t->message.from + at));
	while (n < 0 && errno == EINTR);
	return n > 0 ? (size_t)n : 0;
}

/* The same as they are sent. */
static size_t
read_recoded(struct transport_session *t, uint8_t *piece, uint64_t most)
{
	struct sevenbit_writer *w = &t->writer;
	size_t n;

	while (t->recoded.n == 0) {
		n = read_file(t, piece, w->at, w->end - w->at);
		if (n == 0)
			return 0;
		sevenbit_write(w, slice_of(piece, n), &t->recoded);
	}
	n = t->recoded.n < TRANSPORT_PIECE_BYTES ? t->recoded.n : TRANSPORT_PIECE_BYTES;
	n = n < most ? n : (size_t)most;
	memcpy(piece, t->recoded.p, n);
	buf_drop(&t->recoded, n);
	return n;
}

/* The next octets of the message, at most `most`; 0 when they cannot be read. */
static size_t
read_piece(struct transport_session *t, uint8_t *piece, uint64_t most)
{
	size_t n = t->recoding != NULL ? read_recoded(t, piece, most) : read_file(t, piece, t->at, most);

	t->at += n;
	return n;
}

static void
message_said(struct transport_session *t)
{
	t->state = SESSION_DOT;
	t->wire->deadline(t->ctx, t->config.dot_ms);
}

static void
await_progress(struct transport_session *t)
{
	t->wire->deadline_of_piece(t->ctx, t->config.data_ms, t->config.data_ms + t->bytes * 1000 / t->config.data_rate);
}

/* One piece into DATA, and the end behind the last. False when it cannot be read. */
static bool
say_data(struct transport_session *t)
{
	uint8_t piece[TRANSPORT_PIECE_BYTES];
	size_t n = t->at < t->bytes ? read_piece(t, piece, t->bytes - t->at) : 0;
	bool last = t->at == t->bytes;
	struct buf b;

	if (n == 0 && !last)
		return false;
	buf_init(&b, TRANSPORT_STUFF_GROWTH_MAX * TRANSPORT_PIECE_BYTES + 16);
	transport_stuff(&t->stuff, slice_of(piece, n), &b);
	if (last) {
		transport_stuff_end(&t->stuff, &b);
		t->ev->on_dot(t->arg);
	}
	session_write(t, buf_slice(&b));
	buf_fini(&b);
	if (last)
		message_said(t);
	return true;
}

/* One piece of a chunk, before it the chunk's command. */
static bool
say_chunk(struct transport_session *t)
{
	uint8_t piece[TRANSPORT_PIECE_BYTES];
	uint64_t left = t->bytes - t->at;
	char line[64];

	if (t->chunk_left == 0) {
		t->chunk_left = left < TRANSPORT_CHUNK_BYTES ? left : TRANSPORT_CHUNK_BYTES;
		if (left == 0)
			t->ev->on_dot(t->arg);
		snprintf(line, sizeof line, "BDAT %llu%s\r\n", (unsigned long long)t->chunk_left, t->chunk_left == left ? " LAST" : "");
		session_write(t, slice_str(line));
	}
	size_t n = left > 0 ? read_piece(t, piece, t->chunk_left) : 0;

	if (n == 0 && left > 0)
		return false;
	t->chunk_left -= n;
	if (t->at == t->bytes && n > 0)
		t->ev->on_dot(t->arg);
	session_write(t, slice_of(piece, n));
	if (t->at == t->bytes) {
		message_said(t);
	} else if (t->chunk_left == 0) {
		t->state = SESSION_CHUNK;
		await_progress(t);
	}
	return true;
}

static void
say_more(struct transport_session *t)
{
	await_progress(t);
	while (t->state == SESSION_BODY && !t->gone && !t->wire->full(t->ctx))
		if (!(t->offer.chunking ? say_chunk(t) : say_data(t))) {
			cannot_read(t);
			return;
		}
}

static void
begin_body(struct transport_session *t)
{
	t->state = SESSION_BODY;
	t->at = 0;
	t->chunk_left = 0;
	buf_reset(&t->recoded);
	if (t->recoding != NULL)
		sevenbit_write_begin(&t->writer, t->recoding->changes, t->recoding->count, t->message.to - t->message.from);
	t->stuff = TRANSPORT_STUFF_START;
	say_more(t);
}

/* ---- replies ---- */

static void
on_mail(struct transport_session *t, const struct smtp_reply *r)
{
	if (r->code / 100 == 2)
		return;
	t->mail_refused = true;
	t->ev->on_reply(t->arg, TRANSPORT_AT_MAIL, r, slice_of(NULL, 0));
	decide_batch(t, RECIPIENT_ASKED, r);
}

/*
 * A server that has taken some recipients and has no room for more gets the others in the next transaction (RFC 5321 4.5.3.1.10, which
 * wants 552 without more words taken for 452).
 */
static bool
too_many(const struct transport_session *t, const struct smtp_reply *r)
{
	return t->taken > 0 && (r->code == 452 || (r->code == 552 && r->status[0] == '\0') || strcmp(r->status, "4.5.3") == 0);
}

static void
on_rcpt(struct transport_session *t, uint16_t i, const struct smtp_reply *r)
{
	unsigned class = r->code / 100;

	if (class == 2) {
		t->taken++;
		if (!t->mail_refused)
			t->phases[i] = RECIPIENT_TAKEN;
		return;
	}
	if (t->mail_refused)
		return;
	t->ev->on_reply(t->arg, TRANSPORT_AT_RCPT, r, recipient_address(t, i));
	if (too_many(t, r))
		t->phases[i] = RECIPIENT_TODO;
	else
		decide_by(t, i, r);
}

static void
on_data(struct transport_session *t, const struct smtp_reply *r)
{
	if (r->code / 100 == 3) {
		if (t->mail_refused && t->taken > 0) {
			session_lost(t, TRANSPORT_AT_DATA, "the server takes a message whose sender it refused");
		} else if (t->taken == 0) {
			session_write(t, SLICE(".\r\n"));
			t->state = SESSION_EMPTY;
			t->wire->deadline(t->ctx, t->config.command_ms);
		} else {
			begin_body(t);
		}
		return;
	}
	if (t->taken > 0 && !t->mail_refused) {
		t->ev->on_reply(t->arg, TRANSPORT_AT_DATA, r, slice_of(NULL, 0));
		if (r->code / 100 == 2) {
			session_lost(t, TRANSPORT_AT_DATA, "the server answers DATA as if it had the message");
			return;
		}
		decide_batch(t, RECIPIENT_TAKEN, r);
	}
	rset(t);
}

/* All that may be said of the envelope has been said when this gives false. */
static bool
envelope_goes_on(const struct transport_session *t)
{
	if (t->got == envelope_replies(t))
		return false;
	if (t->offer.pipelining)
		return true;
	return !t->mail_refused && (t->got <= t->batch_n || t->taken > 0);
}

static void
on_envelope(struct transport_session *t, const struct smtp_reply *r)
{
	unsigned n = t->got++;

	if (n == 0)
		on_mail(t, r);
	else if (n <= t->batch_n)
		on_rcpt(t, t->batch[n - 1], r);
	else
		on_data(t, r);
	if (t->state != SESSION_ENVELOPE)
		return;
	if (envelope_goes_on(t))
		send_commands(t);
	else if (t->taken > 0 && !t->mail_refused && t->offer.chunking)
		begin_body(t);
	else
		rset(t);
}

/* The message is decided, by the reply to its end or by one that came before the server had it all. */
static void
on_message_reply(struct transport_session *t, const struct smtp_reply *r)
{
	bool whole = t->state == SESSION_DOT;
	enum transport_stage stage = send_stage(t);

	t->ev->on_reply(t->arg, stage, r, slice_of(NULL, 0));
	if (r->code / 100 < 4 && (!whole || r->code / 100 == 3)) {
		session_lost(t, stage, "a reply that makes no sense here");
		return;
	}
	decide_batch(t, RECIPIENT_TAKEN, r);
	/* What is left of a transaction whose chunk was refused, nobody knows (RFC 3030 2). */
	if (whole && t->offer.chunking && r->code / 100 != 2) {
		rset(t);
		return;
	}
	if (whole) {
		go_on(t);
		return;
	}
	struct transport_failure f = {.stage = stage, .said = true};

	session_status(r, f.status);
	session_reply_text(r, f.text);
	session_fail(t, &f, false);
}

static void
on_chunk(struct transport_session *t, const struct smtp_reply *r)
{
	if (r->code / 100 == 2) {
		t->state = SESSION_BODY;
		say_more(t);
		return;
	}
	t->ev->on_reply(t->arg, TRANSPORT_AT_BODY, r, slice_of(NULL, 0));
	if (r->code / 100 == 3) {
		session_lost(t, TRANSPORT_AT_BODY, "a reply that makes no sense here");
		return;
	}
	decide_batch(t, RECIPIENT_TAKEN, r);
	rset(t);
}

/* 421: the server goes; what it says holds for all that it has not decided. */
static bool
server_leaves(struct transport_session *t, const struct smtp_reply *r)
{
	if (r->code != 421)
		return false;
	enum transport_stage stage = send_stage(t);

	if (t->state == SESSION_DOT)
		decide_batch(t, RECIPIENT_TAKEN, r);
	session_refused(t, stage, r);
	return true;
}

void
send_step(struct transport_session *t, const struct smtp_reply *r)
{
	if (r != NULL && server_leaves(t, r))
		return;
	switch (t->state) {
	case SESSION_ENVELOPE:
		on_envelope(t, r);
		break;
	case SESSION_BODY:
		if (r != NULL)
			on_message_reply(t, r);
		else
			say_more(t);
		break;
	case SESSION_CHUNK:
		on_chunk(t, r);
		break;
	case SESSION_DOT:
		on_message_reply(t, r);
		break;
	case SESSION_EMPTY:
		go_on(t);
		break;
	case SESSION_RSET:
		if (r->code / 100 == 2)
			go_on(t);
		else
			session_lost(t, TRANSPORT_AT_IDLE, "the server refuses RSET");
		break;
	default:
		assert(false);
	}
}
